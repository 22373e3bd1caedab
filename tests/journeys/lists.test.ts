/** Lists: any mix of filters finds what a look at every item finds, and pages neither lose nor repeat an item. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { OrderView, ProductView, SalesReport } from '#contracts/http.ts';
import { untilAtRest } from '../invariants.ts';
import { startTestSystem } from '../running-system.ts';
import { newId, type Shop } from '../shop-client.ts';

const ordersMade = 100;
const names = ['Red kettle, 1.7 l', 'Blue kettle', 'Earl Grey tea', 'Assam tea', 'Tea-pot of clay', 'Löffel 24/7'];
const currency = 'EUR';

test('lists are what a look at every item finds', async (t) => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
  t.diagnostic(`SEED=${seed} repeats this`);
  const { shop, databaseUrls } = await startTestSystem(t, { slowMs: 500 });
  const { skus, customerIds } = await furnish(shop);
  const wishes = fc.sample(wishOf(skus, customerIds), { seed, numRuns: ordersMade });
  const orderIds = await Promise.all(wishes.map((wish) => place(shop, wish)));
  await untilAtRest(databaseUrls);
  const all = await Promise.all(orderIds.map(async (id) => (await shop.get<OrderView>(`/v1/orders/${id}`)).body));
  assert.ok(new Set(all.map(({ status }) => status)).size >= 3);

  await t.test('orders by any mix of filters, in every order, in pages of any size', async () => {
    const filters = fc.sample(filterOf(all, skus, customerIds), { seed, numRuns: 150 });
    let found = 0;
    for (const { limit, sort, ...filter } of filters) {
      const query = new URLSearchParams(Object.entries(filter).filter(([, value]) => value !== undefined) as never);
      query.set('sort', sort);
      query.set('limit', String(limit));
      const wanted = all.filter((order) => fits(order, filter)).sort(inOrder(sort));
      const shown = await allPages<OrderView>(shop, `/v1/orders?${query.toString()}`, limit);
      assert.deepEqual(idsOf(shown), idsOf(wanted), query.toString());
      for (const order of shown)
        assert.deepEqual(
          order,
          all.find(({ orderId }) => orderId === order.orderId),
        );
      found += shown.length;
    }
    assert.ok(found > 150, `${found} found: the filters were too narrow to tell`);
  });

  await t.test('the orders of a customer, newest first', async () => {
    for (const customerId of customerIds) {
      const shown = await allPages<OrderView>(shop, `/v1/customers/${customerId}/orders?limit=3`, 3);
      const wanted = all.filter((order) => order.customerId === customerId).sort(inOrder('-placedAt'));
      assert.deepEqual(idsOf(shown), idsOf(wanted));
    }
  });

  await t.test('without parameters: the newest 20', async () => {
    const { items, nextCursor } = (await shop.get<Page<OrderView>>('/v1/orders')).body;
    assert.deepEqual(idsOf(items), idsOf([...all].sort(inOrder('-placedAt')).slice(0, 20)));
    assert.ok(nextCursor);
  });

  await t.test('pages lose and repeat nothing while orders come in', async () => {
    for (const sort of ['-placedAt', 'total'] as const) {
      const seen: string[] = [];
      let cursor: string | null = '';
      while (cursor !== null) {
        const more: string = cursor === '' ? '' : `&cursor=${cursor}`;
        const { body }: { body: Page<OrderView> } = await shop.get(`/v1/orders?limit=9&sort=${sort}${more}`);
        seen.push(...idsOf(body.items));
        cursor = body.nextCursor;
        // Before the cursor and after it.
        const [wish] = fc.sample(wishOf(skus, customerIds), { seed: seed + seen.length, numRuns: 1 });
        const placed = await shop.send(bodyOf(wish!));
        await shop.waitOrder(placed.body.orderId, () => true);
      }
      assert.equal(new Set(seen).size, seen.length);
      assert.deepEqual(seen.filter((id) => orderIds.includes(id)).sort(), [...orderIds].sort());
    }
  });

  await t.test('products by words and stock', async () => {
    await untilAtRest(databaseUrls);
    const products = await allPages<ProductView>(shop, '/v1/products?limit=4', 4);
    assert.deepEqual(
      products.map(({ sku }) => sku),
      [...skus].sort(),
    );
    const byName = await allPages<ProductView>(shop, '/v1/products?limit=2&sort=-name', 2);
    const lower = ({ name }: ProductView): string => name.normalize('NFKC').toLowerCase();
    assert.deepEqual(byName.map(lower), products.map(lower).sort().reverse());
    for (const inStock of [true, false]) {
      const shown = await allPages<ProductView>(shop, `/v1/products?inStock=${inStock}&limit=100`, 100);
      const wanted = products.filter(({ availability }) => availability.available > 0 === inStock);
      assert.deepEqual(shown, wanted);
      assert.ok(shown.length > 0);
    }
    for (const [q, count] of [
      ['kettle', 2],
      ['KET', 2],
      ['tea', 3],
      ['blue kettle', 1],
      ['löff', 1],
      ['spoon', 0],
    ] as const) {
      const shown = await allPages<ProductView>(shop, `/v1/products?q=${encodeURIComponent(q)}`, 20);
      assert.equal(shown.length, count, q);
    }
  });

  await t.test('sales are what the completed orders come to', async () => {
    const now = await allPages<OrderView>(shop, '/v1/orders?status=completed&limit=100', 100);
    const [from, to] = ['2024-03-01T00:30:00Z', '2024-09-15T17:45:30Z'];
    const sold = now.filter(
      ({ placedAt }) => Date.parse(placedAt) >= Date.parse(from) && Date.parse(placedAt) < Date.parse(to),
    );
    for (const [bucket, length] of [
      ['hour', 13],
      ['day', 10],
      ['month', 7],
    ] as const) {
      const { body } = await shop.get<SalesReport>(`/v1/reports/sales?bucket=${bucket}&from=${from}&to=${to}`);
      const sums = new Map<string, { orders: number; units: number; amount: number }>();
      for (const { placedAt, lines, total } of sold) {
        const key = placedAt.slice(0, length);
        const sum = sums.get(key) ?? { orders: 0, units: 0, amount: 0 };
        sum.orders += 1;
        sum.units += lines.reduce((pieces, { quantity }) => pieces + quantity, 0);
        sum.amount += total.amount;
        sums.set(key, sum);
      }
      const shown = body.buckets.map(({ start, orders, units, revenue }) => [
        start.slice(0, length),
        { orders, units, amount: revenue[0]?.amount },
      ]);
      assert.deepEqual(
        shown,
        [...sums].sort(([a], [b]) => (a < b ? -1 : 1)),
      );
    }
  });
});

type Page<Item> = { items: Item[]; nextCursor: string | null };

async function furnish(shop: Shop): Promise<{ skus: string[]; customerIds: string[] }> {
  const skus = names.map((_, n) => `${newId('sku')}.${n}`);
  const customerIds = Array.from({ length: 4 }, () => newId('customer'));
  await Promise.all([
    ...skus.map((sku, n) => shop.putProduct(sku, { amount: 100, currency }, names[n])),
    ...customerIds.map((id) => shop.putCustomer(id)),
  ]);
  // The last one is never in stock.
  await Promise.all(skus.slice(0, -1).map((sku) => shop.adjustStock(sku, 100_000)));
  return { skus, customerIds };
}

type Wish = {
  readonly customerId: string;
  readonly lines: readonly { readonly sku: string; readonly quantity: number; readonly amount: number }[];
  readonly minute: number;
  readonly method: 'pm_ok' | 'pm_declined' | 'pm_slow';
};

const minutesMax = 360 * 24 * 60;
/** Few enough values for ties. */
const wishOf = (skus: readonly string[], customerIds: readonly string[]): fc.Arbitrary<Wish> =>
  fc.record({
    customerId: fc.constantFrom(...customerIds),
    lines: fc.array(
      fc.record({
        sku: fc.oneof({ weight: 20, arbitrary: fc.constantFrom(...skus.slice(0, -1)) }, fc.constant(skus.at(-1)!)),
        quantity: fc.integer({ min: 1, max: 3 }),
        amount: fc.constantFrom(0, 50, 100, 1_000),
      }),
      { minLength: 1, maxLength: 3 },
    ),
    minute: fc.oneof(fc.constantFrom(0, 1_000, 100_000), fc.integer({ min: 0, max: minutesMax })),
    method: fc.constantFrom('pm_ok', 'pm_ok', 'pm_ok', 'pm_declined', 'pm_slow'),
  });

const timeOf = (minute: number): string => new Date(Date.UTC(2024, 0, 1) + minute * 60_000).toISOString();

const bodyOf = ({ customerId, lines, minute, method }: Wish) => ({
  customerId,
  method,
  placedAt: timeOf(minute),
  lines: lines.map(({ sku, quantity, amount }) => ({ sku, quantity, unitPrice: { amount, currency } })),
});

/** A slow one is cancelled, so that there are some of these. */
async function place(shop: Shop, wish: Wish): Promise<string> {
  const orderId = await shop.place(bodyOf(wish));
  if (wish.method === 'pm_slow') await shop.cancel(orderId);
  return orderId;
}

type Filter = {
  readonly customerId?: string | undefined;
  readonly status?: string | undefined;
  readonly sku?: string | undefined;
  readonly placedFrom?: string | undefined;
  readonly placedTo?: string | undefined;
  readonly minTotal?: number | undefined;
  readonly q?: string | undefined;
};
type Sort = 'placedAt' | '-placedAt' | 'total' | '-total';

function filterOf(
  all: readonly OrderView[],
  skus: readonly string[],
  customerIds: readonly string[],
): fc.Arbitrary<Filter & { limit: number; sort: Sort }> {
  const sometimes = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 2 });
  const times = fc.oneof(
    fc.constantFrom(...all.map(({ placedAt }) => placedAt)),
    fc.integer({ min: 0, max: minutesMax }).map(timeOf),
  );
  const filters = fc.record({
    customerId: sometimes(fc.constantFrom(...customerIds)),
    status: sometimes(fc.constantFrom('completed', 'completed', 'failed', 'cancelled', 'pending')),
    sku: sometimes(fc.constantFrom(...skus, 'nothing')),
    placedFrom: sometimes(times),
    placedTo: sometimes(times),
    minTotal: sometimes(fc.constantFrom(0, 1, 100, 150, 1_000)),
    q: sometimes(
      fc.constantFrom(
        'kettle',
        'TEA',
        'red',
        'tea pot',
        'löffel',
        'sku',
        'kettle 1',
        'grey assam',
        'spoon',
        'customer',
        'Custom tea',
      ),
    ),
    limit: fc.constantFrom(1, 3, 10, 100),
    sort: fc.constantFrom<Sort[]>('placedAt', '-placedAt', 'total', '-total'),
  });
  // One that ends before it begins is refused.
  return filters.filter(
    ({ placedFrom, placedTo }) =>
      placedFrom === undefined || placedTo === undefined || Date.parse(placedFrom) < Date.parse(placedTo),
  );
}

function fits(order: OrderView, { customerId, status, sku, placedFrom, placedTo, minTotal, q }: Filter): boolean {
  const named = [order.orderId, order.customerId, `Customer ${order.customerId}`];
  const text = [...named, ...order.lines.flatMap((line) => [line.sku, line.name])].join(' ');
  const parts = text.toLowerCase().split(/[^\p{L}\p{N}]+/u);
  const words = (q ?? '').toLowerCase().split(' ').filter(Boolean);
  return (
    (customerId === undefined || order.customerId === customerId) &&
    (status === undefined || order.status === status) &&
    (sku === undefined || order.lines.some((line) => line.sku === sku)) &&
    (placedFrom === undefined || Date.parse(order.placedAt) >= Date.parse(placedFrom)) &&
    (placedTo === undefined || Date.parse(order.placedAt) < Date.parse(placedTo)) &&
    (minTotal === undefined || order.total.amount >= minTotal) &&
    words.every((word) => parts.some((part) => part.startsWith(word)))
  );
}

function inOrder(sort: Sort): (a: OrderView, b: OrderView) => number {
  const key = ({ placedAt, total }: OrderView): number =>
    sort.endsWith('total') ? total.amount : Date.parse(placedAt);
  const up = (a: OrderView, b: OrderView): number => key(a) - key(b) || (a.orderId < b.orderId ? -1 : 1);
  return sort.startsWith('-') ? (a, b) => up(b, a) : up;
}

const idsOf = (orders: readonly OrderView[]): string[] => orders.map(({ orderId }) => orderId);

/** Every item of a list; each page but the last is full. */
async function allPages<Item>(shop: Shop, path: string, limit: number): Promise<Item[]> {
  const items: Item[] = [];
  let cursor: string | null = '';
  while (cursor !== null) {
    const more: string = cursor === '' ? '' : `&cursor=${cursor}`;
    const { status, body }: { status: number; body: Page<Item> } = await shop.get(`${path}${more}`);
    assert.equal(status, 200, JSON.stringify(body));
    items.push(...body.items);
    cursor = body.nextCursor;
    if (cursor !== null) assert.equal(body.items.length, limit);
  }
  return items;
}
