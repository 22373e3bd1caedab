import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { type Ports, systemPorts } from '#platform/ports.ts';
import { testDatabase } from '../../tests/database.ts';
import { createCommandBus, type Scope, type StreamType } from './command-bus.ts';
import type { Consumer } from './consumer.ts';
import { EngineError } from './errors.ts';
import type { EventLog, Origin, RecordedEvent } from './event-log.ts';
import type { Unreadable } from './event-types.ts';
import { type Feed, localFeed } from './feed.ts';
import { openMemoryLog } from './memory-log.ts';
import { parkedMessagesMax, queuedBehind } from './parked-messages.ts';
import { attemptsMax, streamsFailingMax } from './parking.ts';
import { logSchemaFolders, openPostgresLog } from './postgres-log.ts';
import { type Reactions, startReactions } from './reactions.ts';
import type { InlineTable } from './table-rows.ts';

const name = 'stock-of-orders';
const origin: Origin = { actor: 'operator', correlationId: 'c', causationId: 'r' };
const at = '2026-01-01T00:00:00.000Z';
const ada = { by: 'ada', at };
/** Long enough to fail a test that waits it out. */
const foreverMs = 30_000;

/** A clock that runs faster, so that nobody waits for pauses between attempts. */
const timesFaster = 20;
const fast: Ports = {
  ...systemPorts,
  elapsed: () => systemPorts.elapsed() * timesFaster,
  after: (ms, act, options) => systemPorts.after(ms / timesFaster, act, options),
};

type Message = { readonly type: 'Placed'; readonly data: { readonly n: number } };
const tally: StreamType<number> = { name: 'tally', initial: 0, evolve: (count) => count + 1 };

/**
 * A service that records one event per message, named after it: `order-a 1`. `poison` are messages, or
 * streams, that its handler cannot take at the moment.
 */
function shop(t: TestContext, own: EventLog = openMemoryLog('stock.0')) {
  const orders = openMemoryLog('orders.0');
  const poison = new Set<string>();
  const tries: string[] = [];
  const troubles: string[] = [];
  const nameOf = (event: RecordedEvent<never>): string => {
    const { stream, data } = event as unknown as RecordedEvent<Message>;
    return `${stream} ${data.n}`;
  };
  const reactions: Reactions = {
    Placed: {
      reads: () => [{ type: tally, id: 'all' }],
      react(event: RecordedEvent<never>, scope: Scope) {
        const message = nameOf(event);
        tries.push(message);
        if (poison.has(message) || poison.has('*')) throw new Error(`${message} is more than 12 can take`);
        scope.record(tally, 'all', { type: 'Counted', data: { message } });
      },
    },
  };
  const bus = createCommandBus({ log: own });
  const start = (more: { feed?: Feed; ports?: Ports } = {}): Consumer => {
    const consumer = startReactions({
      name,
      feed: localFeed(orders, fast),
      ports: fast,
      log: own,
      bus,
      reactions,
      reportTrouble: (_, error) => troubles.push((error as Error).message),
      ...more,
    });
    t.after(() => consumer.stop());
    return consumer;
  };
  const versions = new Map<string, number>();

  return {
    orders,
    own,
    poison,
    tries,
    troubles,
    start,

    /** Records messages, each on the stream named: `a` for `order-a`. Numbered per stream from 1. */
    async happen(streams: readonly string[], type = 'Placed'): Promise<void> {
      await orders.append({
        checks: [],
        events: streams.map((one) => {
          const stream = `order-${one}`;
          const version = (versions.get(stream) ?? 0) + 1;
          versions.set(stream, version);
          return { stream, version, type, data: { n: version }, at, origin };
        }),
        writes: [],
        keys: [],
        checkpoints: [],
      });
    },

    /** The messages that have had their effect, in order. */
    counted: async (): Promise<string[]> =>
      (await own.read(0, 100_000)).map((event) => (event.data as { message: string }).message),

    parked: async () =>
      (await own.parked.waiting(name)).map(({ stream, position, cause, attempts, state }) => ({
        stream,
        position,
        cause,
        attempts,
        state,
      })),
  };
}

const reached = async (consumer: Consumer, position: number): Promise<void> =>
  assert.equal(await consumer.progress.reach(position, foreverMs * timesFaster), true, `did not reach ${position}`);

/** Resolves once `isSo`. */
async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + foreverMs;
  while (!(await isSo())) {
    assert.ok(performance.now() < giveUpAt, `not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Without what differs from message to message. */
const cause = 'order-b # is more than # can take';
const failed = (position: number, attempts = attemptsMax) => ({
  stream: 'order-b',
  position,
  cause,
  attempts,
  state: 'parked',
});
const queued = (position: number) => ({
  stream: 'order-b',
  position,
  cause: queuedBehind,
  attempts: 0,
  state: 'parked',
});

test('a message that cannot be applied is parked with its stream, and other streams flow on in order', async (t) => {
  const { happen, start, poison, counted, parked, own, troubles, tries } = shop(t);
  poison.add('order-b 1');
  await happen(['a', 'b', 'a', 'b', 'c', 'b', 'a']);
  const consumer = start();
  await reached(consumer, 7);
  assert.deepEqual(await counted(), ['order-a 1', 'order-a 2', 'order-c 1', 'order-a 3']);
  assert.equal(await own.checkpoint(name), 7);
  assert.equal(consumer.trouble(), null);
  await until('its attempts are used up', async () => (await parked())[0]?.state === 'parked');
  assert.deepEqual(await parked(), [failed(2), queued(4), queued(6)]);
  assert.equal(consumer.parked(), 3);
  assert.equal(tries.filter((message) => message === 'order-b 1').length >= attemptsMax, true);
  assert.deepEqual(troubles, ['orders-0-2 is parked with its stream: order-b 1 is more than 12 can take']);

  await happen(['b', 'd']);
  await reached(consumer, 9);
  assert.deepEqual((await counted()).slice(4), ['order-d 1']);
  assert.deepEqual((await parked()).at(-1), queued(8));
});

test('a message that fails a few times is applied in the end, and its stream after it', async (t) => {
  const { happen, start, poison, counted, parked } = shop(t);
  poison.add('order-b 1');
  await happen(['b', 'b', 'c']);
  const consumer = start();
  await reached(consumer, 3);
  poison.clear();
  await until('nothing is parked', async () => (await parked()).length === 0);
  assert.deepEqual(await counted(), ['order-c 1', 'order-b 1', 'order-b 2']);
  assert.equal(consumer.parked(), 0);
});

test('a message that nothing follows is parked once its attempts are used up, and not before', async (t) => {
  const { happen, start, poison, counted, parked, own, troubles, tries } = shop(t);
  poison.add('order-b 1');
  await happen(['b', 'b']);
  const consumer = start();
  await until('it is trouble', () => consumer.trouble() !== null);
  assert.deepEqual([await parked(), await own.checkpoint(name)], [[], 0]);
  await reached(consumer, 2);
  assert.deepEqual(await parked(), [failed(1), queued(2)]);
  assert.deepEqual(
    tries,
    Array.from({ length: attemptsMax }, () => 'order-b 1'),
  );
  assert.equal(troubles.length, attemptsMax);
  assert.equal(consumer.trouble(), null);
  assert.deepEqual(await counted(), []);
});

test('a handler that fails for all streams pauses its consumer, which parks nothing and goes on by itself', async (t) => {
  const { happen, start, poison, counted, parked, own } = shop(t);
  await happen(['a']);
  const consumer = start();
  await reached(consumer, 1);
  poison.add('*');
  const streams = Array.from({ length: 2 * streamsFailingMax }, (_, n) => `s${n}`);
  await happen(streams);
  await until('it is paused', () => consumer.paused() !== null);
  assert.match(consumer.paused()!, /^5 streams in a row have failed, .*: order-s4 1 is more than 12 can take$/);
  await until('it says so', () => consumer.trouble()?.message === `paused: ${consumer.paused()}`);
  assert.deepEqual([await parked(), await own.checkpoint(name), consumer.progress.position], [[], 1, 1]);
  poison.clear();
  await reached(consumer, 11);
  assert.deepEqual(await counted(), ['order-a 1', ...streams.map((stream) => `order-${stream} 1`)]);
  assert.deepEqual([consumer.paused(), consumer.trouble(), await parked()], [null, null, []]);
});

test('a paused consumer goes on when its handler works again for others than the first message', async (t) => {
  const { happen, start, poison, counted, parked } = shop(t);
  poison.add('*').add('order-b 1');
  await happen(['b', 'c', 'd', 'e', 'f', 'g']);
  const consumer = start();
  await until('it is paused', () => consumer.paused() !== null);
  poison.delete('*');
  await reached(consumer, 6);
  assert.deepEqual(
    await counted(),
    ['c', 'd', 'e', 'f', 'g'].map((stream) => `order-${stream} 1`),
  );
  assert.equal((await parked()).length, 1);
});

test('what was parked while it was not clear whose fault it was is tried again when the handler works', async (t) => {
  const { happen, start, poison, counted, parked, orders } = shop(t);
  poison.add('*');
  const consumer = start();
  // So few messages that each one's attempts are used up before the next one comes.
  for (let n = 1; n < streamsFailingMax; n += 1) {
    await happen([`s${n}`]);
    await reached(consumer, n);
  }
  await happen(['last']);
  await until('it is paused', () => consumer.paused() !== null);
  assert.equal((await parked()).length, streamsFailingMax - 1);
  poison.clear();
  await reached(consumer, await orders.head());
  await until('nothing is parked', async () => (await parked()).length === 0);
  assert.deepEqual(await counted(), ['order-last 1', 'order-s1 1', 'order-s2 1', 'order-s3 1', 'order-s4 1']);
});

test('streams that fail now and then, while others are applied in between, do not pause their consumer', async (t) => {
  const { happen, start, poison, parked, counted, orders } = shop(t);
  const consumer = start();
  const bad = Array.from({ length: streamsFailingMax + 1 }, (_, n) => `s${n}`);
  for (const stream of bad) {
    poison.add(`order-${stream} 1`);
    // Alone, so that it is parked without proof.
    await happen([stream]);
    await reached(consumer, await orders.head());
    await happen(['a']);
    await reached(consumer, await orders.head());
  }
  assert.equal((await parked()).length, bad.length);
  assert.equal((await counted()).length, bad.length);
});

test('an operator can have a consumer go on that has paused by itself: what fails is parked', async (t) => {
  const { happen, start, poison, parked, own, counted } = shop(t);
  const streams = ['b', 'c', 'd', 'e', 'f', 'g'];
  for (const stream of streams) poison.add(`order-${stream} 1`);
  await happen(streams);
  const consumer = start();
  await until('it is paused', () => consumer.paused() !== null);
  await own.parked.setPause(name, false, ada);
  consumer.wake();
  await reached(consumer, 6);
  assert.equal((await parked()).length, 6);
  await happen(['h']);
  await reached(consumer, 7);
  assert.deepEqual(await counted(), ['order-h 1']);
  assert.equal(consumer.paused(), null);
});

test('a retry replays a stream in order, and newer messages do not overtake it', async (t) => {
  const { happen, start, poison, parked, own, counted } = shop(t);
  poison.add('order-b 1');
  await happen(['b', 'b', 'a']);
  const consumer = start();
  await until('it is parked', async () => (await parked())[0]?.state === 'parked');
  poison.clear();
  await happen(['b']);
  await reached(consumer, 4);
  await Promise.all([own.parked.retry({ consumer: name, position: 2 }, ada), happen(['b', 'b'])]);
  consumer.wake();
  await until('nothing is parked', async () => consumer.progress.position === 6 && (await parked()).length === 0);
  assert.deepEqual(await counted(), ['order-a 1', ...[1, 2, 3, 4, 5].map((n) => `order-b ${n}`)]);
});

test('a retry is heard of without being told', async (t) => {
  const { happen, start, poison, parked, own, counted } = shop(t);
  poison.add('order-b 1');
  await happen(['b', 'a']);
  start();
  await until('it is parked', async () => (await parked())[0]?.state === 'parked');
  poison.clear();
  await own.parked.retry({ consumer: name }, ada);
  await until('nothing is parked', async () => (await parked()).length === 0);
  assert.deepEqual(await counted(), ['order-a 1', 'order-b 1']);
});

test('a message that fails again stays parked with its queue, and tells how often it was tried', async (t) => {
  const { happen, start, poison, parked, own, counted } = shop(t);
  poison.add('order-b 1').add('order-b 3');
  await happen(['b', 'b', 'b', 'b', 'a']);
  const consumer = start();
  await until('it is parked', async () => (await parked())[0]?.state === 'parked');
  await own.parked.retry({ consumer: name, position: 1 }, ada);
  consumer.wake();
  await until('it was tried', async () => (await parked())[0]?.attempts === attemptsMax + 1);
  assert.deepEqual(await parked(), [failed(1, attemptsMax + 1), queued(2), queued(3), queued(4)]);

  poison.delete('order-b 1');
  await own.parked.retry({ consumer: name, position: 1 }, ada);
  consumer.wake();
  await until('the next one is in trouble', async () => (await parked())[0]?.attempts === attemptsMax);
  assert.deepEqual(await parked(), [failed(3), queued(4)]);
  assert.deepEqual(await counted(), ['order-a 1', 'order-b 1', 'order-b 2']);
});

test('when a message is discarded, the later ones of its stream are applied', async (t) => {
  const { happen, start, poison, parked, own, counted } = shop(t);
  poison.add('order-b 1');
  await happen(['b', 'b', 'b', 'a']);
  const consumer = start();
  await until('it is parked', async () => (await parked())[0]?.state === 'parked');
  await own.parked.discard({ consumer: name, position: 1 }, { ...ada, reason: 'a test order' });
  consumer.wake();
  await until('nothing waits', async () => (await parked()).length === 0);
  await happen(['b']);
  await reached(consumer, 5);
  assert.deepEqual(await counted(), ['order-a 1', 'order-b 2', 'order-b 3', 'order-b 4']);
});

test('what is parked is known after a restart, and what was still to be tried is tried', async (t) => {
  const { happen, start, poison, parked, counted } = shop(t);
  poison.add('order-b 1');
  await happen(['b', 'a']);
  const first = start();
  await reached(first, 2);
  await first.stop();
  await happen(['b', 'a']);
  const second = start();
  await reached(second, 4);
  assert.deepEqual(await counted(), ['order-a 1', 'order-a 2']);
  await until('its attempts are used up', async () => (await parked())[0]?.state === 'parked');
  assert.deepEqual(await parked(), [failed(1), queued(3)]);
});

test('a log that cannot be written is nobody’s fault: nothing is parked', async (t) => {
  const own = openMemoryLog('stock.0');
  let down = 2 * attemptsMax;
  const flaky: EventLog = {
    ...own,
    append: (batch) => {
      if (down === 0) return own.append(batch);
      down -= 1;
      return Promise.reject(new EngineError('log-unavailable', 'no answer'));
    },
  };
  const { happen, start, counted, parked, troubles } = shop(t, flaky);
  await happen(['a', 'b', 'c']);
  const consumer = start();
  await reached(consumer, 3);
  assert.deepEqual(await counted(), ['order-a 1', 'order-b 1', 'order-c 1']);
  assert.deepEqual(await parked(), []);
  assert.ok(troubles.length === 2 * attemptsMax && troubles.every((message) => message === 'no answer'));
});

test('what cannot be read is parked at once, unless the consumer does nothing about its type anyway', async (t) => {
  const { happen, start, own, orders, counted, parked } = shop(t);
  await happen(['b'], 'Strange');
  await happen(['b', 'a']);
  await happen(['c'], 'Viewed.2');
  await happen(['d'], 'Placed.2');
  await happen(['e'], 'Placed');
  await happen(['f'], 'Viewed');
  const unreadable = new Map<number, Unreadable>([
    [1, { reason: 'unknown-type', detail: 'Strange is not known' }],
    [4, { reason: 'newer-version', detail: 'too new' }],
    [5, { reason: 'newer-version', detail: 'too new' }],
    [6, { reason: 'invalid', detail: 'not valid' }],
    [7, { reason: 'invalid', detail: 'not valid' }],
  ]);
  const local = localFeed(orders, fast);
  const feed: Feed = {
    ...local,
    async next(...wanted) {
      return (await local.next(...wanted)).map((event) => {
        const why = unreadable.get(event.position);
        return why === undefined ? event : { ...event, unreadable: why };
      });
    },
  };
  const consumer = start({ feed });
  await reached(consumer, 7);
  assert.deepEqual(await counted(), ['order-a 1']);
  const rows = (await parked()).map(({ position, cause: why, attempts, state }) => [position, why, attempts, state]);
  assert.deepEqual(rows, [
    [1, 'unknown-type', 1, 'parked'],
    [2, queuedBehind, 0, 'parked'],
    [5, 'newer-version', 1, 'parked'],
    [6, 'invalid', 1, 'parked'],
  ]);

  // The program was updated, and knows them.
  unreadable.clear();
  await Promise.all([1, 5, 6].map((position) => own.parked.retry({ consumer: name, position }, ada)));
  consumer.wake();
  await until('nothing is parked', async () => (await parked()).length === 0);
  assert.deepEqual(await counted(), ['order-a 1', 'order-b 2', 'order-e 1']);
});

test('a consumer with as many parked messages as it may have pauses until there is room', async (t) => {
  const { happen, start, orders, parked, own, counted } = shop(t);
  const local = localFeed(orders, fast);
  const feed: Feed = {
    ...local,
    next: async (...wanted) =>
      (await local.next(...wanted)).map((event) =>
        event.type === 'Strange' ? { ...event, unreadable: { reason: 'unknown-type', detail: 'Strange' } } : event,
      ),
  };
  await happen(
    Array.from({ length: parkedMessagesMax }, () => 'b'),
    'Strange',
  );
  const consumer = start({ feed });
  await reached(consumer, parkedMessagesMax);
  await happen(['a']);
  await reached(consumer, parkedMessagesMax + 1);
  await happen(['b'], 'Strange');
  await until('it is paused', () => consumer.paused() !== null);
  assert.match(consumer.trouble()?.message ?? consumer.paused()!, /10000 messages are parked/);
  await own.parked.discard({ consumer: name, position: 1 }, { ...ada, reason: 'a test order' });
  consumer.wake();
  await reached(consumer, parkedMessagesMax + 2);
  assert.deepEqual([(await parked()).length, consumer.paused()], [parkedMessagesMax, null]);
  assert.deepEqual(await counted(), ['order-a 1']);
});

test('a consumer that an operator has paused takes nothing, also after a restart, until it is told to go on', async (t) => {
  const { happen, start, own, counted } = shop(t);
  await happen(['a']);
  // By a clock that stands still it is never time to look: it has to be told.
  const first = start({ ports: { ...fast, elapsed: () => 0 } });
  await reached(first, 1);
  await own.parked.setPause(name, true, ada);
  first.wake();
  await until('it is paused', () => first.paused() !== null);
  await first.stop();
  const second = start();
  await happen(['a']);
  await until('it is paused', () => second.paused() !== null);
  assert.deepEqual([second.paused(), second.trouble()], [`by ada since ${at}`, null]);
  assert.deepEqual(await counted(), ['order-a 1']);
  await own.parked.setPause(name, false, { ...ada, at: '2026-01-02T00:00:00.000Z' });
  await reached(second, 2);
  assert.equal(second.paused(), null);
});

test('a feed that doubles, reorders and leaves holes changes nothing', async (t) => {
  const { happen, start, orders, counted, parked, poison } = shop(t);
  const local = localFeed(orders, fast);
  let turn = 0;
  const feed: Feed = {
    ...local,
    async next(position, limit, waitMs) {
      turn += 1;
      const back = Math.max(0, position - (turn % 3));
      const events = [...(await local.next(back, Math.min(limit + position - back, 7), waitMs))];
      if (turn % 2 === 0) events.reverse();
      if (turn % 5 === 0) events.splice(1, 1);
      return [...events, ...events.slice(0, 2)];
    },
  };
  poison.add('order-b 1');
  await happen(['a', 'b', 'c', 'b']);
  for (let n = 0; n < 30; n += 1) await happen(['a', 'c']);
  const consumer = start({ feed });
  await reached(consumer, 64);
  const all = Array.from({ length: 31 }, (_, n) => [`order-a ${n + 1}`, `order-c ${n + 1}`]).flat();
  assert.deepEqual(await counted(), all);
  assert.deepEqual(
    (await parked()).map(({ position }) => position),
    [2, 4],
  );
});

test('of two workers at once each message has its effect once and in order, parked ones too', async (t) => {
  const { happen, start, poison, parked, own, counted } = shop(t);
  poison.add('order-b 3').add('order-c 2');
  const workers = [start(), start()];
  for (let n = 0; n < 40; n += 1) {
    await happen(['a', 'b', 'c', 'd']);
    if (n % 10 === 9) await Promise.all(workers.map((worker) => reached(worker, n * 4)));
  }
  await Promise.all(workers.map((worker) => reached(worker, 160)));
  poison.clear();
  await until('all is applied', async () => {
    await own.parked.retry({ consumer: name }, ada);
    for (const worker of workers) worker.wake();
    return (await parked()).length === 0;
  });
  const counts = await counted();
  assert.equal(counts.length, 160);
  for (const stream of ['a', 'b', 'c', 'd']) {
    assert.deepEqual(
      counts.filter((message) => message.startsWith(`order-${stream} `)),
      Array.from({ length: 40 }, (_, n) => `order-${stream} ${n + 1}`),
    );
  }
});

test('a worker that was overtaken knows what the other one has parked', async (t) => {
  const { happen, start, poison, orders, parked, counted, own } = shop(t);
  const local = localFeed(orders, fast);
  const held = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  let isHeld = false;
  // It looks at what is parked, and then is held up with a batch in its hands.
  const slow = start({
    ports: { ...fast, elapsed: () => 0 },
    feed: {
      ...local,
      async next(...wanted) {
        const batch = await local.next(...wanted);
        if (batch.length === 0 || isHeld) return batch;
        isHeld = true;
        asked.resolve();
        await held.promise;
        return batch;
      },
    },
  });
  await happen(['a']);
  await asked.promise;
  poison.add('order-b 1');
  await happen(['b', 'a']);
  const quick = start();
  await until('it is parked', async () => (await parked())[0]?.state === 'parked');
  await quick.stop();
  await happen(['b']);
  held.resolve();
  await reached(slow, 4);
  assert.deepEqual(await counted(), ['order-a 1', 'order-a 2']);
  assert.equal(await own.checkpoint(name), 4);
  assert.deepEqual(await parked(), [failed(2), queued(4)]);
});

test('a message whose effect the database refuses is found among many, and parked', async (t) => {
  const database = await testDatabase(t, logSchemaFolders);
  await database.query('table', `create table counted (message text check (message <> 'order-b 1'))`);
  await database.query(
    'inline',
    `create or replace function write_inline_tables(columns text[]) returns void language sql as
     $$ insert into counted select unnest(columns[1]::text[]) $$`,
  );
  const countedTable: InlineTable = {
    of: tally.name,
    table: { name: 'counted', key: ['message'], columns: { message: 'text' } },
    rowsOf: ({ events }) => events.map(({ data }) => ({ message: (data as { message: string }).message })),
  };
  const own = await openPostgresLog({ database, source: 'stock.0', inlineTables: [countedTable] });
  t.after(() => own.close());
  const { happen, start, counted, parked, orders } = shop(t, own);
  const others = Array.from({ length: 40 }, (_, n) => `s${n}`);
  await happen([...others.slice(0, 20), 'b', 'b', ...others.slice(20)]);
  const consumer = start();
  await reached(consumer, await orders.head());
  assert.deepEqual(
    await counted(),
    others.map((stream) => `order-${stream} 1`),
  );
  await until('its attempts are used up', async () => (await parked())[0]?.state === 'parked');
  const refused = 'new row for relation "counted" violates check constraint "counted_message_check"';
  assert.deepEqual(await parked(), [{ ...failed(21), cause: refused }, queued(22)]);

  await database.query('mend', 'alter table counted drop constraint counted_message_check');
  await own.parked.retry({ consumer: name }, ada);
  consumer.wake();
  await until('nothing is parked', async () => (await parked()).length === 0);
  assert.deepEqual((await counted()).slice(-2), ['order-b 1', 'order-b 2']);
});
