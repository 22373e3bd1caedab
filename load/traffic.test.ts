import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OrderView } from '#contracts/http.ts';
import type { Answer } from './answer-reader.ts';
import { readMix } from './profiles.ts';
import { randomOf } from './schedule.ts';
import { createTraffic, readKindAt, type Sent } from './traffic.ts';

const json = 'application/json; charset=utf-8';

function answer(status: number, body: object | string, fields: Readonly<Record<string, string>> = {}): Answer {
  const lines = Object.entries({ 'Content-Type': json, ...fields }).map(([name, value]) => `${name}: ${value}\r\n`);
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return { status, head: `HTTP/1.1 ${status} X\r\n${lines.join('')}`, body: Buffer.from(text), keepAlive: true };
}

/** Of one user, with a die that falls as `dice` says. */
function trafficOf(dice: () => number = randomOf(1)) {
  let nowMs = 0;
  const traffic = createTraffic({
    name: 'run-0',
    skus: ['A', 'B'],
    hotShare: 0,
    lines: 2,
    random: dice,
    now: () => nowMs,
  });
  const user = traffic.user('ada', ['Host: shop', 'Authorization: Bearer t']);
  return {
    traffic,
    user,
    pass: (ms: number) => (nowMs += ms),
    placed(): { sent: Sent; orderId: string; taken: Answer } {
      const sent = traffic.place(user);
      const orderId = sent.orderId!;
      const total = { amount: 100, currency: 'EUR' };
      const taken = answer(
        201,
        { orderId, status: 'pending', total, version: 1 },
        { ETag: '"1"', 'Consistency-Token': 'MTs' },
      );
      assert.equal(sent.check(taken), null);
      return { sent, orderId, taken };
    },
  };
}

const orderView = (orderId: string, version: number): OrderView => ({
  orderId,
  customerId: 'ada',
  status: 'pending',
  lines: [{ sku: 'A', name: 'Load teapot', quantity: 1, unitPrice: { amount: 100, currency: 'EUR' } }],
  total: { amount: 100, currency: 'EUR' },
  payment: { status: 'none', method: 'pm_ok' },
  placedAt: '2026-01-01T00:00:00.000Z',
  updatedAt: '2026-01-01T00:00:00.000Z',
  version,
});
const shown = (orderId: string, version: number): Answer =>
  answer(200, orderView(orderId, version), { ETag: `"${version}"` });
const problem = (status: number, code: string): Answer =>
  answer(status, { type: `/problems/${code}`, code }, { 'Content-Type': 'application/problem+json' });

/** Never the one chance in so many: no entity tags, no full checks. */
const unlucky = (): number => 0.99;
/** Always: every body is checked in full, every known tag is sent. */
const lucky = (): number => 0;

test('an order is sent with a key of its own, and taken by a 201 with its token', () => {
  const { traffic, user, placed } = trafficOf();
  const { sent, orderId } = placed();
  assert.match(sent.bytes, /^POST \/v1\/orders HTTP\/1\.1\r\nHost: shop\r\nAuthorization: Bearer t\r\n/);
  assert.match(sent.bytes, new RegExp(`\r\nIdempotency-Key: ${orderId}\r\n`));
  const [head, body = ''] = sent.bytes.split('\r\n\r\n');
  assert.equal(Number(/Content-Length: (\d+)/.exec(head!)?.[1]), Buffer.byteLength(body));
  assert.equal((JSON.parse(body) as { customerId: string }).customerId, 'ada');
  const next = traffic.place(user);
  assert.notEqual(next.orderId, orderId);
  const ok = { orderId: next.orderId };
  assert.equal(next.check(answer(201, ok)), 'a write without a token');
  assert.equal(next.check(answer(200, ok)), `200 ${json}`);
  assert.equal(next.check(problem(503, 'overloaded')), '503 overloaded');
  assert.equal(next.check(answer(201, 'nonsense')), '201 of another shape');
  assert.equal(next.check(answer(201, { orderId: 'of-another' })), '201 of another shape');
  assert.equal(next.check(answer(201, ok, { 'Content-Type': 'text/html' })), '201 of type text/html');
});

test('a share of bodies is held against its schema', () => {
  const { traffic, user } = trafficOf(lucky);
  const sent = traffic.read(user, 'customer');
  const customer = { customerId: 'ada', name: 'Ada', orders: 0, spent: [], version: 1 };
  assert.equal(sent.check(answer(200, customer)), null);
  assert.equal(sent.check(answer(200, { ...customer, orders: 'many' })), '200 against its schema');
  assert.equal(sent.check(answer(200, '{"customerId":"ada",}')), '200 against its schema');
});

test('versions of an order that one user sees never go back', () => {
  const { traffic, user, placed } = trafficOf(unlucky);
  const { orderId } = placed();
  const read = (): Sent => traffic.read(user, 'own order');
  assert.equal(read().check(shown(orderId, 2)), null);
  assert.equal(read().check(shown(orderId, 2)), null);
  assert.equal(read().check(shown(orderId, 1)), 'version 1 after version 2');
  assert.equal(read().check(problem(404, 'order-not-found')), '404 order-not-found');
  assert.equal(read().check(answer(200, orderView(orderId, 3))), 'an order without a version');
});

test('an order that was placed a moment ago may not be readable yet, after a while it has to be', () => {
  const { traffic, user, placed, pass } = trafficOf(unlucky);
  placed();
  assert.equal(traffic.read(user, 'own order').check(problem(404, 'order-not-found')), null);
  assert.equal(traffic.read(user, 'own order').check(problem(404, 'not-found')), '404 of another shape');
  pass(5_000);
  assert.equal(traffic.read(user, 'own order').check(problem(404, 'order-not-found')), '404 order-not-found');
});

test('what a user has written is visible under its token', () => {
  const { traffic, user, placed } = trafficOf(lucky);
  const { sent, orderId, taken } = placed();
  const [own, cancel] = traffic.after(user, sent, taken);
  assert.equal(own?.kind, 'own write');
  assert.match(own.bytes, /\r\nConsistency-Token: MTs\r\nPrefer: wait=5\r\n/);
  assert.equal(own.check(shown(orderId, 1)), null);
  assert.equal(own.check(problem(404, 'order-not-found')), 'own write: 404 order-not-found');
  assert.equal(own.check(problem(503, 'read-model-behind')), 'own write: 503 read-model-behind');
  // The cancellation has made version 3: less must not be shown under its token.
  assert.equal(cancel?.kind, 'cancel');
  const cancelled = answer(
    200,
    { orderId, status: 'cancelled', version: 3 },
    { ETag: '"3"', 'Consistency-Token': 'MTt' },
  );
  assert.equal(cancel.check(cancelled), null);
  const [after] = traffic.after(user, cancel, cancelled);
  assert.equal(after!.check(shown(orderId, 3)), null);
  assert.equal(after!.check(shown(orderId, 2)), 'version 2 after version 3');
});

test('who cancels too late is told so, and has written nothing', () => {
  const { traffic, user, placed } = trafficOf(lucky);
  const { sent, taken } = placed();
  const cancel = traffic.after(user, sent, taken)[1]!;
  const late = problem(409, 'order-not-cancellable');
  assert.equal(cancel.check(late), null);
  assert.deepEqual(traffic.after(user, cancel, late), []);
  assert.equal(cancel.check(problem(409, 'order-exists')), '409 of another shape');
});

test('a 304 is right only for the version that was asked about', () => {
  const { traffic, user, placed } = trafficOf(lucky);
  const { orderId } = placed();
  assert.equal(traffic.read(user, 'own order').check(shown(orderId, 2)), null);
  const again = traffic.read(user, 'own order');
  assert.match(again.bytes, /\r\nIf-None-Match: "2"\r\n/);
  assert.equal(again.check(answer(304, '', { ETag: '"2"' })), null);
  assert.equal(again.check(answer(304, '', { ETag: '"1"' })), '304 of another version');
  assert.equal(trafficOf(unlucky).traffic.read(user, 'product').check(answer(304, '')), `304 ${json}`);
});

test('reads are mixed as the table says', () => {
  assert.equal(
    readMix.reduce((sum, { percent }) => sum + percent, 0),
    100,
  );
  const random = randomOf(5);
  const counts = new Map<string, number>();
  for (let n = 0; n < 100_000; n += 1) {
    const kind = readKindAt(random());
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  for (const { name, percent } of readMix) assert.ok(Math.abs(counts.get(name)! / 1_000 - percent) < 1, name);
});

test('orders have from 1 to twice as many lines less one, or just as many where all are to be alike', () => {
  const counts = (linesAlike: boolean): ReadonlySet<number> => {
    const options = { name: 'run-0', skus: ['A'], hotShare: 0, lines: 3, random: randomOf(1), now: () => 0 };
    const traffic = createTraffic({ ...options, linesAlike });
    const user = traffic.user('ada', []);
    const bodies = Array.from({ length: 200 }, () => traffic.place(user).bytes);
    return new Set(bodies.map((bytes) => bytes.split('"sku":').length - 1));
  };
  assert.deepEqual(counts(false), new Set([1, 2, 3, 4, 5]));
  assert.deepEqual(counts(true), new Set([3]));
});
