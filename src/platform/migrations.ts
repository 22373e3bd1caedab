/** The tables of a database, made and changed by numbered `.sql` files, each of them once. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { failpoint } from './failpoint.ts';
import type { Database, PinnedConnection } from './postgres.ts';

/** A file could not be applied, or is not what was applied; the message names it, and nothing of it has happened. */
export class MigrationFailed extends Error {
  override readonly name = 'MigrationFailed';
}

/**
 * Applies the files `NNN-name.sql` of the folders: folder by folder, in the order of their numbers, each
 * once per database, in one transaction with the row that remembers it. Several processes may do this at
 * the same time: one works, the others wait up to a minute and find it done. Resolves to the names
 * of the files it has applied. Rejects with MigrationFailed.
 */
export async function migrate(database: Database, folders: readonly (URL | string)[]): Promise<string[]> {
  const files = readFiles(folders);
  const connection = await database.pin();
  try {
    const known = await begin(connection);
    const applied: string[] = [];
    for (const file of files) {
      const checksum = known.get(file.name);
      if (checksum === undefined) {
        await apply(connection, file);
        applied.push(file.name);
      } else if (checksum !== file.checksum) {
        throw new MigrationFailed(
          `${file.path} differs from the ${file.name} that this database has had applied. ` +
            'Restore the file, and put the change into a new file with the next number.',
        );
      }
    }
    return applied;
  } finally {
    // Closed and not given back: with it go the lock and the limits that were set.
    connection.release(true);
  }
}

type MigrationFile = { readonly name: string; readonly path: string; readonly text: string; readonly checksum: string };

const lockTimeoutMs = 60_000;
// Any number will do, as long as it is always the same: "twofold" in ASCII, cut to 31 bits.
const lockKey = 0x74776f66;

function readFiles(folders: readonly (URL | string)[]): MigrationFile[] {
  const files = folders.flatMap((folder) => {
    const path = typeof folder === 'string' ? folder : fileURLToPath(folder);
    const names = readdirSync(path).filter((name) => name.endsWith('.sql'));
    return names.sort().map((name) => readOne(name, join(path, name)));
  });
  for (const [index, { name, path }] of files.entries()) {
    const other = files.findIndex((file) => file.name === name);
    if (other !== index)
      throw new MigrationFailed(`${files[other]?.path} and ${path} have the same name; give one of them another.`);
  }
  return files;
}

function readOne(name: string, path: string): MigrationFile {
  if (!/^\d{3}-[a-z0-9-]+\.sql$/.test(name)) {
    throw new MigrationFailed(
      `${path} is not named like a migration; right would be a name such as 002-add-country.sql.`,
    );
  }
  // Git on Windows may have changed the ends of lines; that is no change of the file.
  const text = readFileSync(path, 'utf8').replaceAll('\r\n', '\n');
  return { name, path, text, checksum: createHash('sha256').update(text).digest('hex') };
}

/** Takes the lock and answers the checksums of what has been applied. */
async function begin({ client }: PinnedConnection): Promise<Map<string, string>> {
  // A migration may take as long as its tables are large.
  await client.query(`set statement_timeout = 0; set lock_timeout = ${lockTimeoutMs}`);
  try {
    await client.query(`select pg_advisory_lock(${lockKey})`);
  } catch (error) {
    throw new MigrationFailed(`Another process has been migrating this database for ${lockTimeoutMs / 1_000} s.`, {
      cause: error,
    });
  }
  await client.query(
    'create table if not exists migrations (name text primary key, checksum text not null, applied_at timestamptz not null default now())',
  );
  const { rows } = await client.query<{ name: string; checksum: string }>('select name, checksum from migrations');
  return new Map(rows.map(({ name, checksum }) => [name, checksum]));
}

async function apply({ client }: PinnedConnection, { name, path, text, checksum }: MigrationFile): Promise<void> {
  await client.query('begin');
  try {
    // Without values: the simple protocol, which takes several statements at once.
    await client.query(text);
    failpoint('migration-applied');
    await client.query('insert into migrations (name, checksum) values ($1, $2)', [name, checksum]);
    await client.query('commit');
    failpoint('migration-committed');
  } catch (error) {
    const { message, position } = error as { message: string; position?: string };
    const line = position === undefined ? '' : ` in line ${text.slice(0, Number(position)).split('\n').length}`;
    throw new MigrationFailed(`${path} could not be applied: ${message}${line}.`, { cause: error });
  }
}
