/** What every log has to keep about parked messages; run on each of them by the test beside it. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { AppendBatch, AppendResult, CheckpointMove, EventLog } from './event-log.ts';
import { type DeadLetterGroup, type GroupsWanted, type ParkedMessage, queuedBehind } from './parked-messages.ts';

const consumer = 'stock-of-orders';
const at = '2026-01-02T03:04:05.678Z';
const ada = { by: 'ada', at: '2026-01-02T04:00:00.000Z' };
const everything: GroupsWanted = { discarded: false, after: null, limit: 100, itemsMax: 100 };

const message = (position: number, more: Partial<ParkedMessage> = {}): ParkedMessage => ({
  position,
  stream: 'order-a',
  eventId: `orders-0-${position}`,
  type: 'OrderPlaced',
  cause: 'unknown-type',
  detail: 'no event type OrderPlaced is known here',
  attempts: 1,
  parkedAt: at,
  state: 'parked',
  ...more,
});
const behind = (position: number, stream = 'order-a'): ParkedMessage =>
  message(position, { stream, cause: queuedBehind, detail: 'waits for another', attempts: 0 });

const moving = (move: Omit<CheckpointMove, 'consumer'> & { readonly consumer?: string }): AppendBatch => ({
  checks: [],
  events: [],
  writes: [],
  keys: [],
  checkpoints: [{ consumer, ...move }],
});
/** With an event, so that it shows whether anything was recorded. */
const effect = (move: Omit<CheckpointMove, 'consumer'>): AppendBatch => ({
  ...moving(move),
  events: [
    {
      stream: 'stock-tea',
      version: 1,
      type: 'StockReserved',
      data: {},
      at,
      origin: { actor: consumer, correlationId: 'c', causationId: 'orders-0-1' },
    },
  ],
});

const done = (result: AppendResult): void =>
  assert.ok('appended' in result, `nothing was recorded: ${JSON.stringify(result)}`);
const fenced = (result: AppendResult): void =>
  assert.deepEqual('fenced' in result ? result.fenced : 'it was appended', [consumer]);

/** `open` gives a new, empty log of source `orders.0`. */
export function parkedMessagesContract(name: string, open: (t: TestContext) => Promise<EventLog>): void {
  const waitingIn = async (log: EventLog): Promise<[position: number, state: string][]> =>
    (await log.parked.waiting(consumer)).map(({ position, state }) => [position, state]);

  test(`${name}: what is parked is written with the checkpoint, and read as it was written`, async (t) => {
    const log = await open(t);
    const parks = [message(2, { detail: 'ä "quoted" \\ \u2028' }), behind(4), message(3, { stream: 'order-b' })];
    done(await log.append(effect({ from: 0, to: 4, parks })));
    assert.deepEqual(
      await log.parked.waiting(consumer),
      parks.toSorted((a, b) => a.position - b.position),
    );
    assert.deepEqual(await log.parked.waiting('other'), []);
    assert.equal(await log.checkpoint(consumer), 4);
    fenced(await log.append(moving({ from: 0, to: 5, parks: [message(5)] })));
    assert.deepEqual(await waitingIn(log), [
      [2, 'parked'],
      [3, 'parked'],
      [4, 'parked'],
    ]);
  });

  test(`${name}: a message is taken back once, with its effect or not at all`, async (t) => {
    const log = await open(t);
    done(await log.append(moving({ from: 0, to: 2, parks: [message(1), behind(2)] })));
    fenced(await log.append(effect({ from: 1, to: 1, unparks: [1] })));
    fenced(await log.append(effect({ from: 2, to: 2, unparks: [1, 3] })));
    assert.equal(await log.head(), 0);
    done(await log.append(effect({ from: 2, to: 2, unparks: [1] })));
    fenced(await log.append(effect({ from: 2, to: 2, unparks: [1] })));
    assert.deepEqual(await waitingIn(log), [[2, 'parked']]);
    assert.equal(await log.head(), 1);
  });

  test(`${name}: a message that failed again is parked anew by whoever finds it parked`, async (t) => {
    const log = await open(t);
    done(await log.append(moving({ from: 0, to: 1, parks: [message(1, { state: 'retry' })] })));
    const again = message(1, { attempts: 2, cause: 'another' });
    done(await log.append(moving({ from: 1, to: 1, unparks: [1], parks: [again] })));
    assert.deepEqual(await log.parked.waiting(consumer), [again]);
    done(await log.append(moving({ from: 1, to: 1, unparks: [1] })));
    fenced(await log.append(moving({ from: 1, to: 1, unparks: [1], parks: [again] })));
    assert.deepEqual(await waitingIn(log), []);
  });

  test(`${name}: a position is not parked twice, and a batch that tries leaves nothing behind`, async (t) => {
    const log = await open(t);
    done(await log.append(moving({ from: 0, to: 1, parks: [message(1)] })));
    await assert.rejects(log.append(effect({ from: 1, to: 2, parks: [message(1)] })));
    assert.deepEqual([await log.head(), await log.checkpoint(consumer)], [0, 1]);
  });

  test(`${name}: a retry names the first of each queue, and says how many wait in them`, async (t) => {
    const log = await open(t);
    const parks = [message(1), behind(2), message(3, { stream: 'order-b', cause: 'other' }), behind(4, 'order-b')];
    done(await log.append(moving({ from: 0, to: 4, parks })));
    done(await log.append(moving({ consumer: 'b-of-orders', from: 0, to: 9, parks: [message(9)] })));

    assert.deepEqual(await log.parked.retry({ consumer, position: 2 }, ada), { messages: 2, consumers: [consumer] });
    assert.deepEqual(await waitingIn(log), [
      [1, 'retry'],
      [2, 'parked'],
      [3, 'parked'],
      [4, 'parked'],
    ]);
    assert.deepEqual(await log.parked.decisions(consumer), { waiting: 4, retries: 1, pause: null });
    assert.deepEqual(await log.parked.retry({ cause: 'unknown-type' }, ada), {
      messages: 3,
      consumers: ['b-of-orders', consumer],
    });
    assert.deepEqual(await log.parked.retry({ consumer, cause: 'other' }, ada), { messages: 2, consumers: [consumer] });
    assert.deepEqual((await log.parked.decisions(consumer)).retries, 2);
    assert.deepEqual(await log.parked.retry({ consumer, position: 77 }, ada), { messages: 0, consumers: [] });
    assert.deepEqual(await log.parked.retry({ cause: 'nothing has it' }, ada), { messages: 0, consumers: [] });
  });

  test(`${name}: a message that was discarded stays on record, and its stream goes on without it`, async (t) => {
    const log = await open(t);
    done(await log.append(moving({ from: 0, to: 4, parks: [message(1), behind(2), behind(3), behind(4)] })));
    const reason = 'a test order';
    const given = { decidedBy: 'ada', decidedAt: ada.at, reason, state: 'discarded' };
    assert.deepEqual(await log.parked.discard({ consumer, position: 3 }, { ...ada, reason }), {
      ...behind(3),
      ...given,
    });
    assert.deepEqual(
      await waitingIn(log),
      [
        [1, 'parked'],
        [2, 'parked'],
        [4, 'parked'],
      ],
      'the first one still stands in the way',
    );
    assert.deepEqual(await log.parked.discard({ consumer, position: 1 }, { ...ada, reason }), {
      ...message(1),
      ...given,
    });
    assert.deepEqual(await waitingIn(log), [
      [2, 'retry'],
      [4, 'parked'],
    ]);
    const second = await log.parked.discard({ consumer, position: 1 }, { by: 'bob', at, reason: 'another' });
    assert.deepEqual([second?.decidedBy, second?.reason], ['ada', reason], 'the first decision stands');
    assert.equal(await log.parked.discard({ consumer, position: 77 }, { ...ada, reason }), null);
    fenced(await log.append(moving({ from: 4, to: 4, unparks: [1] })));
    assert.deepEqual(await log.parked.retry({ consumer, position: 1 }, ada), { messages: 0, consumers: [] });
    assert.deepEqual(await log.parked.positions(consumer), [1, 2, 3, 4]);
    const [record] = await log.parked.groups({ ...everything, discarded: true, cause: 'unknown-type' });
    assert.deepEqual(record?.items, [{ ...message(1), ...given }]);
  });

  test(`${name}: messages are grouped by consumer and cause, page by page`, async (t) => {
    const log = await open(t);
    const later = '2026-01-02T03:04:06.000Z';
    const parks = [
      message(1),
      message(2, { stream: 'order-b', parkedAt: later }),
      behind(3),
      message(4, { stream: 'order-c' }),
    ];
    done(await log.append(moving({ from: 0, to: 4, parks })));
    done(await log.append(moving({ consumer: 'B-of-orders', from: 0, to: 9, parks: [message(9)] })));
    const groups = await log.parked.groups({ ...everything, itemsMax: 2 });
    assert.deepEqual(groups, [
      {
        consumer: 'B-of-orders',
        cause: 'unknown-type',
        messages: 1,
        streams: 1,
        firstAt: at,
        lastAt: at,
        items: [message(9)],
      },
      { consumer, cause: queuedBehind, messages: 1, streams: 1, firstAt: at, lastAt: at, items: [behind(3)] },
      {
        consumer,
        cause: 'unknown-type',
        messages: 3,
        streams: 3,
        firstAt: at,
        lastAt: later,
        items: parks.slice(0, 2),
      },
    ]);
    const named = (found: readonly DeadLetterGroup[]) => found.map((group) => [group.consumer, group.cause]);
    const after = { consumer: 'B-of-orders', cause: 'unknown-type' };
    assert.deepEqual(named(await log.parked.groups({ ...everything, after, limit: 1 })), [[consumer, queuedBehind]]);
    assert.deepEqual(named(await log.parked.groups({ ...everything, consumer, cause: 'unknown-type' })), [
      [consumer, 'unknown-type'],
    ]);
    assert.deepEqual(await log.parked.groups({ ...everything, discarded: true }), []);
  });

  test(`${name}: a group is shown from any position on, and still says how many messages it has`, async (t) => {
    const log = await open(t);
    const parks = [1, 2, 3, 5].map((position) => message(position, { stream: `order-${position}` }));
    done(await log.append(moving({ from: 0, to: 5, parks: [...parks, behind(4)] })));
    const shown = async (itemsAfter: number, itemsMax: number) => {
      const [group] = await log.parked.groups({ ...everything, consumer, cause: 'unknown-type', itemsAfter, itemsMax });
      return [group!.messages, group!.streams, ...group!.items.map(({ position }) => position)];
    };
    assert.deepEqual(await shown(0, 2), [4, 4, 1, 2]);
    assert.deepEqual(await shown(2, 2), [4, 4, 3, 5]);
    assert.deepEqual(await shown(5, 2), [4, 4]);
  });

  test(`${name}: what an operator said last about a consumer is what it hears`, async (t) => {
    const log = await open(t);
    await log.parked.setPause(consumer, true, ada);
    const paused = { ...ada, paused: true };
    assert.deepEqual(await log.parked.decisions(consumer), { waiting: 0, retries: 0, pause: paused });
    await log.parked.setPause(consumer, false, { by: 'bob', at });
    assert.deepEqual((await log.parked.decisions(consumer)).pause, { paused: false, by: 'bob', at });
    assert.equal((await log.parked.decisions('other')).pause, null);
  });
}
