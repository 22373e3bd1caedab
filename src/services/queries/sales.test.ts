import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { SalesReport } from '#contracts/http.ts';
import { orderEvent, orderPlaced, type ReadSide, readSideForTests, story } from './story-for-tests.ts';

const url = '/v1/reports/sales';

/** Completed: 10 pence at 08:26, 10:00 and 23:59:59.999 on 1 December; 20 cents on the 2nd; 10 pence in January. One order is open. */
async function sold(t: TestContext): Promise<ReadSide> {
  const side = await readSideForTests(t);
  const { tell } = story();
  const line = { sku: 'A', name: 'A', quantity: 2, unitPrice: 5 };
  const orders = [
    orderPlaced('a', { placedAt: '2010-12-01T08:26:00Z', country: 'France', lines: [line] }),
    orderPlaced('b', { placedAt: '2010-12-01T10:00:00Z', country: 'Japan', lines: [line] }),
    orderPlaced('c', { placedAt: '2010-12-02T00:59:59.999+01:00', lines: [line] }),
    orderPlaced('d', { placedAt: '2010-12-02T00:00:00Z', country: 'France', currency: 'EUR', lines: [line, line] }),
    orderPlaced('e', { placedAt: '2011-01-31T12:00:00Z', country: 'France', lines: [line] }),
  ];
  await side.given(...orders.map((order) => tell(order)), tell(orderPlaced('open')));
  for (const { data } of orders)
    await side.given(tell(orderEvent.reserved(data.orderId)), tell(orderEvent.completed(data.orderId)));
  return side;
}

const gbp = (amount: number) => ({ amount, currency: 'GBP' });
const eur = (amount: number) => ({ amount, currency: 'EUR' });

test('completed orders are summed up by day', async (t) => {
  const side = await sold(t);
  assert.deepEqual(await side.see<SalesReport>(url), {
    buckets: [
      { start: '2010-12-01T00:00:00.000Z', orders: 3, units: 6, revenue: [gbp(30)] },
      { start: '2010-12-02T00:00:00.000Z', orders: 1, units: 4, revenue: [eur(20)] },
      { start: '2011-01-31T00:00:00.000Z', orders: 1, units: 2, revenue: [gbp(10)] },
    ],
  });
});

test('months add up currencies apart, and countries when asked', async (t) => {
  const side = await sold(t);
  const months = await side.see<SalesReport>(url, { query: { bucket: 'month' } });
  assert.deepEqual(months.buckets[0], {
    start: '2010-12-01T00:00:00.000Z',
    orders: 4,
    units: 10,
    revenue: [eur(20), gbp(30)],
  });
  const { buckets } = await side.see<SalesReport>(url, { query: { bucket: 'month', by: 'country' } });
  assert.deepEqual(buckets, [
    { start: '2010-12-01T00:00:00.000Z', orders: 1, units: 2, revenue: [gbp(10)] },
    { start: '2010-12-01T00:00:00.000Z', country: 'France', orders: 2, units: 6, revenue: [eur(20), gbp(10)] },
    { start: '2010-12-01T00:00:00.000Z', country: 'Japan', orders: 1, units: 2, revenue: [gbp(10)] },
    { start: '2011-01-01T00:00:00.000Z', country: 'France', orders: 1, units: 2, revenue: [gbp(10)] },
  ]);
});

test('from counts, to does not, to the millisecond', async (t) => {
  const side = await sold(t);
  const count = async (from?: string, to?: string): Promise<number> => {
    const { buckets } = await side.see<SalesReport>(url, {
      query: { bucket: 'hour', ...(from && { from }), ...(to && { to }) },
    });
    return buckets.reduce((sum, bucket) => sum + bucket.orders, 0);
  };
  assert.equal(await count('2010-12-01T08:26:00Z', '2010-12-01T10:00:00Z'), 1);
  assert.equal(await count('2010-12-01T08:26:00.001Z', '2010-12-01T10:00:00.001Z'), 1);
  assert.equal(await count('2010-12-01T08:26:00Z', '2010-12-01T08:26:00.001Z'), 1);
  assert.equal(await count('2010-12-01T08:25:00Z', '2010-12-01T08:26:00Z'), 0);
  assert.equal(await count('2010-12-01T08:00:00Z', '2010-12-01T09:00:00Z'), 1);
  assert.equal(await count('2010-12-01T08:27:00Z', '2010-12-01T23:59:59.999Z'), 1);
  assert.equal(await count('2010-12-01T08:26:00Z'), 5);
  assert.equal(await count('2010-12-01T08:26:01Z'), 4);
  assert.equal(await count(undefined, '2010-12-02T00:00:00Z'), 3);
  assert.equal(await count(undefined, '2010-12-02T00:00:00.001Z'), 4);
  assert.equal(await count('2010-12-01T09:26:00+01:00', '2010-12-01T23:00:00-05:00'), 4);
});

test('a range that ends before it begins is refused, with a pointer', async (t) => {
  const side = await readSideForTests(t);
  for (const to of ['2010-12-01T08:00:00Z', '2010-11-01T08:00:00Z']) {
    const answer = await side.ask(url, { query: { from: '2010-12-01T08:00:00Z', to } });
    assert.ok('refused' in answer);
    assert.equal(answer.refused.code, 'invalid-request');
    assert.deepEqual(answer.refused['errors'], [{ pointer: '/from', detail: 'has to be before `to`' }]);
  }
});

test('a report without bound is refused', async (t) => {
  const side = await readSideForTests(t);
  await side.database.query(
    'fill',
    `insert into sales_hours select n, '2000-01-01'::timestamptz + n * interval '1 hour', '', 'GBP', 1, 1, 1 from generate_series(1, 10001) n`,
  );
  const answer = await side.ask(url, { query: { bucket: 'hour' } });
  assert.equal('refused' in answer && answer.refused.code, 'invalid-request');
  assert.ok('bytes' in (await side.ask(url, { query: { bucket: 'day' } })));
});

test('sums may grow beyond what one order can cost', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  const dear = (orderId: string) =>
    orderPlaced(orderId, { lines: [{ sku: 'A', name: 'A', quantity: 1, unitPrice: Number.MAX_SAFE_INTEGER }] });
  const ids = Array.from({ length: 1_100 }, (_, n) => `o${n}`);
  await side.given(
    ...ids.map((id) => tell(dear(id))),
    ...ids.flatMap((id) => [tell(orderEvent.reserved(id)), tell(orderEvent.completed(id))]),
  );
  const { buckets } = await side.see<SalesReport>(url);
  assert.equal(buckets[0]?.orders, 1_100);
  assert.ok(buckets[0].revenue[0]!.amount > 9.9e18);
});
