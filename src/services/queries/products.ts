/** The read model `products`: the catalogue with what is available of it. */
import type { CatalogEvent } from '#contracts/catalog.ts';
import { ProductList, ProductListQuery, ProductView, SkuParams } from '#contracts/http.ts';
import type { InventoryEvent } from '#contracts/inventory.ts';
import type { QueryAnswer, QueryRequest } from '#contracts/routes.ts';
import type { RecordedEvent } from '#cqrs/event-log.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { Database, Sql } from '#platform/postgres.ts';
import { cursorsOf, emptyPage, limitDefault, listRows, malformedCursor, pageBytes } from './listing.ts';
import type { ReadModel } from './read-model.ts';
import type { Resource, ResourceCache } from './resource-cache.ts';
import { lexemes, wordsOf, wordsQuery } from './search-words.ts';

/** Names are sorted by this much of them, so that a cursor stays below its 1,024 characters. */
const nameKeyLengthMax = 100;

export function productsReadModel(database: Database, cache: ResourceCache): ReadModel {
  return {
    projection: productsProjection(cache),
    queries: [
      {
        method: 'GET',
        url: '/v1/products/:sku',
        summary: 'One product, with its availability',
        audience: 'customer',
        tag: 'products',
        params: SkuParams,
        answers: { 200: ProductView },
        async read({ params: { sku } }: QueryRequest<SkuParams>) {
          const product = await cache.read(cacheKey(sku), async () => (await readProducts(database, [sku])).get(sku));
          return product ?? { refused: { code: 'product-not-found', detail: `There is no product ${sku}.` } };
        },
      },
      {
        method: 'GET',
        url: '/v1/products',
        summary: 'Products by words and availability',
        audience: 'customer',
        tag: 'products',
        query: ProductListQuery,
        answers: { 200: ProductList },
        read: ({ query }: QueryRequest<object, ProductListQuery>) => listProducts(database, query),
      },
    ],
  };
}

function productsProjection(cache: ResourceCache): Projection {
  return {
    name: 'products',
    services: ['catalog', 'inventory'],
    async apply(service, events, sql) {
      const changed =
        service === 'catalog'
          ? await writeCatalogue(events as readonly RecordedEvent<CatalogEvent>[], sql)
          : await moveStock(events as readonly RecordedEvent<InventoryEvent>[], sql);
      const kept = changed.filter((sku) => cache.peek(cacheKey(sku)));
      const now = kept.length > 0 ? await readProducts(sql, kept) : new Map<string, Resource>();
      return () => {
        for (const sku of changed) cache.refresh(cacheKey(sku), now.get(sku));
      };
    },
  };
}

async function writeCatalogue(events: readonly RecordedEvent<CatalogEvent>[], sql: Sql): Promise<string[]> {
  const latest = new Map(events.map((event) => [event.data.sku, event]));
  const rows = [...latest.values()].sort((a, b) => (a.data.sku < b.data.sku ? -1 : 1));
  if (rows.length === 0) return [];
  await sql.query(
    'write catalogue of products',
    `insert into products (sku, version, name_key, catalogue, words)
     select sku, version, name_key, catalogue, array_to_tsvector(string_to_array(words, ' '))
     from unnest($1::text[], $2::integer[], $3::text[], string_to_array($4, E'\\n'), string_to_array($5, E'\\n'))
       as changed (sku, version, name_key, catalogue, words)
     on conflict (sku) do update
       set version = excluded.version, name_key = excluded.name_key, catalogue = excluded.catalogue, words = excluded.words
       where products.version < excluded.version`,
    [
      rows.map(({ data }) => data.sku),
      rows.map(({ version }) => version),
      rows.map(({ data }) => nameKey(data.name)),
      rows.map(({ data: { name, description, price } }) => JSON.stringify({ name, description, price })).join('\n'),
      rows
        .map(({ data }) => lexemes([...wordsOf(data.sku), ...wordsOf(data.name), ...wordsOf(data.description ?? '')]))
        .join('\n'),
    ],
  );
  return rows.map(({ data }) => data.sku);
}

type Movement = { onHand: number; reserved: number; events: number };

/** Adds up the batch per product. The checkpoint makes sure that each event is added once. */
async function moveStock(events: readonly RecordedEvent<InventoryEvent>[], sql: Sql): Promise<string[]> {
  const movements = new Map<string, Movement>();
  for (const event of events) {
    const counted = new Set<string>();
    for (const { sku, onHand, reserved } of movesOf(event)) {
      const movement = movements.get(sku) ?? { onHand: 0, reserved: 0, events: 0 };
      movement.onHand += onHand;
      movement.reserved += reserved;
      if (!counted.has(sku)) movement.events += 1;
      counted.add(sku);
      movements.set(sku, movement);
    }
  }
  if (movements.size === 0) return [];
  const rows = [...movements].sort(([a], [b]) => (a < b ? -1 : 1));
  await sql.query(
    'move stock of products',
    `insert into products (sku, on_hand, reserved, stock_version)
     select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])
     on conflict (sku) do update
       set on_hand = products.on_hand + excluded.on_hand,
         reserved = products.reserved + excluded.reserved,
         stock_version = products.stock_version + excluded.stock_version`,
    [
      rows.map(([sku]) => sku),
      rows.map(([, { onHand }]) => onHand),
      rows.map(([, { reserved }]) => reserved),
      rows.map(([, movement]) => movement.events),
    ],
  );
  return rows.map(([sku]) => sku);
}

function movesOf(event: InventoryEvent): { sku: string; onHand: number; reserved: number }[] {
  switch (event.type) {
    case 'StockAdjusted':
      return [{ sku: event.data.sku, onHand: event.data.quantity, reserved: 0 }];
    case 'StockReserved':
      return event.data.lines.map(({ sku, quantity }) => ({ sku, onHand: 0, reserved: quantity }));
    case 'StockReleased':
      return event.data.lines.map(({ sku, quantity }) => ({ sku, onHand: 0, reserved: -quantity }));
    case 'StockShipped':
      return event.data.lines.map(({ sku, quantity }) => ({ sku, onHand: -quantity, reserved: -quantity }));
    case 'ProductListed':
    case 'StockRejected':
    case 'ReservationExpired':
    case 'ReservationBarred':
      return [];
  }
}

type ProductRow = {
  readonly sku: string;
  readonly version: number;
  /** JSON text of name, description and price. */
  readonly catalogue: string;
  readonly on_hand: number;
  readonly reserved: number;
  readonly stock_version: number;
};

const cacheKey = (sku: string): string => `product/${sku}`;

/** Those of `skus` that the catalogue has. */
async function readProducts(sql: Sql, skus: readonly string[]): Promise<Map<string, Resource>> {
  const rows = await sql.query<ProductRow>(
    'read products',
    'select sku, version, catalogue, on_hand, reserved, stock_version from products where sku = any($1) and catalogue is not null',
    [skus],
  );
  return new Map(
    rows.map((row) => [
      row.sku,
      {
        bytes: Buffer.from(viewText(row)),
        etag: row.stock_version === 0 ? String(row.version) : `${row.version}.${row.stock_version}`,
        revision: row.version + row.stock_version,
      },
    ]),
  );
}

function viewText({ sku, version, catalogue, on_hand: onHand, reserved }: ProductRow): string {
  const { name, description, price } = JSON.parse(catalogue) as Pick<ProductView, 'name' | 'description' | 'price'>;
  const view: ProductView = {
    sku,
    name,
    ...(description === undefined ? {} : { description }),
    price,
    availability: { onHand, reserved, available: onHand - reserved },
    version,
  };
  return JSON.stringify(view);
}

const orderings = {
  sku: { column: 'sku', direction: 'asc', beyond: '>' },
  '-sku': { column: 'sku', direction: 'desc', beyond: '<' },
  name: { column: 'name_key', direction: 'asc', beyond: '>' },
  '-name': { column: 'name_key', direction: 'desc', beyond: '<' },
} as const;

async function listProducts(database: Database, query: ProductListQuery): Promise<QueryAnswer> {
  const { q, inStock = null, sort = 'sku', limit = limitDefault } = query;
  const { column, direction, beyond } = orderings[sort];
  const cursors = cursorsOf(['products', q ?? null, inStock, sort], isKey);
  const after = cursors.read(query.cursor);
  if (after === 'malformed') return malformedCursor;
  const words = q === undefined ? null : wordsQuery(q);
  if (q !== undefined && words === null) return { bytes: emptyPage };
  const found = await listRows<ProductRow & { key: string }>(
    database,
    `list products by ${sort}`,
    `select sku, version, catalogue, on_hand, reserved, stock_version, ${column} as key
     from products
     where catalogue is not null
       and ($1::boolean is null or (on_hand > reserved) = $1)
       and ($2::tsquery is null or words @@ $2)
       and ($3::text is null or (${column}, sku) ${beyond} ($3 collate "C", $4 collate "C"))
     order by ${column} ${direction}, sku ${direction}
     limit $5`,
    [inStock, words, after?.key ?? null, after?.id ?? null, limit + 1],
  );
  if ('refused' in found) return found;
  return { bytes: pageBytes(found.rows, limit, viewText, ({ key, sku }) => ({ key, id: sku }), cursors) };
}

/** What PostgreSQL can store and compare: no control characters, no half characters. */
const nameKey = (name: string): string =>
  name.normalize('NFKC').toLowerCase().replace(/\p{C}/gu, '').slice(0, nameKeyLengthMax).toWellFormed();

const isKey = (key: unknown): boolean =>
  typeof key === 'string' && key.length <= nameKeyLengthMax && !/\p{C}/u.test(key);
