import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import Type from 'typebox';
import { systemPorts } from '#platform/ports.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import { testDatabase, testDatabaseUrl } from '../../tests/database.ts';
import { eventLogContract } from './event-log.contract.ts';
import { eventVersionsContract } from './event-types.contract.ts';
import type { AppendBatch } from './event-log.ts';
import { createEventTypes } from './event-types.ts';
import { localFeed, remoteFeed } from './feed.ts';
import { parkedMessagesContract } from './parked-messages.contract.ts';
import {
  forgetKeys,
  listenerName,
  logSchemaFolders,
  openPostgresLog,
  type PostgresLogOptions,
} from './postgres-log.ts';
import { postgresLogReader } from './postgres-log-reader.ts';
import type { InlineTable } from './table-rows.ts';

async function openLog(
  t: TestContext,
  options: Pick<PostgresLogOptions, 'eventTypes'> = {},
): Promise<Awaited<ReturnType<typeof openPostgresLog>> & { database: Database }> {
  const database = await testDatabase(t, logSchemaFolders);
  const log = await openPostgresLog({ database, source: 'orders.0', ...options });
  t.after(() => log.close());
  return Object.assign(log, { database });
}

const origin = { actor: 'operator', correlationId: 'c', causationId: 'r' };
const at = '2026-01-02T03:04:05.678Z';
const one = (stream: string, version = 1): AppendBatch => ({
  checks: [{ stream, version: version - 1 }],
  events: [{ stream, version, type: 'Happened', data: { n: 1 }, at, origin }],
  writes: [{ stream, version, state: {}, dueAt: null }],
  keys: [],
  checkpoints: [],
});

eventLogContract('PostgreSQL log', openLog);
parkedMessagesContract('PostgreSQL log', openLog);
eventVersionsContract('PostgreSQL log', (t, eventTypes) => openLog(t, { eventTypes }));

test('the rows beside a log are written with the batch, and none where it has none', async (t) => {
  const database = await testDatabase(t, logSchemaFolders);
  await database.query('notes', 'create table notes (id text primary key, version integer, note text)');
  await database.query('others', 'create table others (id text, line integer)');
  await database.query(
    'rows beside',
    `create or replace function write_inline_tables(columns text[]) returns void language plpgsql as $$
     begin
       insert into notes select * from unnest(columns[1]::text[], columns[2]::integer[], columns[3]::text[])
       on conflict (id) do update set version = excluded.version, note = excluded.note;
       if columns[4] is not null then
         insert into others select * from unnest(columns[4]::text[], columns[5]::integer[]);
       end if;
     end $$`,
  );
  const notes: InlineTable = {
    of: 'note',
    table: { name: 'notes', key: ['id'], columns: { id: 'text', version: 'integer', note: 'text' } },
    rowsOf: ({ id, version, state }) => [{ id, version, note: (state as { note: string | null }).note }],
  };
  const others: InlineTable = {
    of: 'other',
    table: { name: 'others', key: ['id', 'line'], columns: { id: 'text', line: 'integer' } },
    rowsOf: ({ id, events }) => events.map((_, n) => ({ id, line: n + 1 })),
  };
  const log = await openPostgresLog({ database, source: 'orders.0', inlineTables: [notes, others] });
  t.after(() => log.close());
  const write = (stream: string, note: string | null) => ({ stream, version: 1, state: { note }, dueAt: null });
  const [a, b, c] = ['note-a', 'note-"b"\\', 'other-c'].map((stream) => one(stream)) as [
    AppendBatch,
    AppendBatch,
    AppendBatch,
  ];
  await log.append({
    ...a,
    events: [...a.events, ...b.events],
    writes: [write('note-a', 'two\nlines'), write('note-"b"\\', null)],
  });
  await log.append({ ...c, events: [...c.events, { ...c.events[0]!, version: 2 }] });
  const rows = await database.query(
    'rows',
    'select id, version, note, null as line from notes union all select id, null, null, line from others order by 1, 4',
  );
  assert.deepEqual(
    rows.map((row) => Object.values(row)),
    [
      ['"b"\\', 1, null, null],
      ['a', 1, 'two\nlines', null],
      ['c', null, null, 1],
      ['c', null, null, 2],
    ],
  );
});

test('a process of an older version reads the log of a newer one up to what it knows, and says what it does not', async (t) => {
  const closed = { additionalProperties: false };
  const seats = Type.Object({ seats: Type.Integer() }, closed);
  const withRow = Type.Object({ ...seats.properties, row: Type.Optional(Type.String()) }, closed);
  const ours = createEventTypes({ newest: { Booked: seats }, older: {} });
  const theirs = createEventTypes({
    newest: { Booked: withRow, Left: seats },
    older: { Left: [{ schema: seats, upcast: (data) => data }] },
  });
  const { database, ...log } = await openLog(t, { eventTypes: theirs });
  const reader = postgresLogReader(database, 'orders.0', ours);
  const feed = remoteFeed(reader, database);
  t.after(() => feed.close());
  const written = (version: number, type: string, data: object): AppendBatch => ({
    ...one('order-a', version),
    events: [{ stream: 'order-a', version, type, data, at, origin }],
  });
  await log.append(written(1, 'Booked', { seats: 2, row: 'F' }));
  await log.append(written(2, 'Left', { seats: 2 }));
  const heard = await feed.next(0, 10, 0);
  assert.deepEqual(
    heard.map(({ type, data, unreadable }) => [type, data, unreadable?.reason]),
    [
      ['Booked', { seats: 2, row: 'F' }, undefined],
      ['Left.2', { seats: 2 }, 'unknown-type'],
    ],
  );
});

test('a database of another log is not written to', async (t) => {
  const log = await openLog(t);
  await assert.rejects(
    openPostgresLog({ database: log.database, source: 'stock.0' }),
    /database of orders\.0, not of stock\.0/,
  );
});

test('of two writers that create the same stream at once exactly one wins, 1,000 times out of 1,000', async (t) => {
  const log = await openLog(t);
  const other = await openPostgresLog({ database: log.database, source: 'orders.0' });
  t.after(() => other.close());
  for (let n = 0; n < 1_000; n += 1) {
    const both = await Promise.all([log.append(one(`order-${n}`)), other.append(one(`order-${n}`))]);
    assert.equal(both.filter((result) => 'appended' in result).length, 1);
  }
  assert.equal(await log.head(), 1_000);
});

test('an append whose connection breaks before it is sent is made on a new one, once', async (t) => {
  const log = await openLog(t);
  await log.append(one('order-a'));
  await breakConnections(log.database);
  const result = await log.append(one('order-b'));
  assert.ok('appended' in result);
  assert.equal(await log.head(), 2);
});

test('an append whose answer is lost after the commit is found in the log and not made again', async (t) => {
  const direct = await testDatabase(t, logSchemaFolders);
  const proxy = await lossyProxy(t, direct);
  const database = openDatabase(proxy.url, { applicationName: 'behind a proxy' });
  const log = await openPostgresLog({ database, source: 'orders.0' });
  t.after(() => {
    log.close();
    return database.end();
  });
  await log.append(one('order-a'));
  proxy.loseNextAnswer();
  const result = await log.append(one('order-b'));
  assert.ok('appended' in result);
  assert.deepEqual(
    result.appended.map((event) => [event.position, event.stream]),
    [[2, 'order-b']],
  );
  assert.equal(proxy.lost(), 1);
  assert.equal(await log.head(), 2);
});

test('a statement that the database refuses rejects at once and changes nothing', async (t) => {
  const log = await openLog(t);
  const broken = one('order-a');
  await assert.rejects(log.append({ ...broken, events: [{ ...broken.events[0]!, version: 0 }] }), /version/);
  assert.equal(await log.head(), 0);
});

test('a log that does not answer is unavailable after its time-out', async (t) => {
  const database = await testDatabase(t, logSchemaFolders);
  const log = await openPostgresLog({ database, source: 'orders.0', appendTimeoutMs: 300 });
  t.after(() => log.close());
  const blocker = await database.pin();
  await blocker.query('begin', 'begin');
  await blocker.query('hold', 'select * from log_head for update');
  await assert.rejects(log.append(one('order-a')), { code: 'log-unavailable' });
  await blocker.query('rollback', 'rollback');
  blocker.release();
});

test('a process that is stopped while it appends alone holds up the others no longer than its time-out', async (t) => {
  const url = await testDatabaseUrl(t, logSchemaFolders);
  const database = openDatabase(url, { applicationName: 'not stopped' });
  const modules = {
    log: import.meta.resolve('./postgres-log.ts'),
    postgres: import.meta.resolve('#platform/postgres.ts'),
  };
  const stopped = new Worker(
    `const { workerData, parentPort } = require('node:worker_threads');
     void (async () => {
       const { openDatabase } = await import(workerData.postgres);
       const { openPostgresLog } = await import(workerData.log);
       const database = openDatabase(workerData.url, { applicationName: 'stopped' });
       const log = await openPostgresLog({ database, source: 'orders.0', appendTimeoutMs: 500 });
       await log.appendAlone([], () => {
         parentPort.postMessage('stopped');
         // As SIGSTOP does it: it stands still, with its transaction open.
         Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20_000);
         process.exit(1);
       });
     })();`,
    { eval: true, workerData: { ...modules, url } },
  );
  const holdsTheHead = once(stopped, 'message');
  const other = await openPostgresLog({ database, source: 'orders.0', appendTimeoutMs: 10_000 });
  t.after(async () => {
    await stopped.terminate();
    other.close();
    await database.end();
  });
  await holdsTheHead;
  assert.ok('appended' in (await other.append(one('order-b'))));
});

test('a state that no answer comes for is asked for elsewhere, and unavailable after the time-out', async (t) => {
  const direct = await testDatabase(t, logSchemaFolders);
  const proxy = await lossyProxy(t, direct);
  // What asks meanwhile whether somebody listens is stuck in a connection, too: there has to be one elsewhere.
  const database = openDatabase(proxy.url, { applicationName: 'behind a proxy', poolMax: 8 });
  const log = await openPostgresLog({ database, source: 'orders.0', appendTimeoutMs: 500 });
  t.after(() => {
    proxy.cut();
    log.close();
    return database.end();
  });
  await log.append(one('order-a'));
  await log.load(['order-a']);
  proxy.swallow(true);
  await assert.rejects(log.load(['order-a']), { code: 'log-unavailable' });
  proxy.swallow(false);
  assert.deepEqual(
    (await log.load(['order-a'])).map((row) => row.version),
    [1],
  );
});

test('a writer that no answer comes for while it is opened gives its connection back', async (t) => {
  const direct = await testDatabase(t, logSchemaFolders);
  const proxy = await lossyProxy(t, direct);
  // A connection is looked at ten times a second.
  const ports = { ...systemPorts, every: (_ms: number, act: () => void) => systemPorts.every(100, act) };
  const options = { applicationName: 'behind a proxy', poolMax: 1, statementTimeoutMs: 500, ports };
  const database = openDatabase(proxy.url, options);
  const log = await openPostgresLog({ database, source: 'orders.0', appendTimeoutMs: 300 });
  t.after(() => {
    proxy.cut();
    log.close();
    return database.end();
  });
  proxy.swallow(true);
  await assert.rejects(log.append(one('order-a')), { code: 'log-unavailable' });
  proxy.swallow(false);
  const again = async (): Promise<object> =>
    log.append(one('order-a')).catch((error: { code: string }) => {
      assert.equal(error.code, 'log-unavailable');
      return again();
    });
  assert.ok('appended' in (await again()));
});

test('an append whose answer came while this process stood still is known', async (t) => {
  const database = await testDatabase(t, logSchemaFolders);
  const log = await openPostgresLog({ database, source: 'orders.0', appendTimeoutMs: 300 });
  t.after(() => log.close());
  await log.append(one('order-a'));
  const appended = log.append(one('order-b'));
  // Sent, and then no turn of the event loop for longer than its time-out.
  await setImmediate();
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 600);
  assert.ok('appended' in (await appended));
});

test('a hole in the log is noticed by its reader', async (t) => {
  const log = await openLog(t);
  for (const id of ['a', 'b', 'c']) await log.append(one(`order-${id}`));
  await log.database.query('damage', 'delete from events where position = 2');
  await assert.rejects(log.read(0, 10), { code: 'log-gap' });
});

test('old keys are forgotten, all of them; young ones are kept', async (t) => {
  const log = await openLog(t);
  const key = { caller: 'operator', fingerprint: 'f', answer: {} };
  await log.append({
    ...one('order-a'),
    keys: [
      { ...key, key: 'old', at: '2026-01-01T00:00:00Z' },
      { ...key, key: 'new', at: '2026-02-01T00:00:00Z' },
    ],
  });
  await log.database.query(
    'many keys',
    `insert into idempotency_keys (caller, key, fingerprint, answer, at)
     select 'operator', n, 'f', '{}', '2026-01-02T00:00:00Z' from generate_series(1, 12000) n`,
  );
  assert.equal(await forgetKeys(log.database, '2026-01-15T00:00:00Z'), 12_001);
  assert.deepEqual(await log.database.query('left', 'select key from idempotency_keys'), [{ key: 'new' }]);
});

test(
  'with 4 processes appending, positions are dense and a tailing reader sees 200,000 events once and in order',
  { timeout: 170_000 },
  async (t) => {
    const url = await testDatabaseUrl(t, logSchemaFolders);
    const perProcess = 50_000;
    const total = 4 * perProcess;
    const database = openDatabase(url, { applicationName: 'reader' });
    (await openPostgresLog({ database, source: 'orders.0' })).close();
    const writers = [1, 2, 3, 4].map((n) =>
      fork(new URL('./postgres-log.writer.ts', import.meta.url), [url, String(n), String(perProcess)]),
    );
    const ended = Promise.all(writers.map((writer) => once(writer, 'exit')));
    const feed = remoteFeed(postgresLogReader(database, 'orders.0'), database);
    const seen = new Map<string, number>();
    let position = 0;
    while (position < total) {
      const events = await feed.next(position, 2_000, 10_000);
      for (const event of events) {
        assert.equal(event.position, position + 1);
        position = event.position;
        assert.equal(event.version, (seen.get(event.stream) ?? 0) + 1, `${event.stream} is out of order`);
        seen.set(event.stream, event.version);
      }
    }
    assert.deepEqual(
      (await ended).map(([code]) => code as number),
      [0, 0, 0, 0],
    );
    await feed.close();
    const [row] = await database.query<{ n: number; low: number; high: number }>(
      'sum',
      'select count(*) as n, min(position) as low, max(position) as high from events',
    );
    assert.deepEqual(row, { n: total, low: 1, high: total });
    await database.end();
  },
);

test('others are told that the log has grown only while one listens, and one that begins is heard of within a second', async (t) => {
  const url = await testDatabaseUrl(t, logSchemaFolders);
  const database = openDatabase(url, { applicationName: 'test' });
  let nowMs = 0;
  let told = Promise.resolve<unknown>(null);
  const asked: string[] = [];
  const watched: Database = {
    ...database,
    query<Row extends object>(name: string, text: string, values?: readonly unknown[]) {
      const answer = database.query<Row>(name, text, values);
      if (name === 'listeners' || name === 'wake') {
        asked.push(name);
        told = answer;
      }
      return answer;
    },
  };
  let wakeNow = () => {};
  const ports = {
    ...systemPorts,
    elapsed: () => nowMs,
    after(ms: number, work: () => void) {
      if (ms !== 20) return systemPorts.after(ms, work);
      wakeNow = work;
      return () => {};
    },
  };
  const log = await openPostgresLog({ database: watched, source: 'orders.0', ports });
  t.after(() => {
    log.close();
    return database.end();
  });
  async function grow(stream: string): Promise<string[]> {
    asked.length = 0;
    await log.append(one(stream));
    wakeNow();
    await told;
    // What is decided on that answer is decided after it.
    await setImmediate();
    await told;
    return asked;
  }

  assert.deepEqual(await grow('order-a'), ['listeners']);
  assert.deepEqual(await grow('order-b'), []);
  const listening = openDatabase(url, { applicationName: listenerName });
  t.after(() => listening.end());
  await listening.query('here', 'select 1');
  nowMs = 999;
  assert.deepEqual(await grow('order-c'), []);
  nowMs = 1_000;
  assert.deepEqual(await grow('order-d'), ['listeners', 'wake']);
  assert.deepEqual(await grow('order-e'), ['wake']);
});

test('a local feed gives what happens from memory, and what came before from the database', async (t) => {
  const log = await openLog(t);
  await log.append(one('order-a'));
  const again = await openPostgresLog({ database: log.database, source: 'orders.0' });
  t.after(() => again.close());
  const feed = localFeed(again);
  assert.deepEqual(
    (await feed.next(0, 10, 0)).map((event) => event.position),
    [1],
  );
  const waiting = feed.next(1, 10, 5_000);
  await again.append(one('order-b'));
  assert.deepEqual(
    (await waiting).map((event) => event.position),
    [2],
  );
  assert.equal(feed.knownHead(), 2);
});

async function breakConnections(database: Database): Promise<void> {
  await database.query(
    'break',
    'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()',
  );
}

/** Passes everything on to the database, but for the one answer that it is told to lose, connection and all. */
async function lossyProxy(
  t: TestContext,
  database: Database,
): Promise<{ url: string; loseNextAnswer(): void; lost(): number; swallow(all: boolean): void; cut(): void }> {
  const [row] = await database.query<{ folder: string; port: string; name: string; user: string }>(
    'where',
    `select current_setting('unix_socket_directories') as folder, current_setting('port') as port,
       current_database() as name, current_user as user`,
  );
  const { folder, port, name, user } = row!;
  let losing = false;
  let lost = 0;
  let swallowing = false;
  const clients = new Set<Socket>();
  const server = createServer((client) => {
    clients.add(client);
    const upstream = connect(`${folder.replaceAll('"', '')}/.s.PGSQL.${port}`);
    client.pipe(upstream);
    upstream.on('data', (chunk) => {
      if (swallowing) return;
      if (!losing) return void client.write(chunk);
      losing = false;
      lost += 1;
      client.destroy();
    });
    for (const socket of [client, upstream]) {
      socket.on('error', () => {});
      socket.on('close', () => (socket === client ? upstream : client).destroy());
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return {
    url: `postgresql://${user}@127.0.0.1:${(server.address() as AddressInfo).port}/${name}`,
    loseNextAnswer: () => void (losing = true),
    lost: () => lost,
    swallow: (all) => void (swallowing = all),
    cut: () => clients.forEach((client) => client.destroy()),
  };
}
