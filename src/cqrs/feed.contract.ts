/** What every feed has to keep, whatever carries it; run on each of them by the test beside it. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { AppendBatch, RecordedEvent } from './event-log.ts';
import type { Feed } from './feed.ts';

/** A feed of an empty log, and how its source writes into that log. */
export type FedLog = { readonly feed: Feed; append(batch: AppendBatch): Promise<unknown> };

const foreverMs = 20_000;

const happened = (from: number, count = 1): AppendBatch => ({
  checks: [],
  events: Array.from({ length: count }, (_, n) => ({
    stream: `order-${from + n}`,
    version: 1,
    type: 'Happened',
    data: { n: from + n, text: 'ä "quoted"' },
    at: '2026-01-01T00:00:00.000Z',
    origin: { actor: 'operator', correlationId: 'c', causationId: 'r' },
  })),
  writes: [],
  keys: [],
  checkpoints: [],
});
const positions = (events: readonly RecordedEvent[]): number[] => events.map((event) => event.position);

export function feedContract(name: string, open: (t: TestContext) => Promise<FedLog>): void {
  test(`${name}: an empty log gives nothing, after the wait`, async (t) => {
    const { feed } = await open(t);
    assert.deepEqual(await feed.next(0, 10, 20), []);
    assert.equal(feed.knownHead(), 0);
  });

  test(`${name}: events come in order from a position, up to the limit`, async (t) => {
    const { feed, append } = await open(t);
    await append(happened(1, 3));
    await append(happened(4, 2));
    assert.deepEqual(positions(await feed.next(0, 10, 0)), [1, 2, 3, 4, 5]);
    assert.deepEqual(positions(await feed.next(1, 2, 0)), [2, 3]);
    assert.deepEqual(positions(await feed.next(4, 10, 0)), [5]);
  });

  test(`${name}: an event is what was appended, with its id and slot`, async (t) => {
    const { feed, append } = await open(t);
    await append(happened(7));
    const [event] = await feed.next(0, 1, 0);
    assert.equal(event?.id, 'orders-0-1');
    assert.equal(event?.stream, 'order-7');
    assert.deepEqual(event?.data, { n: 7, text: 'ä "quoted"' });
    assert.deepEqual(event?.origin, { actor: 'operator', correlationId: 'c', causationId: 'r' });
    assert.ok(event !== undefined && event.slot >= 0 && event.slot < 1_024);
  });

  test(`${name}: the same position gives the same events again`, async (t) => {
    const { feed, append } = await open(t);
    await append(happened(1, 3));
    assert.deepEqual(await feed.next(1, 10, 0), await feed.next(1, 10, 0));
  });

  test(`${name}: whoever waits is given what happens meanwhile`, async (t) => {
    const { feed, append } = await open(t);
    await append(happened(1));
    await feed.next(0, 10, 0);
    const waiting = feed.next(1, 10, foreverMs);
    await append(happened(2));
    assert.deepEqual(positions(await waiting), [2]);
    assert.equal(feed.knownHead(), 2);
  });

  test(`${name}: two who follow at once each see every event once, in order`, async (t) => {
    const { feed, append } = await open(t);
    const total = 200;
    const follow = async (limit: number): Promise<number[]> => {
      const seen: number[] = [];
      while (seen.length < total) seen.push(...positions(await feed.next(seen.length, limit, foreverMs)));
      return seen;
    };
    const following = Promise.all([follow(7), follow(50)]);
    for (let n = 1; n <= total; n += 10) await append(happened(n, 10));
    const every = Array.from({ length: total }, (_, n) => n + 1);
    assert.deepEqual(await following, [every, every]);
  });
}
