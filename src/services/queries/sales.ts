/** The read model `sales`: completed orders over time. */
import { SalesQuery, SalesReport } from '#contracts/http.ts';
import type { OrderingEvent } from '#contracts/ordering.ts';
import type { QueryAnswer, QueryRequest } from '#contracts/routes.ts';
import type { RecordedEvent } from '#cqrs/event-log.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { Database } from '#platform/postgres.ts';
import { listRows } from './listing.ts';
import type { ReadModel } from './read-model.ts';
import { utcTime } from './utc-time.ts';

/** One row per bucket, country and currency: more than a year of hours in one country. */
const rowsMax = 10_000;
const hourMs = 3_600_000;

export function salesReadModel(database: Database): ReadModel {
  return {
    projection,
    queries: [
      {
        method: 'GET',
        url: '/v1/reports/sales',
        summary: 'Completed orders by the time they were placed',
        audience: 'operator',
        tag: 'reports',
        query: SalesQuery,
        answers: { 200: SalesReport },
        read: ({ query }: QueryRequest<object, SalesQuery>) => report(database, query),
      },
    ],
  };
}

const projection: Projection = {
  name: 'sales',
  services: ['ordering'],
  async apply(_service, events, sql) {
    const placed: {
      orderId: string;
      placedAt: string;
      country: string;
      currency: string;
      units: number;
      revenue: number;
    }[] = [];
    const completed: string[] = [];
    for (const event of events as readonly RecordedEvent<OrderingEvent>[]) {
      if (event.type === 'OrderCompleted') completed.push(event.data.orderId);
      if (event.type !== 'OrderPlaced') continue;
      const { orderId, placedAt, country, lines, total } = event.data;
      placed.push({
        orderId,
        placedAt: utcTime(placedAt),
        // PostgreSQL's text holds no NUL and no half characters.
        country: (country ?? '').replaceAll('\0', '').toWellFormed(),
        currency: total.currency,
        units: lines.reduce((sum, { quantity }) => sum + quantity, 0),
        revenue: total.amount,
      });
    }
    const remember = (): Promise<unknown> =>
      sql.query(
        'write sales orders',
        `insert into sales_orders (order_id, placed_at, country, currency, units, revenue)
         select * from unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
         on conflict (order_id) do nothing`,
        [
          placed.map((order) => order.orderId),
          placed.map((order) => order.placedAt),
          placed.map((order) => order.country),
          placed.map((order) => order.currency),
          placed.map((order) => order.units),
          placed.map((order) => order.revenue),
        ],
      );
    const count = (): Promise<unknown> =>
      sql.query(
        'write sales hours',
        `with sold as (
           update sales_orders set completed = true where order_id = any($1) and not completed
           returning placed_at, country, currency, units, revenue
         )
         insert into sales_hours (hour, country, currency, orders, units, revenue)
         select date_trunc('hour', placed_at, 'UTC') as hour, country, currency, count(*), sum(units), sum(revenue)
         from sold group by 1, 2, 3 order by 1, 2, 3
         on conflict (hour, country, currency) do update
           set orders = sales_hours.orders + excluded.orders,
             units = sales_hours.units + excluded.units,
             revenue = sales_hours.revenue + excluded.revenue`,
        [completed],
      );
    await Promise.all([placed.length > 0 ? remember() : undefined, completed.length > 0 ? count() : undefined]);
  },
};

type SalesRow = {
  readonly start: string;
  readonly country: string;
  readonly currency: string;
  readonly orders: number;
  readonly units: number;
  readonly revenue: number;
};

/** Exact for any `from` and `to`: whole hours come from their sums, the parts at the two edges from the orders. */
async function report(database: Database, { from, to, bucket = 'day', by }: SalesQuery): Promise<QueryAnswer> {
  const range = { from: from === undefined ? null : utcTime(from), to: to === undefined ? null : utcTime(to) };
  if (range.from !== null && range.to !== null && range.from >= range.to)
    return invalid('/from', 'has to be before `to`');
  const hours = wholeHours(range);
  const found = await listRows<SalesRow>(
    database,
    'report sales',
    `with sums as (
       select hour as at, country, currency, orders, units, revenue from sales_hours
       where ($3::timestamptz is null or hour >= $3) and ($4::timestamptz is null or hour < $4)
       union all
       select placed_at, country, currency, 1, units, revenue from sales_orders
       where completed and placed_at >= $1::timestamptz and placed_at < least($2::timestamptz, $3)
       union all
       select placed_at, country, currency, 1, units, revenue from sales_orders
       where completed and placed_at >= greatest($4, $3) and placed_at < $2
     )
     select to_char(date_trunc($5, at, 'UTC') at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as start,
       case when $6 then country else '' end as country,
       currency, sum(orders) as orders, sum(units) as units, sum(revenue) as revenue
     from sums group by 1, 2, 3 order by 1, 2, 3 limit $7`,
    [range.from, range.to, hours.from, hours.to, bucket, by === 'country', rowsMax + 1],
  );
  if ('refused' in found) return found;
  if (found.rows.length > rowsMax)
    return invalid(
      '/bucket',
      `the report would have more than ${rowsMax} rows: choose larger buckets or a shorter time`,
    );
  return { bytes: JSON.stringify({ buckets: bucketsOf(found.rows, by) } satisfies SalesReport) };
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

function bucketsOf(rows: readonly SalesRow[], by: SalesQuery['by']): SalesReport['buckets'] {
  const buckets = new Map<string, SalesReport['buckets'][number]>();
  for (const row of rows) {
    const key = `${row.start}/${row.country}`;
    const bucket = buckets.get(key) ?? {
      start: row.start,
      ...(by && row.country ? { country: row.country } : {}),
      orders: 0,
      units: 0,
      revenue: [],
    };
    bucket.orders += row.orders;
    bucket.units += row.units;
    bucket.revenue.push({ amount: row.revenue, currency: row.currency });
    buckets.set(key, bucket);
  }
  return [...buckets.values()];
}

const invalid = (pointer: string, detail: string): QueryAnswer => ({
  refused: {
    code: 'invalid-request',
    detail: `The report cannot be given: ${pointer.slice(1)} ${detail}.`,
    errors: [{ pointer, detail }],
  },
});
