import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Latencies, unansweredMs } from './latencies.ts';

const near = (found: number, expected: number): void =>
  assert.ok(Math.abs(found - expected) <= expected / 1_000 + 0.001, `${found} where ${expected} should be`);

test('percentiles keep three digits', () => {
  const latencies = new Latencies();
  for (let ms = 1; ms <= 10_000; ms += 1) latencies.record('place', ms);
  const { count, p50, p90, p99, p999, max } = latencies.of('place')!;
  assert.equal(count, 10_000);
  for (const [found, expected] of [
    [p50, 5_000],
    [p90, 9_000],
    [p99, 9_900],
    [p999, 9_990],
    [max, 10_000],
  ] as const)
    near(found, expected);
});

test('what several processes have recorded is added up, not averaged', () => {
  const [quick, slow, both] = [new Latencies(), new Latencies(), new Latencies()];
  for (let n = 0; n < 980; n += 1) quick.record('reads', 1);
  for (let n = 0; n < 20; n += 1) slow.record('reads', 1_000);
  // As it crosses a process boundary.
  for (const one of [quick, slow]) both.add(structuredClone(one.export()));
  const { count, p50, p99 } = both.of('reads')!;
  assert.equal(count, 1_000);
  near(p50, 1);
  // The mean of the two would be 500.
  near(p99, 1_000);
});

test('several names are one summary together, and what was not recorded is none', () => {
  const latencies = new Latencies();
  latencies.record('product', 10);
  latencies.record('customer', 30);
  assert.equal(latencies.of('product', 'customer', 'order list')!.count, 2);
  assert.equal(latencies.of('place'), null);
});

test('nothing lasts longer than what is never answered', () => {
  const latencies = new Latencies();
  latencies.record('place', unansweredMs * 10);
  near(latencies.of('place')!.max, unansweredMs);
});

test('a reset forgets', () => {
  const latencies = new Latencies();
  latencies.record('place', 5);
  latencies.reset();
  assert.equal(latencies.of('place'), null);
});
