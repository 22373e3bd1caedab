/** The read model `products`: the catalogue with what is available of it. */
import type { CatalogEvent } from '#contracts/catalog.ts';
import { ProductList, ProductListQuery, ProductView, SkuParams } from '#contracts/http.ts';
import type { InventoryEvent } from '#contracts/inventory.ts';
import type { QueryAnswer, QueryRequest } from '#contracts/routes.ts';
import type { RecordedEvent } from '#cqrs/event-log.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { ReadTable, Rows } from '#cqrs/read-store.ts';
import { type ShownRow, shownColumn } from '#cqrs/shown-positions.ts';
import type { Sql } from '#platform/postgres.ts';
import type { Applied } from './applied.ts';
import {
  cursorsOf,
  emptyPage,
  itemTexts,
  limitDefault,
  type ListReads,
  type ListStatements,
  malformedCursor,
  readPage,
} from './listing.ts';
import { ordersWithout } from './parked-streams.ts';
import { type ReadModel, whenThere } from './read-model.ts';
import { AppliedResource, type ReadResource, type Resource, type ResourceCache } from './resource-cache.ts';
import { lexemes, soughtWords, tsqueryOf, wordsOf } from './search-words.ts';

/** Names are sorted by this much of them, so that a cursor stays below its 1,024 characters. */
const nameKeyLengthMax = 100;

export function productsReadModel(
  lists: ListReads,
  /** For single rows that are read by their keys. */
  single: Sql,
  cache: ResourceCache,
  applied: Applied,
): ReadModel {
  const readIt = async (sku: string): Promise<ReadResource | undefined> => {
    const [row] = await readProducts(single, [sku]);
    const resource = row && resourceOf(row);
    return resource && { resource, shows: applied.positionsIn([row]) };
  };

  return {
    projection: productsProjection(cache),
    resources: { [cacheKey('')]: readIt },
    queries: [
      {
        method: 'GET',
        url: '/v1/products/:sku',
        summary: 'One product, with its availability',
        audience: 'customer',
        tag: 'products',
        params: SkuParams,
        shows: ({ params: { sku } }: QueryRequest<SkuParams>) => ({
          streams: [`product-${sku}`, `stock-${sku}`],
          types: ['reservation'],
          elsewhere: ordersWithout(lists.database, sku),
        }),
        answers: { 200: ProductView },
        kept: (sku) => cache.kept(cacheKey(sku)),
        read: ({ params: { sku }, underToken }: QueryRequest<SkuParams>) =>
          whenThere(
            cache.read(cacheKey(sku), () => readIt(sku), underToken === false),
            (product): QueryAnswer =>
              product ?? { refused: { code: 'product-not-found', detail: `There is no product ${sku}.` } },
          ),
      },
      {
        method: 'GET',
        url: '/v1/products',
        searches: true,
        summary: 'Products by words and availability',
        audience: 'customer',
        tag: 'products',
        query: ProductListQuery,
        shows: () => ({ types: ['product', 'stock', 'reservation'] }),
        answers: { 200: ProductList },
        read: ({ query }: QueryRequest<object, ProductListQuery>) => listProducts(lists, cache, applied, query),
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

type ViewRow = Omit<ProductRow, 'words' | 'name_key'>;

const cacheKey = (sku: string): string => `product/${sku}`;

const readProducts = (database: Sql, skus: readonly string[]): Promise<(ViewRow & ShownRow)[]> =>
  database.query(
    'read products',
    `select sku, version, catalogue, on_hand, reserved, stock_version, ${shownColumn} from products where sku = any($1)`,
    [skus],
  );

const isInStock = ({ on_hand: onHand, reserved }: ViewRow): boolean => onHand > reserved;

/** A product whose stock is known before anybody asks for its bytes. */
class StockedResource extends AppliedResource {
  readonly isInStock: boolean;

  constructor(row: ViewRow, catalogue: string) {
    super(() => viewText(row), {
      bytesMax: Buffer.byteLength(catalogue) + row.sku.length + numbersBytesMax,
      etag: row.stock_version === 0 ? String(row.version) : `${row.version}.${row.stock_version}`,
      revision: row.version,
      revisionBeside: row.stock_version,
    });
    this.isInStock = isInStock(row);
  }
}

/** Undefined: not in the catalogue. */
const resourceOf = (row: ViewRow): Resource | undefined =>
  row.catalogue === null ? undefined : new StockedResource(row, row.catalogue);

/** Availability and version, with their names. */
const numbersBytesMax = 160;

/** A `ProductView`: `catalogue` is the part of it that has name, description and price, in this order. */
const viewText = ({ sku, version, catalogue, on_hand: onHand, reserved }: ViewRow): string =>
  `{"sku":${JSON.stringify(sku)},${catalogue!.slice(1, -1)},"availability":{"onHand":${onHand},"reserved":${reserved},"available":${onHand - reserved}},"version":${version}}`;

/** Beyond `start` is everything: the last character of Unicode is in no name. */
const ascending = { direction: 'asc', beyond: '>', start: `''` } as const;
const descending = { direction: 'desc', beyond: '<', start: `U&'\\+10FFFF'` } as const;
const orderings = {
  sku: { column: 'sku', ...ascending },
  '-sku': { column: 'sku', ...descending },
  name: { column: 'name_key', ...ascending },
  '-name': { column: 'name_key', ...descending },
} as const;

async function listProducts(
  reads: ListReads,
  cache: ResourceCache,
  applied: Applied,
  query: ProductListQuery,
): Promise<QueryAnswer> {
  const { q, inStock = null, sort = 'sku', limit = limitDefault } = query;
  const cursors = cursorsOf(['products', q ?? null, inStock, sort], isKey);
  const after = cursors.read(query.cursor);
  if (after === 'malformed') return malformedCursor;
  const words = q === undefined ? [] : soughtWords(q);
  if (q !== undefined && words.length === 0) return { bytes: emptyPage };
  return readPage(reads, statementsOf(sort), {
    filters: [inStock, words.length === 0 ? null : tsqueryOf(words)],
    isServedByIndex: inStock === null && words.length === 0,
    words,
    after,
    limit,
    itemsOf: (skus) =>
      itemTexts(
        skus,
        (sku) => {
          const kept = cache.peek(cacheKey(sku));
          const isWanted = inStock === null || (kept instanceof StockedResource && kept.isInStock === inStock);
          return isWanted ? kept?.bytes : undefined;
        },
        async (missing) => {
          const rows = await readProducts(reads.plannedOnce, missing);
          const isAhead = ({ sku, version, stock_version }: ViewRow): boolean =>
            cache.isBehind(cacheKey(sku), { revision: version, revisionBeside: stock_version });
          // What is answered next is not older than what the list shows.
          if (rows.some(isAhead)) await applied.includes(applied.positionsIn(rows));
          return (
            rows
              // What has changed since it was found is not what is asked for any more.
              .filter((row) => inStock === null || isInStock(row) === inStock)
              .map((row) => [row.sku, viewText(row)])
          );
        },
      ),
    cursors,
  });
}

/** Parameters: in stock or not, words; then what `ListStatements` says. */
function statementsOf(sort: keyof typeof orderings): ListStatements {
  const { column, direction, beyond, start } = orderings[sort];
  // Rows of stock whose product is not known yet have no name and are in no index of names.
  const indexed = `${column === 'name_key' ? 'catalogue is not null and' : ''}
    (${column}, sku) ${beyond} (coalesce($3, ${start}) collate "C", coalesce($4, '') collate "C")`;
  const inRow = 'catalogue is not null and ($1::boolean is null or (on_hand > reserved) = $1)';
  const wanted = '($2::tsquery is null or words @@ $2)';
  const entry = `sku as id, ${column} as key`;
  // A column that is there twice is in order once: by both, what has been walked would be sorted, all of it.
  const inOrder = `order by ${column === 'sku' ? '' : `key ${direction}, `}id ${direction}`;
  const given = 'given as (select $1::boolean, $2::tsquery, $6::bigint)';
  return {
    name: `products by ${sort}`,
    wordsTable: 'products',
    read: `
      with ${given}
      select ${entry}, 1 as found from products where ${indexed} and catalogue is not null
      order by ${column} ${direction}, sku ${direction} limit $5`,
    walk: `
      with w as materialized (
        select ${entry}, ${inRow} and ${wanted} as fits from products where ${indexed}
        order by ${column} ${direction}, sku ${direction} limit $6
      )
      select * from (
        (select id, key, 1 as found from w where fits ${inOrder} limit $5)
        union all
        (select id, key, 0 from w offset $6::bigint - 1 limit 1)
      ) either limit $5`,
    search: `
      select id, key, count(*) over () as found from (
        select ${entry} from products where ${indexed} and ${inRow} and (${wanted}) is true limit $6
      ) c ${inOrder} limit $5`,
    searchWords: `
      with wording as materialized (
        select ${entry}, ${indexed} and ${inRow} and ${wanted} as fits from products where words @@ $7::tsquery limit $6
      )
      select page.*, n.found from (select count(*) as found from wording) n
      left join (select id, key from wording where fits ${inOrder} limit $5) page on true ${inOrder}`,
  };
}

/** What PostgreSQL can store and compare: no control characters, no half characters. */
const nameKey = (name: string): string =>
  name.normalize('NFKC').toLowerCase().replace(/\p{C}/gu, '').slice(0, nameKeyLengthMax).toWellFormed();

const isKey = (key: unknown): boolean =>
  typeof key === 'string' && key.length <= nameKeyLengthMax && !/\p{C}/u.test(key);
