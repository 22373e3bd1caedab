import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { constants, getPriority } from 'node:os';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { testDatabase, testDatabaseUrl } from '../../tests/database.ts';
import { DatabaseUnavailable, openDatabase } from './postgres.ts';

for (const code of ['EPIPE', 'ECONNRESET']) {
  test(`a connection that breaks with ${code} is a database that does not answer, and no answer of it`, async (t) => {
    const database = await testDatabase(t, []);
    const pinned = await database.pin();
    const asked = pinned.query('wait', 'select pg_sleep(60)');
    const { stream } = (pinned.client as unknown as { connection: { stream: Socket } }).connection;
    stream.destroy(Object.assign(new Error(`write ${code}`), { code }));
    await assert.rejects(asked, DatabaseUnavailable);
    pinned.release(true);
    assert.deepEqual(await database.query('again', 'select 1 as one'), [{ one: 1 }]);
  });
}

test('the servers of background work let others go first, on this machine', async (t) => {
  const url = await testDatabaseUrl(t, []);
  const priorityOf = async (background: boolean): Promise<number> => {
    const database = openDatabase(url, { applicationName: 'test', background });
    t.after(() => database.end());
    const [row] = await database.query<{ pid: number }>('pid', 'select pg_backend_pid() as pid');
    const asked = performance.now();
    // It steps back beside what it is asked.
    while (background && getPriority(row!.pid) === 0 && performance.now() - asked < 5_000) await setImmediate();
    return getPriority(row!.pid);
  };
  assert.deepEqual([await priorityOf(false), await priorityOf(true)], [0, constants.priority.PRIORITY_LOW]);
});

test('what the database refuses is its answer', async (t) => {
  const database = await testDatabase(t, []);
  await assert.rejects(database.query('wrong', 'select 1 / 0'), { code: '22012' });
});

test('a transaction in which a statement fails is not done, also when nobody looked at that statement', async (t) => {
  const database = await testDatabase(t, []);
  await assert.rejects(
    database.transaction(async (sql) => {
      await sql.query('fail', 'select 1 / 0').catch(() => {});
    }),
    /rolled back/,
  );
  assert.equal(await database.transaction(async () => 'done'), 'done');
});
