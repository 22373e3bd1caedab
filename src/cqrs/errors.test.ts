import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EngineError, isEngineError } from './errors.ts';

test('an operating error is told by its code, and keeps its cause', () => {
  const cause = new Error('connection reset');
  const error = new EngineError('log-unavailable', 'the log of orders.0 did not answer within 300 ms', cause);
  assert.equal(error.cause, cause);
  assert.ok(isEngineError(error, 'log-unavailable'));
  assert.ok(!isEngineError(error, 'overloaded'));
  assert.ok(
    !isEngineError(Object.assign(new Error('of another kind'), { code: 'log-unavailable' }), 'log-unavailable'),
  );
});
