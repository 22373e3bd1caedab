/**
 * I10, of products: what the catalogue says, at the checkpoint of its snapshot; and stock, which no single stream holds.
 * The row at its checkpoint and the events from there to the head of inventory have to come to what inventory has stored.
 */
import { entityOf } from '#cqrs/event-log.ts';
import { memoryReadStore } from '#cqrs/memory-read-store.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { Row } from '#cqrs/read-store.ts';
import { readRows } from '#cqrs/table-rows.ts';
import type { Sql } from '#platform/postgres.ts';
import type { Check, Looked, Walk } from '../check.ts';
import { headOf, inSnapshot, readEvents, type WalkParts } from '../evidence.ts';
import { rowRepair } from '../repairs.ts';
import { differingRows } from '../rows.ts';
import { byCatalogue } from './by-catalogue.ts';
import { findingOf } from './read-rows.ts';
import { projectedRows } from './read-sums.ts';
import { isOther, lookIn, readShown, type Seen, type Shown } from './shown.ts';

const productCheck: Check = {
  name: 'read-product-is-sources',
  invariants: ['I10'],
  compares:
    'What is shown of a product is what the catalogue says, with the stock that inventory has, each at the place that the row has come to.',
  cost: 'One row of three databases, and the events that the row is behind: some 100 µs per product.',
  policy: 'automatic',
};

/** A row that is further behind inventory is compared another time. */
const eventsBehindMax = 5_000;

export type ProductRows = ReturnType<typeof productRows>;

type Stock = { readonly on_hand: number; readonly reserved: number; readonly stock_version: number };
const stockColumns = ['on_hand', 'reserved', 'stock_version'] as const;

export function productRows(parts: WalkParts, projections: readonly Projection[]) {
  const { databases, sourceOf } = parts;
  const projection = projections.find(({ name }) => name === 'products')!;
  const table = projection.tables[0]!;
  const checkpointOf = ({ checkpoints }: Shown, service: 'catalog' | 'inventory'): number =>
    checkpoints.get(`${projection.name}-of-${sourceOf(service)}`) ?? 0;

  async function compare(sql: Sql, skus: readonly string[]): Promise<Seen> {
    const shown = await readShown(sql);
    if (isOther(shown, projection)) return { shown, findings: [] };
    const found = await readRows(sql, table, 'sku = any($1)', [skus]);
    const [listed, stocked] = await Promise.all([listedRows(shown, skus), stockOf(shown, skus, found)]);
    const expected = skus.flatMap((sku): Row[] => {
      const row = listed.get(sku) ?? { sku, version: 0, catalogue: null, name_key: null, words: null };
      const shownStock = found.find((one) => one['sku'] === sku) as unknown as Stock | undefined;
      const stock = (stocked === null ? shownStock : stocked.get(sku)) ?? nothing;
      if (row['version'] === 0 && stockColumns.every((column) => stock[column] === 0)) return [];
      return [{ ...row, on_hand: stock.on_hand, reserved: stock.reserved, stock_version: stock.stock_version }];
    });
    const findings = differingRows(table, expected, found).map((one) => ({
      ...findingOf(table, one),
      check: productCheck.name,
    }));
    return { shown, findings };
  }

  /** The columns that the catalogue fills. */
  async function listedRows(shown: Shown, skus: readonly string[]): Promise<ReadonlyMap<string, Row>> {
    const events = await readEvents(
      databases.catalog,
      parts,
      'catalog',
      'stream = any($1) and position <= $2 order by position',
      [skus.map((sku) => `product-${sku}`), checkpointOf(shown, 'catalog')],
    );
    const passed = shown.passed.get(sourceOf('catalog'));
    const applied = events.filter(
      ({ position, unreadable }) => unreadable === undefined && passed?.has(position) !== true,
    );
    const rows = await projectedRows(projection, 'catalog', applied, table);
    return new Map(rows.map((row) => [row['sku'] as string, row]));
  }

  /** The columns of stock, as they should be where the rows are; null: they are too far behind to tell. */
  async function stockOf(
    shown: Shown,
    skus: readonly string[],
    found: readonly Row[],
  ): Promise<ReadonlyMap<string, Stock> | null> {
    const reached = checkpointOf(shown, 'inventory');
    const passed = [...(shown.passed.get(sourceOf('inventory')) ?? [])].filter((position) => position <= reached);
    const stored = await inSnapshot(databases.inventory, async (sql) => {
      const head = await headOf(sql);
      if (head - reached > eventsBehindMax) return null;
      const [states, tables, events] = await Promise.all([
        sql.query<{ stream: string; version: number; state: string }>(
          'audit states of stock',
          'select stream, version, state from streams where stream = any($1)',
          [skus.map((sku) => `stock-${sku}`)],
        ),
        sql.query<{ sku: string } & Stock>(
          'audit tables of stock',
          'select sku, version as stock_version, on_hand, reserved from stock where sku = any($1)',
          [skus],
        ),
        readEvents(
          sql,
          parts,
          'inventory',
          '(position > $1 and position <= $2) or position = any($3) order by position',
          [reached, head, passed],
        ),
      ]);
      return { states, tables, events };
    });
    if (stored === null) return null;
    const ahead = await rowsAhead(found, stored.events);
    const states = new Map(
      stored.states.map(({ stream, version, state }) => {
        const { onHand, reserved } = JSON.parse(state) as { onHand: number; reserved: number };
        return [entityOf(stream), { on_hand: onHand, reserved, stock_version: version }];
      }),
    );
    const tables = new Map(stored.tables.map(({ sku, ...stock }) => [sku, stock]));
    const rows = new Map(found.map((row) => [row['sku'] as string, row as unknown as Stock]));
    return new Map(
      skus.map((sku) => {
        const row = rows.get(sku) ?? nothing;
        const then = ahead.get(sku) ?? row;
        const [byState, byTable] = [states.get(sku) ?? nothing, tables.get(sku) ?? nothing];
        // Where the two are not the same the walk over stock finds it: a row is right that agrees with either.
        const right = stockColumns.every((column) => byTable[column] === then[column]) ? byTable : byState;
        const back = (column: keyof Stock): number => row[column] + right[column] - then[column];
        return [
          sku,
          { on_hand: back('on_hand'), reserved: back('reserved'), stock_version: back('stock_version') },
        ] as const;
      }),
    );
  }

  /** What the projection makes of the rows by `events`. */
  async function rowsAhead(
    found: readonly Row[],
    events: Awaited<ReturnType<typeof readEvents>>,
  ): Promise<ReadonlyMap<string, Stock>> {
    const store = memoryReadStore();
    const readable = events.filter(({ unreadable }) => unreadable === undefined);
    await store.apply([], async (rows) => {
      rows.put(table, found);
      if (readable.length > 0) await projection.apply('inventory', readable, rows);
    });
    return new Map(store.rowsOf(table).map((row) => [row['sku'] as string, row as unknown as Stock]));
  }

  return { projection, table, compare };
}

const nothing: Stock = { on_hand: 0, reserved: 0, stock_version: 0 };

export function readProductsWalk(parts: WalkParts, products: ProductRows): Walk {
  const { databases } = parts;

  const lookAtProducts = (skus: readonly string[]): Promise<Looked> =>
    lookIn(databases.queries, [products.projection], (sql) => products.compare(sql, skus));

  return {
    name: 'read-products',
    checks: [productCheck],

    ...byCatalogue({
      catalog: databases.catalog,
      others: { database: databases.queries, table: products.table.name },
      lookAtProducts,
    }),

    async lookAt(entity) {
      return (await lookAtProducts([skuIn(entity)])).findings;
    },

    ...rowRepair(
      parts,
      [products.table],
      async (sql, entity) => (await products.compare(sql, [skuIn(entity)])).findings,
    ),
  };
}

/** `queries/products/<sku>`. */
const skuIn = (entity: string): string => entity.split('/')[2] ?? '';
