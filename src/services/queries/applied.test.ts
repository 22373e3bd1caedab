import assert from 'node:assert/strict';
import { test } from 'node:test';
import { appliedHere } from './applied.ts';

const projections = () => [{ name: 'orders' }];

test('an answer says what its rows show, and nothing where none of them tells', () => {
  const applied = appliedHere(projections, () => ({ positions: () => ({}), caughtUp: async () => true }));
  assert.deepEqual(applied.shownBy([{ shown: null }, { shown: 'orders-of-ordering.0=4' }]), {
    shows: { 'ordering.0': 4 },
  });
  // The row that tells may lie beyond the limit of a statement: then the token is that of before the read.
  for (const rows of [[], [{ shown: null }]]) assert.deepEqual(applied.shownBy(rows), {});
});

test('what is applied is included at once, and what is not when this process has come to it', async () => {
  const asked: unknown[] = [];
  const applied = appliedHere(projections, () => ({
    positions: () => ({ 'ordering.0': 4 }),
    async caughtUp(positions) {
      asked.push(positions);
      return false;
    },
  }));
  assert.equal(await applied.includes({ 'ordering.0': 4 }), true);
  assert.deepEqual(asked, []);
  assert.equal(await applied.includes({ 'ordering.0': 5 }), false);
  assert.deepEqual(asked, [{ 'ordering.0': 5 }]);
});
