/** The databases of a set-up, whoever owns them, and the logs that some of them hold. */
import type { Anchor } from '#cqrs/event-log.ts';
import { type Database, openDatabase, sqlStateOf } from '#platform/postgres.ts';

export type OwnedDatabase = { readonly owner: string; readonly database: Database };

/** Where the log in the database of `owner` stands, which calls itself `source`. */
export type LogAnchor = Anchor & { readonly owner: string; readonly source: string };

/** Runs `work` on the databases at these addresses, by owner, and closes them. */
export async function withDatabases<T>(
  urls: ReadonlyMap<string, string>,
  work: (databases: readonly OwnedDatabase[]) => Promise<T>,
): Promise<T> {
  const databases = [...urls].map(([owner, url]) => ({
    owner,
    database: openDatabase(url, { applicationName: 'twofold backup', poolMax: 1, statementTimeoutMs }),
  }));
  try {
    return await work(databases);
  } finally {
    await Promise.all(databases.map(({ database }) => database.end()));
  }
}

const statementTimeoutMs = 600_000;

/** The addresses of those databases of a server that are there. */
export async function databasesThere(
  url: (database: string) => string,
  owners: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const rows = await withDatabases(new Map([['postgres', url('postgres')]]), ([server]) =>
    server!.database.query<{ name: string }>('databases', 'select datname as name from pg_database'),
  );
  const there = owners.filter((owner) => rows.some(({ name }) => name === owner));
  return new Map(there.map((owner) => [owner, url(owner)]));
}

/** The logs in these databases; a part without a log has a database without one. */
export async function readLogs(databases: readonly OwnedDatabase[]): Promise<LogAnchor[]> {
  const logs = databases.map(async ({ owner, database }) => {
    const sql = `select source, epoch, position, encode(hash, 'hex') as hash from log_head`;
    const rows = await ifThere(database.query<Omit<LogAnchor, 'owner'>>('log', sql));
    return rows.map((log) => ({ owner, ...log }));
  });
  return (await Promise.all(logs)).flat();
}

/** Of each database that has checkpoints: whose they are. */
export async function withCheckpoints(databases: readonly OwnedDatabase[]): Promise<OwnedDatabase[]> {
  const asked = databases.map(async (one) => {
    const [row] = await one.database.query<{ there: boolean }>(
      'has checkpoints',
      `select to_regclass('checkpoints') is not null as there`,
    );
    return row!.there ? [one] : [];
  });
  return (await Promise.all(asked)).flat();
}

/** How many streams of each type a log has. */
export async function countStreams(database: Database): Promise<Readonly<Record<string, number>>> {
  const rows = await database.query<{ type: string; count: number }>(
    'count streams',
    `select split_part(stream, '-', 1) as type, count(*) as count from streams group by 1 order by 1`,
  );
  return Object.fromEntries(rows.map(({ type, count }) => [type, count]));
}

/** What a query of a table resolves to; nothing where the table, or a column of it, has not been made yet. */
async function ifThere<Row>(asked: Promise<Row[]>): Promise<Row[]> {
  try {
    return await asked;
  } catch (error) {
    if (['42P01', '42703'].includes(sqlStateOf(error) ?? '')) return [];
    throw error;
  }
}
