/**
 * `npm run plans`: the lists at size; the plans of the very statements that they send, for any mix of filters, frequent and rare.
 * And a log at size: what is asked of it all the time reads no table through.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { escapeLiteral } from 'pg';
import { readFacts } from '#audit/evidence.ts';
import type { OrderListQuery, OrderView, ProductListQuery, ProductView } from '#contracts/http.ts';
import type { QueryRoute } from '#contracts/routes.ts';
import { checkpointSchemaFolder, forgetKeys, logSchemaFolders, openPostgresLog } from '#cqrs/postgres-log.ts';
import { arrayLiteral, type Database, openDatabase } from '#platform/postgres.ts';
import { createReadModels, openReads, queriesSchema, type ReadDatabases } from '#services/queries/service.ts';
import { testDatabaseUrl } from './database.ts';
import { fillOrders, fillProducts, met, mixedLists, placedBefore } from './orders-at-size.ts';

const orders = 1_000_000;
/**
 * How many rows any step of a plan may give: what `listing.ts` promises, with the row that says that there were more; and
 * the words of a sample, of 5 bytes each at least.
 */
const rowsMax = { read: 101, walk: 5_000, search: 115_000, searchWords: 50_001, sample: 200_000 } as const;
type Kind = keyof typeof rowsMax;

type Plan = {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Actual Rows': number;
  readonly 'Actual Loops': number;
  readonly 'Rows Removed by Filter'?: number;
  readonly 'Rows Removed by Index Recheck'?: number;
  readonly Plans?: readonly Plan[];
};
type Sent = {
  readonly of: Database;
  readonly name: string;
  readonly text: string;
  readonly values: readonly unknown[];
};

type Page = { readonly items: readonly OrderView[]; readonly nextCursor: string | null };

let reads: ReadDatabases;
let routes: readonly QueryRoute[];
/** By the question that was asked last. */
let lastSent: Sent[] = [];

/** They remember how frequent words are, as they do in the service. */
function openRoutes(): readonly QueryRoute[] {
  const recorded = (of: Database): Database => ({
    ...of,
    query(name, text, values = []) {
      lastSent.push({ of, name, text, values });
      return of.query(name, text, values);
    },
  });
  return createReadModels({
    database: recorded(reads.database),
    plannedOnce: recorded(reads.plannedOnce),
    cacheMb: 0,
  }).routes({
    caughtUp: async () => true,
    positions: () => ({}),
    parked: () => [],
  });
}

/** Asks as an operator does; what was sent to the database comes with the answer. */
async function ask(
  query: OrderListQuery | ProductListQuery,
  list = '/v1/orders',
): Promise<{ page: Page; sent: Sent[] }> {
  const sent: Sent[] = [];
  lastSent = sent;
  const { read } = routes.find(({ url }) => url === list)!;
  const answer = await read({ params: {}, query, caller: { role: 'operator' } } as never);
  assert.ok('bytes' in answer, JSON.stringify(query));
  return { page: JSON.parse(answer.bytes.toString()) as Page, sent };
}

async function assertBounded(query: object, sent: readonly Sent[]): Promise<void> {
  for (const { of, name, text, values } of sent) {
    const kind = name.split(' ')[0] as Kind | 'plan';
    assert.ok(name.length <= 63, `${name}: PostgreSQL would cut the name short`);
    if (kind === 'plan') continue;
    const [row] = await explained(of, text, values);
    const [{ Plan: root }] = JSON.parse(row!['QUERY PLAN']) as [{ Plan: Plan }];
    for (const step of stepsOf(root)) {
      const loops = step['Actual Loops'];
      const rows =
        loops *
        (step['Actual Rows'] + (step['Rows Removed by Filter'] ?? 0) + (step['Rows Removed by Index Recheck'] ?? 0));
      const said = `${name}: ${step['Node Type']} of ${rows} rows for ${JSON.stringify(query)}`;
      // It has a row for each projection and log, however many orders there are.
      if (step['Relation Name'] !== 'checkpoints') assert.notEqual(step['Node Type'], 'Seq Scan', said);
      // What is sorted has been walked to its end, however soon the page was full.
      if (kind === 'read' || kind === 'walk') assert.ok(!step['Node Type'].includes('Sort'), said);
      assert.ok(rows <= rowsMax[kind], said);
    }
  }
}

/** As a statement that is prepared: explained by itself it would be planned for its values, whatever the connection says. */
async function explained(of: Database, text: string, values: readonly unknown[]): Promise<{ 'QUERY PLAN': string }[]> {
  const literals = values.map((value) =>
    value === null
      ? 'null'
      : escapeLiteral(Array.isArray(value) ? arrayLiteral(value) : String(value as string | number)),
  );
  const connection = await of.pin();
  try {
    await connection.query('', `prepare explained as ${text}`);
    const plan = await connection.query<{ 'QUERY PLAN': string }>(
      '',
      `explain (analyze, format json) execute explained(${literals.join()})`,
    );
    await connection.query('', 'deallocate explained');
    return plan;
  } finally {
    connection.release();
  }
}

const stepsOf = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(stepsOf)];

test(`lists of ${orders} orders`, async (t) => {
  const url = await testDatabaseUrl(t, [checkpointSchemaFolder, queriesSchema]);
  const writer = openDatabase(url, { applicationName: 'test', poolMax: 1, statementTimeoutMs: 600_000 });
  t.after(() => writer.end());
  await fillOrders(writer, orders);
  await fillProducts(writer, 30_000);
  reads = openReads(url, { applicationName: 'test reads', connectionsMax: 1 });
  t.after(() => reads.end());
  routes = openRoutes();

  await t.test('no mix of filters reads or sorts without bound, on the first page or after a cursor', async () => {
    const kinds = new Set<string>();
    for (const query of [...mixedLists(0), ...mixedLists(1)]) {
      const first = await ask({ ...query, limit: 20 });
      await assertBounded(query, first.sent);
      for (const { name } of first.sent) kinds.add(name.split(' ')[0]!);
      if (first.page.nextCursor === null) continue;
      const next = await ask({ ...query, limit: 20, cursor: first.page.nextCursor });
      await assertBounded(query, next.sent);
    }
    assert.deepEqual([...kinds].sort(), ['plan', 'read', 'sample', 'search', 'searchWords', 'walk']);
  });

  await t.test('a page is as full as it can be, whatever is frequent and whatever is rare', async () => {
    const fits = async (where: string): Promise<number> => {
      const [row] = await writer.query<{ n: number }>(
        '',
        `select count(*) as n from placed_orders join orders using (order_id) where ${where.replaceAll('customer_id', 'orders.customer_id').replaceAll('total', 'orders.total')}`,
      );
      return row!.n;
    };
    const lists: [OrderListQuery, string][] = [
      [{ customerId: met.customer.half, minTotal: met.total.seldom }, `customer_id = 'c-half' and total >= 999000`],
      [{ customerId: met.customer.never, q: met.word.everywhere }, 'false'],
      // Of rows that lie side by side a sample may make too many, and the page is short: of a million it does at times.
      ...(orders <= 200_000 ? ([[{ q: met.word.oldest }, `words @@ 'relic'`]] as [OrderListQuery, string][]) : []),
      [{ q: met.word.seldom, status: 'completed' }, `words @@ 'unicorn' and status = 'completed'`],
      [{ q: met.word.seldom, status: 'failed' }, `words @@ 'unicorn' and status = 'failed'`],
      [{ q: met.word.sometimes, status: 'pending' }, `words @@ 'lantern' and status = 'pending'`],
      [{ q: met.word.everywhere, minTotal: met.total.never }, 'false'],
      [{ sku: met.sku.seldom, sort: 'total' }, `words @@ '''=SKU-RARE'''::tsquery`],
      [{ sku: met.sku.never }, 'false'],
      [{ q: met.word.never, sku: met.sku.everywhere }, 'false'],
      [{ status: 'completed', minTotal: met.total.never }, 'false'],
      [{ sort: '-total', placedFrom: placedBefore(50) }, `orders.placed_at >= '${placedBefore(50)}'`],
    ];
    for (const [query, where] of lists) {
      const { page } = await ask({ ...query, limit: 100 });
      const all = await fits(where);
      assert.equal(page.items.length, Math.min(100, all), JSON.stringify(query));
      assert.equal(page.nextCursor !== null, all > 100, JSON.stringify(query));
    }
  });

  await t.test('what hardly ever meets is found by going on, each page for a bounded price', async () => {
    const query = { q: `${met.word.left} ${met.word.right}`, sort: 'placedAt' } as const;
    let cursor: string | null = null;
    let pages = 0;
    do {
      const { page, sent }: Awaited<ReturnType<typeof ask>> = await ask({
        ...query,
        ...(cursor === null ? {} : { cursor }),
      });
      await assertBounded(query, sent);
      assert.deepEqual(page.items, []);
      cursor = page.nextCursor;
      pages += 1;
    } while (cursor !== null);
    // Each of them has gone through the first 1,000 entries and 5,000 more; the end may be near enough to be searched.
    assert.ok(pages > 2 && pages <= Math.ceil(orders / 6_000), `${pages} pages`);
  });

  await t.test('pages that go on in the middle of a walk neither repeat nor miss an order', async () => {
    // Of 20, a page is walked for, and the first walk ends at an order that fits; of 100, it is searched for.
    for (const limit of [20, 100]) {
      const query = { q: met.word.sometimes, sort: 'placedAt', limit } as const;
      const seen: string[] = [];
      let cursor: string | null = null;
      do {
        const { page }: Awaited<ReturnType<typeof ask>> = await ask({
          ...query,
          ...(cursor === null ? {} : { cursor }),
        });
        seen.push(...page.items.map(({ orderId }) => orderId));
        cursor = page.nextCursor;
      } while (cursor !== null && seen.length < 1_000);
      const expected = await reads.database.query<{ order_id: string }>(
        '',
        `select order_id from placed_orders where words @@ 'lantern' order by placed_at, order_id limit 1000`,
      );
      assert.equal(expected.length, 1_000);
      assert.deepEqual(
        seen,
        expected.map(({ order_id: orderId }) => orderId),
      );
    }
  });

  await t.test('products are found by any mix of filters, too', async () => {
    const items = async (query: ProductListQuery): Promise<readonly ProductView[]> => {
      const { page, sent } = await ask({ limit: 100, ...query }, '/v1/products');
      await assertBounded(query, sent);
      return page.items as unknown as readonly ProductView[];
    };
    assert.equal((await items({})).length, 100);
    assert.equal((await items({ sort: '-name' }))[0]?.name, 'Thing 9999');
    for (const sort of ['sku', '-sku', 'name', '-name'] as const) {
      const first = await ask({ limit: 100, sort }, '/v1/products');
      const next = await items({ sort, cursor: first.page.nextCursor! });
      const ids = [...(first.page.items as unknown as readonly ProductView[]), ...next].map(({ sku }) => sku);
      assert.equal(new Set(ids).size, 200, sort);
    }
    const soldOut = await items({ inStock: false });
    assert.equal(soldOut.length, 30);
    assert.ok(soldOut.every(({ availability }) => availability.available === 0));
    assert.equal((await items({ q: 'unicorn' })).length, 15);
    assert.equal((await items({ q: 'thing unicorn', inStock: true, sort: 'name' })).length, 15);
    assert.equal((await items({ q: 'unicorn', inStock: false })).length, 0);
    assert.equal((await items({ q: 'nowhere' })).length, 0);
  });
});

test('what is asked of a log with 600,000 events reads no table through', async (t) => {
  const database = openDatabase(await testDatabaseUrl(t, logSchemaFolders), {
    applicationName: 'test',
    poolMax: 1,
    statementTimeoutMs: 600_000,
  });
  t.after(() => database.end());
  const log = await openPostgresLog({ database, source: 'ordering-1' });
  t.after(() => log.close());
  await database.query(
    '',
    `insert into events (position, at, version, slot, stream, type, data, origin)
     select n, timestamptz '2026-01-01' + n * interval '1 s', n % 3 + 1, 1, 'order-' || n / 3, 'OrderReserved', '{}', '{}'
     from generate_series(3, 600002) n`,
  );
  await database.query(
    '',
    `insert into streams (stream, version, slot, due_at, state)
     select 'order-' || n, 3, 1, case when n % 50 = 0 then timestamptz '2026-02-01' + n * interval '1 s' end, '{}'
     from generate_series(1, 200000) n`,
  );
  await database.query(
    '',
    `insert into idempotency_keys (caller, key, fingerprint, answer, at)
     select 'customer:' || n % 9000, 'key-' || n, 'f', '{}', timestamptz '2026-01-01' + n * interval '1 s'
     from generate_series(1, 600000) n`,
  );
  await database.query('', 'vacuum analyze');
  const readThrough = async (): Promise<Record<string, number>> => {
    await database.query('', 'select pg_stat_force_next_flush()');
    const rows = await database.query<{ name: string; scans: number }>(
      '',
      `select relname as name, seq_scan as scans from pg_stat_user_tables
       where relname in ('events', 'streams', 'idempotency_keys') order by 1`,
    );
    return Object.fromEntries(rows.map(({ name, scans }) => [name, scans]));
  };
  const before = await readThrough();
  assert.deepEqual(Object.keys(before), ['events', 'idempotency_keys', 'streams']);

  const streams = Array.from({ length: 500 }, (_, n) => `order-${n * 397 + 1}`);
  assert.equal(await forgetKeys(database, '2026-01-01T00:00:00Z'), 0);
  assert.equal(await forgetKeys(database, '2026-01-01T00:01:00Z'), 59);
  assert.equal((await log.load(streams)).length, 500);
  assert.equal((await log.due('2026-02-01T01:00:00.000Z', 1_000)).length, 72);
  assert.equal((await log.read(300_000, 500)).length, 500);
  assert.equal((await readFacts(database, 'ordering', 'stream = any($1)', [streams])).length, 1_500);
  // As the audit asks for listings.
  const listed = 'select distinct stream from events where stream = any($1)';
  assert.equal((await database.query('', listed, [streams])).length, 500);
  assert.deepEqual(await readThrough(), before);
});
