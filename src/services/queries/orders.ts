/** The read model `orders`: each order as its customer sees it, and lists of orders by any mix of filters. */
import { CustomerParams, OrderList, OrderListQuery, OrderParams, OrderView, PageQuery } from '#contracts/http.ts';
import type { OrderEvent } from '#contracts/ordering.ts';
import type { Caller, QueryAnswer, QueryRequest } from '#contracts/routes.ts';
import { entityOf, type RecordedEvent } from '#cqrs/event-log.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { Database, Sql } from '#platform/postgres.ts';
import { cursorsOf, emptyPage, limitDefault, listRows, malformedCursor, pageBytes } from './listing.ts';
import { customerNotFound, foldViews, maySee, orderNotFound, type ReadModel } from './read-model.ts';
import type { Resource, ResourceCache } from './resource-cache.ts';
import { exactSku, lexemes, rememberingWordsOf, skuQuery, wordsOf, wordsQuery } from './search-words.ts';
import { utcTime } from './utc-time.ts';

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
        summary: 'One order',
        audience: 'customer',
        tag: 'orders',
        params: OrderParams,
        answers: { 200: OrderView },
        read: async ({ params, caller }: QueryRequest<OrderParams>) =>
          (await find(params.orderId, caller)) ?? orderNotFound(params.orderId),
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

function ordersProjection(cache: ResourceCache): Projection {
  const wordsOfProduct = rememberingWordsOf();
  return {
    name: 'orders',
    services: ['ordering'],
    async apply(_service, events, sql) {
      const changes = events.filter(({ stream }) =>
        stream.startsWith('order-'),
      ) as unknown as RecordedEvent<OrderEvent>[];
      if (changes.length === 0) return;
      const views = await foldViews(
        changes,
        ({ stream }) => entityOf(stream),
        (begun) => loadViews(begun, cache, sql),
        evolve,
      );
      const rows = [...views.values()].map((view) => ({ view, body: JSON.stringify(view) }));
      const [written] = await Promise.all([writeOrders(rows, sql), writeWords(changes, wordsOfProduct, sql)]);
      return () => {
        const effective = new Set(written.map((row) => row.order_id));
        for (const { view, body } of rows) {
          if (effective.has(view.orderId))
            cache.put(
              cacheKey(view.orderId),
              resourceOf({ version: view.version, customer_id: view.customerId, body }),
            );
        }
      };
    },
  };
}

/** What the order looks like after `event`. Its version and `updatedAt` are the event's. */
function evolve(before: OrderView | undefined, event: RecordedEvent<OrderEvent>): OrderView {
  const now = { updatedAt: utcTime(event.at), version: event.version };
  if (event.type === 'OrderPlaced') {
    const { orderId, customerId, currency, lines, total, payment, placedAt } = event.data;
    return {
      orderId,
      customerId,
      status: 'pending',
      lines: lines.map(({ sku, name, quantity, unitPrice }) => ({
        sku,
        name,
        quantity,
        unitPrice: { amount: unitPrice, currency },
      })),
      total,
      payment: { status: 'none', method: payment.method },
      placedAt: utcTime(placedAt),
      ...now,
    };
  }
  if (!before) throw new Error(`${event.id} (${event.type}) is the first event of ${event.stream}`);
  const paymentIs = (status: OrderView['payment']['status']): OrderView['payment'] => ({ ...before.payment, status });
  switch (event.type) {
    case 'OrderReserved':
      return { ...before, status: 'reserved', payment: paymentIs('pending'), ...now };
    case 'OrderPaymentInDoubt':
      return { ...before, payment: paymentIs('unknown'), ...now };
    case 'OrderCompleted':
      return { ...before, status: 'completed', payment: paymentIs('captured'), ...now };
    case 'OrderFailed':
      return {
        ...before,
        status: 'failed',
        failure: event.data.failure,
        payment: paymentIs(paymentAfterFailure(before, event.data)),
        ...now,
      };
    case 'OrderCancelled':
      // Reserved: payments may be charging at this moment. The refund or the void will tell.
      return {
        ...before,
        status: 'cancelled',
        payment: event.data.was === 'pending' ? paymentIs('none') : before.payment,
        ...now,
      };
    case 'OrderRefunded':
      return { ...before, payment: paymentIs('refunded'), ...now };
    case 'OrderPaymentVoided':
      return { ...before, payment: paymentIs('none'), ...now };
  }
}

function paymentAfterFailure(
  before: OrderView,
  { was, failure }: Extract<OrderEvent, { type: 'OrderFailed' }>['data'],
): OrderView['payment']['status'] {
  switch (failure.code) {
    case 'payment-declined':
      return 'declined';
    case 'out-of-stock':
      return 'none';
    case 'timed-out':
      return was === 'pending' ? 'none' : before.payment.status;
  }
}

type OrderRow = { readonly version: number; readonly customer_id: string; readonly body: string };

const cacheKey = (orderId: string): string => `order/${orderId}`;

const resourceOf = (row: OrderRow): Resource => ({
  bytes: Buffer.from(row.body),
  etag: String(row.version),
  revision: row.version,
  owner: row.customer_id,
});

const readRows = (sql: Sql, orderIds: readonly string[]): Promise<(OrderRow & { order_id: string })[]> =>
  sql.query('read orders', 'select order_id, version, customer_id, body from orders where order_id = any($1)', [
    orderIds,
  ]);

/** From memory where it holds just the version that comes before; the rest in one statement. */
async function loadViews(
  begun: ReadonlyMap<string, number>,
  cache: ResourceCache,
  sql: Sql,
): Promise<Map<string, OrderView>> {
  const views = new Map<string, OrderView>();
  const missing: string[] = [];
  for (const [orderId, version] of begun) {
    const known = cache.peek(cacheKey(orderId));
    if (known?.revision === version) views.set(orderId, JSON.parse(known.bytes.toString()) as OrderView);
    else missing.push(orderId);
  }
  if (missing.length > 0) {
    for (const row of await readRows(sql, missing)) views.set(row.order_id, JSON.parse(row.body) as OrderView);
  }
  return views;
}

/**
 * Resolves to the orders that were not there already in this version or a later one. The bodies travel
 * as one text: JSON text holds no line break, and nothing has to be quoted. With 20 lines per order
 * that wrote 19,000 to 22,000 rows/s where an array of bodies wrote 9,000 and json_to_recordset 13,000.
 */
async function writeOrders(
  rows: readonly { view: OrderView; body: string }[],
  sql: Sql,
): Promise<{ order_id: string }[]> {
  if (rows.length === 0) return [];
  const column = (of: (view: OrderView) => string | number): unknown[] => rows.map(({ view }) => of(view));
  return sql.query(
    'write orders',
    `insert into orders (order_id, version, customer_id, status, total, currency, placed_at, updated_at, body)
     select * from unnest($1::text[], $2::integer[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::timestamptz[],
       $8::timestamptz[], string_to_array($9, E'\\n'))
     on conflict (order_id) do update
       set version = excluded.version, status = excluded.status, updated_at = excluded.updated_at, body = excluded.body
       where orders.version < excluded.version
     returning order_id`,
    [
      column((view) => view.orderId),
      column((view) => view.version),
      column((view) => view.customerId),
      column((view) => view.status),
      column((view) => view.total.amount),
      column((view) => view.total.currency),
      column((view) => view.placedAt),
      column((view) => view.updatedAt),
      rows.map(({ body }) => body).join('\n'),
    ],
  );
}

async function writeWords(
  events: readonly RecordedEvent<OrderEvent>[],
  wordsOfProduct: typeof wordsOf,
  sql: Sql,
): Promise<void> {
  const placed = events.flatMap((event) => (event.type === 'OrderPlaced' ? [event.data] : []));
  if (placed.length === 0) return;
  placed.sort((a, b) => (a.orderId < b.orderId ? -1 : 1));
  await sql.query(
    'write order words',
    `insert into order_words (order_id, words)
     select order_id, array_to_tsvector(string_to_array(words, ' '))
     from unnest($1::text[], string_to_array($2, E'\\n')) as placed (order_id, words)
     on conflict (order_id) do nothing`,
    [
      placed.map((order) => order.orderId),
      placed
        .map(({ orderId, customerId, lines }) =>
          lexemes([
            ...wordsOf(orderId),
            ...wordsOf(customerId),
            ...lines.map(({ sku }) => exactSku(sku)),
            ...lines.flatMap(({ sku }) => wordsOfProduct(sku)),
            ...lines.flatMap(({ name }) => wordsOfProduct(name)),
          ]),
        )
        .join('\n'),
    ],
  );
}

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
  const found = await listRows<{ order_id: string; body: string; total: number; placed: string }>(
    database,
    `list orders by ${sort}${wanted ? ', searched' : ''}`,
    `select o.order_id, o.body, o.total, to_char(o.placed_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as placed
     from orders o ${wanted ? 'join order_words w on w.order_id = o.order_id and w.words @@ $9::tsquery' : ''}
     where ($1::text is null or o.customer_id = $1)
       and ($2::text is null or o.status = $2)
       and ($3::timestamptz is null or o.placed_at >= $3)
       and ($4::timestamptz is null or o.placed_at < $4)
       and ($5::bigint is null or o.total >= $5)
       and ($6::${type} is null or (o.${column}, o.order_id) ${beyond} ($6, $7))
     order by o.${column} ${direction}, o.order_id ${direction}
     limit $8`,
    [...filters, after?.key ?? null, after?.id ?? null, limit + 1, ...(wanted ? [wanted] : [])],
  );
  if ('refused' in found) return found;
  return {
    bytes: pageBytes(
      found.rows,
      limit,
      (row) => row.body,
      (row) => ({ key: column === 'total' ? row.total : row.placed, id: row.order_id }),
      cursors,
    ),
  };
}

const isUtcTime = (key: unknown): boolean =>
  typeof key === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(key) && !Number.isNaN(Date.parse(key));
