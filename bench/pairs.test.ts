import assert from 'node:assert/strict';
import { test } from 'node:test';
import { byPair, inTurn, quantile, spreadOf, warmUp } from './pairs.ts';

test('blocks alternate back and forth, and each is told of', async () => {
  const order: string[] = [];
  const told: string[] = [];
  const block = (name: string) => async (): Promise<number> => order.push(name);
  const measured = await inTurn({ a: block('a'), b: block('b') }, 3, (name, value) => told.push(`${name}${value}`));
  assert.deepEqual(order, ['a', 'b', 'b', 'a', 'a', 'b']);
  assert.deepEqual(told, ['a1', 'b2', 'b3', 'a4', 'a5', 'b6']);
  assert.deepEqual(measured, { a: [1, 4, 5], b: [2, 3, 6] });
});

test('a block is warm when three in a row agree within 3 %, and at last after so many', async () => {
  const warmedAfter = async (rates: readonly number[], blocksMax: number): Promise<number> => {
    let blocks = 0;
    await warmUp(async () => rates[blocks++] ?? blocks, blocksMax);
    return blocks;
  };
  assert.equal(await warmedAfter([50, 100, 98, 99, 100], 8), 4);
  assert.equal(await warmedAfter([100, 96, 100, 96, 100, 96], 5), 5);
  assert.equal(await warmedAfter([1], 0), 0);
});

test('each value is compared with its neighbour in time', () => {
  assert.deepEqual(byPair([2, 9], [1, 3]), [2, 3]);
});

test('the spread is the median and the middle half, between two values in proportion', () => {
  assert.deepEqual(spreadOf([5, 1, 3, 2, 4]), { median: 3, low: 2, high: 4 });
  assert.deepEqual(spreadOf([1, 2]), { median: 1.5, low: 1.25, high: 1.75 });
  assert.equal(quantile([7], 0.99), 7);
});
