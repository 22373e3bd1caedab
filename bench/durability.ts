/** That no figure is bought with durability: what a benchmark was answered has reached the disk. */
import assert from 'node:assert/strict';
import { assertDurable } from '#platform/embedded-postgres.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';

const answersLooked = 10;

/**
 * Has `command` done some times, one after the other: each time it is answered, the WAL of the server has to be on disk up
 * to a later place than before. Where commits are confirmed first and written later, that is seldom so.
 */
export async function assertAnswersAreDurable(databaseUrl: string, command: () => Promise<unknown>): Promise<void> {
  const database = openDatabase(databaseUrl, { applicationName: 'bench', poolMax: 1 });
  try {
    await assertDurable(database);
    for (let n = 0; n < answersLooked; n += 1) {
      const before = await flushedTo(database);
      await command();
      const after = await flushedTo(database);
      assert.ok(after > before, `answered before it was on disk: the WAL is there up to ${after}, as before`);
    }
  } finally {
    await database.end();
  }
}

async function flushedTo(database: Database): Promise<number> {
  const [row] = await database.query<{ bytes: number }>(
    'flushed',
    `select (pg_current_wal_flush_lsn() - '0/0')::bigint as bytes`,
  );
  return row!.bytes;
}
