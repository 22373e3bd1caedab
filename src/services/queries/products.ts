/** The read model `products`: the catalogue with what is available of it. */
import type { CatalogEvent } from '#contracts/catalog.ts';
import { ProductList, ProductListQuery, ProductView, SkuParams } from '#contracts/http.ts';
import type { InventoryEvent } from '#contracts/inventory.ts';
import type { QueryAnswer, QueryRequest } from '#contracts/routes.ts';
import type { RecordedEvent } from '#cqrs/event-log.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { ReadTable, Rows } from '#cqrs/read-store.ts';
import type { Database } from '#platform/postgres.ts';
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
        streams: ({ sku }: SkuParams) => [`product-${sku}`, `stock-${sku}`],
        answers: { 200: ProductView },
        async read({ params: { sku } }: QueryRequest<SkuParams>) {
          const product = await cache.read(cacheKey(sku), () => readProduct(database, sku));
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

type ProductRow = {
  readonly sku: string;
  readonly version: number;
  /** JSON text of name, description and price; null: there is stock, but the product is not known yet. */
  readonly catalogue: string | null;
  readonly name_key: string | null;
  readonly words: readonly string[] | null;
  readonly on_hand: number;
  readonly reserved: number;
  /** How many inventory events have moved the stock. */
  readonly stock_version: number;
};

const productsTable: ReadTable<ProductRow> = {
  name: 'products',
  key: ['sku'],
  columns: {
    sku: 'text',
    version: 'integer',
    catalogue: 'json',
    name_key: 'text',
    words: 'words',
    on_hand: 'bigint',
    reserved: 'bigint',
    stock_version: 'bigint',
  },
  defaults: { version: 0, on_hand: 0, reserved: 0, stock_version: 0 },
  version: 'version',
};

/** Catalog and inventory fill columns of their own, in whatever order they come. */
function productsProjection(cache: ResourceCache): Projection {
  return {
    name: 'products',
    version: 1,
    services: ['catalog', 'inventory'],
    tables: [productsTable],
    async apply(service, events, rows) {
      const changed =
        service === 'catalog'
          ? putCatalogue(events as readonly RecordedEvent<CatalogEvent>[], rows)
          : await moveStock(events as readonly RecordedEvent<InventoryEvent>[], rows);
      return (committed) => {
        for (const sku of changed) {
          cache.refresh(cacheKey(sku), () => {
            const row = committed(productsTable, [sku]);
            return row && resourceOf(row);
          });
        }
      };
    },
  };
}

function putCatalogue(events: readonly RecordedEvent<CatalogEvent>[], rows: Rows): Iterable<string> {
  const latest = new Map(events.map((event) => [event.data.sku, event]));
  rows.put(
    productsTable,
    [...latest.values()].map(({ version, data: { sku, name, description, price } }) => ({
      sku,
      version,
      name_key: nameKey(name),
      catalogue: JSON.stringify({ name, description, price }),
      words: lexemes([...wordsOf(sku), ...wordsOf(name), ...wordsOf(description ?? '')]),
    })),
    ['version', 'name_key', 'catalogue', 'words'],
  );
  return latest.keys();
}

type Stock = Pick<ProductRow, 'sku' | 'on_hand' | 'reserved' | 'stock_version'>;

/** Adds up the batch per product. The checkpoint makes sure that each event is added once. */
async function moveStock(events: readonly RecordedEvent<InventoryEvent>[], rows: Rows): Promise<Iterable<string>> {
  const moves = events.map(movesOf);
  const skus = new Set(moves.flatMap((ofEvent) => ofEvent.map(({ sku }) => sku)));
  if (skus.size === 0) return [];
  const before = await rows.load(
    productsTable,
    [...skus].map((sku) => [sku]),
  );
  const now = new Map<string, Stock>();
  for (const ofEvent of moves) {
    const counted = new Set<string>();
    for (const { sku, onHand, reserved } of ofEvent) {
      const stock = now.get(sku) ?? before.get(sku) ?? { on_hand: 0, reserved: 0, stock_version: 0 };
      now.set(sku, {
        sku,
        on_hand: stock.on_hand + onHand,
        reserved: stock.reserved + reserved,
        stock_version: stock.stock_version + (counted.has(sku) ? 0 : 1),
      });
      counted.add(sku);
    }
  }
  rows.put(productsTable, [...now.values()], ['on_hand', 'reserved', 'stock_version']);
  return skus;
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

type ShownRow = Omit<ProductRow, 'words' | 'name_key'>;

const cacheKey = (sku: string): string => `product/${sku}`;

async function readProduct(database: Database, sku: string): Promise<Resource | undefined> {
  const [row] = await database.query<ShownRow>(
    'read product',
    'select sku, version, catalogue, on_hand, reserved, stock_version from products where sku = $1',
    [sku],
  );
  return row && resourceOf(row);
}

/** Undefined: not in the catalogue. */
const resourceOf = (row: ShownRow): Resource | undefined =>
  row.catalogue === null
    ? undefined
    : {
        bytes: Buffer.from(viewText(row)),
        etag: row.stock_version === 0 ? String(row.version) : `${row.version}.${row.stock_version}`,
        revision: row.version,
        revisionBeside: row.stock_version,
      };

function viewText({ sku, version, catalogue, on_hand: onHand, reserved }: ShownRow): string {
  const { name, description, price } = JSON.parse(catalogue!) as Pick<ProductView, 'name' | 'description' | 'price'>;
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
  const found = await listRows<ShownRow & { key: string }>(
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
