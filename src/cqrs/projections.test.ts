import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { type Ports, systemPorts } from '#platform/ports.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import { testDatabaseUrl } from '../../tests/database.ts';
import type { Consumer } from './consumer.ts';
import type { EventLog, RecordedEvent } from './event-log.ts';
import { type Feed, localFeed } from './feed.ts';
import { memoryReadStore } from './memory-read-store.ts';
import { openMemoryLog } from './memory-log.ts';
import { checkpointSchemaFolder } from './postgres-log.ts';
import { postgresReadStore, readStoreOptions } from './postgres-read-store.ts';
import type { Projection } from './projection.ts';
import { startProjections } from './projections.ts';
import type { ReadStore, ReadTable } from './read-store.ts';

/** Long enough to fail a test that waits it out. */
const foreverMs = 30_000;

/** A list that can be waited for. */
function noted<T>() {
  const all: T[] = [];
  const waiting = new Set<() => void>();
  return {
    all,
    add(one: T): void {
      all.push(one);
      for (const look of waiting) look();
    },
    atLeast: (size: number): Promise<void> =>
      new Promise((resolve) => {
        const look = () => {
          if (all.length < size) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      }),
  };
}

/** Records `count` events of orders, each on a stream of its own. */
async function happen(log: EventLog, count = 1): Promise<void> {
  const head = await log.head();
  await log.append({
    checks: [],
    events: Array.from({ length: count }, (_, n) => ({
      stream: `order-${head + n + 1}`,
      version: 1,
      type: 'Placed',
      data: { order: head + n + 1 },
      at: '2026-01-01T00:00:00.000Z',
      origin: { actor: 'operator', correlationId: 'c', causationId: 'r' },
    })),
    writes: [],
    keys: [],
    checkpoints: [],
  });
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, n) => from + n);

async function reached(consumer: Consumer, position: number): Promise<void> {
  assert.equal(await consumer.progress.reach(position, foreverMs), true, `${consumer.name} did not reach ${position}`);
}

type Applied = { readonly id: string; readonly projection: string; readonly position: number; readonly times: number };

/** How often each event was applied. */
const appliedTable: ReadTable<Applied> = {
  name: 'applied',
  key: ['id'],
  columns: { id: 'text', projection: 'text', position: 'bigint', times: 'integer' },
};

/** A read database with one table, in which projections note what they have applied. */
async function readDatabase(t: TestContext): Promise<Database> {
  const url = await testDatabaseUrl(t, [checkpointSchemaFolder]);
  const database = openDatabase(url, { ...readStoreOptions, applicationName: 'test' });
  t.after(() => database.end());
  await database.query(
    'table',
    'create table applied (id text primary key, projection text, position bigint, times integer)',
  );
  return database;
}

/** Counts each event; then does `more`, and has done what `hook` says after the commit. */
const noting = (
  projection: string,
  more: { services?: readonly string[]; also?(events: readonly RecordedEvent[]): void; hook?(last: number): void } = {},
): Projection => ({
  name: projection,
  version: 1,
  services: more.services ?? ['orders'],
  tables: [appliedTable],
  async apply(_service, events, rows) {
    const idOf = ({ position }: RecordedEvent): string => `${projection} ${position}`;
    const before = await rows.load(
      appliedTable,
      events.map((event) => [idOf(event)]),
    );
    rows.put(
      appliedTable,
      events.map((event) => ({
        id: idOf(event),
        projection,
        position: event.position,
        times: (before.get(idOf(event))?.times ?? 0) + 1,
      })),
    );
    more.also?.(events);
    return () => more.hook?.(events.at(-1)!.position);
  },
});

/** Positions, as often as they were applied. */
const appliedBy = async (database: Database, projection: string): Promise<number[]> =>
  (
    await database.query<Applied>('applied', 'select * from applied where projection = $1 order by position', [
      projection,
    ])
  ).flatMap((row) => Array.from({ length: row.times }, () => row.position));

const checkpointsIn = async (database: Database): Promise<Record<string, number>> =>
  Object.fromEntries(
    (
      await database.query<{ consumer: string; position: number }>(
        'all checkpoints',
        'select consumer, position from checkpoints',
      )
    ).map((row) => [row.consumer, row.position]),
  );

function projecting(
  t: TestContext,
  on: Database | ReadStore,
  orders: EventLog,
  feed: () => Feed = () => localFeed(orders),
) {
  const troubles = noted<string>();
  const resumes = noted<true>();
  const visible = noted<number>();
  const start = (...projections: Projection[]): Consumer => {
    const consumer = startProjections({
      feed: feed(),
      // Each has its own, as each process has.
      store: 'apply' in on ? on : postgresReadStore(on),
      projections,
      onResume: () => resumes.add(true),
      onVisible: (events) => events.forEach(({ position }) => visible.add(position)),
      reportTrouble: (who, error) => troubles.add(`${who}: ${(error as Error).message}`),
    });
    t.after(() => consumer.stop());
    return consumer;
  };
  return { start, troubles, resumes, visible };
}

test('projections of a log apply each event once, and only those of its service run', async (t) => {
  const database = await readDatabase(t);
  const orders = openMemoryLog('orders.0');
  const { start, troubles } = projecting(t, database, orders);
  const projections = () => [
    noting('a'),
    noting('b', { services: ['stock', 'orders'] }),
    noting('c', { services: ['stock'] }),
  ];
  await happen(orders, 1_100);
  const first = start(...projections());
  assert.equal(first.name, 'projections-of-orders.0');
  await reached(first, 1);
  await first.stop();
  await happen(orders, 400);
  const second = start(...projections());
  await reached(second, 1_500);
  for (const name of ['a', 'b']) assert.deepEqual(await appliedBy(database, name), range(1, 1_500));
  assert.deepEqual(await appliedBy(database, 'c'), []);
  const together = { 'projections-of-orders.0': 1_500 };
  assert.deepEqual(await checkpointsIn(database), { 'a-of-orders.0': 1_500, 'b-of-orders.0': 1_500, ...together });
  assert.deepEqual(troubles.all, []);
});

test('of each event it is told once that a read shows it', async (t) => {
  const database = await readDatabase(t);
  const orders = openMemoryLog('orders.0');
  const { start, troubles, visible } = projecting(t, database, orders);
  let broken = true;
  const failing = (): Projection =>
    noting('a', {
      also(events) {
        if (broken && events.some(({ position }) => position > 600)) throw new Error('a bug');
      },
    });
  await happen(orders, 700);
  const first = start(failing());
  await troubles.atLeast(1);
  broken = false;
  await reached(first, 700);
  await first.stop();
  await happen(orders, 100);
  // A second worker passes the same events by; a new projection has nothing new to show.
  const workers = [start(failing()), start(failing(), noting('new'))];
  for (const worker of workers) await reached(worker, 800);
  assert.deepEqual(
    visible.all.toSorted((a, b) => a - b),
    range(1, 800),
  );
});

test('a projection that throws leaves neither rows nor checkpoint, nor do its neighbours, until it is mended', async (t) => {
  const database = await readDatabase(t);
  const orders = openMemoryLog('orders.0');
  const { start, troubles } = projecting(t, database, orders);
  const tries = noted<number>();
  const hooks: number[] = [];
  let broken = true;
  const failing = noting('failing', {
    also(events) {
      tries.add(events.length);
      if (broken) throw new Error('a bug');
    },
    hook: (last) => hooks.push(last),
  });
  await happen(orders, 10);
  const consumer = start(noting('healthy', { hook: (last) => hooks.push(last) }), failing);
  await troubles.atLeast(1);
  assert.deepEqual([await appliedBy(database, 'healthy'), await appliedBy(database, 'failing')], [[], []]);
  const together = 'projections-of-orders.0';
  assert.deepEqual(await checkpointsIn(database), {
    'healthy-of-orders.0': 0,
    'failing-of-orders.0': 0,
    [together]: 0,
  });
  assert.deepEqual(hooks, []);
  assert.match(consumer.trouble()?.message ?? '', /^paused: 5 streams in a row have failed, .*: a bug$/);

  broken = false;
  await reached(consumer, 10);
  for (const name of ['healthy', 'failing']) assert.deepEqual(await appliedBy(database, name), range(1, 10));
  assert.deepEqual(await checkpointsIn(database), {
    'healthy-of-orders.0': 10,
    'failing-of-orders.0': 10,
    [together]: 10,
  });
  assert.deepEqual(hooks, [10, 10]);
  assert.equal(consumer.trouble(), null);
  assert.ok(troubles.all.every((one) => one.endsWith('a bug')));
});

test('what is to be done after the commit is done after the commit', async (t) => {
  const database = await readDatabase(t);
  const orders = openMemoryLog('orders.0');
  const { start } = projecting(t, database, orders);
  const seen: Promise<Record<string, number>>[] = [];
  await happen(orders, 700);
  const consumer = start(noting('a', { hook: () => seen.push(checkpointsIn(database)) }));
  await reached(consumer, 700);
  const positions = (await Promise.all(seen)).map((checkpoints) => checkpoints['a-of-orders.0']!);
  assert.equal(positions.length, 2);
  assert.ok(positions[0]! >= 500 && positions[1] === 700, positions.join());
});

test('what is to be done after the commit is not done when the commit fails', async (t) => {
  const database = await readDatabase(t);
  await database.query('constraint', 'alter table applied add unique (position) deferrable initially deferred');
  await database.query('obstacle', `insert into applied values ('obstacle', 'obstacle', 3, 1)`);
  const orders = openMemoryLog('orders.0');
  const { start } = projecting(t, database, orders);
  const hooks = noted<number>();
  await happen(orders, 5);
  const consumer = start(noting('a', { hook: (last) => hooks.add(last) }));
  await reached(consumer, 5);
  assert.deepEqual(hooks.all, [2, 5]);
  await database.query('remove', `delete from applied where projection = 'obstacle'`);
  await hooks.atLeast(3);
  assert.deepEqual(hooks.all, [2, 5, 3]);
  assert.deepEqual(await appliedBy(database, 'a'), range(1, 5));
});

test('a step after the commit that fails is trouble, but applies nothing again', async (t) => {
  const database = await readDatabase(t);
  const orders = openMemoryLog('orders.0');
  const { start, troubles, resumes } = projecting(t, database, orders);
  await happen(orders, 5);
  const hook = (last: number) => {
    if (last === 5) throw new Error('the cache is gone');
  };
  const consumer = start(noting('a', { hook }));
  await reached(consumer, 5);
  await happen(orders, 2);
  await reached(consumer, 7);
  assert.deepEqual(await appliedBy(database, 'a'), range(1, 7));
  assert.deepEqual(troubles.all, ['projections-of-orders.0: the cache is gone']);
  assert.equal(resumes.all.length, 2, 'whoever keeps rows in memory is told that some have changed');
});

test('of two workers at once each event is applied once, and both come along', async (t) => {
  const database = await readDatabase(t);
  const orders = openMemoryLog('orders.0');
  const { start, troubles, resumes } = projecting(t, database, orders);
  const workers = [start(noting('a'), noting('b')), start(noting('a'), noting('b'))];
  for (let n = 0; n < 60; n += 1) {
    await happen(orders, 25);
    if (n % 10 === 0) await Promise.all(workers.map((worker) => reached(worker, n * 25 + 1)));
  }
  for (const worker of workers) await reached(worker, 1_500);
  for (const name of ['a', 'b']) assert.deepEqual(await appliedBy(database, name), range(1, 1_500));
  assert.deepEqual(troubles.all, []);
  assert.ok(resumes.all.length > 2, 'one was overtaken, and told so');
});

test('a new projection catches up beside the others, and then goes together with them', async (t) => {
  const database = await readDatabase(t);
  const orders = openMemoryLog('orders.0');
  const { start, troubles } = projecting(t, database, orders);
  await happen(orders, 700);
  const before = start(noting('old'));
  await reached(before, 700);
  await before.stop();

  const batches: string[] = [];
  const note = (who: string) => (events: readonly RecordedEvent[]) =>
    void batches.push(`${who} ${events[0]?.position}-${events.at(-1)?.position}`);
  await happen(orders, 50);
  const consumer = start(noting('old', { also: note('old') }), noting('new', { also: note('new') }));
  await reached(consumer, 750);
  assert.deepEqual(batches, ['old 701-750', 'new 1-500', 'new 501-750'], 'the others first, and no further than they');
  await happen(orders, 10);
  await reached(consumer, 760);
  assert.deepEqual(batches.slice(3).sort(), ['new 751-760', 'old 751-760']);
  for (const name of ['old', 'new']) assert.deepEqual(await appliedBy(database, name), range(1, 760));
  assert.deepEqual(troubles.all, []);
});

test('a read database that is gone is trouble, and gone on with when it is back', async (t) => {
  const database = await readDatabase(t);
  const orders = openMemoryLog('orders.0');
  const { start, troubles } = projecting(t, database, orders);
  await database.query('away', 'alter table checkpoints rename to away');
  await happen(orders, 3);
  const consumer = start(noting('a'));
  await troubles.atLeast(1);
  await database.query('back', 'alter table away rename to checkpoints');
  await reached(consumer, 3);
  assert.deepEqual(await appliedBy(database, 'a'), [1, 2, 3]);
  assert.match(troubles.all[0] ?? '', /checkpoints/);
});

test('whatever the bus doubles, delays and reorders, each event is applied once and in order', async (t) => {
  const store = memoryReadStore();
  const orders = openMemoryLog('orders.0');
  await happen(orders, 300);
  let asked = 0;
  const unruly = (): Feed => {
    const feed = localFeed(orders);
    return {
      ...feed,
      async next(position, limit, waitMs) {
        const events = await feed.next(position, limit, waitMs);
        asked += 1;
        const some = events.slice(0, 7);
        // In turn: what came before once more, the other way round, all but the first, twice, nothing new.
        if (asked % 5 === 0) return [...(await orders.read(Math.max(0, position - 3), 5)), ...some];
        if (asked % 5 === 1) return some.toReversed();
        if (asked % 5 === 2) return events.slice(1);
        if (asked % 5 === 3) return [...some, ...some];
        return orders.read(Math.max(0, position - 3), Math.min(3, position));
      },
    };
  };
  const batches: number[] = [];
  const { start, troubles } = projecting(t, store, orders, unruly);
  await reached(start(noting('a', { also: (events) => batches.push(...events.map(({ position }) => position)) })), 300);
  assert.deepEqual(batches, range(1, 300));
  assert.ok(store.rowsOf(appliedTable).every(({ times }) => times === 1));
  assert.deepEqual(troubles.all, []);
});

test('an event that this program cannot take is parked, and applied once it can', async (t) => {
  const store = memoryReadStore();
  const orders = openMemoryLog('orders.0');
  await happen(orders, 5);
  let newer = true;
  const puzzling = (): Feed => {
    const feed = localFeed(orders);
    return {
      ...feed,
      next: async (...asked) =>
        (await feed.next(...asked)).map((event) =>
          newer && event.position === 3
            ? { ...event, unreadable: { reason: 'newer-version', detail: 'version 9' } as const }
            : event,
        ),
    };
  };
  const { start, troubles } = projecting(t, store, orders, puzzling);
  const batches = noted<number>();
  const consumer = start(noting('a', { hook: (last) => batches.add(last) }));
  await reached(consumer, 5);
  assert.deepEqual(
    store.rowsOf(appliedTable).map(({ position }) => position),
    [1, 2, 4, 5],
  );
  assert.deepEqual(troubles.all, ['projections-of-orders.0: orders-0-3 is parked with its stream: version 9']);
  newer = false;
  await store.parked.retry({ consumer: 'projections-of-orders.0' }, { by: 'ada', at: '2026-01-01T00:00:00.000Z' });
  consumer.wake();
  await batches.atLeast(2);
  assert.equal(store.rowsOf(appliedTable).length, 5);
});

test('events that come close to each other are applied together, unless somebody waits for them', async (t) => {
  const store = memoryReadStore();
  const orders = openMemoryLog('orders.0');
  const pauses = noted<() => void>();
  const batches = noted<number>();
  // A clock that stands still, and pauses that end when the test says so.
  const ports: Ports = {
    ...systemPorts,
    elapsed: () => 0,
    after(ms, act, options) {
      if (ms > 40) return systemPorts.after(ms, act, options);
      pauses.add(act);
      return () => {};
    },
  };
  const consumer = startProjections({
    feed: localFeed(orders),
    ports,
    store,
    projections: [noting('a', { also: (events) => batches.add(events.length) })],
    onResume: () => {},
    reportTrouble: () => {},
  });
  t.after(() => consumer.stop());
  await happen(orders, 1);
  await batches.atLeast(1);
  await pauses.atLeast(1);
  await happen(orders, 2);
  await happen(orders, 3);
  pauses.all[0]!();
  await batches.atLeast(2);
  await pauses.atLeast(2);
  await happen(orders, 1);
  await reached(consumer, 7);
  assert.deepEqual(batches.all, [1, 5, 1]);
  await pauses.atLeast(3);
  pauses.all[2]!();
});
