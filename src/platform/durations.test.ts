import assert from 'node:assert/strict';
import { test } from 'node:test';
import { durationBoundsMs, Durations, quantileMs } from './durations.ts';

test('a duration is counted in the bucket that it does not exceed', () => {
  const durations = new Durations();
  for (const ms of [0, 1, 1.1, 100, 100.5, 60_000, 60_001, 1e9]) durations.record(ms);
  const counted = Object.fromEntries([...durations.counts].flatMap((n, at) => (n === 0 ? [] : [[at, n]])));
  const bucketOf = (bound: number): number => durationBoundsMs.indexOf(bound);
  assert.deepEqual(counted, {
    [bucketOf(1)]: 2,
    [bucketOf(2)]: 1,
    [bucketOf(100)]: 1,
    [bucketOf(150)]: 1,
    [bucketOf(60_000)]: 1,
    [durationBoundsMs.length]: 2,
  });
  assert.equal(durations.sumMs, 0 + 1 + 1.1 + 100 + 100.5 + 60_000 + 60_001 + 1e9);
});

test('a clock that was set back makes no negative durations', () => {
  const durations = new Durations();
  durations.record(-5);
  assert.equal(durations.counts[0], 1);
  assert.equal(durations.sumMs, 0);
});

test('a quantile lies in the bucket that it falls into', () => {
  const durations = new Durations();
  assert.equal(quantileMs(durations.counts, 0.5), null);
  for (let n = 0; n < 99; n += 1) durations.record(12);
  durations.record(70_000);
  assert.equal(quantileMs(durations.counts, 0.495), 12.5);
  assert.equal(quantileMs(durations.counts, 0.99), 15);
  assert.equal(quantileMs(durations.counts, 1), 60_000);
});
