import assert from 'node:assert/strict';
import { suite, test, type TestContext } from 'node:test';
import type { EventLog } from './event-log.ts';
import { systemPorts } from '#platform/ports.ts';
import { openMemoryLog } from './memory-log.ts';
import { startTimers, type Timers, type WhenDue } from './timers.ts';

const origin = { actor: 'operator', correlationId: 'c', causationId: 'r', traceparent: '00-a-b-01', reason: 'why' };
const start = Date.parse('2026-01-01T00:00:00.000Z');
const at = (seconds: number): string => new Date(start + seconds * 1_000).toISOString();

/** Sets the timer of `stream`, by an event of its own. */
async function setTimer(log: EventLog, stream: string, dueAt: string | null): Promise<void> {
  const version = ((await log.load([stream]))[0]?.version ?? 0) + 1;
  await log.append({
    checks: [],
    events: [{ stream, version, type: 'Set', data: {}, at: at(0), origin }],
    writes: [{ stream, version, state: {}, dueAt }],
    keys: [],
    checkpoints: [],
  });
}

/** Timers under a clock that stands still until it is moved. */
function timersUnderTest(t: TestContext, log: EventLog = openMemoryLog('orders.0')) {
  const told: string[] = [];
  const troubles: string[] = [];
  let now = start;
  let looked = Promise.withResolvers<void>();
  const watched: EventLog = {
    ...log,
    async due(until, limit) {
      looked.resolve();
      looked = Promise.withResolvers();
      return log.due(until, limit);
    },
  };
  return {
    log,
    told,
    troubles,
    moveClockTo: (time: string) => void (now = Date.parse(time)),
    /** When a look that begins from now on is over: the one after it has begun. */
    async afterTheNextLook(): Promise<void> {
      await looked.promise;
      await looked.promise;
    },
    run(whenDue: WhenDue = {}): Timers {
      const timers = startTimers({
        log: watched,
        ports: { ...systemPorts, now: () => now },
        whenDue: { order: async (id) => void told.push(id), ...whenDue },
        reportTrouble: (who, error) => troubles.push(`${who}: ${(error as Error).message}`),
      });
      t.after(() => timers.stop());
      return timers;
    },
  };
}

// Timers look twice per second: the tests wait side by side.
suite('timers', { concurrency: true }, () => {
  test('a stream is told of when it is due, and none that is not', async (t) => {
    const { log, told, troubles, moveClockTo, afterTheNextLook, run } = timersUnderTest(t);
    await setTimer(log, 'order-second', at(2));
    await setTimer(log, 'order-first-and-foremost', at(1));
    await setTimer(log, 'order-third', at(3));
    await setTimer(log, 'order-never', null);
    const timers = run();
    await afterTheNextLook();
    assert.deepEqual([told, timers.overdue()], [[], 0]);
    moveClockTo(at(2));
    await afterTheNextLook();
    assert.deepEqual(told.slice(0, 2), ['first-and-foremost', 'second'], 'the most overdue first, by their own ids');
    assert.equal(timers.overdue(), 2);
    assert.deepEqual(troubles, []);
  });

  test('what a timer leads to follows from the event that set it, in its trace', async (t) => {
    const { log, moveClockTo, afterTheNextLook, run } = timersUnderTest(t);
    await setTimer(log, 'order-own', at(1));
    await log.append({
      checks: [],
      events: [],
      writes: [{ stream: 'order-moved', version: 1, state: {}, dueAt: at(1) }],
      keys: [],
      checkpoints: [],
    });
    moveClockTo(at(1));
    const told = new Map<string, object>();
    run({ order: async (id, following) => void told.set(id, following) });
    await afterTheNextLook();
    assert.deepEqual(Object.fromEntries(told), {
      own: { correlationId: 'c', causationId: 'orders-0-1', traceparent: origin.traceparent },
      moved: { correlationId: 'moved', causationId: 'timer-of-order-moved' },
    });
  });

  test('a stream whose timer was moved is not told of again, until that time has come', async (t) => {
    const { log, told, moveClockTo, afterTheNextLook, run } = timersUnderTest(t);
    await setTimer(log, 'order-a', at(1));
    await setTimer(log, 'order-b', at(1));
    moveClockTo(at(1));
    const timers = run({
      async order(id) {
        told.push(id);
        await setTimer(log, `order-${id}`, id === 'a' ? at(60) : null);
      },
    });
    await afterTheNextLook();
    assert.deepEqual([told, timers.overdue()], [['a', 'b'], 0]);
    moveClockTo(at(60));
    await afterTheNextLook();
    assert.deepEqual(told, ['a', 'b', 'a']);
  });

  test('a stream is told of again for as long as its timer stands', async (t) => {
    const { log, told, moveClockTo, afterTheNextLook, run } = timersUnderTest(t);
    await setTimer(log, 'order-a', at(1));
    moveClockTo(at(1));
    run();
    await afterTheNextLook();
    assert.ok(told.length >= 2);
    assert.deepEqual([...new Set(told)], ['a']);
  });

  test('a clock that jumps by years finds what has come due meanwhile', async (t) => {
    const { log, told, moveClockTo, afterTheNextLook, run } = timersUnderTest(t);
    await setTimer(log, 'order-a', '2035-06-01T00:00:00.000Z');
    await setTimer(log, 'order-b', '2046-01-01T00:00:00.001Z');
    run();
    moveClockTo('2046-01-01T00:00:00.000Z');
    await afterTheNextLook();
    assert.ok(told.includes('a') && !told.includes('b'));
    moveClockTo('2025-01-01T00:00:00.000Z');
    await afterTheNextLook();
    const before = told.length;
    await afterTheNextLook();
    assert.equal(told.length, before, 'and one that jumps back finds nothing');
  });

  test('what goes wrong with one stream is reported, and the others are told of all the same', async (t) => {
    const { log, told, troubles, moveClockTo, afterTheNextLook, run } = timersUnderTest(t);
    await setTimer(log, 'order-broken', at(1));
    await setTimer(log, 'parcel-1', at(1));
    await setTimer(log, 'order-good', at(1));
    moveClockTo(at(1));
    run({
      order(id) {
        if (id === 'broken') return Promise.reject(new Error('a bug'));
        told.push(id);
        return setTimer(log, `order-${id}`, null);
      },
    });
    await afterTheNextLook();
    assert.deepEqual(told, ['good']);
    assert.deepEqual(troubles.slice(0, 2), [
      'timers-of-orders.0: a bug',
      'timers-of-orders.0: nobody waits for the timer of parcel-1',
    ]);
  });

  test('a log that cannot be asked is trouble, and asked again', async (t) => {
    const memory = openMemoryLog('orders.0');
    let down = true;
    const { log, told, troubles, moveClockTo, afterTheNextLook, run } = timersUnderTest(t, {
      ...memory,
      due(until, limit) {
        if (!down) return memory.due(until, limit);
        down = false;
        return Promise.reject(new Error('connection refused'));
      },
    });
    await setTimer(log, 'order-a', at(1));
    moveClockTo(at(1));
    run();
    await afterTheNextLook();
    assert.deepEqual([told, troubles], [['a'], ['timers-of-orders.0: connection refused']]);
  });

  test('timers stop at once, but for what they have told already', async (t) => {
    const { log, moveClockTo, afterTheNextLook, run } = timersUnderTest(t);
    const idle = run();
    await afterTheNextLook();
    const from = performance.now();
    await idle.stop();
    assert.ok(performance.now() - from < 300);

    await setTimer(log, 'order-a', at(1));
    moveClockTo(at(1));
    const [telling, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const busy = run({
      order() {
        telling.resolve();
        return gate.promise;
      },
    });
    await telling.promise;
    let stopped = false;
    const stopping = busy.stop().then(() => (stopped = true));
    assert.equal(await Promise.race([stopping, new Promise((resolve) => setImmediate(resolve, 'not yet'))]), 'not yet');
    assert.equal(stopped, false);
    gate.resolve();
    await stopping;
  });
});
