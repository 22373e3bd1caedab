/** The read model `customers`: who they are, and what their orders come to. */
import { CustomerParams, CustomerView } from '#contracts/http.ts';
import type { OrderingEvent } from '#contracts/ordering.ts';
import type { Caller, QueryAnswer, QueryRequest } from '#contracts/routes.ts';
import type { RecordedEvent } from '#cqrs/event-log.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { ReadTable } from '#cqrs/read-store.ts';
import { type ShownRow, shownColumn } from '#cqrs/shown-positions.ts';
import type { Database, Sql } from '#platform/postgres.ts';
import type { Applied } from './applied.ts';
import { completedOrders } from './orders.ts';
import { ordersOfOthers } from './parked-streams.ts';
import { customerNotFound, maySee, type ReadModel, whenThere } from './read-model.ts';
import { AppliedResource, type ReadResource, type Resource, type ResourceCache } from './resource-cache.ts';
import { rfc3339, utcTime } from './utc-time.ts';

export function customersReadModel(
  database: Database,
  /** For what is read by its key. */
  single: Sql,
  cache: ResourceCache,
  applied: Applied,
): ReadModel & { isCustomer(customerId: string, caller: Caller): Promise<boolean> } {
  const readIt = async (customerId: string): Promise<ReadResource | undefined> => {
    const row = await readCustomer(single, customerId);
    const resource = row && resourceOf(row);
    return resource && { resource, shows: applied.positionsIn([row]) };
  };
  const find = (
    customerId: string,
    caller: Caller,
    mayBeBehind = false,
  ): Resource | undefined | Promise<Resource | undefined> =>
    maySee(caller, customerId) ? cache.read(cacheKey(customerId), () => readIt(customerId), mayBeBehind) : undefined;

  return {
    projection: customersProjection(cache),
    resources: { [cacheKey('')]: readIt },
    isCustomer: async (customerId, caller) => (await find(customerId, caller)) !== undefined,
    queries: [
      {
        method: 'GET',
        url: '/v1/customers/:customerId',
        summary: 'One customer, with what the orders come to',
        audience: 'customer',
        tag: 'customers',
        params: CustomerParams,
        shows: ({ params: { customerId } }: QueryRequest<CustomerParams>) => ({
          streams: [`customer-${customerId}`],
          types: ['order'],
          elsewhere: ordersOfOthers(database, customerId),
        }),
        answers: { 200: CustomerView },
        kept: (customerId, caller) => (maySee(caller, customerId) ? cache.kept(cacheKey(customerId)) : undefined),
        read: ({ params: { customerId }, caller, underToken }: QueryRequest<CustomerParams>) =>
          whenThere(
            find(customerId, caller, underToken === false),
            (customer): QueryAnswer => customer ?? customerNotFound(customerId),
          ),
      },
    ],
  };
}

type CustomerRow = {
  readonly customer_id: string;
  readonly version: number;
  /** JSON text; null: the customer has orders, but is not known yet. */
  readonly profile: string | null;
  readonly orders: number;
  readonly last_order_at: string | null;
  /** JSON text: by currency, the digits of the amount. */
  readonly spent: string | null;
  /** How many order events have changed the figures. */
  readonly revision: number;
};

const customersTable: ReadTable<CustomerRow> = {
  name: 'customers',
  key: ['customer_id'],
  columns: {
    customer_id: 'text',
    version: 'integer',
    profile: 'json',
    orders: 'bigint',
    last_order_at: 'timestamptz',
    spent: 'json',
    revision: 'bigint',
  },
  defaults: { version: 0, orders: 0, revision: 0 },
};

function customersProjection(cache: ResourceCache): Projection {
  return {
    name: 'customers',
    version: 1,
    services: ['ordering'],
    tables: [customersTable],
    async apply(_service, batch, rows) {
      const events = batch as readonly RecordedEvent<OrderingEvent>[];
      const completed = await completedOrders(events, rows);
      const touched = new Set(completed.map((order) => order.customer_id));
      for (const event of events) if ('customerId' in event.data) touched.add(event.data.customerId);
      if (touched.size === 0) return;
      const before = await rows.load(
        customersTable,
        [...touched].map((customerId) => [customerId]),
      );
      const now = new Map<string, CustomerRow>();
      const change = (customerId: string, by: (row: CustomerRow) => Partial<CustomerRow>): void => {
        const row = now.get(customerId) ?? before.get(customerId) ?? newCustomer(customerId);
        now.set(customerId, { ...row, ...by(row) });
      };
      for (const event of events) {
        switch (event.type) {
          case 'CustomerRegistered':
          case 'CustomerChanged': {
            const { customerId, ...profile } = event.data;
            change(customerId, ({ version }) =>
              event.version > version ? { version: event.version, profile: JSON.stringify(profile) } : {},
            );
            break;
          }
          case 'OrderPlaced': {
            const placedAt = utcTime(event.data.placedAt);
            change(event.data.customerId, ({ orders, last_order_at: last, revision }) => ({
              orders: orders + 1,
              last_order_at: last !== null && last > placedAt ? last : placedAt,
              revision: revision + 1,
            }));
          }
        }
      }
      for (const { customer_id: customerId, total, currency } of completed) {
        change(customerId, ({ spent, revision }) => ({ spent: added(spent, total, currency), revision: revision + 1 }));
      }
      rows.put(customersTable, [...now.values()]);
      return (committed) => {
        // Who has just ordered is asked for next: by each list of their orders, too.
        for (const customerId of touched) {
          const row = committed(customersTable, [customerId]);
          const resource = row && resourceOf(row);
          if (resource) cache.put(cacheKey(customerId), resource);
          else cache.forget(cacheKey(customerId));
        }
      };
    },
  };
}

const newCustomer = (customerId: string): CustomerRow => ({
  customer_id: customerId,
  version: 0,
  profile: null,
  orders: 0,
  last_order_at: null,
  spent: null,
  revision: 0,
});

type Spent = Readonly<Record<string, string>>;

/** Sums of any size are exact; currencies come in alphabetical order. */
function added(spent: string | null, amount: number, currency: string): string {
  const before = JSON.parse(spent ?? '{}') as Spent;
  const sum = String(BigInt(before[currency] ?? 0) + BigInt(amount));
  return JSON.stringify(
    Object.fromEntries(Object.entries({ ...before, [currency]: sum }).sort(([a], [b]) => (a < b ? -1 : 1))),
  );
}

const cacheKey = (customerId: string): string => `customer/${customerId}`;

async function readCustomer(database: Sql, customerId: string): Promise<(CustomerRow & ShownRow) | undefined> {
  const [row] = await database.query<CustomerRow & ShownRow>(
    'read customer',
    `select customer_id, version, profile, orders, spent, revision, ${rfc3339('last_order_at')} as last_order_at,
       ${shownColumn}
     from customers where customer_id = $1`,
    [customerId],
  );
  return row;
}

/** Undefined: not registered. */
const resourceOf = (row: CustomerRow): Resource | undefined =>
  row.profile === null
    ? undefined
    : new AppliedResource(() => viewText(row), {
        // An entry of `spent` becomes an object of its own.
        bytesMax: Buffer.byteLength(row.profile) + 4 * (row.spent?.length ?? 0) + figuresBytesMax,
        etag: row.revision === 0 ? String(row.version) : `${row.version}.${row.revision}`,
        revision: row.version + row.revision,
      });

/** Id, version, orders and their times, with their names. */
const figuresBytesMax = 240;

function viewText(row: CustomerRow): string {
  const spent = Object.entries(JSON.parse(row.spent ?? '{}') as Spent);
  const view: CustomerView = {
    customerId: row.customer_id,
    ...(JSON.parse(row.profile!) as Pick<CustomerView, 'name' | 'email' | 'country'>),
    orders: row.orders,
    spent: spent.map(([currency, amount]) => ({ amount: Number(amount), currency })),
    ...(row.last_order_at === null ? {} : { lastOrderAt: row.last_order_at }),
    version: row.version,
  };
  return JSON.stringify(view);
}
