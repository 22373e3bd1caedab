import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Database } from '#platform/postgres.ts';
import { testDatabase } from '../../tests/database.ts';
import { type CommandBus, createCommandBus, type StreamType } from './command-bus.ts';
import type { Consumer } from './consumer.ts';
import { EngineError } from './errors.ts';
import type { EventLog, Origin, RecordedEvent } from './event-log.ts';
import { type Feed, localFeed } from './feed.ts';
import { openMemoryLog } from './memory-log.ts';
import { checkpointSchemaFolder } from './postgres-log.ts';
import type { Projection } from './projection.ts';
import { startProjections } from './projections.ts';
import { type Reactions, startReactions } from './reactions.ts';
import { systemPorts } from '#platform/ports.ts';

/** Long enough to fail a test that waits it out. */
const foreverMs = 30_000;
const counter = 'stock-of-orders';
const origin: Origin = { actor: 'operator', correlationId: 'c', causationId: 'r' };

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
async function happen(log: EventLog, count = 1, type = 'Placed', from: Origin = origin): Promise<void> {
  const head = await log.head();
  await log.append({
    checks: [],
    events: Array.from({ length: count }, (_, n) => ({
      stream: `order-${head + n + 1}`,
      version: 1,
      type,
      data: { order: head + n + 1 },
      at: '2026-01-01T00:00:00.000Z',
      origin: from,
    })),
    writes: [],
    keys: [],
    checkpoints: [],
  });
}

type Placed = { readonly type: 'Placed'; readonly data: { readonly order: number } };
const tally: StreamType<number> = { name: 'tally', initial: 0, evolve: (count) => count + 1 };
/** For each order placed, one event on the one stream there is. */
const count: Reactions = {
  Placed: {
    reads: () => [{ type: tally, id: 'all' }],
    react: ({ data }: RecordedEvent<Placed>, scope) =>
      scope.record(tally, 'all', { type: 'Counted', data: { order: data.order } }),
  },
};
const busOf = (log: EventLog): CommandBus =>
  createCommandBus({ log, ports: { ...systemPorts, now: () => Date.parse('2026-01-01T00:00:00Z') } });

/** A service that counts the orders of another one. */
function counting(t: TestContext, own: EventLog = openMemoryLog('stock.0')) {
  const orders = openMemoryLog('orders.0');
  const troubles = noted<string>();
  const start = (more: { bus?: CommandBus; reactions?: Reactions; feed?: Feed } = {}): Consumer => {
    const consumer = startReactions({
      name: counter,
      feed: localFeed(orders),
      log: own,
      bus: busOf(own),
      reactions: count,
      reportTrouble: (who, error) => troubles.add(`${who}: ${(error as Error).message}`),
      ...more,
    });
    t.after(() => consumer.stop());
    return consumer;
  };
  const counted = async (): Promise<number[]> =>
    (await own.read(0, 100_000)).map((event) => (event.data as { order: number }).order);
  return { orders, own, start, counted, troubles };
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, n) => from + n);

async function reached(consumer: Consumer, position: number): Promise<void> {
  assert.equal(await consumer.progress.reach(position, foreverMs), true, `${consumer.name} did not reach ${position}`);
}

test('each event has its effect once and in order, however often the consumer is stopped and started', async (t) => {
  const { orders, own, start, counted, troubles } = counting(t);
  await happen(orders, 1_200);
  for (const position of [1, 501, 1_200]) {
    const consumer = start();
    await reached(consumer, position);
    await consumer.stop();
    await happen(orders, 700);
  }
  const last = start();
  await reached(last, 3_300);
  assert.deepEqual(await counted(), range(1, 3_300));
  assert.equal(await own.checkpoint(counter), 3_300);
  assert.equal(last.head(), 3_300);
  assert.deepEqual(troubles.all, []);
});

test('an effect whose record was not confirmed is not repeated', async (t) => {
  const memory = openMemoryLog('stock.0');
  let lose = true;
  const { orders, start, counted, troubles } = counting(t, {
    ...memory,
    async append(batch) {
      const result = await memory.append(batch);
      if (!lose) return result;
      lose = false;
      throw new EngineError('log-unavailable', 'no answer');
    },
  });
  await happen(orders, 3);
  const consumer = start();
  await reached(consumer, 3);
  await happen(orders, 2);
  await reached(consumer, 5);
  assert.deepEqual(await counted(), range(1, 5));
  assert.deepEqual(troubles.all, [`${counter}: no answer`]);
});

test('what follows from an event names it as its cause, and stays in its trace', async (t) => {
  const { orders, own, start } = counting(t);
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  await happen(orders, 1, 'Placed', { ...origin, correlationId: 'first', traceparent });
  await happen(orders, 1, 'Placed', { ...origin, correlationId: 'second' });
  await reached(start(), 2);
  assert.deepEqual(
    (await own.read(0, 10)).map((event) => event.origin),
    [
      { actor: counter, correlationId: 'first', causationId: 'orders-0-1', traceparent },
      { actor: counter, correlationId: 'second', causationId: 'orders-0-2' },
    ],
  );
});

test('trouble is told, retried more and more slowly, and over once the events are applied', async (t) => {
  const { orders, own, start, counted } = counting(t);
  const tried: number[] = [];
  let broken = true;
  const fourth = Promise.withResolvers<void>();
  const reactions: Reactions = {
    Placed: {
      reads: count['Placed']!.reads,
      react(event, scope) {
        if (broken && (event as RecordedEvent<Placed>).data.order === 2) {
          tried.push(performance.now());
          if (tried.length === 4) fourth.resolve();
          throw new Error(`failure ${tried.length}`);
        }
        count['Placed']!.react(event, scope);
      },
    },
  };
  await happen(orders, 3);
  const consumer = start({ reactions });
  assert.equal(consumer.trouble(), null);
  await fourth.promise;
  const trouble = consumer.trouble();
  assert.match(trouble?.message ?? '', /^failure [34]$/);
  assert.ok(Date.parse(trouble!.since) <= Date.now());
  const pauses = tried.slice(1).map((at, n) => at - tried[n]!);
  [50, 100, 200].forEach((leastMs, n) => assert.ok(pauses[n]! >= leastMs - 2, `pause ${n + 1} was ${pauses[n]} ms`));
  assert.equal(await own.head(), 0, 'what came before in the same batch waits with it');

  broken = false;
  await reached(consumer, 3);
  assert.deepEqual(await counted(), [1, 2, 3]);
  assert.equal(consumer.trouble(), null);
});

test('trouble keeps the time at which it began', async (t) => {
  const { orders, start, troubles } = counting(t);
  const reactions: Reactions = {
    Placed: {
      reads: () => [],
      react() {
        throw new Error(`failure ${troubles.all.length + 1}`);
      },
    },
  };
  await happen(orders);
  const consumer = start({ reactions });
  await troubles.atLeast(1);
  const { since } = consumer.trouble()!;
  await troubles.atLeast(3);
  assert.equal(consumer.trouble()?.since, since);
  assert.deepEqual(troubles.all.slice(0, 2), [`${counter}: failure 1`, `${counter}: failure 2`]);
});

test('a source that cannot be read is trouble, and read again', async (t) => {
  const { orders, start, counted, troubles } = counting(t);
  await happen(orders, 2);
  const feed = localFeed(orders);
  let down = true;
  const consumer = start({
    feed: {
      ...feed,
      next(position, limit, waitMs) {
        if (!down) return feed.next(position, limit, waitMs);
        down = false;
        return Promise.reject(new Error('connection refused'));
      },
    },
  });
  await reached(consumer, 2);
  assert.deepEqual(troubles.all, [`${counter}: connection refused`]);
  assert.deepEqual(await counted(), [1, 2]);
});

test('a worker that was overtaken changes nothing, and goes on behind the other one without trouble', async (t) => {
  const { orders, own, start, counted, troubles } = counting(t);
  await happen(orders, 5);
  const bus = busOf(own);
  let overtaken = 0;
  const consumer = start({
    bus: {
      ...bus,
      async execute(work) {
        overtaken += 1;
        if (overtaken === 1) await reached(start(), 3);
        return bus.execute(work);
      },
    },
  });
  await reached(consumer, 5);
  await happen(orders, 5);
  await reached(consumer, 10);
  assert.deepEqual(await counted(), range(1, 10));
  assert.ok(overtaken > 1);
  assert.deepEqual(troubles.all, []);
  assert.equal(consumer.trouble(), null);
});

test('of two workers at once each event has its effect once', async (t) => {
  const { orders, start, counted, troubles } = counting(t);
  const workers = [start(), start()];
  for (let n = 0; n < 20; n += 1) await happen(orders, 100);
  for (const worker of workers) await reached(worker, 2_000);
  assert.deepEqual(await counted(), range(1, 2_000));
  assert.deepEqual(troubles.all, []);
});

test('events without an effect move the progress, and the checkpoint only every 1,000', async (t) => {
  const { orders, own, start, counted } = counting(t);
  await happen(orders, 999, 'Viewed');
  const consumer = start();
  await reached(consumer, 999);
  assert.equal(await own.checkpoint(counter), 0);
  await happen(orders, 1, 'Viewed');
  await reached(consumer, 1_000);
  assert.equal(await own.checkpoint(counter), 1_000);
  await happen(orders, 10, 'Viewed');
  await happen(orders, 1);
  await reached(consumer, 1_011);
  assert.equal(await own.checkpoint(counter), 1_011);
  assert.deepEqual(await counted(), [1_011]);
});

test('a consumer stops at once while it waits for events, and while it waits to try again', async (t) => {
  const { orders, start } = counting(t);
  const told = noted<number>();
  const idle = start();
  await happen(orders);
  await reached(idle, 1);
  let from = performance.now();
  await idle.stop();
  assert.ok(performance.now() - from < 400, 'a feed looks by itself once per second');

  const failing = start({
    feed: {
      ...localFeed(orders),
      next() {
        told.add(1);
        return Promise.reject(new Error('no'));
      },
    },
  });
  await told.atLeast(5);
  from = performance.now();
  await failing.stop();
  assert.ok(performance.now() - from < 400, 'the next try would have come after 800 ms');
});

// Projections

/** A read database with one table, in which projections note what they have applied. */
async function readDatabase(t: TestContext): Promise<Database> {
  const database = await testDatabase(t, [checkpointSchemaFolder]);
  await database.query('table', 'create table applied (projection text, position bigint)');
  return database;
}

/** Notes the position of each event; then does `more`, and has done what `hook` says after the commit. */
const noting = (
  projection: string,
  more: { services?: readonly string[]; also?(events: readonly RecordedEvent[]): void; hook?(last: number): void } = {},
): Projection => ({
  name: projection,
  services: more.services ?? ['orders'],
  async apply(_service, events, sql) {
    await sql.query('note', 'insert into applied select $1, unnest($2::bigint[])', [
      projection,
      events.map((event) => event.position),
    ]);
    more.also?.(events);
    return () => more.hook?.(events.at(-1)!.position);
  },
});

const appliedBy = async (database: Database, projection: string): Promise<number[]> =>
  (
    await database.query<{ position: number }>(
      'applied',
      'select position from applied where projection = $1 order by position',
      [projection],
    )
  ).map((row) => row.position);

const checkpointsIn = async (database: Database): Promise<Record<string, number>> =>
  Object.fromEntries(
    (
      await database.query<{ consumer: string; position: number }>(
        'all checkpoints',
        'select consumer, position from checkpoints',
      )
    ).map((row) => [row.consumer, row.position]),
  );

function projecting(t: TestContext, database: Database, orders: EventLog) {
  const troubles = noted<string>();
  const resumes = noted<true>();
  const start = (...projections: Projection[]): Consumer => {
    const consumer = startProjections({
      feed: localFeed(orders),
      database,
      projections,
      onResume: () => resumes.add(true),
      reportTrouble: (who, error) => troubles.add(`${who}: ${(error as Error).message}`),
    });
    t.after(() => consumer.stop());
    return consumer;
  };
  return { start, troubles, resumes };
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
  assert.deepEqual(await checkpointsIn(database), { 'a-of-orders.0': 1_500, 'b-of-orders.0': 1_500 });
  assert.deepEqual(troubles.all, []);
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
  await tries.atLeast(2);
  assert.deepEqual([await appliedBy(database, 'healthy'), await appliedBy(database, 'failing')], [[], []]);
  assert.deepEqual(await checkpointsIn(database), { 'healthy-of-orders.0': 0, 'failing-of-orders.0': 0 });
  assert.deepEqual(hooks, []);
  assert.equal(consumer.trouble()?.message, 'a bug');

  broken = false;
  await reached(consumer, 10);
  for (const name of ['healthy', 'failing']) assert.deepEqual(await appliedBy(database, name), range(1, 10));
  assert.deepEqual(await checkpointsIn(database), { 'healthy-of-orders.0': 10, 'failing-of-orders.0': 10 });
  assert.deepEqual(hooks, [10, 10]);
  assert.equal(consumer.trouble(), null);
  assert.ok(troubles.all.every((one) => one === 'projections-of-orders.0: a bug'));
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
  await database.query('obstacle', `insert into applied values ('obstacle', 3)`);
  const orders = openMemoryLog('orders.0');
  const { start } = projecting(t, database, orders);
  const tries = noted<number>();
  const hooks: number[] = [];
  await happen(orders, 5);
  const consumer = start(noting('a', { also: (events) => tries.add(events.length), hook: (last) => hooks.push(last) }));
  await tries.atLeast(2);
  assert.deepEqual(hooks, []);
  await database.query('remove', `delete from applied where projection = 'obstacle'`);
  await reached(consumer, 5);
  assert.deepEqual(hooks, [5]);
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

test('a new projection catches up alone, and then goes together with the others', async (t) => {
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
  assert.deepEqual(batches.slice(0, 2), ['new 1-500', 'new 501-700'], 'no further than where the others are');
  assert.deepEqual(batches.slice(2).sort(), ['new 701-750', 'old 701-750']);
  for (const name of ['old', 'new']) assert.deepEqual(await appliedBy(database, name), range(1, 750));
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
