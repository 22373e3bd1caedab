import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Positions } from '#cqrs/consistency-token.ts';
import { memoryReadStore } from '#cqrs/memory-read-store.ts';
import { postgresReadStore } from '#cqrs/postgres-read-store.ts';
import { rowKey } from '#cqrs/read-store.ts';
import type { Database } from '#platform/postgres.ts';
import { createReadModels } from './service.ts';
import {
  customerRegistered,
  type Happened,
  orderEvent,
  orderPlaced,
  productAdded,
  readSideForTests,
  readSideOn,
  story,
  type Told,
} from './story-for-tests.ts';

const tables = {
  orders: 'order_id',
  open_orders: 'order_id',
  unfulfilled_orders: 'order_id',
  placed_orders: 'order_id',
  order_events: 'order_id, id',
  customers: 'customer_id',
  products: 'sku',
  order_payments: 'order_id',
  sales_hours: 'id',
};

const lines = (n: number) => [
  { sku: `S${n % 3}`, name: 'Heart', quantity: 1 + n, unitPrice: 10 },
  { sku: `S${(n + 1) % 3}`, name: 'Jam', quantity: 2, unitPrice: 10 },
];
const pieces = (n: number) => lines(n).map(({ sku, quantity }) => ({ sku, quantity }));

/** What each fate of order `n` makes of it, service by service; the order within an array is the order of its log. */
const fates: ((orderId: string, n: number) => { ordering: Told[]; inventory: Told[]; payments: Told[] })[] = [
  (orderId, n) => ({
    ordering: [orderEvent.reserved(orderId), orderEvent.inDoubt(orderId), orderEvent.completed(orderId)],
    inventory: [held(orderId, n), { type: 'StockShipped', data: { orderId, lines: pieces(n) } }],
    payments: [
      asked(orderId),
      {
        type: 'PaymentUnknown',
        data: { paymentId: 'p', orderId, attempt: 1, detail: 'slow', nextTryAt: '2030-01-01T00:00:00Z' },
      },
      {
        type: 'PaymentCaptured',
        data: { paymentId: 'p', orderId, amount: { amount: 1, currency: 'GBP' }, providerReference: 'r' },
      },
    ],
  }),
  (orderId, n) => ({
    ordering: [orderEvent.reserved(orderId), orderEvent.cancelled(orderId, 'reserved'), orderEvent.voided(orderId)],
    inventory: [
      held(orderId, n),
      { type: 'StockReleased', data: { orderId, lines: pieces(n), reason: 'order-cancelled' } },
    ],
    payments: [asked(orderId), { type: 'PaymentVoided', data: { paymentId: 'p', orderId, reason: 'withdrawn' } }],
  }),
  (orderId) => ({
    ordering: [orderEvent.failed(orderId, 'pending', 'out-of-stock')],
    inventory: [{ type: 'StockRejected', data: { orderId, skus: ['S1'] } }],
    payments: [],
  }),
  // Still under way.
  () => ({ ordering: [], inventory: [], payments: [] }),
];
const held = (orderId: string, n: number): Told => ({
  type: 'StockReserved',
  data: { orderId, lines: pieces(n), expiresAt: '2030-01-01T00:00:00Z' },
});
const asked = (orderId: string): Told => ({
  type: 'PaymentRequested',
  data: {
    paymentId: 'p',
    orderId,
    amount: { amount: 1, currency: 'GBP' },
    method: 'pm_ok',
    settleBy: '2030-01-01T00:00:00Z',
  },
});

/** The logs of four services; events of different orders are mixed by `dice`. */
function tellStory(orderFates: readonly number[], dice: Iterator<number>): Record<string, Happened[]> {
  const queues: Record<string, Told[][]> = { catalog: [], ordering: [], inventory: [], payments: [] };
  for (const n of [0, 1, 2]) {
    queues['catalog']!.push([
      productAdded(`S${n}`),
      { type: 'ProductChanged', data: { sku: `S${n}`, name: 'New', price: { amount: n, currency: 'GBP' } } },
    ]);
    queues['inventory']!.push([{ type: 'StockAdjusted', data: { sku: `S${n}`, quantity: 100, reason: 'received' } }]);
    queues['ordering']!.push([
      customerRegistered(`c${n}`),
      { type: 'CustomerChanged', data: { customerId: `c${n}`, name: 'Changed' } },
    ]);
  }
  for (const [n, fate] of orderFates.entries()) {
    const orderId = `o${n}`;
    const told = fates[fate]!(orderId, n);
    const placed = orderPlaced(orderId, {
      customerId: `c${n % 3}`,
      placedAt: new Date(Date.UTC(2011, 0, 1, 0, n * 17)).toISOString(),
      lines: lines(n),
    });
    queues['ordering']!.push([placed, ...told.ordering]);
    queues['inventory']!.push(told.inventory);
    queues['payments']!.push(told.payments);
  }
  const { tell } = story();
  return Object.fromEntries(
    Object.entries(queues).map(([service, threads]) => [service, mixed(threads, dice).map((told) => tell(told))]),
  );
}

/** One sequence of all threads, each in its own order. */
function mixed<T>(threads: readonly (readonly T[])[], dice: Iterator<number>): T[] {
  const left = threads.map((thread) => [...thread]).filter((thread) => thread.length > 0);
  const all: T[] = [];
  while (left.length > 0) {
    const n = dice.next().value % left.length;
    all.push(left[n]!.shift()!);
    if (left[n]!.length === 0) left.splice(n, 1);
  }
  return all;
}

/** Cuts a log into batches of one to `sizeMax` events. */
function cut<T>(log: readonly T[], sizeMax: number, dice: Iterator<number>): T[][] {
  const batches: T[][] = [];
  for (let at = 0; at < log.length;) {
    const size = 1 + (dice.next().value % sizeMax);
    batches.push(log.slice(at, at + size));
    at += size;
  }
  return batches;
}

async function rowsOf(database: Database): Promise<Record<string, unknown>> {
  const found = await Promise.all(
    Object.entries(tables).map(
      async ([table, key]) =>
        [table, await database.query(`rows of ${table}`, `select * from ${table} order by ${key}`)] as const,
    ),
  );
  return Object.fromEntries(found);
}

test('every cut into batches, and every order in which services arrive, gives the same rows and answers', async (t) => {
  const side = await readSideForTests(t);
  const clear = () => side.database.query('clear', `truncate ${Object.keys(tables).join(', ')}`);
  const stories = fc.record({
    orderFates: fc.array(fc.nat(fates.length - 1), { minLength: 1, maxLength: 8 }),
    dice: fc.infiniteStream(fc.nat()),
    sizeMax: fc.constantFrom(1, 3, 10, 100),
    cacheMb: fc.constantFrom(0, 1),
  });
  await fc.assert(
    fc.asyncProperty(stories, async ({ orderFates, dice, sizeMax, cacheMb }) => {
      const logs = tellStory(orderFates, dice);
      await clear();
      await readSideOn(side.database).given(...Object.values(logs).flat());
      const expected = await rowsOf(side.database);

      await clear();
      const other = readSideOn(side.database, { cacheMb });
      const read = () =>
        Promise.all([
          ...orderFates.map((_, n) => other.ask('/v1/orders/:orderId', { params: { orderId: `o${n}` } })),
          ...[0, 1, 2].map((n) => other.ask('/v1/products/:sku', { params: { sku: `S${n}` } })),
          ...[0, 1, 2].map((n) => other.ask('/v1/customers/:customerId', { params: { customerId: `c${n}` } })),
        ]);
      for (const batch of mixed(
        Object.values(logs).map((log) => cut(log, sizeMax, dice)),
        dice,
      )) {
        // Reads go on meanwhile: what they leave in memory must not outlive the batch.
        await Promise.all([other.given(...batch), read()]);
      }
      assert.deepEqual(await rowsOf(side.database), expected);
      const remembered = await read();
      for (const answer of remembered as readonly { bytes?: Buffer; bytesMax?: number }[]) {
        assert.ok(answer.bytes === undefined || answer.bytesMax! >= answer.bytes.length);
      }
      assert.deepEqual(await other.models.auditCache(1_000), []);
      other.models.forgetAnswers();
      assert.deepEqual(remembered, await read());
    }),
    { numRuns: 40 },
  );
});

test('an answer from rows that another process has written says so, and a list waits for what it would show again', async (t) => {
  let applied: Positions = {};
  let awaited: Positions | null = null;
  const other = await readSideForTests(t);
  const side = readSideOn(other.database, {
    positions: () => applied,
    async caughtUp(positions) {
      awaited = positions;
      return false;
    },
  });
  const comesTo = (position: number) =>
    other.database.query(
      'comes to',
      `insert into checkpoints (consumer, position) select unnest($1::text[]), $2
       on conflict (consumer) do update set position = excluded.position`,
      [side.models.projections.map(({ name }) => `${name}-of-ordering.0`), position],
    );
  const singles = [
    ['/v1/orders/:orderId', { orderId: 'o1' }],
    ['/v1/customers/:customerId', { customerId: 'alice' }],
    ['/v1/products/:sku', { sku: 'S1' }],
  ] as const;
  const others = [
    ['/v1/orders/:orderId/history', { orderId: 'o1' }],
    ['/v1/orders/:orderId/payments', { orderId: 'o1' }],
    ['/v1/reports/sales', {}],
  ] as const;
  const shownBy = async (url: string, params: object): Promise<Positions | undefined> => {
    const answer = await side.ask(url, { params });
    assert.ok('bytes' in answer, url);
    return answer.shows;
  };
  const { tell } = story();
  await other.given(
    tell(customerRegistered('alice')),
    tell(productAdded('S1')),
    tell(orderPlaced('o1')),
    tell(orderEvent.reserved('o1')),
  );
  await comesTo(3);
  applied = { 'ordering.0': 3 };
  for (const [url, params] of singles) assert.equal(await shownBy(url, params), undefined, url);
  assert.equal(side.models.answerKeys().length, 3);

  await other.given(
    tell(orderEvent.completed('o1')),
    tell(asked('o1')),
    tell({ type: 'StockAdjusted', data: { sku: 'S1', quantity: 1, reason: 'received' } }),
  );
  await comesTo(4);
  for (const [url, query] of [
    ['/v1/orders', { status: 'completed' }],
    ['/v1/products', { inStock: true }],
  ] as const) {
    awaited = null;
    assert.equal((await side.see<{ items: unknown[] }>(url, { query })).items.length, 1);
    assert.deepEqual(awaited, { 'ordering.0': 4 }, url);
  }
  awaited = null;
  for (const url of ['/v1/orders', '/v1/products']) await side.see(url);
  assert.equal(awaited, null, 'from memory');

  side.models.forgetAnswers();
  for (const [url, params] of [...singles, ...others])
    assert.deepEqual(await shownBy(url, params), { 'ordering.0': 4 }, url);
  assert.deepEqual(side.models.answerKeys(), []);
  await side.see('/v1/orders', { query: { status: 'completed' } });
  applied = { 'ordering.0': 4 };
  awaited = null;
  for (const [url, params] of singles) assert.equal(await shownBy(url, params), undefined, url);
  assert.equal(side.models.answerKeys().length, 3);
  await side.see('/v1/orders', { query: { status: 'completed' } });
  assert.equal(awaited, null);
});

test('feeds of several services may write the same products at once', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  const skus = Array.from({ length: 3_000 }, (_, n) => `S${n}`);
  const added = skus.map((sku) => tell(productAdded(sku)));
  const received = skus
    .toReversed()
    .map((sku) => tell({ type: 'StockAdjusted', data: { sku, quantity: 1, reason: 'received' } }));
  await Promise.all([side.given(...added), side.given(...received)]);
  const [row] = await side.database.query<{ n: number }>(
    'count',
    'select count(*) as n from products where version = 1 and on_hand = 1',
  );
  assert.equal(row?.n, 3_000);
});

test('a list that takes too long is given up', async (t) => {
  const side = await readSideForTests(t);
  const blocker = await side.database.pin();
  await blocker.query('begin', 'begin');
  await blocker.query('lock', 'lock table placed_orders in access exclusive mode');
  const answer = await side.ask('/v1/orders').finally(async () => {
    await blocker.query('rollback', 'rollback');
    blocker.release();
  });
  assert.equal('refused' in answer && answer.refused.code, 'overloaded');
  assert.ok('bytes' in (await side.ask('/v1/orders')));
});

test('a list that fails otherwise tells its error', async (t) => {
  const side = await readSideForTests(t);
  await side.database.query('drop', 'drop table placed_orders');
  await assert.rejects(async () => side.ask('/v1/orders', { query: { q: 'heart' } }), /placed_orders/);
});

test('the tables of the projections are those of the database', async (t) => {
  const { database, models } = await readSideForTests(t);
  const declared = models.projections.flatMap(({ tables: own }) => own);
  assert.deepEqual(declared.map(({ name }) => name).sort(), Object.keys(tables).sort());
  const sqlTypes = { words: 'tsvector', json: 'text', timestamptz: 'timestamp with time zone' } as const;
  for (const { name, key, columns, defaults = {}, version } of declared) {
    const found = await database.query<{ column: string; type: string; default: string | null; key: number | null }>(
      'columns',
      `select attname as column, format_type(atttypid, null) as type, pg_get_expr(adbin, adrelid) as default,
         array_position(conkey, attnum) as key
       from pg_attribute
       left join pg_attrdef on adrelid = attrelid and adnum = attnum
       left join pg_constraint on conrelid = attrelid and contype = 'p'
       where attrelid = $1::regclass and attnum > 0 and not attisdropped`,
      [name],
    );
    const byName = (all: [string, unknown][]): unknown => all.sort(([a], [b]) => (a < b ? -1 : 1));
    assert.deepEqual(
      byName(found.map((one) => [one.column, one.type])),
      byName(Object.entries(columns).map(([column, type]) => [column, { ...sqlTypes }[type as never] ?? type])),
      `columns of ${name}`,
    );
    assert.deepEqual(
      found
        .filter((one) => one.key !== null)
        .sort((a, b) => a.key! - b.key!)
        .map((one) => one.column),
      key,
      `key of ${name}`,
    );
    assert.deepEqual(
      byName(found.flatMap((one) => (one.default === null ? [] : [[one.column, one.default] as [string, string]]))),
      byName(Object.entries(defaults).map(([column, value]) => [column, String(value)])),
      `defaults of ${name}`,
    );
    assert.ok(version === undefined || version in columns);
  }
});

test('projections fold in memory what they fold in the database', async (t) => {
  const side = await readSideForTests(t);
  const store = memoryReadStore();
  const { projections } = createReadModels({ database: side.database, cacheMb: 1 });
  const dice = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9].values();
  const endless = (function* () {
    for (let n = 7; ; n = (n * 75 + 74) % 65_537) yield dice.next().value ?? n;
  })();
  for (const log of Object.values(tellStory([0, 1, 2, 3, 1], endless))) {
    for (const batch of cut(log, 4, endless)) {
      await side.given(...batch);
      const { service } = batch[0]!;
      const events = batch.map(({ event }) => event);
      await store.apply([], (rows) =>
        Promise.all(
          projections.filter((one) => one.services.includes(service)).map((one) => one.apply(service, events, rows)),
        ),
      );
    }
  }
  const fresh = postgresReadStore(side.database);
  for (const table of projections.flatMap(({ tables: own }) => own)) {
    const rows = store.rowsOf(table);
    assert.ok(rows.length > 0, table.name);
    const keys = rows.map((row) => table.key.map((column) => row[column] as string));
    const stored = await fresh.apply([], (all) => all.load(table, keys));
    assert.deepEqual(
      new Map(rows.map((row, n) => [rowKey(keys[n]!), row])),
      new Map(keys.map((key) => [rowKey(key), stored.get(rowKey(key))])),
    );
  }
});
