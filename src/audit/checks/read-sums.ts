/**
 * I10, of the rows that add up what belongs to many orders: customers' figures and the sales of hours. They are
 * computed anew from the rows of the orders, in the same snapshot; where they differ, from what these rows should be: a
 * row that is damaged is one finding, and not one more for each sum that it is in. Where nobody can tell what these should be
 * the sum is left alone.
 */
import type { RecordedEvent } from '#cqrs/event-log.ts';
import { memoryReadStore } from '#cqrs/memory-read-store.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { ReadTable, Row } from '#cqrs/read-store.ts';
import { readRows, utcTime } from '#cqrs/table-rows.ts';
import type { Sql } from '#platform/postgres.ts';
import type { Check, Finding, Looked, Piece, Walk } from '../check.ts';
import { readEvents, type WalkParts } from '../evidence.ts';
import { rowRepair } from '../repairs.ts';
import { differingRows } from '../rows.ts';
import { findingOf, type OrderRows } from './read-rows.ts';
import { inTurns, isOther, lookIn, readShown, type Seen, type Shown } from './shown.ts';

const sumCheck: Check = {
  name: 'read-sums-add-up',
  invariants: ['I10'],
  compares:
    'What is shown of a customer and of the sales of an hour is what the orders add up to, and the customer as registered.',
  cost: 'The rows of the orders are added up in the read database: some 5 µs per order.',
  policy: 'automatic',
};

const rowsPerSnapshotMax = 500;
const namesPerPieceMax = 5_000;
/**
 * More than these are not looked at one by one in one look. Sums of the fewest orders come first: the others are left for when
 * those are mended. A sum of more orders than these is left for when their own rows are.
 */
const ordersLookedUpMax = 20_000;
const ordersPerQueryMax = 500;
const hourMs = 3_600_000;

/** What one order adds to the sums. */
type Counted = {
  readonly customer_id: string;
  readonly placed_at: string;
  readonly status: string;
  readonly currency: string;
  readonly country: string | null;
  readonly units: number;
  readonly total: number;
};

/** What orders are added up by. */
type Key = { readonly sql: string; readonly type: string; of(order: Counted): string };
const byCustomer: Key = { sql: 'customer_id', type: 'text', of: (order) => order.customer_id };
const byHour: Key = {
  sql: `date_trunc('hour', placed_at)`,
  type: 'timestamptz',
  of: (order) => hourOf(order.placed_at),
};

/** `unknown` are the keys of which nobody can tell what their orders add up to; the orders of all others are there. */
type Truth = { readonly orders: readonly Counted[]; readonly unknown: ReadonlySet<string> };

export type SumRows = ReturnType<typeof sumRows>;

export function sumRows(parts: WalkParts, orders: OrderRows, projections: readonly Projection[]) {
  const source = parts.sourceOf('ordering');
  const [ordersModel, customersModel, salesModel] = ['orders', 'customers', 'sales'].map((name) =>
    projections.find((one) => one.name === name)!,
  ) as [Projection, Projection, Projection];
  const customers = { table: customersModel.tables[0]!, models: [ordersModel, customersModel] };
  const hours = { table: salesModel.tables[0]!, models: [ordersModel, salesModel] };
  const ordersTable = orders.tables.find(({ name }) => name === 'orders')!;

  /** Sums are compared with orders only as long as the projections of both are at the same place, and of this version. */
  const goTogether = (shown: Shown, models: readonly Projection[]): boolean =>
    new Set(models.map(({ name }) => shown.checkpoints.get(`${name}-of-${source}`))).size === 1 &&
    !models.some((model) => isOther(shown, model));

  /** The orders that either table has under `keys`, as their rows should be. */
  async function truth(sql: Sql, key: Key, keys: readonly string[]): Promise<Truth> {
    const named = ['placed_orders', 'orders']
      .map(
        (table) => `select order_id as id, ${key.sql} as key from ${table} where ${key.sql} = any($1::${key.type}[])`,
      )
      .join(' union ');
    const place = `array_position($1::${key.type}[], key) as place`;
    const sizes = await sql.query<{ place: number; size: number }>(
      '',
      `select ${place}, count(*) as size from (${named}) n group by key order by size, place`,
      [keys],
    );
    const unknown = new Set<string>();
    let left = ordersLookedUpMax;
    for (const { place: at, size } of sizes) {
      if (size <= left) left -= size;
      else unknown.add(keys[at - 1]!);
    }
    const known = keys.filter((one) => !unknown.has(one));
    const rows = await sql.query<{ place: number; id: string }>('', `select ${place}, id from (${named}) n`, [known]);
    const byId = Map.groupBy(rows, ({ id }) => id);
    const ids = [...byId.keys()];
    const told: Counted[] = [];
    for (let from = 0; from < ids.length; from += ordersPerQueryMax) {
      const compared = await orders.compare(sql, ids.slice(from, from + ordersPerQueryMax));
      for (const id of compared.leftOut) for (const { place: at } of byId.get(id)!) unknown.add(known[at - 1]!);
      const { expected } = compared.rows.find(({ table }) => table === ordersTable)!;
      told.push(...(expected as unknown as readonly Counted[]));
    }
    const sure = new Set(known.filter((one) => !unknown.has(one)));
    return { orders: told.filter((order) => sure.has(key.of(order))), unknown };
  }

  async function compareCustomers(sql: Sql, ids: readonly string[]): Promise<Seen> {
    const { table, models } = customers;
    const shown = await readShown(sql);
    if (!goTogether(shown, models)) return { shown, findings: [] };
    const [found, sums] = await Promise.all([
      readRows(sql, table, 'customer_id = any($1)', [ids]),
      sumsOf(sql, customerSumsSql, [ids]),
    ]);
    const profiles = await profilesOf(shown, ids);
    const odd = differingRows(table, customerRows(profiles, sums), found).map(({ key }) => key[0]!);
    if (odd.length === 0) return { shown, findings: [] };
    const { orders: counted, unknown } = await truth(sql, byCustomer, odd);
    const isOdd = ({ customer_id: id }: Row): boolean => odd.includes(id as string);
    const right = customerRows(profiles, counted.map(sumOfOne)).filter(
      (row) => isOdd(row) && !unknown.has(row['customer_id'] as string),
    );
    // Who they are is known all the same.
    const asSummed = found
      .filter(({ customer_id: id }) => unknown.has(id as string))
      .map((row) => ({ ...row, ...profileIn(profiles, row['customer_id'] as string) }));
    return { shown, findings: findingsOf(table, [...right, ...asSummed], found.filter(isOdd)) };
  }

  /** Versions and profiles, as the projection makes them of the customers' own events. */
  async function profilesOf({ checkpoints, passed }: Shown, ids: readonly string[]): Promise<readonly Row[]> {
    const { databases } = parts;
    const upTo = checkpoints.get(`customers-of-${source}`) ?? 0;
    const events = await readEvents(
      databases.ordering,
      parts,
      'ordering',
      'stream = any($1) and position <= $2 order by position',
      [ids.map((id) => `customer-${id}`), upTo],
    );
    const applied = events.filter(({ position }) => passed.get(source)?.has(position) !== true);
    return projectedRows(customersModel, 'ordering', applied, customers.table);
  }

  /** Of the hours from `from` up to before `to`, which null leaves open. */
  async function compareHours(sql: Sql, from: string | null, to: string | null): Promise<Seen> {
    const { table, models } = hours;
    const shown = await readShown(sql);
    if (!goTogether(shown, models)) return { shown, findings: [] };
    const range = [from ?? '-infinity', to ?? 'infinity'];
    const [found, sums] = await Promise.all([
      readRows(sql, table, 'hour >= $1 and hour < $2', range),
      sumsOf(sql, hourSumsSql, range),
    ]);
    const odd = differingRows(table, hourRows(sums), found);
    if (odd.length === 0) return { shown, findings: [] };
    const starts = [...new Set(odd.map((one) => (one.expected ?? one.found)!['hour'] as string))];
    const { orders: counted, unknown } = await truth(sql, byHour, starts);
    const right = hourRows(counted.filter(isCompleted).map(sumOfOne));
    const isKnown = ({ hour }: Row): boolean => starts.includes(hour as string) && !unknown.has(hour as string);
    return { shown, findings: findingsOf(table, right, found.filter(isKnown)) };
  }

  return { customers, hours, compareCustomers, compareHours };
}

/** By customer and currency, or by hour, country and currency. */
type Sum = {
  readonly customer_id?: string;
  readonly hour?: string;
  readonly country: string | null;
  readonly currency: string;
  readonly orders: number;
  readonly completed: number;
  readonly last_order_at: string;
  readonly units: number;
  /** Digits, of what is completed. */
  readonly amount: string;
};

async function sumsOf(sql: Sql, text: string, values: readonly unknown[]): Promise<Sum[]> {
  const [row] = await sql.query<{ sums: string | null }>(
    text === hourSumsSql ? 'sums of hours' : 'sums of customers',
    `select json_agg(s) as sums from (${text}) s`,
    values,
  );
  return (JSON.parse(row?.sums ?? '[]') as Sum[]).map((sum) => ({
    ...sum,
    last_order_at: utcTime(sum.last_order_at),
    ...(sum.hour === undefined ? {} : { hour: utcTime(sum.hour) }),
  }));
}

const customerSumsSql = `
  select p.customer_id, null as country, o.currency, count(*) as orders,
    count(*) filter (where o.status = 'completed') as completed, max(p.placed_at) as last_order_at, 0 as units,
    coalesce(sum(p.total) filter (where o.status = 'completed'), 0)::text as amount
  from placed_orders p join orders o using (order_id)
  where p.customer_id = any($1) group by p.customer_id, o.currency`;

const hourSumsSql = `
  select date_trunc('hour', p.placed_at) as hour, coalesce(o.country, '') as country, o.currency, count(*) as orders,
    count(*) as completed, max(p.placed_at) as last_order_at, sum(o.units) as units, sum(p.total)::text as amount
  from placed_orders p join orders o using (order_id)
  where o.status = 'completed' and p.placed_at >= $1 and p.placed_at < $2 group by 1, 2, 3`;

const isCompleted = ({ status }: Counted): boolean => status === 'completed';

function sumOfOne(order: Counted): Sum {
  const completed = isCompleted(order);
  return {
    customer_id: order.customer_id,
    hour: hourOf(order.placed_at),
    country: order.country ?? '',
    currency: order.currency,
    orders: 1,
    completed: completed ? 1 : 0,
    last_order_at: order.placed_at,
    units: order.units,
    amount: completed ? String(order.total) : '0',
  };
}

const hourOf = (time: string): string => `${time.slice(0, 13)}:00:00.000Z`;

/** What the customer's own events say. */
function profileIn(profiles: readonly Row[], id: string): Row {
  const { version = 0, profile = null } = profiles.find((row) => row['customer_id'] === id) ?? {};
  return { version, profile };
}

function customerRows(profiles: readonly Row[], sums: readonly Sum[]): Row[] {
  const rows = new Map(profiles.map((row) => [row['customer_id'] as string, { ...row }]));
  const spent = new Map<string, Map<string, bigint>>();
  for (const { customer_id: id = '', currency, orders, completed, last_order_at: last, amount } of sums) {
    const row = rows.get(id) ?? {
      customer_id: id,
      version: 0,
      profile: null,
      orders: 0,
      last_order_at: null,
      spent: null,
      revision: 0,
    };
    const before = row['last_order_at'] as string | null;
    rows.set(id, {
      ...row,
      orders: (row['orders'] as number) + orders,
      last_order_at: before !== null && before > last ? before : last,
      revision: (row['revision'] as number) + orders + completed,
    });
    if (completed === 0) continue;
    const of = spent.get(id) ?? new Map<string, bigint>();
    spent.set(id, of);
    of.set(currency, (of.get(currency) ?? 0n) + BigInt(amount));
  }
  for (const [id, of] of spent) {
    const amounts = [...of]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([currency, amount]) => [currency, String(amount)]);
    rows.set(id, { ...rows.get(id)!, spent: JSON.stringify(Object.fromEntries(amounts)) });
  }
  return [...rows.values()];
}

function hourRows(sums: readonly Sum[]): Row[] {
  const rows = new Map<string, Row>();
  for (const { hour = '', country, currency, orders, units, amount } of sums) {
    const id = `${hour} ${country} ${currency}`;
    const { orders: count = 0, units: pieces = 0, revenue = '0' } = rows.get(id) ?? {};
    rows.set(id, {
      id,
      hour,
      country,
      currency,
      orders: (count as number) + orders,
      units: (pieces as number) + units,
      revenue: String(BigInt(revenue as string) + BigInt(amount)),
    });
  }
  return [...rows.values()];
}

const findingsOf = (table: ReadTable, expected: readonly Row[], found: readonly Row[]): Finding[] =>
  differingRows(table, expected, found).map((one) => ({ ...findingOf(table, one), check: sumCheck.name }));

/** What `projection` makes of `events` of `service` in `table`. */
export async function projectedRows(
  projection: Projection,
  service: string,
  events: readonly RecordedEvent[],
  table: ReadTable,
): Promise<readonly Row[]> {
  const store = memoryReadStore();
  await store.apply([], async (rows) => {
    if (events.length > 0) await projection.apply(service, events, rows);
  });
  return store.rowsOf(table);
}

/** Goes over the customers of ordering, then over rows of customers that it does not have, then over hours. */
export function readSumsWalk(parts: WalkParts, sums: SumRows): Walk {
  const { databases } = parts;

  const lookAtCustomers = (ids: readonly string[]): Promise<Looked> =>
    lookIn(databases.queries, sums.customers.models, (sql) => sums.compareCustomers(sql, ids));

  function compareOne(sql: Sql, entity: string): Promise<Seen> {
    const [, table, id = ''] = /^queries\/([^/]+)\/(.*)$/.exec(entity) ?? [];
    if (table === sums.customers.table.name) return sums.compareCustomers(sql, [id]);
    const hour = id.slice(0, id.indexOf(' '));
    return sums.compareHours(sql, hour, new Date(Date.parse(hour) + hourMs).toISOString());
  }

  async function lookAtRegistered(after: string, max: number): Promise<Piece> {
    const rows = await customersAfter(databases.ordering, after, max);
    const last = rows.length < max ? null : rows.at(-1)!;
    const next = last === null ? cursorOf('shown', '') : cursorOf('registered', last);
    return { looked: rows.length, ...(await inTurns(rows, rowsPerSnapshotMax, lookAtCustomers)), next };
  }

  async function lookAtShown(after: string): Promise<Piece> {
    const ids = await customersAfter(databases.queries, after, namesPerPieceMax);
    const rows = await databases.ordering.query<{ id: string }>(
      'audit customers that are not there',
      'select id from unnest($1::text[]) as n (id) where not exists (select from customers where customer_id = id)',
      [ids],
    );
    const looked = await inTurns(
      rows.map(({ id }) => id),
      rowsPerSnapshotMax,
      lookAtCustomers,
    );
    const last = ids.at(-1);
    return { ...looked, looked: 0, next: last === undefined ? cursorOf('hours', '') : cursorOf('shown', last) };
  }

  async function lookAtHours(after: string, max: number): Promise<Piece> {
    const from = after === '' ? null : after;
    const rows = await databases.queries.query<{ hour: string }>(
      'audit hours after',
      `select to_json(hour) #>> '{}' as hour from sales_hours where hour >= $1 order by sales_hours.hour limit $2`,
      [from ?? '-infinity', max],
    );
    const last = rows.length < max ? null : rows.at(-1)!.hour;
    const to = last === null ? null : new Date(Date.parse(last) + hourMs).toISOString();
    const looked = await lookIn(databases.queries, sums.hours.models, (sql) => sums.compareHours(sql, from, to));
    return { ...looked, looked: rows.length, next: to === null ? null : cursorOf('hours', to) };
  }

  return {
    name: 'read-sums',
    checks: [sumCheck],

    async size() {
      const [row] = await databases.queries.query<{ size: number }>(
        'audit size of sums',
        `select sum(greatest(reltuples, 0))::bigint as size from pg_class
         where oid in ('customers'::regclass, 'sales_hours'::regclass)`,
      );
      return row?.size ?? 0;
    },

    look(after, entitiesMax) {
      const [way, place] = after === null ? (['registered', ''] as const) : (JSON.parse(after) as [Way, string]);
      const max = Math.min(entitiesMax, rowsPerSnapshotMax);
      if (way === 'registered') return lookAtRegistered(place, max);
      return way === 'shown' ? lookAtShown(place) : lookAtHours(place, max);
    },

    async lookAt(entity) {
      return (await lookIn(databases.queries, [], (sql) => compareOne(sql, entity))).findings;
    },

    ...rowRepair(
      parts,
      [sums.customers.table, sums.hours.table],
      async (sql, entity) => (await compareOne(sql, entity)).findings,
    ),
  };
}

type Way = 'registered' | 'shown' | 'hours';

const cursorOf = (way: Way, place: string): string => JSON.stringify([way, place]);

async function customersAfter(sql: Sql, after: string, max: number): Promise<string[]> {
  const rows = await sql.query<{ id: string }>(
    'audit customers after',
    'select customer_id as id from customers where customer_id > $1 order by customer_id limit $2',
    [after, max],
  );
  return rows.map(({ id }) => id);
}
