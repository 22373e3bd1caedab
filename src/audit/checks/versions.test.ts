import assert from 'node:assert/strict';
import { test } from 'node:test';
import { slotOfStream } from '#cqrs/event-log.ts';
import type { Fact } from '../evidence.ts';
import { versionFindings } from './versions.ts';

const stream = 'order-1';

/** Events of `stream` by version, each at the position given. */
const at = (places: readonly (readonly [version: number, position: number])[], more: Partial<Fact> = {}): Fact[] =>
  places.map(([version, position]) => ({
    stream,
    version,
    position,
    slot: slotOfStream(stream),
    type: 'Noted',
    data: {},
    ...more,
  }));

const found = (events: readonly Fact[], moved = false) =>
  versionFindings('ordering.0', stream, events, moved).map(
    ({ check, entity, expected, found: is }) => `${check} ${entity}: ${String(expected)}; ${String(is)}`,
  );

test('a stream whose versions are 1, 2, 3 in the order of positions has no finding', () => {
  assert.deepEqual(
    found(
      at([
        [1, 4],
        [2, 9],
        [3, 10],
      ]),
    ),
    [],
  );
  assert.deepEqual(found([]), []);
});

test('a version that is missing is found at the event behind it, and the first at the first', () => {
  assert.deepEqual(
    found(
      at([
        [1, 4],
        [3, 10],
      ]),
    ),
    ['log-versions ordering.0@10: version 2 before 3; 1'],
  );
  assert.deepEqual(
    found(
      at([
        [2, 9],
        [3, 10],
      ]),
    ),
    ['log-versions ordering.0@9: version 1 before 2; none'],
  );
});

test('an event that stands before one of a lower version is found', () => {
  assert.deepEqual(
    found(
      at([
        [1, 9],
        [2, 4],
      ]),
    ),
    ['log-versions ordering.0@4: version 1 at a position before that of 2; at 9'],
  );
});

test('of a stream that events of others move only the order is told', () => {
  assert.deepEqual(
    found(
      at([
        [3, 4],
        [7, 9],
      ]),
      true,
    ),
    [],
  );
  assert.equal(
    found(
      at([
        [3, 9],
        [7, 4],
      ]),
      true,
    ).length,
    1,
  );
});

test('an event in another slot than its entity is found', () => {
  const slot = slotOfStream(stream);
  assert.deepEqual(found(at([[1, 4]], { slot: slot + 1 })), [`log-slots ordering.0@4: ${slot}; ${slot + 1}`]);
});
