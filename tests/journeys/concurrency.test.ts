/** Many at once: what is scarce, what is repeated, and what races. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import type { OrderPlacedAnswer, OrderView, ProductView } from '#contracts/http.ts';
import { checkInvariants, untilAtRest } from '../invariants.ts';
import { startTestSystem } from '../running-system.ts';
import { newId, type Problem } from '../shop-client.ts';

test('500 buyers of 100 pieces: 100 orders complete, 400 are told that it is out of stock', async (t) => {
  const system = await startTestSystem(t);
  const { shop } = system;
  const { sku, customerId } = await shop.furnish(100);
  const replies = await Promise.all(Array.from({ length: 500 }, () => shop.send({ customerId, sku })));
  assert.deepEqual(
    countBy(replies, ({ status }) => String(status)),
    { '201': 500 },
  );
  await untilAtRest(system.databaseUrls);

  const orders = await Promise.all(
    replies.map(async ({ body }) => (await shop.get<OrderView>(`/v1/orders/${body.orderId}`)).body),
  );
  const endings = countBy(orders, ({ status, failure }) => `${status} ${failure?.code ?? ''}`.trim());
  assert.deepEqual(endings, { completed: 100, 'failed out-of-stock': 400 });
  const { body } = await shop.get<ProductView>(`/v1/products/${sku}`);
  assert.deepEqual(body.availability, { onHand: 0, reserved: 0, available: 0 });
  const journal = { placed: replies.map((reply) => reply.body.orderId), refused: [] };
  assert.deepEqual(await checkInvariants(system.databaseUrls, system.providerUrl, journal), []);
});

test('the same order sent 50 times at once with one key is one order, one charge and one answer', async (t) => {
  const system = await startTestSystem(t);
  const { shop } = system;
  const { sku, customerId } = await shop.furnish(100);
  const key = newId('key');
  let waited = 0;

  async function sendUntilAnswered(n: number): Promise<{ body: OrderPlacedAnswer; replayed: boolean }> {
    for (;;) {
      const reply = await shop.send<OrderPlacedAnswer & Partial<Omit<Problem, 'status'>>>(
        { customerId, sku },
        { 'idempotency-key': key },
      );
      if (reply.status === 201) {
        return { body: reply.body, replayed: reply.headers.get('idempotent-replayed') === 'true' };
      }
      assert.deepEqual([reply.status, reply.body.code], [409, 'idempotency-key-in-flight']);
      const seconds = reply.headers.get('retry-after');
      assert.match(seconds ?? '', /^[1-9]\d*$/);
      waited += 1;
      // Not all at once again.
      await delay(Number(seconds) * 1_000 + 20 * n);
    }
  }

  const answers = await Promise.all(Array.from({ length: 50 }, (_, n) => sendUntilAnswered(n)));
  t.diagnostic(`${waited} were told to ask again`);
  assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
  assert.equal(new Set(answers.map(({ body }) => JSON.stringify(body))).size, 1);
  const { orderId } = answers[0]!.body;
  assert.equal((await shop.waitFinal(orderId)).status, 'completed');
  await untilAtRest(system.databaseUrls);
  const { items } = (await shop.get<{ items: OrderView[] }>(`/v1/customers/${customerId}/orders`)).body;
  assert.deepEqual(
    items.map((order) => order.orderId),
    [orderId],
  );
  const journal = { placed: [orderId], refused: [] };
  assert.deepEqual(await checkInvariants(system.databaseUrls, system.providerUrl, journal), []);
});

test('200 orders are cancelled at some moment while they are being charged, and none is left half done', async (t) => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
  t.diagnostic(`SEED=${seed} repeats this`);
  const pausesMs = fc.sample(fc.integer({ min: 0, max: 60 }), { seed, numRuns: 200 });
  const system = await startTestSystem(t);
  const { shop } = system;
  const { sku, customerId } = await shop.furnish(1_000);

  const outcomes: { orderId: string; cancelled: boolean }[] = [];
  const lanes = Array.from({ length: 10 }, async () => {
    for (let pauseMs = pausesMs.pop(); pauseMs !== undefined; pauseMs = pausesMs.pop()) {
      const orderId = await shop.place({ customerId, sku, quantity: 2 });
      await delay(pauseMs);
      const { status, body } = await shop.cancel(orderId);
      if (status !== 200) assert.deepEqual([status, body.orderStatus], [409, 'completed']);
      outcomes.push({ orderId, cancelled: status === 200 });
    }
  });
  await Promise.all(lanes);
  await untilAtRest(system.databaseUrls);

  const endings: string[] = [];
  for (const { orderId, cancelled } of outcomes) {
    const { status, payment } = (await shop.get<OrderView>(`/v1/orders/${orderId}`)).body;
    assert.equal(status, cancelled ? 'cancelled' : 'completed');
    endings.push(`${status}, payment ${payment.status}`);
  }
  t.diagnostic(JSON.stringify(countBy(endings, (ending) => ending)));
  const completed = outcomes.filter(({ cancelled }) => !cancelled).length;
  const { body } = await shop.get<ProductView>(`/v1/products/${sku}`);
  const left = 1_000 - 2 * completed;
  assert.deepEqual(body.availability, { onHand: left, reserved: 0, available: left });
  const journal = { placed: outcomes.map(({ orderId }) => orderId), refused: [] };
  assert.deepEqual(await checkInvariants(system.databaseUrls, system.providerUrl, journal), []);
});

function countBy<T>(items: readonly T[], keyOf: (item: T) => string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const key of items.map(keyOf).sort()) counts[key] = (counts[key] ?? 0) + 1;
  return counts;
}
