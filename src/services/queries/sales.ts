/** The read model `sales`: completed orders over time. */
import { SalesQuery, SalesReport } from '#contracts/http.ts';
import type { OrderingEvent } from '#contracts/ordering.ts';
import type { QueryAnswer, QueryRequest } from '#contracts/routes.ts';
import type { RecordedEvent } from '#cqrs/event-log.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { ReadTable } from '#cqrs/read-store.ts';
import { type ShownRow, shownColumn } from '#cqrs/shown-positions.ts';
import type { Database } from '#platform/postgres.ts';
import type { Applied } from './applied.ts';
import { listRows } from './listing.ts';
import { completedOrders } from './orders.ts';
import { invalidParameter, type ReadModel } from './read-model.ts';
import { utcTime } from './utc-time.ts';

/** One row per bucket, country and currency: more than a year of hours in one country. */
const rowsMax = 10_000;
const hourMs = 3_600_000;

export function salesReadModel(database: Database, applied: Applied): ReadModel {
  return {
    projection,
    queries: [
      {
        method: 'GET',
        url: '/v1/reports/sales',
        searches: true,
        summary: 'Completed orders by the time they were placed',
        audience: 'operator',
        tag: 'reports',
        query: SalesQuery,
        shows: () => ({ types: ['order'] }),
        answers: { 200: SalesReport },
        read: ({ query }: QueryRequest<object, SalesQuery>) => report(database, applied, query),
      },
    ],
  };
}

/** The sums of one hour of `placedAt`, country ('' when unknown) and currency. */
type HourRow = {
  /** The three of them. */
  readonly id: string;
  readonly hour: string;
  readonly country: string;
  readonly currency: string;
  readonly orders: number;
  readonly units: number;
  /** Digits. */
  readonly revenue: string;
};

const hoursTable: ReadTable<HourRow> = {
  name: 'sales_hours',
  key: ['id'],
  columns: {
    id: 'text',
    hour: 'timestamptz',
    country: 'text',
    currency: 'text',
    orders: 'bigint',
    units: 'bigint',
    revenue: 'numeric',
  },
};

const projection: Projection = {
  name: 'sales',
  version: 1,
  services: ['ordering'],
  tables: [hoursTable],
  async apply(_service, events, rows) {
    const sold = (await completedOrders(events as readonly RecordedEvent<OrderingEvent>[], rows)).map((order) => {
      const hour = `${order.placed_at.slice(0, 13)}:00:00.000Z`;
      const { country, currency, units, total } = order;
      return { id: `${hour} ${country ?? ''} ${currency}`, hour, country: country ?? '', currency, units, total };
    });
    if (sold.length === 0) return;
    const before = await rows.load(
      hoursTable,
      [...new Set(sold.map(({ id }) => id))].map((id) => [id]),
    );
    const now = new Map<string, HourRow>();
    for (const { id, hour, country, currency, units, total } of sold) {
      const sums = now.get(id) ?? before.get(id) ?? { orders: 0, units: 0, revenue: '0' };
      now.set(id, {
        id,
        hour,
        country,
        currency,
        orders: sums.orders + 1,
        units: sums.units + units,
        revenue: String(BigInt(sums.revenue) + BigInt(total)),
      });
    }
    rows.put(hoursTable, [...now.values()]);
  },
};

type SalesRow = {
  /** Milliseconds since 1970. */
  readonly start: number;
  readonly country: string;
  readonly currency: string;
  readonly orders: number;
  readonly units: number;
  readonly revenue: number;
};

/** SQL: where the bucket of `at` begins. Binning is two thirds of what truncating in a named zone costs. */
const starts = {
  hour: `date_bin('1 hour', at, '0001-01-01Z')`,
  day: `date_bin('1 day', at, '0001-01-01Z')`,
  month: `date_trunc('month', at, 'UTC')`,
} as const;

/** Exact for any `from` and `to`: whole hours come from their sums, the parts at the two edges from the orders. */
async function report(
  database: Database,
  applied: Applied,
  { from, to, bucket = 'day', by }: SalesQuery,
): Promise<QueryAnswer> {
  const range = { from: from === undefined ? null : utcTime(from), to: to === undefined ? null : utcTime(to) };
  if (range.from !== null && range.to !== null && range.from >= range.to)
    return invalidParameter('from', 'has to be before `to`');
  const hours = wholeHours(range);
  const found = await listRows<SalesRow & ShownRow>(
    database,
    `report sales by ${bucket}${by === undefined ? '' : `, by ${by}`}`,
    `with sums as (
       select hour as at, country, currency, orders, units, revenue from sales_hours
       where ($3::timestamptz is null or hour >= $3) and ($4::timestamptz is null or hour < $4)
       union all
       select placed_at, coalesce(country, ''), currency, 1, units, total from orders
       where status = 'completed' and placed_at >= $1::timestamptz and placed_at < least($2::timestamptz, $3)
       union all
       select placed_at, coalesce(country, ''), currency, 1, units, total from orders
       where status = 'completed' and placed_at >= greatest($4, $3) and placed_at < $2
     ), buckets as (
       select ${starts[bucket]} as start, ${by === undefined ? `''` : by} as country, currency,
         sum(orders) as orders, sum(units) as units, sum(revenue) as revenue
       from sums group by 1, 2, 3 order by 1, 2, 3 limit $5
     )
     select (extract(epoch from start) * 1000)::bigint as start, country, currency, orders, units, revenue,
       ${shownColumn}
     from buckets order by buckets.start, country, currency`,
    [range.from, range.to, hours.from, hours.to, rowsMax + 1],
  );
  if ('refused' in found) return found;
  if (found.rows.length > rowsMax)
    return invalidParameter(
      'bucket',
      `is too small: the report would have more than ${rowsMax} rows: choose larger buckets or a shorter time`,
    );
  return {
    bytes: JSON.stringify({ buckets: bucketsOf(found.rows) } satisfies SalesReport),
    ...applied.shownBy(found.rows),
  };
}

/** The whole hours within the range: `from` rounded up, `to` rounded down, hence before it when no whole hour lies in between. */
function wholeHours({ from, to }: { from: string | null; to: string | null }): {
  from: string | null;
  to: string | null;
} {
  const first = from === null ? null : Math.ceil(Date.parse(from) / hourMs) * hourMs;
  const end = to === null ? null : Math.floor(Date.parse(to) / hourMs) * hourMs;
  const time = (ms: number | null): string | null => (ms === null ? null : utcTime(new Date(ms).toISOString()));
  return { from: time(first), to: time(end) };
}

/** `rows` of one bucket come one after the other. */
function bucketsOf(rows: readonly SalesRow[]): SalesReport['buckets'] {
  const buckets: SalesReport['buckets'] = [];
  let before: SalesRow | undefined;
  for (const row of rows) {
    const revenue = { amount: row.revenue, currency: row.currency };
    const bucket = buckets.at(-1);
    if (bucket !== undefined && before?.start === row.start && before.country === row.country) {
      bucket.orders += row.orders;
      bucket.units += row.units;
      bucket.revenue.push(revenue);
    } else {
      const { country, orders, units } = row;
      const start = new Date(row.start).toISOString();
      buckets.push({ start, ...(country === '' ? {} : { country }), orders, units, revenue: [revenue] });
    }
    before = row;
  }
  return buckets;
}
