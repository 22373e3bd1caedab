/**
 * The tables of read models in three schemas: `public` answers, `rebuild` is being made beside it, and
 * `previous` is what answered before. A table moves between them whole, with its indexes.
 */
import type { Sql } from '#platform/postgres.ts';
import type { ReadTable } from './read-store.ts';

export const schemas = { live: 'public', beside: 'rebuild', previous: 'previous' } as const;

/** Empty tables in `rebuild`, as `public` has them, with their primary keys only: other indexes are quicker made at once. */
export async function createBeside(sql: Sql, tables: readonly ReadTable[]): Promise<void> {
  await run(sql, 'drop schema if exists rebuild cascade');
  await run(sql, 'create schema rebuild');
  for (const table of ['checkpoints', 'parked_messages', ...tables.map(({ name }) => name)]) {
    const [row] = await sql.query<{ options: string }>(
      'options of a table',
      `select coalesce(' with (' || array_to_string(reloptions, ', ') || ')', '') as options
       from pg_class where oid = ('public.' || quote_ident($1))::regclass`,
      [table],
    );
    await run(
      sql,
      `create table rebuild.${table} (like public.${table} including all excluding indexes)${row!.options}`,
    );
    const keys = await sql.query<{ name: string; definition: string }>(
      'keys of a table',
      `select conname as name, pg_get_constraintdef(oid) as definition from pg_constraint
       where conrelid = ('public.' || quote_ident($1))::regclass and contype in ('p', 'u')`,
      [table],
    );
    for (const { name, definition } of keys)
      await run(sql, `alter table rebuild.${table} add constraint ${name} ${definition}`);
  }
}

/** The other indexes, under the names that they have in `public`; then what the planner wants to know. */
export async function indexBeside(sql: Sql, tables: readonly ReadTable[]): Promise<void> {
  for (const { name } of tables) {
    const indexes = await sql.query<{ definition: string }>(
      'indexes of a table',
      `select pg_get_indexdef(i.indexrelid) as definition from pg_index i
       where i.indrelid = ('public.' || quote_ident($1))::regclass
         and not exists (select from pg_constraint c where c.conindid = i.indexrelid)`,
      [name],
    );
    for (const { definition } of indexes) await run(sql, definition.replace(' ON public.', ' ON rebuild.'));
    await run(sql, `analyze rebuild.${name}`);
  }
}

/**
 * Lets nobody write into the tables from here to the end of the transaction, but read. In this order, first
 * tables and then checkpoints, as whoever applies a batch does.
 */
export async function holdTables(sql: Sql, tables: readonly ReadTable[]): Promise<void> {
  await run(sql, `lock table ${tables.map(({ name }) => `public.${name}`).join()} in exclusive mode`);
}

/** `rebuild` becomes `public`, which becomes `previous`; what was previous before is gone. Readers wait for the commit. */
export async function switchIn(sql: Sql, tables: readonly ReadTable[]): Promise<void> {
  await run(sql, 'create schema if not exists previous');
  for (const { name } of tables) {
    await run(sql, `drop table if exists previous.${name}`);
    await run(sql, `alter table public.${name} set schema previous`);
    await run(sql, `alter table rebuild.${name} set schema public`);
  }
}

/** `public` and `previous` change places. */
export async function exchange(sql: Sql, tables: readonly ReadTable[]): Promise<void> {
  await run(sql, 'create schema if not exists rebuild');
  for (const { name } of tables) {
    await run(sql, `drop table if exists rebuild.${name}`);
    await run(sql, `alter table public.${name} set schema rebuild`);
    await run(sql, `alter table previous.${name} set schema public`);
    await run(sql, `alter table rebuild.${name} set schema previous`);
  }
  await run(sql, 'drop schema rebuild cascade');
}

export async function dropTables(
  sql: Sql,
  schema: 'rebuild' | 'previous',
  tables: readonly ReadTable[],
): Promise<void> {
  for (const { name } of tables) await run(sql, `drop table if exists ${schema}.${name}`);
}

/** The first of `tables` that has other columns in `previous` than in `public`; null: they are alike. */
export async function changedSince(sql: Sql, tables: readonly ReadTable[]): Promise<string | null> {
  const rows = await sql.query<{ name: string }>(
    'columns that differ',
    `select t.name from unnest($1::text[]) as t (name) where (
       select array_agg(row(attname, atttypid) order by attname) from pg_attribute
       where attrelid = to_regclass('public.' || quote_ident(t.name)) and attnum > 0 and not attisdropped
     ) is distinct from (
       select array_agg(row(attname, atttypid) order by attname) from pg_attribute
       where attrelid = to_regclass('previous.' || quote_ident(t.name)) and attnum > 0 and not attisdropped
     ) limit 1`,
    [tables.map(({ name }) => name)],
  );
  return rows[0]?.name ?? null;
}

/** What changes tables is not prepared under a name: it runs once. */
const run = (sql: Sql, text: string): Promise<unknown> => sql.query('', text);
