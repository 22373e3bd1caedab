/** How walks go over products: over those of the catalogue first, then over names that others have and it does not. */
import { entityOf } from '#cqrs/event-log.ts';
import type { Database } from '#platform/postgres.ts';
import type { Looked, Piece, Walk } from '../check.ts';
import { typeOf } from '../evidence.ts';
import { inTurns } from './shown.ts';

export type ByCatalogue = {
  readonly catalog: Database;
  /** Where other names may be: a table that has products by `sku`. */
  readonly others: { readonly database: Database; readonly table: string };
  /** Looks at so many products at the most. */
  lookAtProducts(skus: readonly string[]): Promise<Looked>;
};

const productsPerSnapshotMax = 500;
/** Names only. */
const namesPerPieceMax = 5_000;

export function byCatalogue({ catalog, others, lookAtProducts }: ByCatalogue): Pick<Walk, 'size' | 'look'> {
  const lookAtAll = (skus: readonly string[]): Promise<Looked> => inTurns(skus, productsPerSnapshotMax, lookAtProducts);

  async function lookAtListed(after: string, max: number): Promise<Piece> {
    const rows = await catalog.query<{ stream: string }>(
      'audit streams after',
      'select stream from streams where stream > $1 order by stream limit $2',
      [after, max],
    );
    const skus = rows.flatMap(({ stream }) => (typeOf(stream) === 'product' ? [entityOf(stream)] : []));
    const next = rows.length < max ? cursorOf('others', '') : cursorOf('listed', rows.at(-1)!.stream);
    return { looked: rows.length, ...(await lookAtAll(skus)), next };
  }

  async function lookAtOthers(after: string): Promise<Piece> {
    const rows = await others.database.query<{ sku: string }>(
      `audit skus of ${others.table}`,
      `select sku from ${others.table} where sku > $1 order by sku limit $2`,
      [after, namesPerPieceMax],
    );
    const unknown = await catalog.query<{ sku: string }>(
      'audit products that are not there',
      `select sku from unnest($1::text[]) as n (sku) where not exists (select from streams where stream = 'product-' || sku)`,
      [rows.map(({ sku }) => sku)],
    );
    const last = rows.at(-1);
    return {
      looked: 0,
      ...(await lookAtAll(unknown.map(({ sku }) => sku))),
      next: last === undefined ? null : cursorOf('others', last.sku),
    };
  }

  return {
    async size() {
      const [row] = await catalog.query<{ size: number }>(
        'audit size of streams',
        `select greatest(reltuples, 0)::bigint as size from pg_class where oid = 'streams'::regclass`,
      );
      return row?.size ?? 0;
    },

    look(after, entitiesMax) {
      const [way, place] = after === null ? (['listed', ''] as const) : (JSON.parse(after) as [Way, string]);
      return way === 'listed'
        ? lookAtListed(place, Math.min(entitiesMax, productsPerSnapshotMax))
        : lookAtOthers(place);
    },
  };
}

type Way = 'listed' | 'others';

const cursorOf = (way: Way, place: string): string => JSON.stringify([way, place]);
