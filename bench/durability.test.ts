import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openDatabase } from '#platform/postgres.ts';
import { startTestServer } from '../tests/postgres-server.ts';
import { assertAnswersAreDurable } from './durability.ts';

test('what is answered before it is on disk is found out', async (t) => {
  // Of its own: others' commits would bring the WAL to disk, too.
  const server = await startTestServer();
  t.after(() => server.stop());
  const url = server.url('postgres');
  const written = async (asynchronousCommit: boolean): Promise<void> => {
    const database = openDatabase(url, { applicationName: 'test', poolMax: 1, asynchronousCommit });
    try {
      await database.query('table', 'create table if not exists words (word text)');
      await assertAnswersAreDurable(url, () => database.query('insert', `insert into words values ('now')`));
    } finally {
      await database.end();
    }
  };
  await written(false);
  await assert.rejects(written(true), /answered before it was on disk/);
});
