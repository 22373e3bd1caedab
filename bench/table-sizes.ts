/** The tables of a running system as PostgreSQL counts them: how large, how many rows, and what vacuum has done. */
import { type Database, openDatabase } from '#platform/postgres.ts';
import type { Ending } from '../tests/running-program.ts';

export type TableSize = {
  /** With its database: `ordering.events`. */
  readonly name: string;
  /** With its indexes. */
  readonly bytes: number;
  /** As PostgreSQL estimates them. */
  readonly rows: number;
  readonly deadRows: number;
  /** Automatic ones, since the beginning. */
  readonly vacuums: number;
};

export type TableSizes = {
  /** Of all that have ever had a row, by name. */
  read(): Promise<readonly TableSize[]>;
  /** Bytes of WAL written so far, by all databases together. */
  wal(): Promise<number>;
};

/** `urls` by the names of their databases, all of one server. */
export function openTableSizes(ending: Ending, urls: Readonly<Record<string, string>>): TableSizes {
  const databases = Object.entries(urls).map(
    ([owner, url]) => [owner, openDatabase(url, { applicationName: 'bench', poolMax: 1 })] as const,
  );
  ending.after(() => Promise.all(databases.map(([, database]) => database.end())));
  const sizesOf = async ([owner, database]: readonly [string, Database]): Promise<readonly TableSize[]> => {
    const rows = await database.query<TableSize>('sizes', sizesSql);
    return rows.map((row) => ({ ...row, name: `${owner}.${row.name}` }));
  };
  return {
    read: async () => (await Promise.all(databases.map(sizesOf))).flat(),
    async wal() {
      const [row] = await databases[0]![1].query<{ bytes: number }>(
        'wal',
        `select (pg_current_wal_insert_lsn() - '0/0')::bigint as bytes`,
      );
      return row!.bytes;
    },
  };
}

const sizesSql = `
  select case schemaname when 'public' then '' else schemaname || '.' end || relname as name,
    pg_total_relation_size(relid) as bytes, n_live_tup as rows, n_dead_tup as "deadRows", autovacuum_count as vacuums
  from pg_stat_user_tables where n_tup_ins > 0 order by schemaname, relname`;

export type Grown = TableSize & {
  /** What it would have if each row took what it took before. */
  readonly explainedBytes: number;
};

/** A page here or there says nothing. */
const [beyondRatio, beyondBytes] = [1.2, 1_048_576];

/** Those that have become larger than their rows explain; a table that is not in `before` has nothing to be compared with. */
export function grownBeyondRows(before: readonly TableSize[], after: readonly TableSize[]): readonly Grown[] {
  const earlier = new Map(before.map((table) => [table.name, table]));
  return after.flatMap((table) => {
    const then = earlier.get(table.name);
    if (then === undefined) return [];
    const explainedBytes = then.bytes * Math.max(1, table.rows / Math.max(1, then.rows));
    return table.bytes > explainedBytes * beyondRatio + beyondBytes ? [{ ...table, explainedBytes }] : [];
  });
}
