import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { AppendBatch } from '#cqrs/event-log.ts';
import { feedContract } from '#cqrs/feed.contract.ts';
import type { Feed } from '#cqrs/feed.ts';
import { inOrder } from '#cqrs/in-order.ts';
import { postgresLogReader } from '#cqrs/postgres-log-reader.ts';
import { busFeed, type BusWeather } from './bus-feed.ts';
import { Counters } from './counters.ts';
import { Incarnation } from './incarnation.ts';
import { seededRandom } from './random.ts';
import { simulatedLogs } from './simulated-log.fixture.ts';

async function open(
  t: TestContext,
  weather: BusWeather,
): Promise<{ feed: Feed; counters: Counters; append(batch: AppendBatch): Promise<unknown> }> {
  const { server, scheduler, open: openLog } = simulatedLogs(t, 'orders.0');
  const random = seededRandom(1, 'bus');
  const process = new Incarnation('consumer#1', scheduler, random, { skewMs: 0 });
  const counters = new Counters();
  const reader = postgresLogReader(server.databaseFor(process), 'orders.0');
  const log = await openLog();
  return {
    feed: busFeed({ process, log: reader, weather, random, counters }),
    counters,
    append: (batch) => log.append(batch),
  };
}

feedContract('bus feed in calm weather', (t) => open(t, { down: false, noise: 0 }));

test('a bus doubles, shuffles and omits, and whoever takes only what comes next has every event once', async (t) => {
  const { feed, append, counters } = await open(t, { down: false, noise: 1 });
  const origin = { actor: 'operator', correlationId: 'c', causationId: 'r' };
  const events = Array.from({ length: 200 }, (_, n) => ({
    stream: `order-${n}`,
    version: 1,
    type: 'Happened',
    data: {},
    at: '2026-01-01T00:00:00.000Z',
    origin,
  }));
  await append({ checks: [], events, writes: [], keys: [], checkpoints: [] });
  const taken: number[] = [];
  while (taken.length < events.length) {
    const delivered = await feed.next(taken.length, 10, 5_000);
    taken.push(...inOrder(delivered, taken.length).map(({ position }) => position));
  }
  assert.deepEqual(
    taken,
    events.map((_, n) => n + 1),
  );
  for (const state of ['bus: hole', 'bus: reordered', 'duplicate Happened'])
    assert.ok(counters.counts.has(state), state);
});

test('a bus that is down gives nothing, and all of it when it is back', async (t) => {
  const weather = { down: true, noise: 0 };
  const { feed, append } = await open(t, weather);
  const origin = { actor: 'operator', correlationId: 'c', causationId: 'r' };
  const event = { stream: 'order-1', version: 1, type: 'Happened', data: {}, at: '2026-01-01T00:00:00.000Z', origin };
  await append({ checks: [], events: [event], writes: [], keys: [], checkpoints: [] });
  assert.deepEqual(await feed.next(0, 10, 5_000), []);
  weather.down = false;
  assert.equal((await feed.next(0, 10, 5_000)).length, 1);
});
