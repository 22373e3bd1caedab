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
import type { Caller, QueryRequest } from '#contracts/routes.ts';
import type { RecordedEvent } from '#cqrs/event-log.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { ReadTable, RowKey, Rows } from '#cqrs/read-store.ts';
import { type ShownRow, shownColumn } from '#cqrs/shown-positions.ts';
import type { Sql } from '#platform/postgres.ts';
import type { Applied } from './applied.ts';
import { emptyPage, itemTexts, type ListReads } from './listing.ts';
import { listOrders, type OrderTexts } from './order-lists.ts';
import { orderThen } from './order-then.ts';
import { bodyBytesMax, bodyOf, evolve, type OrderEventRecord, type OrderRow, placedRow } from './order-view.ts';
import { ordersOfOthers } from './parked-streams.ts';
import { customerNotFound, foldRows, maySee, orderNotFound, type ReadModel, whenThere } from './read-model.ts';
import { readTogether } from './read-together.ts';
import { AppliedResource, type ReadResource, type Resource, type ResourceCache } from './resource-cache.ts';
import { exactSku, lexemes, rememberingWordsOf, wordsOf, wordsOfId } from './search-words.ts';
import { rfc3339, utcTime } from './utc-time.ts';

/** The order as bytes; undefined when there is none that the caller may see. `mayBeBehind`: what other processes share will do. */
export type FindOrder = (
  orderId: string,
  caller: Caller,
  mayBeBehind?: boolean,
) => Resource | undefined | Promise<Resource | undefined>;

export function ordersReadModel(
  lists: ListReads,
  /** For single rows that are read by their keys. */
  single: Sql,
  cache: ResourceCache,
  applied: Applied,
  isCustomer: (customerId: string, caller: Caller) => Promise<boolean>,
): ReadModel & { find: FindOrder } {
  const { database } = lists;
  const readRow = readTogether(async (orderIds) => {
    const rows = await readRows(single, orderIds);
    return { rows: new Map(rows.map((row) => [row.order_id, row])), known: applied.positionsIn(rows) };
  });
  const readOrder = async (orderId: string): Promise<ReadResource | undefined> => {
    const read = await readRow(orderId);
    return read && { resource: resourceOf(read.row), shows: read.known };
  };
  const find: FindOrder = (orderId, caller, mayBeBehind = false) => {
    const ifAllowed = (order: Resource | undefined): Resource | undefined =>
      order && maySee(caller, order.owner) ? order : undefined;
    return whenThere(
      cache.read(cacheKey(orderId), () => readOrder(orderId), mayBeBehind),
      ifAllowed,
    );
  };

  const textsOf: OrderTexts = (orderIds, status) =>
    itemTexts(
      orderIds,
      (orderId) => (status === undefined ? cache.peek(cacheKey(orderId))?.bytes : undefined),
      async (missing) => {
        const rows = await readRows(lists.plannedOnce, missing);
        const isAhead = ({ order_id, version }: OrderRow): boolean =>
          cache.isBehind(cacheKey(order_id), { revision: version });
        // What is answered next is not older than what the list shows.
        if (rows.some(isAhead)) await applied.includes(applied.positionsIn(rows));
        return (
          rows
            // What has changed since it was found is not in that status any more.
            .filter((row) => status === undefined || row.status === status)
            .map((row) => [row.order_id, bodyOf(row)])
        );
      },
    );

  return {
    projection: ordersProjection(cache),
    resources: { [cacheKey('')]: readOrder },
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
        shows: ({ params: { orderId } }: QueryRequest<OrderParams>) => ({ streams: [`order-${orderId}`] }),
        answers: { 200: OrderView },
        kept: (orderId, caller) => {
          const order = cache.kept(cacheKey(orderId));
          return order && maySee(caller, order.owner) ? order : undefined;
        },
        read: ({ params: { orderId }, query, caller, underToken }: QueryRequest<OrderParams, OrderQuery>) => {
          const isNow = query.version === undefined && query.asOf === undefined;
          return whenThere(find(orderId, caller, isNow && underToken === false), (order) =>
            order === undefined ? orderNotFound(orderId) : orderThen(database, orderId, order, query),
          );
        },
      },
      {
        method: 'GET',
        url: '/v1/orders',
        searches: true,
        summary: 'Orders by any mix of filters',
        audience: 'customer',
        tag: 'orders',
        query: OrderListQuery,
        shows: ({ query, caller }: QueryRequest<object, OrderListQuery>) => {
          const customerId = caller.role === 'customer' ? caller.customerId : query.customerId;
          if (customerId === undefined) return { types: ['order'] };
          return { types: ['order'], elsewhere: ordersOfOthers(database, customerId) };
        },
        answers: { 200: OrderList },
        read: async ({ query, caller }: QueryRequest<object, OrderListQuery>) => {
          if (caller.role === 'operator') return listOrders(lists, query, textsOf);
          if (!maySee(caller, query.customerId)) return { bytes: emptyPage };
          return listOrders(lists, { ...query, customerId: caller.customerId }, textsOf);
        },
      },
      {
        method: 'GET',
        url: '/v1/customers/:customerId/orders',
        searches: true,
        summary: 'Orders of one customer, newest first',
        audience: 'customer',
        tag: 'customers',
        params: CustomerParams,
        query: PageQuery,
        shows: ({ params: { customerId } }: QueryRequest<CustomerParams, PageQuery>) => ({
          streams: [`customer-${customerId}`],
          types: ['order'],
          elsewhere: ordersOfOthers(database, customerId),
        }),
        answers: { 200: OrderList },
        read: async ({ params, query, caller }: QueryRequest<CustomerParams, PageQuery>) =>
          (await isCustomer(params.customerId, caller))
            ? listOrders(lists, { ...query, ...params }, textsOf)
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

const openOrdersTable: ReadTable<Pick<OrderRow, 'order_id' | 'placed_at' | 'total'>> = {
  name: 'open_orders',
  key: ['order_id'],
  columns: { order_id: 'text', placed_at: 'timestamptz', total: 'bigint' },
  once: true,
};

const unfulfilledOrdersTable: ReadTable<Pick<OrderRow, 'order_id' | 'status' | 'customer_id' | 'placed_at' | 'total'>> =
  {
    name: 'unfulfilled_orders',
    key: ['order_id'],
    columns: { order_id: 'text', status: 'text', customer_id: 'text', placed_at: 'timestamptz', total: 'bigint' },
    once: true,
  };

const placedOrdersTable: ReadTable<
  Pick<OrderRow, 'order_id' | 'customer_id' | 'placed_at' | 'total'> & { readonly words: readonly string[] }
> = {
  name: 'placed_orders',
  key: ['order_id'],
  columns: { order_id: 'text', customer_id: 'text', placed_at: 'timestamptz', total: 'bigint', words: 'words' },
  once: true,
};

const isOpen = (status: OrderView['status']): boolean => status === 'pending' || status === 'reserved';

function ordersProjection(cache: ResourceCache): Projection {
  const wordsOfProduct = rememberingWordsOf();
  return {
    name: 'orders',
    version: 1,
    services: ['ordering'],
    tables: [ordersTable, openOrdersTable, unfulfilledOrdersTable, placedOrdersTable],
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
        fresh
          .filter(({ status }) => isOpen(status))
          .map(({ order_id, placed_at, total }) => ({ order_id, placed_at, total })),
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
          .map(({ row: { order_id, status, customer_id, placed_at, total } }) => ({
            order_id,
            status,
            customer_id,
            placed_at,
            total,
          })),
      );
      rows.put(
        placedOrdersTable,
        changes.flatMap(({ type, data }) => {
          if (type !== 'OrderPlaced') return [];
          const { orderId, customerId, placedAt, total } = data;
          return [
            {
              order_id: orderId,
              customer_id: customerId,
              placed_at: utcTime(placedAt),
              total: total.amount,
              words: searchWords(data, wordsOfProduct),
            },
          ];
        }),
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

const resourceOf = (row: OrderRow): Resource =>
  new AppliedResource(() => bodyOf(row), {
    bytesMax: bodyBytesMax(row),
    etag: String(row.version),
    revision: row.version,
    owner: row.customer_id,
  });

const viewColumns = `o.order_id, o.version, o.customer_id, o.status, o.failure, o.lines, o.total, o.currency,
  o.payment_status, o.payment_method, ${rfc3339('o.placed_at')} as placed_at, ${rfc3339('o.updated_at')} as updated_at, ${shownColumn}`;

const readRows = (database: Sql, orderIds: readonly string[]): Promise<(OrderRow & ShownRow)[]> =>
  database.query('read orders', `select ${viewColumns} from orders o where order_id = any($1)`, [orderIds]);
