import assert from 'node:assert/strict';
import { test } from 'node:test';
import { arrivals, randomOf } from './schedule.ts';

function duesOf(ratePerSecond: number, rampMs: number, untilMs: number, seed = 7): number[] {
  const next = arrivals({ ratePerSecond, rampMs, random: randomOf(seed) });
  const dues: number[] = [];
  for (let due = next(); due < untilMs; due = next()) dues.push(due);
  return dues;
}

const between = (dues: readonly number[], from: number, to: number): number =>
  dues.filter((due) => due >= from && due < to).length;

test('as many requests are due as the rate says, whatever becomes of them', () => {
  const dues = duesOf(1_000, 0, 100_000);
  // The number of a Poisson process varies by its root: here 316.
  assert.ok(Math.abs(dues.length - 100_000) < 1_500, `${dues.length}`);
  assert.ok(dues.every((due, n) => n === 0 || due >= dues[n - 1]!));
});

test('gaps are those of users who know nothing of each other', () => {
  const dues = duesOf(1_000, 0, 100_000);
  const gaps = dues.map((due, n) => due - (dues[n - 1] ?? 0));
  // Exponential: the share of gaps longer than the mean is 1/e, and longer than thrice the mean 1/e³.
  const shareAbove = (ms: number): number => gaps.filter((gap) => gap > ms).length / gaps.length;
  assert.ok(Math.abs(shareAbove(1) - Math.exp(-1)) < 0.01, `${shareAbove(1)}`);
  assert.ok(Math.abs(shareAbove(3) - Math.exp(-3)) < 0.005, `${shareAbove(3)}`);
});

test('the rate grows until the ramp ends', () => {
  const dues = duesOf(1_000, 10_000, 12_000);
  assert.ok(between(dues, 0, 1_000) < 200);
  assert.ok(Math.abs(between(dues, 4_000, 6_000) - 1_000) < 150);
  assert.ok(Math.abs(between(dues, 10_000, 12_000) - 2_000) < 250);
});

test('from each step on the rate is so many times the full one', () => {
  const steps = [
    { fromMs: 0, factor: 1 },
    { fromMs: 4_000, factor: 5 },
    { fromMs: 8_000, factor: 0.5 },
  ];
  const next = arrivals({ ratePerSecond: 1_000, rampMs: 2_000, steps, random: randomOf(7) });
  const dues: number[] = [];
  for (let due = next(); due < 12_000; due = next()) dues.push(due);
  assert.ok(Math.abs(between(dues, 2_000, 4_000) - 2_000) < 250);
  assert.ok(Math.abs(between(dues, 4_000, 8_000) - 20_000) < 800);
  assert.ok(Math.abs(between(dues, 8_000, 12_000) - 2_000) < 250);
});

test('a seed gives the same schedule again, another one another', () => {
  assert.deepEqual(duesOf(100, 0, 1_000, 3), duesOf(100, 0, 1_000, 3));
  assert.notDeepEqual(duesOf(100, 0, 1_000, 3), duesOf(100, 0, 1_000, 4));
});
