import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { type CommandBus, createCommandBus, type StreamType } from './command-bus.ts';
import { type Consumer, parkedStreams } from './consumer.ts';
import { EngineError } from './errors.ts';
import type { EventLog, Origin, RecordedEvent } from './event-log.ts';
import { type Feed, localFeed } from './feed.ts';
import { openMemoryLog } from './memory-log.ts';
import { type Reactions, startReactions } from './reactions.ts';
import { type Ports, systemPorts } from '#platform/ports.ts';

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
  const start = (more: { bus?: CommandBus; reactions?: Reactions; feed?: Feed; ports?: Ports } = {}): Consumer => {
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

test('how long the first event has been waiting is told, also of a consumer that stands still', async (t) => {
  const { orders, start, troubles } = counting(t);
  await happen(orders, 2);
  let broken = true;
  const consumer = start({
    reactions: {
      Placed: {
        reads: () => [{ type: tally, id: 'all' }],
        react(event: RecordedEvent<Placed>, scope) {
          if (broken) throw new EngineError('log-unavailable', 'not now');
          scope.record(tally, 'all', { type: 'Counted', data: { order: event.data.order } });
        },
      },
    },
  });
  await troubles.atLeast(1);
  const [first] = await orders.read(0, 1);
  assert.equal(await consumer.waitingSince(), first!.at);
  broken = false;
  consumer.wake();
  await reached(consumer, 2);
  assert.equal(await consumer.waitingSince(), null);
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
  const bus = busOf(own);
  const tried: number[] = [];
  let broken = true;
  const fourth = Promise.withResolvers<void>();
  await happen(orders, 3);
  const consumer = start({
    bus: {
      ...bus,
      execute(work) {
        if (!broken) return bus.execute(work);
        tried.push(performance.now());
        if (tried.length === 4) fourth.resolve();
        return Promise.reject(new EngineError('overloaded', `failure ${tried.length}`));
      },
    },
  });
  assert.equal(consumer.trouble(), null);
  await fourth.promise;
  const trouble = consumer.trouble();
  assert.match(trouble?.message ?? '', /^failure [34]$/);
  assert.ok(Date.parse(trouble!.since) <= Date.now());
  const pauses = tried.slice(1).map((at, n) => at - tried[n]!);
  [50, 100, 200].forEach((leastMs, n) => assert.ok(pauses[n]! >= leastMs - 2, `pause ${n + 1} was ${pauses[n]} ms`));
  assert.deepEqual([await own.head(), await own.checkpoint(counter)], [0, 0]);

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

test('events that come close to each other are reacted to together, unless somebody waits for them', async (t) => {
  const { orders, own, start } = counting(t);
  const pauses = noted<() => void>();
  const appends = noted<number>();
  // A clock that stands still, and pauses that end when the test says so.
  const ports = {
    ...systemPorts,
    elapsed: () => 0,
    after(ms: number, act: () => void) {
      if (ms > 15) return systemPorts.after(ms, act);
      pauses.add(act);
      return () => {};
    },
  };
  own.tail.onPush((events) => appends.add(events.length));
  const consumer = start({ ports });
  await happen(orders);
  await appends.atLeast(1);
  await pauses.atLeast(1);
  await happen(orders, 2);
  await happen(orders, 3);
  pauses.all[0]!();
  await appends.atLeast(2);
  await pauses.atLeast(2);
  await happen(orders);
  await reached(consumer, 7);
  assert.deepEqual(appends.all, [1, 5, 1]);
  await pauses.atLeast(3);
  pauses.all[2]!();
});

test('of the streams that wait those are told whose first message the positions include', () => {
  const consumers = [
    {
      name: 'stock-of-orders',
      source: 'orders.0',
      firstParked: () => [
        { stream: 'order-a', position: 3 },
        { stream: 'order-b', position: 5 },
      ],
    },
    { name: 'stock-of-things', source: 'things.0', firstParked: () => [{ stream: 'thing-c', position: 1 }] },
  ];
  const told = (positions?: Record<string, number>) =>
    parkedStreams(consumers, positions).map(({ deadLetter }) => deadLetter);
  assert.deepEqual(parkedStreams(consumers, { 'orders.0': 4 }), [
    { stream: 'order-a', deadLetter: 'stock-of-orders-3' },
  ]);
  assert.deepEqual(told({ 'orders.0': 5, 'things.0': 0 }), ['stock-of-orders-3', 'stock-of-orders-5']);
  assert.deepEqual(told({}), []);
  assert.deepEqual(told(), ['stock-of-orders-3', 'stock-of-orders-5', 'stock-of-things-1']);
});
