import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Database } from '#platform/postgres.ts';
import { testDatabase } from '../../tests/database.ts';
import type { AppendBatch, EventLog, RecordedEvent } from './event-log.ts';
import { feedContract } from './feed.contract.ts';
import { type Feed, localFeed, remoteFeed } from './feed.ts';
import { openMemoryLog } from './memory-log.ts';
import { logSchemaFolders, openPostgresLog } from './postgres-log.ts';
import { postgresLogReader } from './postgres-log-reader.ts';
import { tailEventsMax } from './tail.ts';

/** Long enough to fail a test that waits it out; a feed looks by itself once per second. */
const foreverMs = 30_000;

const origin = { actor: 'operator', correlationId: 'c', causationId: 'r' };
const happened = (from: number, count = 1): AppendBatch => ({
  checks: [],
  events: Array.from({ length: count }, (_, n) => ({
    stream: `order-${from + n}`,
    version: 1,
    type: 'Happened',
    data: {},
    at: '2026-01-01T00:00:00.000Z',
    origin,
  })),
  writes: [],
  keys: [],
  checkpoints: [],
});
const positions = (events: readonly RecordedEvent[]): number[] => events.map((event) => event.position);

/** A log in memory that notes how often it is read as if from its database. */
function countedLog() {
  const log = openMemoryLog('orders.0');
  const asked = { reads: 0, heads: 0 };
  const counted: EventLog = {
    ...log,
    read(position, limit) {
      asked.reads += 1;
      return log.read(position, limit);
    },
    head() {
      asked.heads += 1;
      return log.head();
    },
  };
  return { log: counted, asked };
}

/** The log of a database, written by one process and followed by another. */
async function twoProcesses(t: TestContext): Promise<{ log: EventLog; database: Database; follow(): Promise<Feed> }> {
  const database = await testDatabase(t, logSchemaFolders);
  const log = await openPostgresLog({ database, source: 'orders.0' });
  t.after(() => log.close());
  return {
    log,
    database,
    async follow() {
      const feed = remoteFeed(postgresLogReader(database, 'orders.0'), database);
      t.after(() => feed.close());
      await untilListening(database);
      return feed;
    },
  };
}

/** Resolves to the process of the listener, one other than `before`. */
async function untilListening(database: Database, before = 0): Promise<number> {
  for (;;) {
    const [listener] = await database.query<{ pid: number }>(
      'listening',
      `select pid from pg_stat_activity
       where datname = current_database() and query = 'listen log_appended' and state = 'idle' and pid <> $1`,
      [before],
    );
    if (listener !== undefined) return listener.pid;
  }
}

feedContract('local feed of a log in memory', async () => {
  const log = openMemoryLog('orders.0');
  return { feed: localFeed(log), append: (batch) => log.append(batch) };
});

feedContract('local feed of a log on PostgreSQL', async (t) => {
  const log = await openPostgresLog({ database: await testDatabase(t, logSchemaFolders), source: 'orders.0' });
  t.after(() => log.close());
  return { feed: localFeed(log), append: (batch) => log.append(batch) };
});

feedContract('remote feed of a log on PostgreSQL', async (t) => {
  const database = await testDatabase(t, logSchemaFolders);
  const log = await openPostgresLog({ database, source: 'orders.0' });
  const feed = remoteFeed(postgresLogReader(database, 'orders.0'), database);
  t.after(async () => {
    log.close();
    await feed.close();
  });
  return { feed, append: (batch) => log.append(batch) };
});

test('a feed gives events in order from a position, up to the limit', async () => {
  const { log } = countedLog();
  await log.append(happened(1, 5));
  const feed = localFeed(log);
  assert.equal(feed.source, 'orders.0');
  assert.deepEqual(positions(await feed.next(0, 3, 0)), [1, 2, 3]);
  assert.deepEqual(positions(await feed.next(3, 3, 0)), [4, 5]);
  assert.deepEqual(positions(await feed.next(5, 3, 0)), []);
});

test('what this process has appended is given from memory', async () => {
  const { log, asked } = countedLog();
  const feed = localFeed(log);
  await feed.next(0, 10, 0);
  const before = { ...asked };
  await log.append(happened(1, 3));
  assert.deepEqual(positions(await feed.next(0, 10, foreverMs)), [1, 2, 3]);
  assert.deepEqual(positions(await feed.next(2, 10, foreverMs)), [3]);
  const waiting = feed.next(3, 10, foreverMs);
  await log.append(happened(4));
  assert.deepEqual(positions(await waiting), [4]);
  assert.deepEqual(asked, before);
});

test('what memory does not hold any more is read from the database, and the rest from memory again', async () => {
  const { log, asked } = countedLog();
  const feed = localFeed(log);
  const total = 2 * tailEventsMax;
  await log.append(happened(1, total));
  let position = 0;
  while (position < total) {
    const events = await feed.next(position, 300, foreverMs);
    assert.deepEqual(
      positions(events),
      Array.from({ length: events.length }, (_, n) => position + n + 1),
    );
    position += events.length;
  }
  assert.ok(asked.reads > 0 && asked.reads < total / 300, `${asked.reads} reads`);
});

test('a feed that waits is woken by the first event', async () => {
  const { log } = countedLog();
  const feed = localFeed(log);
  assert.deepEqual(await feed.next(0, 10, 0), []);
  const waits = [feed.next(0, 10, foreverMs), feed.next(0, 10, foreverMs)];
  const from = performance.now();
  await log.append(happened(1, 2));
  for (const events of await Promise.all(waits)) assert.deepEqual(positions(events), [1, 2]);
  assert.ok(performance.now() - from < 500);
});

test('a wait ends empty after its time, and at once when it is interrupted', async () => {
  const { log } = countedLog();
  const feed = localFeed(log);
  assert.deepEqual(await feed.next(0, 10, 10), []);
  const waiting = feed.next(0, 10, foreverMs);
  // The head has been asked for: what follows waits.
  await feed.next(0, 10, 0);
  const from = performance.now();
  feed.interrupt();
  assert.deepEqual(await waiting, []);
  assert.ok(performance.now() - from < 500);
});

test('what another process writes into the log is seen within a second by itself', async () => {
  const { log } = countedLog();
  const feed = localFeed({ ...log, tail: openMemoryLog('orders.0').tail });
  await feed.next(0, 10, 0);
  const waiting = feed.next(0, 10, foreverMs);
  await log.append(happened(1));
  assert.deepEqual(positions(await waiting), [1]);
  assert.equal(feed.knownHead(), 1);
});

test('the known head is that of the log when it was first asked, and of what was heard since', async () => {
  const { log } = countedLog();
  await log.append(happened(1, 3));
  const late = localFeed({ ...log, tail: openMemoryLog('orders.0').tail });
  assert.equal(late.knownHead(), 0);
  await late.next(0, 1, 0);
  assert.equal(late.knownHead(), 3);
  const feed = localFeed(log);
  await log.append(happened(4, 2));
  assert.equal(feed.knownHead(), 5);
});

test('a log that cannot be read rejects, and is asked again', async () => {
  const { log } = countedLog();
  let down = true;
  const head = () => (down ? Promise.reject(new Error('connection refused')) : log.head());
  const feed = localFeed({ ...log, head });
  await assert.rejects(feed.next(0, 10, foreverMs), /connection refused/);
  down = false;
  await log.append(happened(1));
  assert.deepEqual(positions(await feed.next(0, 10, foreverMs)), [1]);
});

test('on PostgreSQL, a feed of another process gives what was there and what comes', async (t) => {
  const { log, follow } = await twoProcesses(t);
  await log.append(happened(1, 5));
  const feed = await follow();
  assert.deepEqual(positions(await feed.next(0, 3, foreverMs)), [1, 2, 3]);
  assert.equal(feed.knownHead(), 5);
  assert.deepEqual(positions(await feed.next(3, 3, foreverMs)), [4, 5]);
  assert.deepEqual(await feed.next(5, 3, 0), []);
});

test('on PostgreSQL, a feed of another process is woken well before it looks by itself', async (t) => {
  const { log, follow } = await twoProcesses(t);
  const feed = await follow();
  const rounds = 8;
  const from = performance.now();
  for (let n = 1; n <= rounds; n += 1) {
    const waiting = feed.next(n - 1, 10, foreverMs);
    await log.append(happened(n));
    assert.deepEqual(positions(await waiting), [n]);
  }
  const tookMs = performance.now() - from;
  assert.ok(tookMs < rounds * 300, `${rounds} rounds took ${tookMs} ms, of which looking once per second makes 8,000`);
});

test('on PostgreSQL, a feed whose connection breaks listens again', async (t) => {
  const { log, database, follow } = await twoProcesses(t);
  const feed = await follow();
  await feed.next(0, 10, 0);
  const broken = await untilListening(database);
  await database.query('break', 'select pg_terminate_backend($1)', [broken]);
  await untilListening(database, broken);
  const from = performance.now();
  const waiting = feed.next(0, 10, foreverMs);
  await log.append(happened(1));
  assert.deepEqual(positions(await waiting), [1]);
  assert.ok(performance.now() - from < 900);
});

test('on PostgreSQL, a feed closes promptly, also before it listens', async (t) => {
  const { database, follow } = await twoProcesses(t);
  const feed = await follow();
  const early = remoteFeed(postgresLogReader(database, 'orders.0'), database);
  const from = performance.now();
  await Promise.all([feed.close(), early.close()]);
  // The database hands out its four connections only if none of them is still held.
  const pinned = await Promise.all([1, 2, 3, 4].map(() => database.pin()));
  for (const connection of pinned) connection.release();
  assert.ok(performance.now() - from < 900);
});
