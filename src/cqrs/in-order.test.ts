import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { RecordedEvent } from './event-log.ts';
import { inOrder } from './in-order.ts';

const at = (...positions: number[]): RecordedEvent[] => positions.map((position) => ({ position }) as RecordedEvent);
const positionsOf = (events: readonly RecordedEvent[]): number[] => events.map((event) => event.position);

test('a delivery without flaws is taken as it is', () => {
  const events = at(4, 5, 6);
  assert.equal(inOrder(events, 3), events);
  assert.deepEqual(inOrder([], 3), []);
});

test('what was applied already is dropped, and so is what comes twice', () => {
  assert.deepEqual(positionsOf(inOrder(at(2, 3, 4, 4, 5, 5), 3)), [4, 5]);
  assert.deepEqual(positionsOf(inOrder(at(1, 2, 3), 3)), []);
});

test('a hole ends the delivery', () => {
  assert.deepEqual(positionsOf(inOrder(at(4, 5, 7, 8), 3)), [4, 5]);
  assert.deepEqual(positionsOf(inOrder(at(5, 6), 3)), []);
});

test('whatever the bus makes of a log, what is taken is the next of it', () => {
  const deliveries = fc.array(fc.integer({ min: 1, max: 12 }), { maxLength: 20 });
  fc.assert(
    fc.property(deliveries, fc.integer({ min: 0, max: 12 }), (positions, position) => {
      const taken = positionsOf(inOrder(at(...positions), position));
      const first = Array.from({ length: 13 }, (_, n) => position + n + 1);
      const reach = first.findIndex((one) => !positions.includes(one));
      assert.deepEqual(taken, first.slice(0, reach));
    }),
  );
});
