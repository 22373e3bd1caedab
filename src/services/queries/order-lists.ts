/** Lists of orders by any mix of filters, in the order of an index: see `listing.ts` for what bounds them. */
import type { OrderListQuery, OrderView } from '#contracts/http.ts';
import type { QueryAnswer } from '#contracts/routes.ts';
import {
  cursorsOf,
  emptyPage,
  limitDefault,
  type ListReads,
  type ListStatements,
  malformedCursor,
  readPage,
} from './listing.ts';
import { invalidParameter } from './read-model.ts';
import { soughtSku, soughtWords, tsqueryOf } from './search-words.ts';
import { utcTime } from './utc-time.ts';

/** The orders as JSON texts, in the order of `orderIds`; only those in `status`, if it is given. */
export type OrderTexts = (
  orderIds: readonly string[],
  status: OrderView['status'] | undefined,
) => Promise<readonly (Buffer | string)[]>;

export async function listOrders(reads: ListReads, query: OrderListQuery, textsOf: OrderTexts): Promise<QueryAnswer> {
  const { customerId, status, sku, minTotal, q, sort = '-placedAt', limit = limitDefault } = query;
  const { column } = orderings[sort];
  const placedFrom = query.placedFrom === undefined ? null : utcTime(query.placedFrom);
  const placedTo = query.placedTo === undefined ? null : utcTime(query.placedTo);
  if (placedFrom !== null && placedTo !== null && placedFrom >= placedTo)
    return invalidParameter('placedFrom', 'has to be before `placedTo`');
  const filters = [customerId ?? null, status ?? null, placedFrom, placedTo, minTotal ?? null];
  const cursors = cursorsOf(
    ['orders', filters, sku ?? null, q ?? null, sort],
    column === 'total' ? Number.isSafeInteger : isUtcTime,
    column === 'total' ? undefined : postgresTime,
  );
  const after = cursors.read(query.cursor);
  if (after === 'malformed') return malformedCursor;
  const wordsOfQ = q === undefined ? [] : soughtWords(q);
  if (q !== undefined && wordsOfQ.length === 0) return { bytes: emptyPage };
  const words = [...(sku === undefined ? [] : [soughtSku(sku)]), ...wordsOfQ];

  const walked = walkedFor(status);
  const isOtherRange = column === 'total' ? placedFrom !== null || placedTo !== null : minTotal !== undefined;
  const looksElsewhere = status !== undefined && walked !== 'unfulfilled_orders';
  return readPage(
    reads,
    statementsOf(walked, sort, {
      ofCustomer: customerId !== undefined,
      searched: words.length > 0,
      looksUp: looksElsewhere,
    }),
    {
      filters: [...filters, words.length === 0 ? null : tsqueryOf(words)],
      isServedByIndex: !looksElsewhere && words.length === 0 && !isOtherRange,
      words,
      after,
      limit,
      itemsOf: (orderIds) => textsOf(orderIds, status),
      cursors,
    },
  );
}

const orderings = {
  placedAt: { column: 'placed_at', type: 'timestamptz', direction: 'asc', beyond: '>' },
  '-placedAt': { column: 'placed_at', type: 'timestamptz', direction: 'desc', beyond: '<' },
  total: { column: 'total', type: 'bigint', direction: 'asc', beyond: '>' },
  '-total': { column: 'total', type: 'bigint', direction: 'desc', beyond: '<' },
} as const;

/** The table whose index is walked: orders of one status, where these are few, are in a table of their own. */
type Walked = 'placed_orders' | 'unfulfilled_orders' | 'open_orders';

function walkedFor(status: OrderView['status'] | undefined): Walked {
  switch (status) {
    case undefined:
    case 'completed':
      return 'placed_orders';
    case 'failed':
    case 'cancelled':
      return 'unfulfilled_orders';
    case 'pending':
    case 'reserved':
      return 'open_orders';
  }
}

type Needs = { readonly ofCustomer: boolean; readonly searched: boolean; readonly looksUp: boolean };

/** Parameters: customer, status, placed from and to, least total, words; then what `ListStatements` says. */
function statementsOf(walked: Walked, sort: keyof typeof orderings, needs: Needs): ListStatements {
  const { ofCustomer, searched, looksUp } = needs;
  const { column, type, direction, beyond } = orderings[sort];
  const range = {
    placed_at: '($3::timestamptz is null or w.placed_at >= $3) and ($4::timestamptz is null or w.placed_at < $4)',
    total: '($5::bigint is null or w.total >= $5)',
  };
  // Not every statement asks for every parameter, but each has to have a type.
  const given =
    'given as (select $1::text, $2::text, $3::timestamptz, $4::timestamptz, $5::bigint, $6::tsquery, $10::bigint)';
  const wanted = '($6::tsquery is null or words @@ $6)';
  const indexed = [
    walked === 'open_orders' ? 'true' : '($1::text is null or w.customer_id = $1)',
    walked === 'unfulfilled_orders' ? 'w.status = $2' : 'true',
    range[column],
    // Not as one row: of that the planner sees the first column only, and takes those who share its value for none.
    `($7::${type} is null or w.${column} ${beyond}= $7 and (w.${column} ${beyond} $7 or w.order_id ${beyond} $8))`,
  ].join(' and ');
  // Written as one row, what an index begins with is no constant to the planner: only the index that begins with
  // it has the order that is asked for. As a condition of its own it would be tested on the index of the sort.
  const prefix = [
    ...(ofCustomer && walked !== 'open_orders' ? [['customer_id', '$1']] : []),
    ...(walked === 'unfulfilled_orders' ? [['status', '$2']] : []),
  ] as const;
  const [columns, values] = [0, 1].map((n) => prefix.map((pair) => `${n === 0 ? 'w.' : ''}${pair[n]}, `).join(''));
  const [least, beyondAll] =
    column === 'total'
      ? ['coalesce($5::bigint, 0)', '9223372036854775807']
      : [`coalesce($3::timestamptz, '-infinity')`, `coalesce($4::timestamptz, 'infinity')`];
  const entry = `(${columns}w.${column}, w.order_id)`;
  const along = [
    `${entry} ${beyond} (${values}coalesce($7::${type}, ${direction === 'asc' ? least : beyondAll}), coalesce($8::text, ''))`,
    direction === 'asc'
      ? `(${columns}w.${column}) < (${values}${beyondAll})`
      : `(${columns}w.${column}) >= (${values}${least})`,
  ].join(' and ');
  // A walk that is read in this very order, column by column, ends with the page; in any other it is sorted, all of it.
  const inIndexOrder = `order by ${[...prefix.map(([name]) => name), column, 'order_id'].map((name) => `w.${name} ${direction}`).join(', ')}`;
  const inRow = range[column === 'total' ? 'placed_at' : 'total'];
  const inOrder = (of: string): string => `order by ${of}.${column} ${direction}, ${of}.order_id ${direction}`;
  // One look by key for each row that comes by, however many the planner expects.
  const look = (table: string, holds: string): string =>
    `cross join lateral (select from ${table} where order_id = w.order_id and ${holds} offset 0) as ${table}_too`;
  const statusLook = looksUp
    ? look('orders', '($2::text is null or status = $2) and ($1::text is null or customer_id = $1)')
    : '';
  const wordsLook = searched && walked !== 'placed_orders' ? look('placed_orders', wanted) : '';
  const wordsHere = walked === 'placed_orders' ? wanted : 'true';
  const ended = (of: string): string => `${of}.order_id as id, ${of}.${column} as key`;
  return {
    name: `${walked.replace('_orders', '')}${ofCustomer ? ' of one' : ''} by ${sort}${looksUp ? ', looked up' : ''}${searched ? ', searched' : ''}`,
    wordsTable: 'placed_orders',
    read: `
      with ${given}
      select ${ended('w')}, 1 as found from ${walked} w where ${along} ${inIndexOrder} limit $9`,
    walk: `
      with ${given}, w as materialized (
        select ${columns}w.order_id, w.${column}, ${inRow} and ${wordsHere} as fits from ${walked} w where ${along}
        ${inIndexOrder} limit $10
      )
      select * from (
        (select ${ended('w')}, 1 as found from w ${statusLook} ${wordsLook} where w.fits ${inIndexOrder} limit $9)
        union all
        (select ${ended('w')}, 0 from w offset $10::bigint - 1 limit 1)
      ) either limit $9`,
    search: `
      with ${given}
      select ${ended('c')}, count(*) over () as found from (
        select w.order_id, w.${column} from ${walked} w ${statusLook} ${wordsLook}
        where ${indexed} and ${inRow} and (${wordsHere}) is true limit $10
      ) c ${inOrder('c')} limit $9`,
    searchWords: `
      with ${given}, wording as materialized (
        select order_id, customer_id, placed_at, total, ${wanted} as fits from placed_orders
        where words @@ $11::tsquery limit $10
      )
      select page.*, n.found from (select count(*) as found from wording) n left join (
        select ${ended('w')} from wording h cross join lateral (${
          walked === 'placed_orders'
            ? 'select h.order_id, h.customer_id, h.placed_at, h.total'
            : `select * from ${walked} where order_id = h.order_id offset 0`
        }) w ${statusLook}
        where h.fits and ${indexed} and ${inRow} ${inOrder('w')} limit $9
      ) page on true order by key ${direction}, id ${direction}`,
  };
}

/** As PostgreSQL prints it in UTC, such as `2026-01-01 09:30:00.5+00`. */
const postgresTime = (text: string): string => utcTime(text.replace(' ', 'T').replace('+00', 'Z'));

/** PostgreSQL knows no year 0, and no 30th of February. */
const isUtcTime = (key: unknown): boolean =>
  typeof key === 'string' &&
  /^(?!0000)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(key) &&
  !Number.isNaN(Date.parse(key)) &&
  new Date(key).toISOString() === key;
