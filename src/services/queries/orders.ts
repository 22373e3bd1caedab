/** The read model `orders`: each order as its customer sees it, and lists of orders by any mix of filters. */
import {
  CustomerParams,
  OrderList,
  OrderListQuery,
  OrderParams,
  OrderQuery,
  OrderView,
  PageQuery,
} from '#contracts/http.ts';
import type { OrderEvent, OrderingEvent } from '#contracts/ordering.ts';
import type { Caller, QueryAnswer, QueryRequest } from '#contracts/routes.ts';
import type { RecordedEvent } from '#cqrs/event-log.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { ReadTable, RowKey, Rows } from '#cqrs/read-store.ts';
import type { Database } from '#platform/postgres.ts';
import { cursorsOf, emptyPage, limitDefault, listRows, malformedCursor, pageBytes } from './listing.ts';
import { orderThen } from './order-then.ts';
import { bodyOf, evolve, type OrderEventRecord, type OrderRow, placedRow } from './order-view.ts';
import { customerNotFound, foldRows, invalidParameter, maySee, orderNotFound, type ReadModel } from './read-model.ts';
import type { Resource, ResourceCache } from './resource-cache.ts';
import { exactSku, lexemes, rememberingWordsOf, skuQuery, wordsOf, wordsOfId, wordsQuery } from './search-words.ts';
import { rfc3339, utcTime } from './utc-time.ts';

/** The order as bytes; undefined when there is none that the caller may see. */
export type FindOrder = (orderId: string, caller: Caller) => Promise<Resource | undefined>;

export function ordersReadModel(
  database: Database,
  cache: ResourceCache,
  isCustomer: (customerId: string, caller: Caller) => Promise<boolean>,
): ReadModel & { find: FindOrder } {
  const find: FindOrder = async (orderId, caller) => {
    const order = await cache.read(cacheKey(orderId), async () => {
      const [row] = await readRows(database, [orderId]);
      return row && resourceOf(row);
    });
    return order && maySee(caller, order.owner) ? order : undefined;
  };

  return {
    projection: ordersProjection(cache),
    find,
    queries: [
      {
        method: 'GET',
        url: '/v1/orders/:orderId',
        summary: 'One order, as it is or as it was',
        audience: 'customer',
        tag: 'orders',
        params: OrderParams,
        query: OrderQuery,
        streams: ({ orderId }: OrderParams) => [`order-${orderId}`],
        answers: { 200: OrderView },
        read: async ({ params: { orderId }, query, caller }: QueryRequest<OrderParams, OrderQuery>) => {
          const order = await find(orderId, caller);
          if (order === undefined) return orderNotFound(orderId);
          return orderThen(database, orderId, order, query);
        },
      },
      {
        method: 'GET',
        url: '/v1/orders',
        summary: 'Orders by any mix of filters',
        audience: 'customer',
        tag: 'orders',
        query: OrderListQuery,
        answers: { 200: OrderList },
        read: async ({ query, caller }: QueryRequest<object, OrderListQuery>) => {
          if (caller.role === 'operator') return listOrders(database, query);
          if (!maySee(caller, query.customerId)) return { bytes: emptyPage };
          return listOrders(database, { ...query, customerId: caller.customerId });
        },
      },
      {
        method: 'GET',
        url: '/v1/customers/:customerId/orders',
        summary: 'Orders of one customer, newest first',
        audience: 'customer',
        tag: 'customers',
        params: CustomerParams,
        query: PageQuery,
        answers: { 200: OrderList },
        read: async ({ params, query, caller }: QueryRequest<CustomerParams, PageQuery>) =>
          (await isCustomer(params.customerId, caller))
            ? listOrders(database, { ...query, ...params })
            : customerNotFound(params.customerId),
      },
    ],
  };
}

const ordersTable: ReadTable<OrderRow> = {
  name: 'orders',
  key: ['order_id'],
  columns: {
    order_id: 'text',
    version: 'integer',
    customer_id: 'text',
    status: 'text',
    failure: 'json',
    lines: 'json',
    units: 'bigint',
    country: 'text',
    total: 'bigint',
    currency: 'text',
    payment_status: 'text',
    payment_method: 'json',
    placed_at: 'timestamptz',
    updated_at: 'timestamptz',
  },
  defaults: { version: 0 },
  version: 'version',
};
/** The rest is as it was placed, for ever. */
const changing = ['version', 'status', 'failure', 'payment_status', 'updated_at'] as const;

const openOrdersTable: ReadTable<{ readonly order_id: string }> = {
  name: 'open_orders',
  key: ['order_id'],
  columns: { order_id: 'text' },
  once: true,
};

const unfulfilledOrdersTable: ReadTable<Pick<OrderRow, 'order_id' | 'status' | 'placed_at' | 'total'>> = {
  name: 'unfulfilled_orders',
  key: ['order_id'],
  columns: { order_id: 'text', status: 'text', placed_at: 'timestamptz', total: 'bigint' },
  once: true,
};

const orderWordsTable: ReadTable<{ readonly order_id: string; readonly words: readonly string[] }> = {
  name: 'order_words',
  key: ['order_id'],
  columns: { order_id: 'text', words: 'words' },
  once: true,
};

const isOpen = (status: OrderView['status']): boolean => status === 'pending' || status === 'reserved';

function ordersProjection(cache: ResourceCache): Projection {
  const wordsOfProduct = rememberingWordsOf();
  return {
    name: 'orders',
    version: 1,
    services: ['ordering'],
    tables: [ordersTable, openOrdersTable, unfulfilledOrdersTable, orderWordsTable],
    async apply(_service, events, rows) {
      const changes = events.filter(({ stream }) => stream.startsWith('order-')) as unknown as OrderEventRecord[];
      if (changes.length === 0) return;
      const folded = await foldRows(changes, (ids) => rows.load(ordersTable, keysOf(ids)), evolve);
      const fresh = folded.filter(({ before }) => before === undefined).map(({ row }) => row);
      const known = folded.filter(({ before }) => before !== undefined);
      rows.put(ordersTable, fresh);
      rows.put(
        ordersTable,
        known.map(({ row }) => row),
        changing,
      );
      rows.put(
        openOrdersTable,
        fresh.filter(({ status }) => isOpen(status)).map(({ order_id }) => ({ order_id })),
      );
      rows.remove(
        openOrdersTable,
        keysOf(
          known
            .filter(({ before, row }) => isOpen(before!.status) && !isOpen(row.status))
            .map(({ row }) => row.order_id),
        ),
      );
      rows.put(
        unfulfilledOrdersTable,
        folded
          .filter(({ before, row }) => isUnfulfilled(row.status) && before?.status !== row.status)
          .map(({ row: { order_id, status, placed_at, total } }) => ({ order_id, status, placed_at, total })),
      );
      rows.put(
        orderWordsTable,
        changes.flatMap(({ type, data }) =>
          type === 'OrderPlaced' ? [{ order_id: data.orderId, words: searchWords(data, wordsOfProduct) }] : [],
        ),
      );
      return (committed) => {
        for (const { row } of folded) {
          const present = committed(ordersTable, [row.order_id]) ?? row;
          cache.put(cacheKey(present.order_id), resourceOf(present));
        }
      };
    },
  };
}

type OrderPlaced = Extract<OrderEvent, { type: 'OrderPlaced' }>['data'];

const isUnfulfilled = (status: OrderView['status']): boolean => status === 'failed' || status === 'cancelled';

const keysOf = (ids: readonly string[]): RowKey[] => ids.map((id) => [id]);

function searchWords(placed: OrderPlaced, wordsOfProduct: typeof wordsOf): readonly string[] {
  const { orderId, customerId, customerName = '', lines } = placed;
  return lexemes([
    ...wordsOfId(orderId),
    ...wordsOf(customerId),
    ...wordsOf(customerName),
    ...lines.map(({ sku }) => exactSku(sku)),
    ...lines.flatMap(({ sku }) => wordsOfProduct(sku)),
    ...lines.flatMap(({ name }) => wordsOfProduct(name)),
  ]);
}

/** What never changes of an order once it is placed. */
type PlacedOrder = Pick<
  OrderRow,
  'order_id' | 'customer_id' | 'placed_at' | 'country' | 'units' | 'total' | 'currency'
>;

/**
 * The orders that `events` of ordering complete, as they were placed: from the batch itself, or from the
 * rows of `orders`, which are never behind those who read them here.
 */
export async function completedOrders(
  events: readonly RecordedEvent<OrderingEvent>[],
  rows: Rows,
): Promise<PlacedOrder[]> {
  const completed = events.flatMap((event) => (event.type === 'OrderCompleted' ? [event.data.orderId] : []));
  if (completed.length === 0) return [];
  const here = new Map(
    events.flatMap((event) => (event.type === 'OrderPlaced' ? [[event.data.orderId, event.data]] : [])),
  );
  const before = await rows.load(ordersTable, keysOf(completed.filter((orderId) => !here.has(orderId))));
  return completed.map((orderId) => {
    const placed = here.get(orderId);
    const order = placed === undefined ? before.get(orderId) : placedRow(placed);
    if (order === undefined) throw new Error(`order ${orderId} is completed, but was never placed`);
    return order;
  });
}

const cacheKey = (orderId: string): string => `order/${orderId}`;

const resourceOf = (row: OrderRow): Resource => ({
  bytes: Buffer.from(bodyOf(row)),
  etag: String(row.version),
  revision: row.version,
  owner: row.customer_id,
});

const shownColumns = `o.order_id, o.version, o.customer_id, o.status, o.failure, o.lines, o.total, o.currency,
  o.payment_status, o.payment_method, ${rfc3339('o.placed_at')} as placed_at, ${rfc3339('o.updated_at')} as updated_at`;

const readRows = (database: Database, orderIds: readonly string[]): Promise<OrderRow[]> =>
  database.query('read orders', `select ${shownColumns} from orders o where order_id = any($1)`, [orderIds]);

const orderings = {
  placedAt: { column: 'placed_at', type: 'timestamptz', direction: 'asc', beyond: '>' },
  '-placedAt': { column: 'placed_at', type: 'timestamptz', direction: 'desc', beyond: '<' },
  total: { column: 'total', type: 'bigint', direction: 'asc', beyond: '>' },
  '-total': { column: 'total', type: 'bigint', direction: 'desc', beyond: '<' },
} as const;

async function listOrders(database: Database, query: OrderListQuery): Promise<QueryAnswer> {
  const { customerId, status, sku, minTotal, q, sort = '-placedAt', limit = limitDefault } = query;
  const { column, type, direction, beyond } = orderings[sort];
  const placedFrom = query.placedFrom === undefined ? null : utcTime(query.placedFrom);
  const placedTo = query.placedTo === undefined ? null : utcTime(query.placedTo);
  if (placedFrom !== null && placedTo !== null && placedFrom >= placedTo)
    return invalidParameter('placedFrom', 'has to be before `placedTo`');
  const filters = [customerId ?? null, status ?? null, placedFrom, placedTo, minTotal ?? null];
  const cursors = cursorsOf(
    ['orders', filters, sku ?? null, q ?? null, sort],
    column === 'total' ? Number.isSafeInteger : isUtcTime,
  );
  const after = cursors.read(query.cursor);
  if (after === 'malformed') return malformedCursor;
  const words = q === undefined ? [] : [wordsQuery(q)];
  if (words.includes(null)) return { bytes: emptyPage };
  const wanted = [...(sku === undefined ? [] : [skuQuery(sku)]), ...words].join(' & ');
  // Orders of one status, where these are few, are found in a table of their own; those of a customer by the customer.
  const few = customerId === undefined && status !== undefined && status !== 'completed';
  const from = !few
    ? 'orders o'
    : `${isOpen(status) ? 'open_orders' : 'unfulfilled_orders'} s join orders o using (order_id)`;
  const sorted = few && !isOpen(status) ? 's' : 'o';
  const found = await listRows<OrderRow>(
    database,
    `list orders by ${sort}${few ? `, ${isOpen(status) ? 'open' : 'unfulfilled'}` : ''}${wanted ? ', searched' : ''}`,
    `select ${shownColumns}
     from ${from} ${wanted ? 'join order_words w on w.order_id = o.order_id and w.words @@ $9::tsquery' : ''}
     where ($1::text is null or o.customer_id = $1)
       and ($2::text is null or ${sorted}.status = $2)
       and ($3::timestamptz is null or ${sorted}.placed_at >= $3)
       and ($4::timestamptz is null or ${sorted}.placed_at < $4)
       and ($5::bigint is null or ${sorted}.total >= $5)
       and ($6::${type} is null or (${sorted}.${column}, ${sorted}.order_id) ${beyond} ($6, $7))
     order by ${sorted}.${column} ${direction}, ${sorted}.order_id ${direction}
     limit $8`,
    [...filters, after?.key ?? null, after?.id ?? null, limit + 1, ...(wanted ? [wanted] : [])],
  );
  if ('refused' in found) return found;
  return {
    bytes: pageBytes(found.rows, limit, bodyOf, (row) => ({ key: row[column], id: row.order_id }), cursors),
  };
}

const isUtcTime = (key: unknown): boolean =>
  typeof key === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(key) && !Number.isNaN(Date.parse(key));
