/** Rows of the read model `orders` at size, written by SQL: what its projection would have made of as many orders. */
import type { OrderListQuery } from '#contracts/http.ts';
import type { Database } from '#platform/postgres.ts';

/** What is asked for, by how often it is met. Orders are placed one a minute, the last at `lastPlacedAt`. */
export const met = {
  customer: { half: 'c-half', often: 'c-often', seldom: 'c-7', never: 'c-nobody' },
  sku: { everywhere: 'SKU-ALL', often: 'SKU-TENTH', seldom: 'SKU-RARE', never: 'SKU-NONE' },
  /** `oldest` is only in the first orders; `left` and `right` are each in half of them, never in the same; `200` begins many. */
  word: {
    everywhere: 'parcel',
    often: 'heart',
    sometimes: 'lantern',
    seldom: 'unicorn',
    oldest: 'relic',
    left: 'left',
    right: 'right',
    begins: 'b2',
    never: 'nowhere',
  },
  /** All totals are below `never`. */
  total: { everywhere: 0, half: 5_000, seldom: 999_000, never: 1_000_001 },
} as const;

const lastPlacedAt = Date.UTC(2026, 0, 1);
const minuteMs = 60_000;

/** When the order was placed that `newer` orders have come after. */
export const placedBefore = (newer: number): string => new Date(lastPlacedAt - newer * minuteMs).toISOString();

const tables = ['orders', 'placed_orders', 'open_orders', 'unfulfilled_orders'];
/** The newest of all, that many. */
const openOrders = 300;

/** Fills the empty tables with `orders` orders; three lines each. A million take about two minutes. */
export async function fillOrders(database: Database, orders: number): Promise<void> {
  const indexes = await database.query<{ name: string; definition: string }>(
    '',
    `select c.relname as name, pg_get_indexdef(i.indexrelid) as definition
     from pg_index i join pg_class c on c.oid = i.indexrelid
     where i.indrelid = any($1::regclass[]) and not i.indisprimary`,
    [tables],
  );
  for (const { name } of indexes) await database.query('', `drop index ${name}`);
  await database.query(
    '',
    `create temporary table placement as
     select n, 'o-' || md5(n::text) as order_id,
       case when n % 2 = 0 then '${met.customer.half}' when n % 100 = 1 then '${met.customer.often}'
         else 'c-' || (n * 7919 % 20011) end as customer_id,
       timestamptz '${new Date(lastPlacedAt).toISOString()}' - ($1::bigint - n) * interval '1 minute' as placed_at,
       -- From 0 to a million, half of them below 5,000.
       (1000000 * power((n * 104729 % 1000003) / 1000003.0, 7.64))::bigint as total,
       case when n > $1::bigint - ${openOrders} then case when n % 3 = 0 then 'pending' else 'reserved' end
         when n % 33 = 5 then 'failed' when n % 50 = 7 then 'cancelled' else 'completed' end as status
     from generate_series(1, $1::bigint) n`,
    [orders],
  );
  await database.query(
    '',
    `insert into placed_orders (order_id, customer_id, placed_at, total, words)
     select order_id, customer_id, placed_at, total, array_to_tsvector(array_remove(array[
       order_id, 'o', 'b' || n, customer_id, 'ada', 'byron', '=${met.sku.everywhere}', 'sku-all', 'sku', 'all',
       'product-' || n * 31 % 3000, 'product', '=P-' || n * 31 % 3000, 'p-' || n * 31 % 3000,
       'product-' || n * 37 % 2000, '=P-' || n * 37 % 2000, 'p-' || n * 37 % 2000, 'blue', 'glass',
       '${met.word.everywhere}',
       case when n % 5 = 0 then '${met.word.often}' end,
       case when n * 7919 % 200 = 0 then '${met.word.sometimes}' end,
       case when n % 40000 = 17 then '${met.word.seldom}' end,
       case when n <= $1::bigint / 50 then '${met.word.oldest}' end,
       case when n % 2 = 0 then '${met.word.left}' else '${met.word.right}' end,
       case when n % 10 = 0 then '=${met.sku.often}' end,
       case when n % 60000 = 23 then '=${met.sku.seldom}' end
     ], null))
     from placement`,
    [orders],
  );
  await database.query(
    '',
    `insert into orders (order_id, version, customer_id, status, lines, units, total, currency, payment_status,
       payment_method, placed_at, updated_at)
     select order_id, 3, customer_id, status,
       format('[{"sku":"${met.sku.everywhere}",%1$s},{"sku":"P-%2$s",%1$s},{"sku":"P-%3$s",%1$s}]',
         format('"name":"Blue glass","quantity":1,"unitPrice":{"amount":%s,"currency":"EUR"}', total),
         n * 31 % 3000, n * 37 % 2000),
       3, total, 'EUR', 'captured', '"pm_ok"', placed_at, placed_at
     from placement`,
  );
  await database.query(
    '',
    `insert into unfulfilled_orders (order_id, status, customer_id, placed_at, total)
     select order_id, status, customer_id, placed_at, total from placement where status in ('failed', 'cancelled')`,
  );
  await database.query(
    '',
    `insert into open_orders (order_id, placed_at, total)
     select order_id, placed_at, total from placement where status in ('pending', 'reserved')`,
  );
  await database.query('', 'drop table placement');
  for (const { definition } of indexes) await database.query('', definition);
  for (const table of tables) await database.query('', `vacuum analyze ${table}`);
}

/** Fills the empty table; 1 in 1,000 is sold out, 1 in 2,000 is a unicorn. */
export async function fillProducts(database: Database, products: number): Promise<void> {
  await database.query(
    '',
    `insert into products (sku, version, catalogue, name_key, words, on_hand, reserved, stock_version)
     select 'P-' || n, 1, json_build_object('name', 'Thing ' || n, 'price',
         json_build_object('amount', n, 'currency', 'EUR'))::text,
       'thing ' || n, array_to_tsvector(array_remove(array['p-' || n, 'p', n::text, 'thing',
         case when n % 2000 = 999 then 'unicorn' end], null)),
       case when n % 1000 = 0 then 7 else 10 end, 7, 1
     from generate_series(1, $1::integer) n`,
    [products],
  );
  await database.query('', 'vacuum analyze products');
}

const orderSorts = ['-placedAt', 'placedAt', '-total', 'total'] as const;

/** Each mix of filters in each sort; `round` after round with other values, frequent and rare ones by turns. */
export function* mixedLists(round: number): Generator<OrderListQuery> {
  const { customer, sku, word, total } = met;
  const values = {
    customerId: Object.values(customer),
    status: ['completed', 'failed', 'pending', 'cancelled', 'reserved'],
    sku: Object.values(sku),
    placedFrom: [placedBefore(100_000), placedBefore(50), placedBefore(-1), placedBefore(1_000_000)],
    placedTo: [placedBefore(0), placedBefore(150_000), placedBefore(900_000), placedBefore(-2)],
    minTotal: Object.values(total),
    q: [...Object.values(word), `${word.left} ${word.right}`, `${word.often} ${word.seldom}`],
  };
  const names = Object.keys(values) as (keyof typeof values)[];
  let turn = round;
  for (let mix = 0; mix < 2 ** names.length; mix += 1) {
    for (const sort of orderSorts) {
      turn += 1;
      const chosen = names
        .filter((_, n) => (mix >> n) % 2 === 1)
        .map((name, n) => [name, values[name][(turn * (n + 3) + (turn >> (n + 2))) % values[name].length]] as const);
      const query: OrderListQuery = { sort, ...Object.fromEntries(chosen) };
      if (query.placedFrom !== undefined && query.placedTo !== undefined && query.placedFrom >= query.placedTo)
        continue;
      yield query;
    }
  }
}
