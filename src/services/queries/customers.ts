/** The read model `customers`: who they are, and what their orders come to. */
import { CustomerParams, CustomerView } from '#contracts/http.ts';
import type { OrderingEvent } from '#contracts/ordering.ts';
import type { Caller, QueryRequest } from '#contracts/routes.ts';
import type { RecordedEvent } from '#cqrs/event-log.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { Database, Sql } from '#platform/postgres.ts';
import { customerNotFound, maySee, type ReadModel } from './read-model.ts';
import type { Resource, ResourceCache } from './resource-cache.ts';
import { utcTime } from './utc-time.ts';

export function customersReadModel(
  database: Database,
  cache: ResourceCache,
): ReadModel & { isCustomer(customerId: string, caller: Caller): Promise<boolean> } {
  const find = async (customerId: string, caller: Caller): Promise<Resource | undefined> =>
    maySee(caller, customerId)
      ? cache.read(cacheKey(customerId), async () => (await readCustomers(database, [customerId])).get(customerId))
      : undefined;

  return {
    projection: customersProjection(cache),
    isCustomer: async (customerId, caller) => (await find(customerId, caller)) !== undefined,
    queries: [
      {
        method: 'GET',
        url: '/v1/customers/:customerId',
        summary: 'One customer, with what the orders come to',
        audience: 'customer',
        tag: 'customers',
        params: CustomerParams,
        answers: { 200: CustomerView },
        read: async ({ params, caller }: QueryRequest<CustomerParams>) =>
          (await find(params.customerId, caller)) ?? customerNotFound(params.customerId),
      },
    ],
  };
}

function customersProjection(cache: ResourceCache): Projection {
  return {
    name: 'customers',
    services: ['ordering'],
    async apply(_service, events, sql) {
      const profiles = new Map<string, { version: number; profile: string }>();
      const placed: { orderId: string; customerId: string; amount: number; currency: string; placedAt: string }[] = [];
      const completed: string[] = [];
      for (const event of events as readonly RecordedEvent<OrderingEvent>[]) {
        switch (event.type) {
          case 'CustomerRegistered':
          case 'CustomerChanged': {
            const { customerId, ...profile } = event.data;
            profiles.set(customerId, { version: event.version, profile: JSON.stringify(profile) });
            break;
          }
          case 'OrderPlaced': {
            const { orderId, customerId, total, placedAt } = event.data;
            placed.push({ orderId, customerId, ...total, placedAt: utcTime(placedAt) });
            break;
          }
          case 'OrderCompleted':
            completed.push(event.data.orderId);
        }
      }
      const [, , buyers] = await Promise.all([
        profiles.size > 0 ? writeProfiles(profiles, sql) : undefined,
        placed.length > 0 ? addPlaced(placed, sql) : undefined,
        completed.length > 0 ? addCompleted(completed, sql) : [],
      ]);
      const changed = new Set([
        ...profiles.keys(),
        ...placed.map((order) => order.customerId),
        ...buyers.map((buyer) => buyer.customer_id),
      ]);
      const kept = [...changed].filter((customerId) => cache.peek(cacheKey(customerId)));
      const now = kept.length > 0 ? await readCustomers(sql, kept) : new Map<string, Resource>();
      return () => {
        for (const customerId of changed) cache.refresh(cacheKey(customerId), now.get(customerId));
      };
    },
  };
}

async function writeProfiles(
  profiles: ReadonlyMap<string, { version: number; profile: string }>,
  sql: Sql,
): Promise<void> {
  const rows = [...profiles].sort(([a], [b]) => (a < b ? -1 : 1));
  await sql.query(
    'write customers',
    `insert into customers (customer_id, version, profile)
     select * from unnest($1::text[], $2::integer[], string_to_array($3, E'\\n'))
     on conflict (customer_id) do update set version = excluded.version, profile = excluded.profile
       where customers.version < excluded.version`,
    [
      rows.map(([customerId]) => customerId),
      rows.map(([, { version }]) => version),
      rows.map(([, { profile }]) => profile).join('\n'),
    ],
  );
}

/** An order counts once: the row that remembers it is the fence. */
async function addPlaced(
  placed: readonly { orderId: string; customerId: string; amount: number; currency: string; placedAt: string }[],
  sql: Sql,
): Promise<void> {
  await sql.query(
    'write orders of customers',
    `with orders as (
       select * from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::timestamptz[])
         as placed (order_id, customer_id, amount, currency, placed_at)
     ), remembered as (
       insert into customer_orders (order_id, customer_id, amount, currency)
       select order_id, customer_id, amount, currency from orders order by order_id
       on conflict (order_id) do nothing
       returning order_id
     )
     insert into customers (customer_id, orders, last_order_at, revision)
     select customer_id, count(*), max(placed_at), count(*)
     from orders join remembered using (order_id) group by customer_id order by customer_id
     on conflict (customer_id) do update
       set orders = customers.orders + excluded.orders,
         last_order_at = greatest(customers.last_order_at, excluded.last_order_at),
         revision = customers.revision + excluded.revision`,
    [
      placed.map((order) => order.orderId),
      placed.map((order) => order.customerId),
      placed.map((order) => order.amount),
      placed.map((order) => order.currency),
      placed.map((order) => order.placedAt),
    ],
  );
}

/** Resolves to the customers whose figures have changed. */
const addCompleted = (orderIds: readonly string[], sql: Sql): Promise<{ customer_id: string }[]> =>
  sql.query(
    'complete orders of customers',
    `with completed as (
       update customer_orders set completed = true where order_id = any($1) and not completed
       returning customer_id, currency, amount
     ), spent as (
       insert into customer_spent (customer_id, currency, amount)
       select customer_id, currency, sum(amount) from completed group by 1, 2 order by 1, 2
       on conflict (customer_id, currency) do update set amount = customer_spent.amount + excluded.amount
     )
     insert into customers (customer_id, revision)
     select customer_id, count(*) from completed group by 1 order by 1
     on conflict (customer_id) do update set revision = customers.revision + excluded.revision
     returning customer_id`,
    [orderIds],
  );

const cacheKey = (customerId: string): string => `customer/${customerId}`;

/** Those of `customerIds` who are registered. */
async function readCustomers(sql: Sql, customerIds: readonly string[]): Promise<Map<string, Resource>> {
  const rows = await sql.query<CustomerRow>(
    'read customers',
    `select customer_id, version, profile, orders, revision,
       to_char(last_order_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as last_order_at,
       (select json_agg(json_build_object('amount', amount, 'currency', currency) order by currency)
        from customer_spent where customer_spent.customer_id = customers.customer_id) as spent
     from customers where customer_id = any($1) and profile is not null`,
    [customerIds],
  );
  return new Map(rows.map((row) => [row.customer_id, resourceOf(row)]));
}

type CustomerRow = {
  readonly customer_id: string;
  readonly version: number;
  readonly profile: string;
  readonly orders: number;
  readonly last_order_at: string | null;
  readonly revision: number;
  readonly spent: string | null;
};

function resourceOf(row: CustomerRow): Resource {
  const view: CustomerView = {
    customerId: row.customer_id,
    ...(JSON.parse(row.profile) as Pick<CustomerView, 'name' | 'email' | 'country'>),
    orders: row.orders,
    spent: JSON.parse(row.spent ?? '[]') as CustomerView['spent'],
    ...(row.last_order_at === null ? {} : { lastOrderAt: row.last_order_at }),
    version: row.version,
  };
  return {
    bytes: Buffer.from(JSON.stringify(view)),
    etag: row.revision === 0 ? String(row.version) : `${row.version}.${row.revision}`,
    revision: row.version + row.revision,
  };
}
