import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addUp, totalOf } from './generators.ts';
import { Latencies } from './latencies.ts';
import type { Second, Totals } from './plan.ts';

const recorded = (name: string, ...ms: number[]) => {
  const latencies = new Latencies();
  for (const one of ms) latencies.record(name, one);
  return latencies.export();
};

const second = (atMs: number, answered: number, ...ms: number[]): Second => ({
  atMs,
  offered: answered,
  answered,
  errors: 1,
  retries: 0,
  shed: 0,
  good: 0,
  waiting: 2,
  underWay: 3,
  openOrders: 4,
  latencies: recorded('place', ...ms),
});

test('seconds of several generators are told as one, and those of one that has ended are not waited for', () => {
  const told: Second[] = [];
  const take = addUp(2, (one) => void told.push(one));
  take(second(1_003, 10, 5));
  assert.equal(told.length, 0);
  take(second(2_001, 20, 7));
  take(second(999, 30, 9, 11));
  assert.deepEqual([told.length, told[0]!.answered, told[0]!.errors, told[0]!.openOrders], [1, 40, 2, 8]);
  const latencies = new Latencies();
  latencies.add(told[0]!.latencies);
  assert.equal(latencies.of('place')!.count, 3);
  // The other one says no more.
  take(second(3_000, 5));
  take(second(4_000, 6));
  assert.deepEqual(
    told.map(({ answered }) => answered),
    [40, 20],
  );
});

test('what several generators have measured is added up by name', () => {
  const totals = (count: number): Totals => ({
    offered: { place: count, product: 1 },
    answered: { place: count },
    errors: { [`place: 50${count}`]: 1 },
    examples: [`${count}`],
    retries: {},
    reopened: count,
    ordersPlaced: count,
    ordersOpen: 0,
    latencies: recorded('place', count),
  });
  const sum = totalOf([totals(2), totals(3)]);
  assert.deepEqual([sum.offered, sum.answered], [{ place: 5, product: 2 }, { place: 5 }]);
  assert.deepEqual(sum.errors, { 'place: 502': 1, 'place: 503': 1 });
  assert.deepEqual([sum.examples, sum.reopened, sum.ordersPlaced], [['2', '3'], 5, 5]);
  const latencies = new Latencies();
  latencies.add(sum.latencies);
  assert.equal(latencies.of('place')!.count, 2);
});
