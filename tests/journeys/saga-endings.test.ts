/** Every way in which an order can end, from the request to the last compensation. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OrderPaymentsView, OrderView, ProductView } from '#contracts/http.ts';
import { checkInvariants, untilAtRest } from '../invariants.ts';
import type { TestSystem } from '../running-program.ts';
import { startTestSystem } from '../running-system.ts';

/** An attempt at the provider takes this long before it counts as unknown; `pm_slow` answers within it. */
const paymentTimeoutMs = 1_000;
const slowMs = 600;

test('orders end as they should, and nothing is left behind', { concurrency: true }, async (t) => {
  const system = await startTestSystem(t, { settings: { paymentTimeoutMs, paymentAttemptsMax: 3 }, slowMs });
  const { shop } = system;

  const stockOf = async (sku: string): Promise<ProductView['availability']> =>
    (await shop.get<ProductView>(`/v1/products/${sku}`)).body.availability;
  const paymentsOf = async (orderId: string): Promise<OrderPaymentsView> =>
    (await shop.get<OrderPaymentsView>(`/v1/orders/${orderId}/payments`)).body;
  const free = { onHand: 5, reserved: 0, available: 5 };
  const sold = { onHand: 3, reserved: 0, available: 3 };
  /** The read side takes the logs of the services one by one: the stock may be shown a moment after the order. */
  const showsStock = (sku: string, wanted: ProductView['availability']): Promise<unknown> =>
    shop.waitFor(`${sku} is at ${wanted.available}`, async () => {
      const stock = await stockOf(sku);
      return stock.onHand === wanted.onHand && stock.reserved === wanted.reserved;
    });

  async function completes(method: 'pm_ok' | 'pm_slow' | 'pm_flaky' | 'pm_reply_lost'): Promise<OrderView> {
    const { sku, customerId } = await shop.furnish(5);
    const orderId = await shop.place({ customerId, sku, quantity: 2, method });
    const order = await shop.waitFinal(orderId);
    assert.deepEqual([order.status, order.payment.status, order.failure], ['completed', 'captured', undefined]);
    await showsStock(sku, sold);
    assert.deepEqual(await chargesOf(system, orderId), ['capture']);
    return order;
  }

  await Promise.all([
    t.test('an order that is in stock and paid completes', async () => {
      const order = await completes('pm_ok');
      assert.deepEqual(order.total, { amount: 2_000, currency: 'EUR' });
    }),

    t.test('a slow payment completes', () => completes('pm_slow').then(() => {})),

    t.test('a payment that fails twice and then goes through completes, charged once', async () => {
      const { orderId } = await completes('pm_flaky');
      const { captures } = await paymentsOf(orderId);
      assert.equal(captures.length, 1);
    }),

    t.test('a charge whose reply was lost completes once the provider is asked, charged once', async () => {
      const { orderId } = await completes('pm_reply_lost');
      const { attempts, captures } = await paymentsOf(orderId);
      assert.ok(attempts.some(({ outcome }) => outcome === 'unknown'));
      assert.equal(captures.length, 1);
    }),

    t.test('an order that is not in stock fails and says what is short', async () => {
      const { sku, customerId } = await shop.furnish(5);
      const other = await shop.furnish(5);
      const lines = [
        { sku, quantity: 6 },
        { sku: other.sku, quantity: 1 },
      ];
      const order = await shop.waitFinal(await shop.place({ customerId, lines }));
      assert.deepEqual([order.status, order.payment.status], ['failed', 'none']);
      assert.equal(order.failure?.code, 'out-of-stock');
      assert.deepEqual(order.failure.skus, [sku]);
      assert.deepEqual(await Promise.all([stockOf(sku), stockOf(other.sku)]), [free, free]);
      assert.deepEqual(await chargesOf(system, order.orderId), []);
    }),

    t.test('the pieces of one product on several lines are added up before they are held', async () => {
      const { sku, customerId } = await shop.furnish(5);
      const lines = [
        { sku, quantity: 3 },
        { sku, quantity: 3 },
      ];
      const order = await shop.waitFinal(await shop.place({ customerId, lines }));
      assert.deepEqual([order.status, order.failure?.code, order.failure?.skus], ['failed', 'out-of-stock', [sku]]);
      const fitting = lines.map((line, n) => ({ ...line, quantity: n + 1 }));
      assert.equal((await shop.waitFinal(await shop.place({ customerId, lines: fitting }))).status, 'completed');
    }),

    t.test('a declined payment fails the order and frees its stock', async () => {
      const { sku, customerId } = await shop.furnish(5);
      const order = await shop.waitFinal(await shop.place({ customerId, sku, quantity: 2, method: 'pm_declined' }));
      assert.deepEqual([order.status, order.failure?.code], ['failed', 'payment-declined']);
      assert.equal(order.payment.status, 'declined');
      await showsStock(sku, free);
      assert.deepEqual(await chargesOf(system, order.orderId), ['decline']);
    }),

    t.test('a provider that never answers fails the order in time, and is told that nothing is wanted', async () => {
      const { sku, customerId } = await shop.furnish(5);
      const order = await shop.waitFinal(await shop.place({ customerId, sku, quantity: 2, method: 'pm_down' }));
      assert.deepEqual([order.status, order.failure?.code, order.payment.status], ['failed', 'timed-out', 'none']);
      await showsStock(sku, free);
      assert.deepEqual(await chargesOf(system, order.orderId), ['void']);
    }),

    t.test('an order that is cancelled right after it was placed holds nothing and costs nothing', async () => {
      const { sku, customerId } = await shop.furnish(5);
      const orderId = await shop.place({ customerId, sku, quantity: 2, method: 'pm_slow' });
      const cancelled = await shop.cancel(orderId);
      assert.deepEqual([cancelled.status, cancelled.body.status], [200, 'cancelled']);
      const order = await shop.waitFinal(orderId);
      assert.equal(order.status, 'cancelled');
      assert.ok(['none', 'refunded'].includes(order.payment.status), order.payment.status);
      await showsStock(sku, free);
    }),

    t.test('an order that is cancelled while it is being charged is refunded', async () => {
      const { sku, customerId } = await shop.furnish(5);
      const orderId = await shop.place({ customerId, sku, quantity: 2, method: 'pm_reply_lost' });
      await shop.waitFor(`${orderId} is charged`, async () => (await chargesOf(system, orderId)).length > 0);
      const cancelled = await shop.cancel(orderId);
      assert.equal(cancelled.status, 200, JSON.stringify(cancelled.body));
      const order = await shop.waitFinal(orderId);
      assert.deepEqual([order.status, order.payment.status], ['cancelled', 'refunded']);
      await showsStock(sku, free);
      assert.deepEqual(await chargesOf(system, orderId), ['capture', 'refund']);
      assert.equal((await paymentsOf(orderId)).status, 'refunded');
    }),

    t.test('an order that is cancelled while its stock is held and nothing is charged is not charged', async () => {
      const { sku, customerId } = await shop.furnish(5);
      const orderId = await shop.place({ customerId, sku, quantity: 2, method: 'pm_down' });
      await shop.waitOrder(orderId, ({ status }) => status === 'reserved');
      assert.equal((await shop.cancel(orderId)).status, 200);
      const order = await shop.waitFinal(orderId);
      assert.deepEqual([order.status, order.payment.status], ['cancelled', 'none']);
      await showsStock(sku, free);
      assert.deepEqual(await chargesOf(system, orderId), ['void']);
    }),

    t.test('an order that is complete cannot be cancelled', async () => {
      const { sku, customerId } = await shop.furnish(5);
      const { orderId } = await shop.waitFinal(await shop.place({ customerId, sku }));
      const { status, body } = await shop.cancel(orderId);
      assert.deepEqual([status, body.orderStatus], [409, 'completed']);
    }),
  ]);

  await untilAtRest(system.databaseUrls);
  assert.deepEqual(await checkInvariants(system.databaseUrls, system.providerUrl), []);
});

test('an order whose reservation expires while it is being charged fails, is refunded, and frees its stock', async (t) => {
  const system = await startTestSystem(t, { settings: { reservationTtlSeconds: 0.3, paymentTimeoutMs: 2_000 } });
  const { shop } = system;
  const { sku, customerId } = await shop.furnish(2);
  const [unpaid, paid] = await Promise.all(
    (['pm_down', 'pm_reply_lost'] as const).map(async (method) =>
      shop.waitFinal(await shop.place({ customerId, sku, method })),
    ),
  );
  for (const order of [unpaid!, paid!]) {
    assert.deepEqual([order.status, order.failure?.code], ['failed', 'timed-out']);
  }
  assert.deepEqual([unpaid!.payment.status, paid!.payment.status], ['none', 'refunded']);
  assert.deepEqual(await chargesOf(system, unpaid!.orderId), ['void']);
  assert.deepEqual(await chargesOf(system, paid!.orderId), ['capture', 'refund']);
  await untilAtRest(system.databaseUrls);
  assert.deepEqual(await checkInvariants(system.databaseUrls, system.providerUrl), []);
  const { body } = await shop.get<ProductView>(`/v1/products/${sku}`);
  assert.deepEqual(body.availability, { onHand: 2, reserved: 0, available: 2 });
});

test('an order that is not final by its deadline fails, whatever it waits for', async (t) => {
  const whole = await startTestSystem(t);
  const { sku, customerId } = await whole.shop.furnish(3);
  await whole.stop();
  // Nobody listens to orders here: they wait for stock that is never held.
  const ordering = await startTestSystem(t, {
    services: ['catalog', 'ordering', 'audit', 'queries'],
    settings: { orderDeadlineSeconds: 0.5 },
    beside: whole,
  });
  const orderId = await ordering.shop.place({ customerId, sku });
  const order = await ordering.shop.waitFinal(orderId);
  assert.deepEqual([order.status, order.failure?.code, order.payment.status], ['failed', 'timed-out', 'none']);

  await startTestSystem(t, { services: ['inventory', 'payments'], beside: ordering });
  await untilAtRest(ordering.databaseUrls);
  assert.deepEqual(await checkInvariants(ordering.databaseUrls, ordering.providerUrl), []);
  const { body } = await ordering.shop.get<ProductView>(`/v1/products/${sku}`);
  assert.deepEqual(body.availability, { onHand: 3, reserved: 0, available: 3 });
});

/** What the provider has on its ledger about an order, in order. */
async function chargesOf({ providerUrl }: TestSystem, orderId: string): Promise<string[]> {
  const answer = await fetch(`${providerUrl}/ledger`);
  const { entries } = (await answer.json()) as { entries: { kind: string; charge: string }[] };
  return entries.filter(({ charge }) => charge === `pay-${orderId}`).map(({ kind }) => kind);
}
