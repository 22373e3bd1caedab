import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../../tests/shop-client.ts';
import type { RecordedEvent } from './event-log.ts';
import { type Feed, localFeed } from './feed.ts';
import { createFollower } from './follower.ts';
import { openMemoryLog } from './memory-log.ts';

const origin = { actor: 'test', correlationId: 'c', causationId: 'c' };

function following(options: { feedOf?: (feed: Feed) => Feed; start?: () => number; fail?: () => boolean } = {}) {
  const log = openMemoryLog('things.0');
  const feed = localFeed(log);
  const delivered: number[] = [];
  const troubles: unknown[] = [];
  let count = 0;
  const follower = createFollower({
    feed: options.feedOf?.(feed) ?? feed,
    start: options.start ?? (() => log.head()),
    deliver(events, progress) {
      if (options.fail?.()) throw new Error('not now');
      for (const { position } of events) {
        delivered.push(position);
        progress.advance(position);
      }
    },
    reportTrouble: (_who, error) => void troubles.push(error),
  });
  async function happen(times: number): Promise<void> {
    for (let n = 0; n < times; n += 1) {
      count += 1;
      const event = {
        stream: `thing-${count}`,
        version: 1,
        type: 'Made',
        data: {},
        at: '2026-01-01T00:00:00Z',
        origin,
      };
      await log.append({ checks: [], events: [event], writes: [], keys: [], checkpoints: [] });
    }
  }
  const has = (last: number) => until(`${last} is delivered`, async () => (delivered.at(-1) === last ? true : null));
  return { follower, happen, delivered, troubles, has };
}

test('a follower delivers what comes after its start, in order, each once', async () => {
  const { follower, happen, delivered, has } = following();
  await happen(2);
  await follower.enter();
  assert.equal(follower.progress.position, 2);
  await happen(3);
  await has(5);
  await follower.enter();
  await happen(1);
  await has(6);
  assert.deepEqual(delivered, [3, 4, 5, 6]);
  await follower.stop();
});

test('what a feed doubles or mixes up is delivered once and in order', async () => {
  const mixed = (feed: Feed): Feed => ({
    ...feed,
    async next(position, limit, waitMs) {
      const events: readonly RecordedEvent[] = await feed.next(Math.max(0, position - 2), limit, waitMs);
      // At times the next one is missing, too.
      return Math.random() < 0.3 ? events.slice(3) : [...events, ...events].toReversed();
    },
  });
  const { follower, happen, delivered, has } = following({ feedOf: mixed });
  await follower.enter();
  await happen(20);
  await has(20);
  assert.deepEqual(
    delivered,
    [...delivered].sort((a, b) => a - b),
  );
  assert.equal(new Set(delivered).size, 20);
  assert.equal(delivered.length, 20);
  await follower.stop();
});

test('a delivery that fails is made again', async () => {
  let failures = 2;
  const { follower, happen, delivered, troubles, has } = following({ fail: () => failures-- > 0 });
  await follower.enter();
  await happen(1);
  await has(1);
  assert.deepEqual(delivered, [1]);
  assert.deepEqual(troubles.map(String), ['Error: not now', 'Error: not now']);
  await follower.stop();
});

test('who enters is told when it cannot be known from where to follow', async () => {
  let broken = true;
  const { follower, happen, has } = following({
    start() {
      if (broken) throw new Error('the database is down');
      return 0;
    },
  });
  await assert.rejects(follower.enter(), /is down/);
  follower.leave();
  broken = false;
  await follower.enter();
  await happen(1);
  await has(1);
  await follower.stop();
});

test('without listeners nothing is followed, and the next begins with what is new', async () => {
  const { follower, happen, delivered, has } = following();
  await follower.enter();
  await happen(1);
  await has(1);
  follower.leave();
  // What it waits for ends its waiting; from then on it sleeps.
  await happen(1);
  await has(2);
  await happen(2);
  await follower.enter();
  assert.equal(follower.progress.position, 4);
  await happen(1);
  await has(5);
  assert.deepEqual(delivered, [1, 2, 5]);
  await follower.stop();
});

test('a follower that is stopped delivers nothing more', async () => {
  const { follower, happen, delivered, has } = following();
  await follower.enter();
  await happen(1);
  await has(1);
  await follower.stop();
  await happen(1);
  await follower.enter();
  assert.deepEqual(delivered, [1]);
  await follower.stop();
});
