/** Compares the rows of a read model with those rebuilt beside it: by hash in ranges of keys, and those that differ by value. */
import type { Sql } from '#platform/postgres.ts';
import type { ReadTable } from './read-store.ts';

/** A row that is not what its events come to. `live` or `rebuilt` is null where there is none. */
export type RowDifference = {
  readonly table: string;
  readonly key: readonly string[];
  readonly live: Readonly<Record<string, unknown>> | null;
  readonly rebuilt: Readonly<Record<string, unknown>> | null;
};

export type Range = {
  /** Rows on either side. */
  readonly rows: number;
  /** The keys whose rows differ. */
  readonly differing: readonly (readonly string[])[];
  /** The last key of the range; null: it was the last one. */
  readonly upTo: readonly string[] | null;
};

/** Compares about `rowsMax` rows after the key `after`; null: from the first. */
export async function compareRange(
  sql: Sql,
  table: ReadTable,
  after: readonly string[] | null,
  rowsMax: number,
): Promise<Range> {
  const keys = table.key.join();
  const lower = after === null ? 'true' : `(${keys}) > (${table.key.map((_, n) => `$${n + 1}`).join()})`;
  const [bound] = await sql.query<Record<string, string>>(
    `bound of ${table.name}${after === null ? ' first' : ''}`,
    `select ${keys} from rebuild.${table.name} where ${lower}
     order by ${keys} offset $${(after?.length ?? 0) + 1}::integer limit 1`,
    [...(after ?? []), rowsMax - 1],
  );
  const upTo = bound === undefined ? null : table.key.map((column) => bound[column]!);
  const values = [...(after ?? []), ...(upTo ?? [])];
  const first = after?.length ?? 0;
  const upper = upTo === null ? 'true' : `(${keys}) <= (${table.key.map((_, n) => `$${first + n + 1}`).join()})`;
  const side = (schema: string): string =>
    `select ${keys}, hashtextextended(row(${Object.keys(table.columns).join()})::text, 0) as hash
     from ${schema}.${table.name} where ${lower} and ${upper}`;
  const [found] = await sql.query<{ rows: number; differing: string | null }>(
    `compare ${table.name}${after === null ? ' first' : ''}${upTo === null ? ' last' : ''}`,
    `select count(*) as rows,
       json_agg(json_build_array(${keys})) filter (where l.hash is distinct from r.hash) as differing
     from (${side('public')}) as l full join (${side('rebuild')}) as r using (${keys})`,
    values,
  );
  const differing = found!.differing === null ? [] : (JSON.parse(found!.differing) as string[][]);
  return { rows: found!.rows, differing, upTo };
}

/** Those of `keys` whose rows still differ, up to `listedMax` of them with their values, and how many they are. */
export async function compareKeys(
  sql: Sql,
  table: ReadTable,
  keys: readonly (readonly string[])[],
  listedMax: number,
): Promise<{ readonly count: number; readonly listed: readonly RowDifference[] }> {
  const key = table.key.join();
  const columns = (side: string): string =>
    Object.keys(table.columns)
      .map((column) => `${side}.${column}`)
      .join();
  const rows = await sql.query<{ key: string; live: string | null; rebuilt: string | null; count: number }>(
    `compare keys of ${table.name}`,
    `select json_build_array(${key}) as key, count(*) over () as count,
       case when l.${table.key[0]!} is not null then row_to_json(l) end as live,
       case when r.${table.key[0]!} is not null then row_to_json(r) end as rebuilt
     from unnest(${table.key.map((_, n) => `$${n + 1}::text[]`).join()}) as k (${key})
     left join public.${table.name} l using (${key}) left join rebuild.${table.name} r using (${key})
     where (${columns('l')}) is distinct from (${columns('r')})
     order by ${key} limit $${table.key.length + 1}`,
    [...table.key.map((_, n) => keys.map((one) => one[n])), listedMax],
  );
  const parsed = (text: string | null): RowDifference['live'] => (text === null ? null : JSON.parse(text));
  return {
    count: rows[0]?.count ?? 0,
    listed: rows.map((row) => ({
      table: table.name,
      key: JSON.parse(row.key) as string[],
      live: parsed(row.live),
      rebuilt: parsed(row.rebuilt),
    })),
  };
}
