import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Latencies } from '../load/latencies.ts';
import { compareThirds, type Minute } from './minutes.ts';

/** A hundred answers, all alike. */
function minute(placeMs: number, readsMs: number, micros: number): Minute {
  const latencies = new Latencies();
  for (let n = 0; n < 50; n += 1) {
    latencies.record('place', placeMs);
    latencies.record('reads', readsMs);
  }
  return { latencies, answered: 100, spentMicros: micros * 100 };
}

test('a last third that is like the first misses nothing, whatever was between', () => {
  const minutes = [minute(10, 2, 500), minute(10, 2, 500), minute(90, 90, 9_000), minute(10, 2, 500)];
  assert.deepEqual(compareThirds([...minutes, minute(11, 2, 590), minute(11, 2, 590)]).missed, []);
});

test('times and costs of the last third are a fifth more than in the first at most', () => {
  const { missed, text } = compareThirds([minute(10, 2, 500), minute(10, 2, 500), minute(13, 3, 700)]);
  assert.deepEqual(missed, [
    'orders placed, p99 ms: 1.30 of the first third in the last, at most 1.2',
    'reads, p99 ms: 1.50 of the first third in the last, at most 1.2',
    'processor time of an answer, µs: 1.40 of the first third in the last, at most 1.2',
  ]);
  assert.match(text, /^processor time of an answer, µs +500 +700 +1\.40 +≤ 1\.2$/m);
});

test('what was not measured is missed', () => {
  const nothing = { latencies: new Latencies(), answered: 0, spentMicros: 0 };
  assert.equal(compareThirds([nothing, nothing, nothing]).missed.length, 3);
  assert.equal(compareThirds([]).missed.length, 3);
});
