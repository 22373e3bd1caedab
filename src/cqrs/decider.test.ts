import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accept, refuse } from './decider.ts';

test('what follows from a command comes in the order in which it was named, and may be nothing', () => {
  assert.deepEqual(accept('first', 'second'), { accepted: ['first', 'second'] });
  assert.deepEqual(accept(), { accepted: [] });
});

test('a refusal is a value that says why', () => {
  const why = { code: 'order-not-found', detail: 'There is no order 1.' };
  assert.deepEqual(refuse(why), { refused: why });
});
