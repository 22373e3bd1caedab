import assert from 'node:assert/strict';
import { test } from 'node:test';
import { entityOf, eventId, serviceOf, slotOfStream, streamId } from './event-log.ts';
import { slotOf } from './slots.ts';

const slotCount = 1_024;

test('the slot of an id never changes: stored events depend on it', () => {
  assert.deepEqual(
    ['o1', 'tea', 'ada', '019a-order', ''].map((id) => slotOf(id)),
    [429, 946, 872, 949, 0],
  );
});

test('a stream is named after its type and the id of its entity, which may have dashes', () => {
  assert.equal(streamId('order', 'o-1'), 'order-o-1');
  assert.equal(entityOf('order-o-1'), 'o-1');
});

test('a log is named after its service and its shard', () => {
  assert.equal(serviceOf('ordering.12'), 'ordering');
  assert.equal(eventId('ordering.12', 7), 'ordering-12-7');
});

test('the streams of one entity are in one slot', () => {
  for (const stream of ['order-o-1', 'payment-o-1', 'reservation-o-1'])
    assert.equal(slotOfStream(stream), slotOf('o-1'));
});

test('ids spread over all slots', () => {
  const counts = new Map<number, number>();
  for (let n = 0; n < 100_000; n += 1) {
    const slot = slotOf(`order-${n}`);
    assert.ok(Number.isInteger(slot) && slot >= 0 && slot < slotCount);
    counts.set(slot, (counts.get(slot) ?? 0) + 1);
  }
  assert.equal(counts.size, slotCount);
  assert.ok(Math.max(...counts.values()) < (2 * 100_000) / slotCount);
});
