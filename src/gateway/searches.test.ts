import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { systemPorts } from '#platform/ports.ts';
import { createRequestFigures } from './request-figures.ts';
import { createSearches, type SearchesOptions } from './searches.ts';

function world(options: Partial<SearchesOptions> = {}) {
  let nowMs = 1_000;
  const figures = createRequestFigures();
  const searches = createSearches({
    figures,
    ports: { ...systemPorts, elapsed: () => nowMs },
    atOnceMax: 2,
    waitingMax: 1_000,
    waitMs: 20,
    ...options,
  });
  const begun: { readonly n: number; end(how?: Error): void }[] = [];
  let asked = 0;
  /** Asks for a search; null: it was turned away. */
  const ask = (): Promise<number | null> | null => {
    const n = (asked += 1);
    return searches.run(() => {
      const { promise, resolve, reject } = Promise.withResolvers<number>();
      begun.push({ n, end: (how) => (how === undefined ? resolve(n) : reject(how)) });
      return promise;
    });
  };
  const pass = (ms: number): void => void (nowMs += ms);
  return { figures, begun, ask, pass };
}

test('so many searches are under way at once, and the others follow in their order', async () => {
  const { figures, begun, ask } = world();
  const answers = [ask(), ask(), ask(), ask()];
  const numbers = (): number[] => begun.map(({ n }) => n);
  assert.deepEqual(numbers(), [1, 2]);
  assert.equal(figures.searching, 2);
  begun[1]!.end();
  await setImmediate();
  assert.deepEqual(numbers(), [1, 2, 3]);
  begun[0]!.end();
  await setImmediate();
  for (const one of begun) one.end();
  assert.deepEqual(await Promise.all(answers.map((answer) => answer!)), [1, 2, 3, 4]);
  assert.equal(figures.searching, 0);
});

test('a search that fails leaves its place to the next', async () => {
  const { begun, ask } = world({ atOnceMax: 1 });
  const [first, second] = [ask(), ask()];
  begun[0]!.end(new Error('gone'));
  await assert.rejects(first!, /gone/);
  begun[1]!.end();
  assert.equal(await second, 2);
});

test('never do more wait than may', () => {
  const { ask, figures } = world({ waitingMax: 3, waitMs: 0 });
  for (let n = 0; n < 5; n += 1) assert.notEqual(ask(), null);
  assert.equal(ask(), null);
  assert.deepEqual([figures.searching, figures.shed.searches], [3, { reads: 1, commands: 0 }]);
});

test('a crowd of searches is served, and a line that stands is kept short', async () => {
  const { figures, begun, ask, pass } = world();
  for (let n = 0; n < 20; n += 1) assert.notEqual(ask(), null);
  let servedMs = 0;
  for (; ask() !== null; servedMs += 10) pass(10);
  assert.ok(servedMs >= 1_200 && servedMs <= 1_300, `${servedMs}`);
  const waiting = figures.searching;
  while (figures.searching > 0) {
    begun.shift()!.end();
    await setImmediate();
  }
  assert.ok(waiting >= 20);
  assert.notEqual(ask(), null, 'there is a place');
  assert.notEqual(ask(), null, 'nobody waits');
  pass(201);
  assert.equal(ask(), null, 'it was long a moment ago');
  while (begun.length > 0) {
    begun.shift()!.end();
    await setImmediate();
  }
  pass(5_001);
  for (let n = 0; n < 3; n += 1) assert.notEqual(ask(), null);
  pass(201);
  assert.notEqual(ask(), null, 'it has been short for five seconds');
});

test('of a line that stands, those who have waited for too long are turned away when it is their turn', async () => {
  const { figures, begun, ask, pass } = world({ atOnceMax: 1 });
  const answers = [ask()!, ask()!, ask()!];
  pass(201);
  void ask();
  pass(1_010);
  assert.equal(ask(), null);
  begun[0]!.end();
  await setImmediate();
  assert.deepEqual([await answers[1], await answers[2]], [null, null]);
  assert.deepEqual([begun.length, figures.searching], [1, 0]);
  assert.equal(figures.shed.searches.reads, 4);
});
