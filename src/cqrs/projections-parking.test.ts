import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { type Ports, systemPorts } from '#platform/ports.ts';
import type { Database } from '#platform/postgres.ts';
import { testDatabase } from '../../tests/database.ts';
import type { Consumer } from './consumer.ts';
import type { RecordedEvent } from './event-log.ts';
import { type Feed, localFeed } from './feed.ts';
import { openMemoryLog } from './memory-log.ts';
import { memoryReadStore } from './memory-read-store.ts';
import { queuedBehind } from './parked-messages.ts';
import { checkpointSchemaFolder } from './postgres-log.ts';
import { postgresReadStore } from './postgres-read-store.ts';
import type { Projection } from './projection.ts';
import { startProjections } from './projections.ts';
import { type ReadStore, type ReadTable, rowKey } from './read-store.ts';

const name = 'projections-of-orders.0';
const at = '2026-01-01T00:00:00.000Z';
const ada = { by: 'ada', at };
/** Long enough to fail a test that waits it out. */
const foreverMs = 30_000;

/** A clock that runs faster, so that nobody waits for pauses between attempts. */
const timesFaster = 20;
const fast: Ports = {
  ...systemPorts,
  elapsed: () => systemPorts.elapsed() * timesFaster,
  after: (ms, act, options) => systemPorts.after(ms / timesFaster, act, options),
};

type Seen = { readonly stream: string; readonly numbers: string };
const seenTable = (projection: string): ReadTable<Seen> => ({
  name: `seen_${projection}`,
  key: ['stream'],
  columns: { stream: 'text', numbers: 'text' },
});

/** Keeps, per stream, the numbers of the messages it has folded: `1 2 3`. Cannot fold those of `poison`. */
function seeing(projection: string, poison: ReadonlySet<string> = new Set()): Projection {
  const table = seenTable(projection);
  return {
    name: projection,
    version: 1,
    services: ['orders'],
    tables: [table],
    async apply(_service, events, rows) {
      const before = await rows.load(
        table,
        [...new Set(events.map(({ stream }) => stream))].map((stream) => [stream]),
      );
      const seen = new Map([...before].map(([stream, row]) => [stream, row.numbers]));
      for (const { stream, data } of events) {
        const { n } = data as { n: number };
        if (poison.has(`${stream} ${n}`)) throw new Error(`${stream} ${n} is more than ${projection} can fold`);
        seen.set(stream, `${seen.get(stream) ?? ''}${n} `);
      }
      rows.put(
        table,
        [...seen].map(([stream, numbers]) => ({ stream, numbers })),
      );
    },
  };
}

function shown(t: TestContext, store: ReadStore) {
  const orders = openMemoryLog('orders.0');
  const versions = new Map<string, number>();
  const unknown = new Set<number>();
  const troubles: string[] = [];
  const local = localFeed(orders, fast);
  const feed: Feed = {
    ...local,
    next: async (...wanted) =>
      (await local.next(...wanted)).map((event): RecordedEvent =>
        unknown.has(event.position) ? { ...event, unreadable: { reason: 'unknown-type', detail: 'not known' } } : event,
      ),
  };
  function run(through: ReadStore, projections: readonly Projection[], onResume = () => {}): Consumer {
    const consumer = startProjections({
      feed,
      ports: fast,
      store: through,
      projections,
      onResume,
      reportTrouble: (_who, error) => void troubles.push((error as Error).message),
    });
    t.after(() => consumer.stop());
    return consumer;
  }

  return {
    orders,
    unknown,
    troubles,
    start: (...projections: Projection[]): Consumer => run(store, projections),
    /** As another process does, on the same rows. */
    startBeside: (another: ReadStore, onResume: () => void, ...projections: Projection[]): Consumer =>
      run(another, projections, onResume),
    async happen(...streams: string[]): Promise<void> {
      await orders.append({
        checks: [],
        events: streams.map((stream) => {
          const version = (versions.get(stream) ?? 0) + 1;
          versions.set(stream, version);
          const origin = { actor: 'operator', correlationId: 'c', causationId: 'r' };
          return { stream, version, type: 'Placed', data: { n: version }, at, origin };
        }),
        writes: [],
        keys: [],
        checkpoints: [],
      });
    },
    /** What a projection has folded of some streams, in order. */
    async seen(projection: string, ...streams: string[]): Promise<(string | undefined)[]> {
      const table = seenTable(projection);
      return store.apply([], async (rows) => {
        const found = await rows.load(
          table,
          streams.map((stream) => [stream]),
        );
        return streams.map((stream) => found.get(rowKey([stream]))?.numbers.trim());
      });
    },
    parked: async () =>
      (await store.parked.waiting(name)).map(({ position, cause, state }) => [position, cause, state]),
  };
}

const reached = async (consumer: Consumer, position: number): Promise<void> =>
  assert.equal(await consumer.progress.reach(position, foreverMs * timesFaster), true, `did not reach ${position}`);

/** Resolves once `isSo`. */
async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + foreverMs;
  while (!(await isSo())) {
    assert.ok(performance.now() < giveUpAt, `not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

const stores: Readonly<Record<string, (t: TestContext) => Promise<ReadStore>>> = {
  'memory read store': async () => memoryReadStore(),
  'PostgreSQL read store': async (t) => postgresReadStore(await readDatabase(t)),
};

async function readDatabase(t: TestContext): Promise<Database> {
  const database = await testDatabase(t, [checkpointSchemaFolder]);
  for (const projection of ['a', 'b', 'c'])
    await database.query(
      `table ${projection}`,
      `create table seen_${projection} (stream text primary key, numbers text)`,
    );
  return database;
}

test('whoever keeps answers is told to forget them no later than another worker has taken back what was parked', async (t) => {
  const database = await readDatabase(t);
  const { start, startBeside, happen, seen } = shown(t, postgresReadStore(database));
  const poison = new Set(['y 1']);
  await happen('x', 'y', 'z');
  const mending = start(seeing('a', poison));
  await reached(mending, 3);
  let resumes = 0;
  // It can never fold the message: the other has to.
  const keeping = startBeside(postgresReadStore(database), () => (resumes += 1), seeing('a', new Set(['y 1'])));
  await until('both know of it', () => [mending, keeping].every((one) => one.firstParked()[0]?.stream === 'y'));

  poison.clear();
  const before = resumes;
  await postgresReadStore(database).parked.retry({ consumer: name }, ada);
  mending.wake();
  await until('it is not parked any more', () => {
    const isKnown = keeping.firstParked().length === 0;
    assert.ok(!isKnown || resumes > before, 'it takes note, and answers are kept');
    return isKnown;
  });
  await happen('y', 'x');
  for (const one of [mending, keeping]) await reached(one, 5);
  assert.deepEqual(await seen('a', 'x', 'y', 'z'), ['1 2', '1 2', '1']);
});

for (const [storeName, open] of Object.entries(stores)) {
  test(`${storeName}: an event that one projection cannot fold is parked for all, with its stream, and replayed in order`, async (t) => {
    const store = await open(t);
    const { start, happen, seen, parked } = shown(t, store);
    const poison = new Set(['y 1']);
    await happen('x', 'y', 'z', 'y', 'x');
    const consumer = start(seeing('a'), seeing('b', poison));
    await reached(consumer, 5);
    await until('its attempts are used up', async () => (await parked())[0]?.[2] === 'parked');
    for (const projection of ['a', 'b'])
      assert.deepEqual(await seen(projection, 'x', 'y', 'z'), ['1 2', undefined, '1']);
    const cause = 'y # is more than b can fold';
    assert.deepEqual(await parked(), [
      [2, cause, 'parked'],
      [4, queuedBehind, 'parked'],
    ]);
    assert.deepEqual([consumer.trouble(), consumer.parked()], [null, 2]);

    poison.clear();
    await store.parked.retry({ cause }, ada);
    consumer.wake();
    await until('nothing is parked', async () => (await parked()).length === 0);
    await happen('y');
    await reached(consumer, 6);
    for (const projection of ['a', 'b']) assert.deepEqual(await seen(projection, 'x', 'y', 'z'), ['1 2', '1 2 3', '1']);
  });

  test(`${storeName}: an event that cannot be read is parked, and the read side goes on`, async (t) => {
    const store = await open(t);
    const { start, happen, seen, parked, unknown } = shown(t, store);
    unknown.add(2);
    await happen('x', 'y', 'y', 'z');
    const consumer = start(seeing('a'));
    await reached(consumer, 4);
    assert.deepEqual(await seen('a', 'x', 'y', 'z'), ['1', undefined, '1']);
    unknown.clear();
    await store.parked.retry({ consumer: name, position: 2 }, ada);
    consumer.wake();
    await until('nothing is parked', async () => (await parked()).length === 0);
    assert.deepEqual(await seen('a', 'y'), ['1 2']);
  });

  test(`${storeName}: a new projection catches up without what the others have parked, and gets it with them`, async (t) => {
    const store = await open(t);
    const { start, happen, seen, parked } = shown(t, store);
    const poison = new Set(['y 1', 'z 1']);
    await happen('x', 'y', 'z', 'y', 'z', 'x');
    const first = start(seeing('a', poison), seeing('b'));
    await reached(first, 6);
    await until(
      'attempts are used up',
      async () => (await parked()).filter(([, , state]) => state === 'retry').length === 0,
    );
    await store.parked.discard({ consumer: name, position: 3 }, { ...ada, reason: 'a test order' });
    first.wake();
    await until('the stream goes on without it', async () => (await parked()).length === 2);
    await first.stop();

    poison.clear();
    const second = start(seeing('a', poison), seeing('b'), seeing('c'));
    await reached(second, 6);
    for (const projection of ['a', 'b', 'c'])
      assert.deepEqual((await seen(projection, 'x', 'y'))[1], undefined, projection);
    await store.parked.retry({ consumer: name }, ada);
    second.wake();
    await until('nothing is parked', async () => (await parked()).length === 0);
    for (const projection of ['a', 'b', 'c']) assert.deepEqual(await seen(projection, 'x', 'y'), ['1 2', '1 2']);
    for (const projection of ['a', 'b', 'c']) assert.deepEqual(await seen(projection, 'z'), ['2']);
  });

  test(`${storeName}: a projection that lags and cannot go on holds up none of the others, and says so`, async (t) => {
    const store = await open(t);
    const { start, happen, seen, parked, troubles } = shown(t, store);
    await happen('x', 'y', 'x', 'y');
    const first = start(seeing('a'));
    await reached(first, 4);
    await first.stop();

    const poison = new Set(['y 1']);
    const consumer = start(seeing('a'), seeing('b'), seeing('c', poison));
    const why = 'c lags, and cannot go on from 0: y 1 is more than c can fold';
    await until('it says so', () => troubles.includes(why));
    await happen('x', 'y');
    await until('the others go on', async () => (await seen('b', 'y'))[0] === '1 2 3');
    assert.deepEqual(await seen('a', 'x', 'y'), ['1 2 3', '1 2 3']);
    assert.deepEqual([await parked(), consumer.progress.position, consumer.trouble()], [[], 0, null]);
    poison.clear();
    consumer.wake();
    await reached(consumer, 6);
    assert.deepEqual(await seen('c', 'x', 'y'), ['1 2 3', '1 2 3']);
  });

  test(`${storeName}: what is taken back of the parked messages reaches each projection once, also one that lags`, async (t) => {
    const store = await open(t);
    const { start, happen, seen, parked, troubles } = shown(t, store);
    const poison = new Set(['x 1', 'z 1']);
    const attemptsAreUsedUp = () => until('attempts are used up', async () => (await parked()).every(isOver));
    const isOver = ([, , state]: readonly unknown[]): boolean => state !== 'retry';
    await happen('x');
    const both = start(seeing('a', poison), seeing('b'));
    await reached(both, 1);
    await attemptsAreUsedUp();
    await both.stop();
    await happen('y', 'z', 'y', 'x', 'z');
    const one = start(seeing('a', poison));
    await reached(one, 6);
    await attemptsAreUsedUp();
    await one.stop();
    assert.deepEqual(
      (await parked()).map(([position]) => position),
      [1, 3, 5, 6],
    );

    poison.clear();
    // It has passed the first of the parked messages, and none of the others.
    const beyond = new Set(['y 1']);
    const consumer = start(seeing('a'), seeing('b', beyond));
    await until('it stands still', () => troubles.some((trouble) => trouble.startsWith('b lags')));
    const stopped = consumer.progress.position;
    assert.equal(stopped, 1);
    await store.parked.retry({ consumer: name }, ada);
    consumer.wake();
    await until('nothing is parked', async () => (await parked()).length === 0);
    assert.deepEqual(await seen('b', 'x', 'y', 'z'), ['1', undefined, undefined]);
    assert.deepEqual(await seen('a', 'x', 'y', 'z'), ['1 2', '1 2', '1 2']);
    assert.equal(consumer.progress.position, stopped);
    beyond.clear();
    consumer.wake();
    await reached(consumer, 6);
    assert.deepEqual(await seen('b', 'x', 'y', 'z'), ['1 2', '1 2', '1 2']);
  });

  test(`${storeName}: projections that can fold nothing pause, park nothing, and go on by themselves`, async (t) => {
    const store = await open(t);
    const { start, happen, seen, parked } = shown(t, store);
    const streams = ['p', 'q', 'r', 's', 't', 'u'];
    const poison = new Set(streams.map((stream) => `${stream} 1`));
    await happen(...streams);
    const consumer = start(seeing('a', poison));
    await until('it is paused', () => consumer.paused() !== null);
    assert.deepEqual([await parked(), consumer.progress.position], [[], 0]);
    poison.clear();
    await reached(consumer, 6);
    assert.deepEqual(
      await seen('a', ...streams),
      streams.map(() => '1'),
    );
  });
}
