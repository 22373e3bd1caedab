/** What every event log has to keep about the versions of its events; run on each of them by the test beside it. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import Type from 'typebox';
import type { AppendBatch, EventLog } from './event-log.ts';
import { createEventTypes, type EventTypes } from './event-types.ts';

const at = '2026-01-02T03:04:05.678Z';
const origin = { actor: 'operator', correlationId: 'c', causationId: 'r' };

const closed = { additionalProperties: false };
const First = Type.Object({ km: Type.Integer({ minimum: 0 }) }, closed);
const Second = Type.Object({ metres: Type.Integer({ minimum: 0 }), by: Type.Optional(Type.String()) }, closed);
const older = createEventTypes({ newest: { Moved: First }, older: {} });
const newer = createEventTypes({
  newest: { Moved: Second, Stopped: Type.Object({}, closed) },
  older: { Moved: [{ schema: First, upcast: (data: Type.Static<typeof First>) => ({ metres: data.km * 1_000 }) }] },
});

/** A log of a program that is exchanged while the log stays. */
async function logUnder(
  open: (eventTypes: EventTypes) => Promise<EventLog>,
  first: EventTypes,
): Promise<EventLog & { runBy(eventTypes: EventTypes): void }> {
  let program = first;
  const log = await open({
    storedName: (event) => program.storedName(event),
    decode: (storedName, data) => program.decode(storedName, data),
  });
  return { ...log, runBy: (eventTypes) => void (program = eventTypes) };
}

function happened(version: number, type: string, data: object): AppendBatch {
  return {
    checks: [{ stream: 'car-a', version: version - 1 }],
    events: [{ stream: 'car-a', version, type, data, at, origin }],
    writes: [{ stream: 'car-a', version, state: {}, dueAt: null }],
    keys: [],
    checkpoints: [],
  };
}

/** `open` gives a new, empty log of source `orders.0` with these event types. */
export function eventVersionsContract(
  name: string,
  open: (t: TestContext, eventTypes: EventTypes) => Promise<EventLog>,
): void {
  test(`${name}: an event of an older version is read as one of the newest`, async (t) => {
    const log = await logUnder((types) => open(t, types), older);
    await log.append(happened(1, 'Moved', { km: 2 }));
    log.runBy(newer);
    await log.append(happened(2, 'Moved', { metres: 5, by: 'rail' }));
    const read = await log.read(0, 10);
    assert.deepEqual(
      read.map(({ type, data, unreadable }) => ({ type, data, unreadable })),
      [
        { type: 'Moved', data: { metres: 2_000 }, unreadable: undefined },
        { type: 'Moved', data: { metres: 5, by: 'rail' }, unreadable: undefined },
      ],
    );
    assert.deepEqual(
      log.tail.after(1, 10)?.at(0)?.type,
      'Moved',
      'who listens beside the writer knows no stored names',
    );
  });

  test(`${name}: what cannot be read is handed out as stored, with the reason, among what can`, async (t) => {
    const log = await logUnder((types) => open(t, types), newer);
    await log.append(happened(1, 'Moved', { metres: 1 }));
    await log.append(happened(2, 'Stopped', {}));
    const lax = createEventTypes({ newest: { Moved: Type.Object({}) }, older: {} });
    log.runBy(lax);
    await log.append(happened(3, 'Moved', { km: -1 }));
    log.runBy(older);
    await log.append(happened(4, 'Moved', { km: 4 }));
    const read = await log.read(0, 10);
    assert.deepEqual(
      read.map(({ position, type, data, unreadable }) => ({ position, type, data, reason: unreadable?.reason })),
      [
        { position: 1, type: 'Moved.2', data: { metres: 1 }, reason: 'newer-version' },
        { position: 2, type: 'Stopped', data: {}, reason: 'unknown-type' },
        { position: 3, type: 'Moved', data: { km: -1 }, reason: 'invalid' },
        { position: 4, type: 'Moved', data: { km: 4 }, reason: undefined },
      ],
    );
    assert.deepEqual(read[2]?.unreadable, { reason: 'invalid', detail: '/km must be >= 0' });
  });

  test(`${name}: an event that no reader could take is not written, and nothing of its batch`, async (t) => {
    const log = await open(t, newer);
    const bad: [string, object, RegExp][] = [
      ['Moved', { metres: 0.5 }, /Moved is not what its schema says: \/metres must be integer/],
      ['Moved', { metres: 1, colour: 'red' }, /Moved is not what its schema says: \/colour is not a field of it/],
      ['Crashed', {}, /Crashed is not declared/],
    ];
    for (const [type, data, message] of bad) {
      const good = happened(1, 'Moved', { metres: 1 });
      const batch = { ...good, events: [...good.events, { ...happened(2, type, data).events[0]! }] };
      await assert.rejects(log.append(batch), message);
      await assert.rejects(
        log.appendAlone([], () => batch),
        message,
      );
    }
    assert.deepEqual([await log.head(), await log.load(['car-a']), log.tail.position], [0, [], 0]);
  });
}
