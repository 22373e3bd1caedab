import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemPorts } from '#platform/ports.ts';
import type { RecordedEvent } from './event-log.ts';
import type { Feed } from './feed.ts';
import { gathering } from './gathering.ts';
import { Progress } from './progress.ts';

const everyMs = 25;

/** A feed that gathers, by a clock that only this test moves: it is told up to where events have happened. */
function gathered() {
  let nowMs = 1_000;
  let timers: { readonly atMs: number; readonly act: () => void }[] = [];
  const ports = {
    ...systemPorts,
    elapsed: () => nowMs,
    after(ms: number, act: () => void) {
      const timer = { atMs: nowMs + ms, act };
      timers.push(timer);
      return () => {
        timers = timers.filter((one) => one !== timer);
      };
    },
  };
  let head = 0;
  const feed: Feed = {
    source: 'orders.0',
    async next(position, limit, waitMs) {
      if (head <= position && waitMs > 0) await new Promise(() => {});
      const count = Math.min(limit, head - position);
      return Array.from({ length: count }, (_, n) => ({ position: position + n + 1 }) as RecordedEvent);
    },
    knownHead: () => head,
    anchor: () => Promise.reject(new Error('is not asked for')),
    interrupt() {},
    close: async () => {},
  };
  const progress = new Progress(0, ports);
  const gatheringFeed = gathering(feed, { ports, everyMs, progress: () => progress });
  return {
    progress,
    interrupt: () => gatheringFeed.interrupt(),
    happen: (position: number) => (head = position),
    /** The positions given; undefined as long as they are not. */
    next(position: number, limit = 100) {
      const asked: { given?: number[] } = {};
      void gatheringFeed
        .next(position, limit, 5_000)
        .then((events) => (asked.given = events.map((event) => event.position)));
      return asked;
    },
    async pass(ms: number) {
      await settled();
      nowMs += ms;
      for (const { atMs, act } of timers.filter((one) => one.atMs <= nowMs)) if (atMs <= nowMs) act();
      await settled();
    },
  };
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Position 1 has just been given. */
async function justBegun() {
  const feed = gathered();
  feed.happen(1);
  const first = feed.next(0);
  await feed.pass(0);
  assert.deepEqual(first.given, [1]);
  return feed;
}

test('batches begin apart, and what happens in between goes together', async () => {
  const feed = await justBegun();
  feed.happen(2);
  const second = feed.next(1);
  await feed.pass(everyMs - 1);
  assert.equal(second.given, undefined);
  feed.happen(4);
  await feed.pass(1);
  assert.deepEqual(second.given, [2, 3, 4]);
});

test('after a pause the first event is given at once', async () => {
  const feed = await justBegun();
  await feed.pass(everyMs);
  feed.happen(2);
  const second = feed.next(1);
  await feed.pass(0);
  assert.deepEqual(second.given, [2]);
});

test('a full batch is followed by the next at once', async () => {
  const feed = await justBegun();
  feed.happen(7);
  const second = feed.next(1, 3);
  await feed.pass(everyMs);
  assert.deepEqual(second.given, [2, 3, 4]);
  const third = feed.next(4, 3);
  await feed.pass(0);
  assert.deepEqual(third.given, [5, 6, 7]);
});

test('who waits for an event waits for no batch to gather', async () => {
  const feed = await justBegun();
  feed.happen(2);
  const second = feed.next(1);
  await feed.pass(1);
  assert.equal(second.given, undefined);
  const waiting = feed.progress.reach(2, 1_000);
  await feed.pass(0);
  assert.deepEqual(second.given, [2]);
  feed.progress.advance(2);
  assert.equal(await waiting, true);

  feed.happen(3);
  const somebodyWaits = feed.progress.reach(3, 1_000);
  const third = feed.next(2);
  await feed.pass(0);
  assert.deepEqual(third.given, [3]);
  feed.progress.release();
  assert.equal(await somebodyWaits, false);
});

test('what is read one by one is given at once', async () => {
  const feed = await justBegun();
  feed.happen(2);
  const second = feed.next(1, 1);
  await feed.pass(0);
  assert.deepEqual(second.given, [2]);
});

test('an interrupt ends the gathering, and nothing is waited for after it', async () => {
  const feed = await justBegun();
  const second = feed.next(1);
  await feed.pass(1);
  feed.interrupt();
  await feed.pass(0);
  assert.deepEqual(second.given, []);
  feed.happen(2);
  const third = feed.next(1);
  await feed.pass(everyMs);
  assert.deepEqual(third.given, [2]);
});
