/** What every event log has to keep; run on each of them by the test beside it. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { AppendBatch, AppendResult, EventLog, NewEvent } from './event-log.ts';

const at = '2026-01-02T03:04:05.678Z';
const origin = { actor: 'operator', correlationId: 'c', causationId: 'r', traceparent: '00-a-b-01' };

const nothing: AppendBatch = { checks: [], events: [], writes: [], keys: [], checkpoints: [] };
const event = (stream: string, version: number, data: object = {}): NewEvent => ({
  stream,
  version,
  type: 'Happened',
  data,
  at,
  origin,
});
/** One event on a stream that is at `version - 1`. */
const next = (stream: string, version: number, dueAt: string | null = null): AppendBatch => ({
  ...nothing,
  checks: [{ stream, version: version - 1 }],
  events: [event(stream, version)],
  writes: [{ stream, version, state: { n: version }, dueAt }],
});

const appended = (result: AppendResult): Extract<AppendResult, { appended: unknown }> => {
  assert.ok('appended' in result, `refused: ${JSON.stringify(result)}`);
  return result;
};
const refused = (result: AppendResult): Extract<AppendResult, { conflicts: unknown }> => {
  assert.ok('conflicts' in result, 'it was appended');
  return result;
};

/** `open` gives a new, empty log of source `orders.0`. */
export function eventLogContract(name: string, open: (t: TestContext) => Promise<EventLog>): void {
  test(`${name}: positions are dense, from 1, in the order of the batch`, async (t) => {
    const log = await open(t);
    assert.equal(await log.head(), 0);
    const first = appended(
      await log.append({ ...next('order-a', 1), events: [event('order-a', 1), event('order-b', 1)] }),
    );
    const second = appended(await log.append(next('order-c', 1)));
    assert.deepEqual(
      [...first.appended, ...second.appended].map((one) => one.position),
      [1, 2, 3],
    );
    assert.equal(second.head, 3);
    assert.equal(await log.head(), 3);
  });

  test(`${name}: what is read is what was appended, with id, slot and origin`, async (t) => {
    const log = await open(t);
    const data = { text: 'ä "quoted" \\ \u2028 \u0001', big: Number.MAX_SAFE_INTEGER, nested: [{ a: null }] };
    const {
      appended: [recorded],
    } = appended(await log.append({ ...nothing, events: [event('order-a', 1, data)] }));
    const [read] = await log.read(0, 10);
    assert.deepEqual(read, recorded);
    assert.deepEqual(read?.data, data);
    assert.deepEqual(read?.origin, origin);
    assert.equal(read?.id, 'orders-0-1');
    assert.equal(read?.at, at);
    assert.ok(read !== undefined && read.slot >= 0 && read.slot < 1_024);
  });

  test(`${name}: reading starts after a position and ends at the limit`, async (t) => {
    const log = await open(t);
    for (let n = 1; n <= 5; n += 1) await log.append(next('order-a', n));
    assert.deepEqual(
      (await log.read(1, 2)).map((one) => one.position),
      [2, 3],
    );
    assert.deepEqual(await log.read(5, 2), []);
    assert.deepEqual(
      log.tail.after(3, 10)?.map((one) => one.position),
      [4, 5],
    );
  });

  test(`${name}: a stream at another version refuses the whole batch and says which`, async (t) => {
    const log = await open(t);
    await log.append(next('order-a', 1));
    const batch = { ...nothing, events: [event('order-a', 1), event('order-b', 1)] };
    const result = refused(
      await log.append({
        ...batch,
        checks: [
          { stream: 'order-a', version: 0 },
          { stream: 'order-b', version: 0 },
        ],
      }),
    );
    assert.deepEqual(result.conflicts, ['order-a']);
    assert.equal(await log.head(), 1);
    assert.deepEqual(await log.load(['order-b']), []);
  });

  test(`${name}: a stream that was read and has moved since refuses a batch that does not write it`, async (t) => {
    const log = await open(t);
    await log.append(next('offer-tea', 1));
    const batch = {
      ...next('order-a', 1),
      checks: [
        { stream: 'order-a', version: 0 },
        { stream: 'offer-tea', version: 0 },
      ],
    };
    assert.deepEqual(refused(await log.append(batch)).conflicts, ['offer-tea']);
    assert.equal(await log.head(), 1);
  });

  test(`${name}: of two appends that create the same stream exactly one wins, 1,000 times out of 1,000`, async (t) => {
    const log = await open(t);
    for (let n = 0; n < 1_000; n += 1) {
      const both = await Promise.all([log.append(next(`order-${n}`, 1)), log.append(next(`order-${n}`, 1))]);
      assert.equal(both.filter((result) => 'appended' in result).length, 1);
    }
    assert.equal(await log.head(), 1_000);
  });

  test(`${name}: whoever appends alone decides on what nobody can change meanwhile`, async (t) => {
    const log = await open(t);
    const add = () => log.appendAlone(['order-hot'], (rows) => next('order-hot', (rows[0]?.version ?? 0) + 1));
    const results = await Promise.all([
      add(),
      log.append(next('order-a', 1)),
      add(),
      add(),
      log.append(next('order-b', 1)),
      add(),
    ]);
    assert.ok(results.every((result) => 'appended' in result));
    assert.deepEqual(
      (await log.read(0, 10)).map((one) => one.position),
      [1, 2, 3, 4, 5, 6],
    );
    assert.equal((await log.load(['order-hot']))[0]?.version, 4);
    await assert.rejects(
      log.appendAlone([], () => {
        throw new Error('no');
      }),
      /no/,
    );
    appended(await log.append(next('order-c', 1)));
  });

  test(`${name}: the state of a stream is stored with its version`, async (t) => {
    const log = await open(t);
    await log.append(next('order-a', 1));
    await log.append(next('order-a', 2));
    assert.deepEqual(await log.load(['order-a', 'order-b']), [{ stream: 'order-a', version: 2, state: { n: 2 } }]);
  });

  test(`${name}: a key is taken once, and gives its first answer to whoever comes second`, async (t) => {
    const log = await open(t);
    const key = { caller: 'operator', key: 'k', fingerprint: 'f', at };
    appended(await log.append({ ...next('order-a', 1), keys: [{ ...key, answer: { status: 201 } }] }));
    const second = refused(
      await log.append({ ...next('order-b', 1), keys: [{ ...key, fingerprint: 'g', answer: { status: 200 } }] }),
    );
    assert.deepEqual(second.duplicates, [
      { caller: 'operator', key: 'k', fingerprint: 'f', answer: { status: 201 }, head: 1 },
    ]);
    assert.equal(await log.head(), 1);
    appended(await log.append({ ...next('order-b', 1), keys: [{ ...key, caller: 'customer:1', answer: {} }] }));
  });

  test(`${name}: a key without an answer is checked and not taken`, async (t) => {
    const log = await open(t);
    const key = { caller: 'operator', key: 'k', fingerprint: 'f', at };
    appended(await log.append({ ...nothing, keys: [{ ...key, answer: undefined }] }));
    appended(await log.append({ ...nothing, keys: [{ ...key, answer: { status: 201 } }] }));
    assert.equal(refused(await log.append({ ...nothing, keys: [{ ...key, answer: undefined }] })).duplicates.length, 1);
  });

  test(`${name}: a checkpoint moves only from its old value, together with the effect`, async (t) => {
    const log = await open(t);
    appended(await log.append({ ...next('order-a', 1), checkpoints: [{ consumer: 'c', from: 0, to: 7 }] }));
    const overtaken = refused(
      await log.append({ ...next('order-b', 1), checkpoints: [{ consumer: 'c', from: 0, to: 9 }] }),
    );
    assert.deepEqual(overtaken.fenced, ['c']);
    assert.equal(await log.head(), 1);
    assert.equal(await log.checkpoint('c'), 7);
    appended(await log.append({ ...nothing, checkpoints: [{ consumer: 'c', from: 7, to: 9 }] }));
    assert.equal(await log.checkpoint('c'), 9);
    assert.equal(await log.checkpoint('other'), 0);
  });

  test(`${name}: a consumer goes by the epoch of its source in which it has first applied something`, async (t) => {
    const log = await open(t);
    const [first, second] = ['00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-00000000000b'];
    const remembered = async (epoch: string): Promise<unknown[]> => {
      const epochs = await log.rememberSource(['c', 'd'], 'stock.0', epoch);
      return ['c', 'd'].map((consumer) => [consumer, epochs.get(consumer)]);
    };
    await remembered(first);
    assert.deepEqual(await remembered(second), [
      ['c', second],
      ['d', second],
    ]);
    appended(await log.append({ ...nothing, checkpoints: [{ consumer: 'c', from: 0, to: 7 }] }));
    for (let again = 0; again < 2; again += 1) {
      assert.deepEqual(await remembered(first), [
        ['c', second],
        ['d', first],
      ]);
    }
    assert.deepEqual([await log.checkpoint('c'), await log.checkpoint('d')], [7, 0]);
  });

  test(`${name}: streams that are due are found, the most overdue first, and no others`, async (t) => {
    const log = await open(t);
    await log.append(next('order-later', 1, '2026-01-01T00:00:03.000Z'));
    await log.append(next('order-second', 1, '2026-01-01T00:00:02.000Z'));
    await log.append(next('order-first', 1, '2026-01-01T00:00:01.000Z'));
    await log.append(next('order-done', 1, '2026-01-01T00:00:00.000Z'));
    await log.append(next('order-done', 2, null));
    const due = await log.due('2026-01-01T00:00:02.000Z', 10);
    assert.deepEqual(due, [
      { stream: 'order-first', dueAt: '2026-01-01T00:00:01.000Z', last: { id: 'orders-0-3', origin } },
      { stream: 'order-second', dueAt: '2026-01-01T00:00:02.000Z', last: { id: 'orders-0-2', origin } },
    ]);
    assert.equal((await log.due('2026-01-01T00:00:02.000Z', 1)).length, 1);
  });

  test(`${name}: a stream that is due tells of the event that brought it there, if it is its own`, async (t) => {
    const log = await open(t);
    const write = (version: number) => ({ stream: 'order-a', version, state: {}, dueAt: at });
    const later = { ...event('order-a', 2), origin: { ...origin, causationId: 'later' } };
    await log.append({ ...nothing, events: [event('order-a', 1)], writes: [write(1)] });
    await log.append({ ...nothing, events: [later], writes: [write(2)] });
    const last = { id: 'orders-0-2', origin: later.origin };
    assert.deepEqual(await log.due(at, 10), [{ stream: 'order-a', dueAt: at, last }]);
    await log.append({ ...nothing, events: [event('order-b', 1)], writes: [write(3)] });
    assert.deepEqual(await log.due(at, 10), [{ stream: 'order-a', dueAt: at, last: null }]);
  });

  test(`${name}: an event at a version that its stream has already cannot be recorded`, async (t) => {
    const log = await open(t);
    await log.append(next('order-a', 1));
    await assert.rejects(log.append({ ...nothing, events: [event('order-a', 1)] }));
    assert.equal(await log.head(), 1);
  });

  test(`${name}: a batch that takes a key twice, or moves a checkpoint twice, cannot be recorded`, async (t) => {
    const log = await open(t);
    const key = { caller: 'operator', key: 'k', fingerprint: 'f', answer: {}, at };
    await assert.rejects(log.append({ ...next('order-a', 1), keys: [key, key] }));
    const move = { consumer: 'c', from: 0, to: 1 };
    await assert.rejects(log.append({ ...next('order-a', 1), checkpoints: [move, move] }));
    assert.equal(await log.head(), 0);
  });

  test(`${name}: each batch of events is chained to the one before, and the head knows the last hash`, async (t) => {
    const log = await open(t);
    const { epoch, ...empty } = await log.anchor();
    assert.deepEqual(empty, { position: 0, hash: '0'.repeat(64) });
    await log.append({ ...next('order-a', 1), events: [event('order-a', 1, { text: 'ä "\\' }), event('order-b', 1)] });
    const first = await log.anchor();
    await log.append({ ...nothing, checkpoints: [{ consumer: 'c', from: 0, to: 7 }] });
    assert.deepEqual(await log.anchor(), first);
    // Anchors that were kept, and logs that were written, have it in them: it never changes.
    await log.appendAlone([], () => next('order-c', 1));
    assert.deepEqual(
      [first, await log.anchor()],
      [
        { epoch, position: 2, hash: '853644cb960e6dabfab3e2397825b418fa207941be50c404a64757b6a9c5849a' },
        { epoch, position: 3, hash: '00a56b9c13b0a54f3f1c86a1161474f2afc3500b622310d6f57601cfffe45af4' },
      ],
    );
  });

  test(`${name}: the tail tells of each append once, in order`, async (t) => {
    const log = await open(t);
    const heard: number[] = [];
    log.tail.onPush((events) => heard.push(...events.map((one) => one.position)));
    await Promise.all([log.append(next('order-a', 1)), log.append(next('order-b', 1)), log.append(next('order-c', 1))]);
    assert.deepEqual(heard, [1, 2, 3]);
    assert.equal(log.tail.position, 3);
  });
}
