import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { constants, getPriority } from 'node:os';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { testDatabase, testDatabaseUrl } from '../../tests/database.ts';
import { arrayLiteral, DatabaseUnavailable, openDatabase, overOneConnection, type Sql } from './postgres.ts';

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

test('an array arrives as it was, whatever its texts hold', async (t) => {
  const database = await testDatabase(t, []);
  const texts = [
    'plain',
    '',
    'null',
    'NULL',
    null,
    'a "quote"',
    'back\\slash',
    '\\"',
    '{a,b}',
    'two\nlines',
    ' ',
    "it's",
    'é€😀',
  ];
  const numbers = [0, -1, null, 9_007_199_254_740_991];
  const plain = ['{a,b}', 'NULL', null, 'null', '', "it's", 'é€😀'];
  const given = [texts, [], numbers, [true, null, false], plain].map((values) => arrayLiteral(values));
  const [row] = await database.query(
    'arrays',
    'select $1::text[] as a, $2::text[] as b, $3::bigint[] as c, $4::bool[] as d, $5::text[] as e',
    given,
  );
  const read = Object.values(row!) as (string | number | boolean | null)[][];
  assert.deepEqual(
    [read[0], read[1], read[2]!.map((n) => (n === null ? null : Number(n))), read[3], read[4]],
    [texts, [], numbers, [true, null, false], plain],
  );
});

test('what the database refuses is its answer', async (t) => {
  const database = await testDatabase(t, []);
  await assert.rejects(database.query('wrong', 'select 1 / 0'), { code: '22012' });
});

test('what the database refuses tells who has asked for it', async (t) => {
  const database = await testDatabase(t, []);
  async function whoAsks(sql: Sql): Promise<void> {
    await sql.query('wrong', 'select 1 / 0');
  }
  const pinned = await database.pin();
  for (const sql of [database, pinned])
    await assert.rejects(whoAsks(sql), ({ stack }: Error) => /whoAsks/.test(stack!));
  await assert.rejects(database.transaction(whoAsks), ({ stack }: Error) => /whoAsks/.test(stack!));
  pinned.release();
});

test('what a statement was given is let go once it is sent, and not only once it is answered', async (t) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const database = await testDatabase(t, []);
  const pinned = await database.pin();
  const send = (sql: Sql): { answer: Promise<unknown>; values: WeakRef<object> } => {
    const values = ['0.5'];
    return { answer: sql.query('wait', 'select pg_sleep($1)', values), values: new WeakRef(values) };
  };
  for (const sql of [database, pinned]) {
    // Connected, and prepared.
    await send(sql).answer;
    const { answer, values } = send(sql);
    let isAnswered = false;
    void answer.then(() => (isAnswered = true));
    // A reference that was made or looked at in this turn is held until its end; a connection of the pool comes a turn later.
    for (let turn = 0; turn < 3; turn += 1) await setImmediate();
    collect();
    assert.deepEqual([values.deref(), isAnswered], [undefined, false]);
    await answer;
  }
  pinned.release();
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

test('over one connection statements are sent at once, and the pool has it back afterwards', async (t) => {
  const database = openDatabase(await testDatabaseUrl(t, []), { applicationName: 'test', poolMax: 1 });
  t.after(() => database.end());
  const shared = overOneConnection(database);
  const ask = async (): Promise<number> =>
    (await shared.query<{ pid: number }>('pid', 'select pg_backend_pid() as pid'))[0]!.pid;
  const pids = await Promise.all([ask(), ask(), assert.rejects(shared.query('wrong', 'select 1 / 0')), ask()]);
  const own = await database.query<{ pid: number }>('pid', 'select pg_backend_pid() as pid');
  assert.deepEqual(pids, [own[0]!.pid, own[0]!.pid, undefined, own[0]!.pid]);
  assert.equal(await ask(), own[0]!.pid);
});

test('a connection that breaks fails what is under way over it, and the next statement takes another', async (t) => {
  const database = await testDatabase(t, []);
  const shared = overOneConnection(database);
  const ask = () => shared.query<{ pid: number }>('pid', 'select pg_backend_pid() as pid');
  const [first] = await ask();
  const asked = [shared.query('wait', 'select pg_sleep(60)'), ask()].map((one) =>
    assert.rejects(one, DatabaseUnavailable),
  );
  await database.query('end', 'select pg_terminate_backend($1)', [first!.pid]);
  await Promise.all(asked);
  const [next] = await ask();
  assert.notEqual(next!.pid, first!.pid);
});
