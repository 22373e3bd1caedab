import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type HistoryLine,
  type Operation,
  type Outcome,
  type Performed,
  readHistory,
  writeHistory,
} from './history.ts';
import { checkHistory } from './history-check.ts';
import { linearize } from './linearizability.ts';
import { modelOf } from './stream-models.ts';

type Told = Operation & { readonly from: number; readonly to: number; readonly told: Outcome };

const put = (value: string, expect: number | null, from: number, to: number, told: Outcome): Told => ({
  operation: 'put',
  value,
  expect,
  from,
  to,
  told,
});
const place = (value: number, from: number, to: number, told: Outcome): Told => ({
  operation: 'place',
  value,
  from,
  to,
  told,
});
const cancel = (value: string, from: number, to: number, told: Outcome): Told => ({
  operation: 'cancel',
  value,
  from,
  to,
  told,
});
const ok = (version: number): Outcome => ({ type: 'ok', version });
const stale = (version: number): Outcome => ({ type: 'fail', code: 'version-mismatch', version });
const fail = (code: 'order-exists' | 'order-not-found' | 'not-sent'): Outcome => ({ type: 'fail', code });
const final = (status: string): Outcome => ({ type: 'fail', code: 'order-not-cancellable', status });
const unknown: Outcome = { type: 'info', code: 'ECONNRESET' };

/** The lines of a history of one stream; `log`: type and value of each event, in order. */
function linesOf(stream: string, told: readonly Told[], log: readonly (readonly [string, string | number | null])[]) {
  const lines = told.flatMap(({ from, to, told: outcome, ...operation }, n): HistoryLine[] => {
    const moment = { process: n, id: n, stream };
    return [
      { type: 'invoke', ...moment, time: from, ...operation },
      { ...moment, time: to, ...outcome },
    ];
  });
  const events = log.map(([event, value], n): HistoryLine => ({ type: 'event', stream, version: n + 1, event, value }));
  return [...lines.sort((a, b) => ('time' in a && 'time' in b ? a.time - b.time : 0)), ...events];
}

const product = (told: readonly Told[], ...values: readonly string[]) =>
  linesOf(
    'product-a',
    told,
    values.map((value, n) => [n === 0 ? 'ProductAdded' : 'ProductChanged', value] as const),
  );

/** What each of the two checks finds. */
function check(lines: readonly HistoryLine[]): {
  readonly byLog: readonly string[];
  readonly bySearch: readonly string[];
} {
  const { found } = checkHistory(lines);
  const search = (one: string): boolean => one.includes('has no order');
  return { byLog: found.filter((one) => !search(one)), bySearch: found.filter(search) };
}

test('operations one after the other, each on what the one before left, are linearisable', () => {
  const told = [put('a', null, 0, 1, ok(1)), put('b', 1, 2, 3, ok(2)), put('c', 1, 4, 5, stale(2))];
  assert.deepEqual(check(product(told, 'a', 'b')), { byLog: [], bySearch: [] });
});

test('operations at the same time may take effect in any order', () => {
  const told = [put('a', null, 0, 9, ok(2)), put('b', null, 1, 8, ok(1)), put('c', 0, 2, 7, stale(1))];
  assert.deepEqual(check(product(told, 'b', 'a')), { byLog: [], bySearch: [] });
});

test('an operation of which nobody knows may have taken effect, late, or not at all', () => {
  const before = [put('a', null, 0, 1, ok(1)), put('b', null, 2, 3, unknown)];
  assert.deepEqual(check(product([...before, put('c', null, 4, 5, ok(2))], 'a', 'c')), { byLog: [], bySearch: [] });
  const late = [...before, put('c', null, 4, 5, ok(2)), put('d', null, 6, 7, ok(4))];
  assert.deepEqual(check(product(late, 'a', 'c', 'b', 'd')), { byLog: [], bySearch: [] });
});

test('a request that was never sent has seen nothing and done nothing', () => {
  const told = [put('a', null, 0, 1, ok(1)), put('b', 7, 2, 3, fail('not-sent')), put('c', null, 4, 5, ok(2))];
  assert.deepEqual(check(product(told, 'a', 'c')), { byLog: [], bySearch: [] });
  const { byLog } = check(product(told.slice(0, 2), 'a', 'b'));
  assert.match(byLog.join(), /put b \(1\) of product-a was refused, and is version 2/);
});

test('an order ends once: by its customer, or by the saga', () => {
  const told = [
    cancel('x', 0, 1, fail('order-not-found')),
    place(7, 2, 6, ok(1)),
    place(8, 3, 7, fail('order-exists')),
    cancel('y', 8, 12, ok(3)),
    cancel('z', 9, 13, final('cancelled')),
  ];
  const log = [
    ['OrderPlaced', 7],
    ['OrderReserved', null],
    ['OrderCancelled', 'y'],
    ['OrderRefunded', null],
  ] as const;
  assert.deepEqual(check(linesOf('order-a', told, log)), { byLog: [], bySearch: [] });
});

test('a lost write is found', () => {
  const told = [put('a', null, 0, 1, ok(1)), put('b', null, 2, 3, ok(2)), put('c', null, 4, 5, ok(2))];
  const { byLog, bySearch } = check(product(told, 'a', 'c'));
  assert.match(byLog.join(), /put b \(1\) of product-a was confirmed as version 2, and is not there/);
  assert.match(bySearch.join(), /no place for put c \(2\)/);
});

test('a lost write at the end, that no later one shows, is found in the log', () => {
  const told = [put('a', null, 0, 1, ok(1)), put('b', null, 2, 3, ok(2))];
  assert.match(check(product(told, 'a')).byLog.join(), /put b \(1\) .* is not there/);
});

test('a stale read of a version is found', () => {
  const told = [put('a', null, 0, 1, ok(1)), put('b', null, 2, 3, ok(2)), put('c', 7, 4, 5, stale(1))];
  const { byLog, bySearch } = check(product(told, 'a', 'b'));
  assert.match(byLog.join(), /put c \(2\) of product-a has not seen put b \(1\)/);
  assert.match(bySearch.join(), /no place for put c \(2\)/);
});

test('a version read before it was there is found', () => {
  const told = [put('a', null, 0, 1, ok(1)), put('c', 7, 2, 3, stale(2)), put('b', null, 4, 5, ok(2))];
  const { byLog, bySearch } = check(product(told, 'a', 'b'));
  assert.match(
    byLog.join(),
    /put c \(1\) of product-a has seen put b \(2\) of product-a, which began after it had ended/,
  );
  assert.match(bySearch.join(), /no place for put c \(1\)/);
});

test('a write against the version that it asked for is found', () => {
  const told = [put('a', null, 0, 1, ok(1)), put('b', null, 2, 3, ok(2)), put('c', 1, 4, 5, ok(3))];
  assert.match(check(product(told, 'a', 'b', 'c')).bySearch.join(), /no place for put c \(2\)/);
});

test('a doubled effect is found', () => {
  const told = [put('a', null, 0, 1, ok(1)), put('b', null, 2, 3, ok(2)), put('c', null, 4, 5, ok(4))];
  const { byLog, bySearch } = check(product(told, 'a', 'b', 'b', 'c'));
  assert.match(byLog.join(), /put b \(1\) of product-a took effect 2 times, as versions 2 and 3/);
  assert.match(bySearch.join(), /no place for put c \(2\)/);
});

test('an effect of which its client was told otherwise is found', () => {
  const told = [put('a', null, 0, 1, ok(1)), put('b', 7, 2, 3, stale(1))];
  assert.match(check(product(told, 'a', 'b')).byLog.join(), /put b \(1\) of product-a was refused, and is version 2/);
});

test('an order against real time is found', () => {
  const told = [put('a', null, 0, 1, ok(2)), put('b', null, 2, 3, ok(1))];
  const { byLog, bySearch } = check(product(told, 'b', 'a'));
  assert.match(
    byLog.join(),
    /put a \(0\) of product-a had ended before put b \(1\) of product-a began, and comes after/,
  );
  assert.match(bySearch.join(), /no place for put a \(0\)/);
});

test('an effect that nobody asked for, and a hole in the versions, are found', () => {
  const told = [put('a', null, 0, 1, ok(1))];
  assert.match(check(product(told, 'a', 'x')).byLog.join(), /version 2 of product-a is put x, which nobody asked for/);
  const lines = product(told, 'a').map((line) => (line.type === 'event' ? { ...line, version: 2 } : line));
  assert.match(check(lines).byLog.join(), /has version 2 where 1 should be/);
});

for (const [what, told, log] of [
  [
    'one order for two who placed it',
    [place(1, 0, 1, ok(1)), place(2, 2, 3, ok(1))],
    [
      ['OrderPlaced', 1],
      ['OrderPlaced', 2],
    ],
  ],
  ['an order that is cancelled twice', [place(1, 0, 1, ok(1)), cancel('x', 2, 3, ok(2)), cancel('y', 4, 5, ok(3))], []],
  [
    'an order that is cancelled after it was completed',
    [place(1, 0, 1, ok(1)), cancel('x', 2, 3, final('completed')), cancel('y', 4, 5, ok(4))],
    [],
  ],
  [
    'an order that is not found after it was placed',
    [place(1, 0, 1, ok(1)), cancel('x', 2, 3, fail('order-not-found'))],
    [['OrderPlaced', 1]],
  ],
  [
    'an order that exists before it was placed',
    [place(2, 0, 1, fail('order-exists')), place(1, 2, 3, ok(1))],
    [['OrderPlaced', 1]],
  ],
  [
    'an order with two ends',
    [place(1, 0, 1, ok(1)), cancel('x', 2, 3, final('completed')), cancel('y', 4, 5, final('failed'))],
    [],
  ],
] as const) {
  test(`${what} is found`, () => {
    assert.equal(check(linesOf('order-a', told, log)).bySearch.length, 1);
  });
}

test('an end that an order never had is found in the log', () => {
  const told = [place(1, 0, 1, ok(1)), cancel('x', 2, 3, final('completed'))];
  assert.match(
    check(linesOf('order-a', told, [['OrderPlaced', 1]])).byLog.join(),
    /told of an end that is not in the log/,
  );
});

test('a search that takes too long says so', () => {
  const told = Array.from({ length: 9 }, (_, n) => put(`v${n}`, null, n, 100 + n, ok(1)));
  assert.equal(linearize(performedOf(told), modelOf('product-a'), 5).linearizable, null);
});

test('an end without a beginning is refused', () => {
  assert.throws(
    () => checkHistory([{ type: 'ok', process: 1, id: 1, time: 1, stream: 'product-a', version: 1 }]),
    /operation 1 of product-a ends and has not begun/,
  );
});

test('a history that was kept is the same when it is read again; a line that is no JSON is named', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'twofold-history-'));
  t.after(() => rm(folder, { recursive: true }));
  const file = join(folder, 'history.jsonl');
  const lines = product([put('a', null, 0, 1, ok(1)), put('b', 7, 2, 3, stale(1)), put('c', null, 4, 5, unknown)], 'a');
  writeHistory(file, [...lines, { type: 'kill', time: 6, server: 'server-1' }]);
  const read = readHistory(file);
  assert.deepEqual(read, [...lines, { type: 'kill', time: 6, server: 'server-1' }]);
  assert.deepEqual(check(read), { byLog: [], bySearch: [] });
  await writeFile(file, '{"type":"kill"}\n{"type":\n');
  assert.throws(() => readHistory(file), /line 2 of .*history\.jsonl is no JSON/);
});

const performedOf = (told: readonly Told[]): Performed[] =>
  told.map(({ from, to, told: outcome, ...operation }, id) => ({
    ...operation,
    id,
    process: id,
    stream: 'product-a',
    invoked: from,
    ended: outcome.type === 'info' ? Infinity : to,
    outcome,
  }));

/** Tries every order of every subset that has all but unknown operations: what the search has to agree with. */
function hasOrder(operations: readonly Performed[]): boolean {
  const model = modelOf('product-a');
  const extend = (state: unknown, left: readonly Performed[]): boolean =>
    left.every(({ ended }) => ended === Infinity) ||
    left.some((next) => {
      if (left.some((other) => other.ended < next.invoked)) return false;
      const after = model.step(state, next);
      return (
        after !== null &&
        extend(
          after,
          left.filter((other) => other !== next),
        )
      );
    });
  return extend(model.initial, operations);
}

test('the search finds an order exactly when there is one', () => {
  const version = fc.integer({ min: 0, max: 4 });
  const outcome = fc.oneof(
    { weight: 4, arbitrary: version.map(ok) },
    { weight: 2, arbitrary: version.map(stale) },
    { weight: 1, arbitrary: fc.constant(unknown) },
  );
  const one = fc.record({
    from: fc.integer({ min: 0, max: 12 }),
    length: fc.integer({ min: 1, max: 8 }),
    expect: fc.option(version),
    told: outcome,
  });
  let linearizable = 0;
  fc.assert(
    fc.property(fc.array(one, { minLength: 1, maxLength: 6 }), (wishes) => {
      const told = wishes.map(({ from, length, expect, told: end }, n) =>
        put(`v${n}`, expect, from, from + length, end),
      );
      const operations = performedOf(told);
      const expected = hasOrder(operations);
      linearizable += Number(expected);
      assert.equal(linearize(operations, modelOf('product-a')).linearizable, expected);
    }),
    { numRuns: 20_000 },
  );
  assert.ok(linearizable > 200, `only ${linearizable} of the random histories were linearisable`);
});
