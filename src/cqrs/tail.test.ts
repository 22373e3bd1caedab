import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RecordedEvent } from './event-log.ts';
import { Tail, tailBytesMax, tailEventsMax } from './tail.ts';

const event = (position: number): RecordedEvent => ({
  id: `orders-0-${position}`,
  position,
  stream: 'order-1',
  version: position,
  slot: 0,
  type: 'Happened',
  data: {},
  at: '2026-01-01T00:00:00.000Z',
  origin: { actor: 'operator', correlationId: 'c', causationId: 'r' },
});
const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, n) => from + n);
const push = (tail: Tail, from: number, to = from, bytes = 1) => {
  const positions = range(from, to);
  tail.push(
    positions.map(event),
    positions.map(() => bytes),
  );
};
const positionsAfter = (tail: Tail, position: number, limit = 10_000): number[] | null =>
  tail.after(position, limit)?.map((one) => one.position) ?? null;

test('an empty tail knows nothing', () => {
  const tail = new Tail();
  assert.equal(tail.position, 0);
  assert.equal(tail.after(0, 10), null);
  tail.push([], []);
  assert.equal(tail.after(0, 10), null);
});

test('a tail gives what comes after a position, up to the limit', () => {
  const tail = new Tail();
  push(tail, 5, 9);
  assert.equal(tail.position, 9);
  assert.deepEqual(positionsAfter(tail, 4), [5, 6, 7, 8, 9]);
  assert.deepEqual(positionsAfter(tail, 6, 2), [7, 8]);
  assert.deepEqual(positionsAfter(tail, 9), []);
  assert.deepEqual(positionsAfter(tail, 20), []);
  assert.equal(positionsAfter(tail, 3), null, 'position 4 is not in memory');
});

test('a tail has a limit of events: the newest stay', () => {
  const tail = new Tail();
  for (let n = 1; n <= tailEventsMax; n += 1) push(tail, n);
  assert.deepEqual(positionsAfter(tail, 0)?.length, tailEventsMax);
  push(tail, tailEventsMax + 1);
  assert.equal(positionsAfter(tail, 0), null);
  const half = Math.ceil((tailEventsMax + 1) / 2);
  assert.deepEqual(positionsAfter(tail, half), range(half + 1, tailEventsMax + 1));
  assert.equal(positionsAfter(tail, half - 1), null);
});

test('one push of more than the limit leaves the newest', () => {
  const tail = new Tail();
  push(tail, 1, 3 * tailEventsMax);
  assert.equal(tail.position, 3 * tailEventsMax);
  const kept = tail.after(3 * tailEventsMax - 100, 1_000);
  assert.equal(kept?.length, 100);
  assert.equal(tail.after(0, 1), null);
});

test('a tail has a limit of bytes', () => {
  const tail = new Tail();
  push(tail, 1, 4, tailBytesMax / 4);
  assert.deepEqual(positionsAfter(tail, 0), [1, 2, 3, 4]);
  push(tail, 5, 5, 1);
  assert.deepEqual(positionsAfter(tail, 3), [4, 5]);
  assert.equal(positionsAfter(tail, 2), null);
  // What was dropped does not count any more.
  push(tail, 6, 7, tailBytesMax / 4);
  assert.deepEqual(positionsAfter(tail, 3), [4, 5, 6, 7]);
});

test('an event that is larger than the limit is kept alone', () => {
  const tail = new Tail();
  push(tail, 1, 3);
  push(tail, 4, 4, 2 * tailBytesMax);
  assert.deepEqual(positionsAfter(tail, 3), [4]);
  push(tail, 5);
  assert.deepEqual(positionsAfter(tail, 4), [5]);
  assert.equal(positionsAfter(tail, 3), null);
});

test('where another writer has been in between, the tail starts anew', () => {
  const tail = new Tail();
  push(tail, 1, 3);
  push(tail, 7, 8);
  assert.equal(positionsAfter(tail, 3), null);
  assert.deepEqual(positionsAfter(tail, 6), [7, 8]);
});

test('what was there before another writer does not count any more', () => {
  const tail = new Tail();
  push(tail, 1, 3, tailBytesMax / 4);
  push(tail, 7, 8, tailBytesMax / 4);
  push(tail, 9, 10, tailBytesMax / 4);
  assert.deepEqual(positionsAfter(tail, 6), [7, 8, 9, 10]);
});

test('every listener is told of every push, also of what the tail does not keep', () => {
  const tail = new Tail();
  const heard: number[][] = [];
  tail.onPush((events) => heard.push(events.map((one) => one.position)));
  tail.onPush((events) => heard.push(events.map((one) => -one.position)));
  push(tail, 1, 2);
  push(tail, 9);
  assert.deepEqual(heard, [[1, 2], [-1, -2], [9], [-9]]);
});
