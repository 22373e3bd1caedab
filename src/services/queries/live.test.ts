import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { CommandServiceName } from '#contracts/service.ts';
import type { Caller, EventSink, LiveStream } from '#contracts/routes.ts';
import { encodeToken } from '#cqrs/consistency-token.ts';
import type { Consumer } from '#cqrs/consumer.ts';
import type { EventLog } from '#cqrs/event-log.ts';
import { localFeed } from '#cqrs/feed.ts';
import { openMemoryLog } from '#cqrs/memory-log.ts';
import { checkpointSchemaFolder } from '#cqrs/postgres-log.ts';
import { postgresReadStore, readStoreOptions } from '#cqrs/postgres-read-store.ts';
import { Progress, reachAll } from '#cqrs/progress.ts';
import { startProjections } from '#cqrs/projections.ts';
import { type Ports, systemPorts } from '#platform/ports.ts';
import { openDatabase } from '#platform/postgres.ts';
import { testDatabaseUrl } from '../../../tests/database.ts';
import { until } from '../../../tests/shop-client.ts';
import { createReadModels, openReads, queriesSchema } from './service.ts';
import { customerRegistered, orderEvent, orderPlaced, productAdded, story, type Told } from './story-for-tests.ts';

const services: readonly CommandServiceName[] = ['catalog', 'ordering', 'inventory', 'payments'];
const fromTheBeginning = encodeToken({});

/** Logs that the test writes, the real read side on them, and its streams. */
async function streamsFor(t: TestContext, ports: Ports = systemPorts) {
  const { tell } = story();
  const logs = new Map<string, EventLog>(services.map((name) => [`${name}.0`, openMemoryLog(`${name}.0`)]));
  const feeds = [...logs.values()].map((log) => localFeed(log));
  const url = await testDatabaseUrl(t, [checkpointSchemaFolder, queriesSchema]);
  const database = openDatabase(url, { ...readStoreOptions, applicationName: 'test' });
  const reads = openReads(url, { applicationName: 'test reads' });
  const models = createReadModels({ ...reads, cacheMb: 8 });
  const troubles: unknown[] = [];
  const reportTrouble = (_who: string, error: unknown): void => void troubles.push(error);
  const followed = new Map<string, Progress>();
  const live = models.live({
    feeds,
    async headOf(source) {
      // A database takes its time.
      await turn();
      return logs.get(source)!.head();
    },
    caughtUp: (positions, waitMs) => reachAll(positions, followed, waitMs),
    positions: () => Object.fromEntries([...followed].map(([source, { position }]) => [source, position])),
    reportTrouble,
    ports,
  });
  let consumers: Consumer[] = [];
  const readSide = {
    start(): void {
      const store = postgresReadStore(database);
      const { projections } = models;
      const onResume = (): void => models.forgetAnswers();
      consumers = feeds.map((feed) => startProjections({ feed, store, projections, onResume, reportTrouble }));
      for (const { source, progress } of consumers) followed.set(source, progress);
    },
    async stop(): Promise<void> {
      await Promise.all(consumers.map((consumer) => consumer.stop()));
    },
    applied: () => followed.get('ordering.0')!.position,
    /** As if it had applied everything, which it has not. */
    passOver(position: number): void {
      followed.set('ordering.0', new Progress(position));
    },
  };
  readSide.start();
  t.after(async () => {
    await live.stop();
    await readSide.stop();
    await Promise.all([database.end(), reads.end()]);
  });

  async function happen(...told: readonly Told[]): Promise<void> {
    for (const { service, event } of told.map((one) => tell(one))) {
      await logs.get(`${service}.0`)!.append({ checks: [], events: [event], writes: [], keys: [], checkpoints: [] });
    }
  }

  /** As a client sees it, cut off and back again as it likes. */
  function reader(address: string, asked: { params?: object; query?: object } = {}, begin?: string) {
    const route = live.routes.find((one) => one.url === address)!;
    const caller: Caller = { role: 'operator' };
    let [lastEventId, open] = [begin, null as LiveStream | null];
    const seen: any[] = [];
    const errors: unknown[] = [];
    const reading = {
      seen,
      errors,
      isOpen: () => open !== null,
      async open(slowly: () => Promise<void> = async () => {}): Promise<void> {
        const { params = {}, query = {} } = asked;
        const stream = await route.open({ params, query, caller, lastEventId } as never);
        assert.ok('start' in stream, JSON.stringify(stream));
        open = stream;
        const sink: EventSink = {
          get closed() {
            return open !== stream;
          },
          write(frames) {
            if (sink.closed) return;
            for (const frame of frames.toString().split('\n\n').slice(0, -1)) {
              lastEventId = /^id: (.*)$/m.exec(frame)?.[1] ?? lastEventId;
              const data = /^data: (.*)$/m.exec(frame)?.[1];
              if (data !== undefined) seen.push(JSON.parse(data));
            }
          },
          drained: slowly,
          fail(error) {
            errors.push(error);
            reading.close();
          },
        };
        stream.start(sink);
      },
      close(): void {
        const stream = open;
        open = null;
        stream?.close();
      },
    };
    return reading;
  }

  return { happen, reader, readSide, live, troubles };
}

/** A seed gives the same numbers again. */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const versionsOf = (seen: readonly { readonly version: number }[]): number[] => seen.map(({ version }) => version);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, n) => n + 1);

test('however readers come and go while things happen, each sees each thing once and in order', async (t) => {
  const seed = Date.now() % 1_000_000;
  t.diagnostic(`seed ${seed}`);
  const random = randomOf(seed);
  const { happen, reader, troubles } = await streamsFor(t);
  const slowly = async (): Promise<void> => {
    for (let n = random(3); n > 0; n -= 1) await turn();
  };
  const orderIds = ['a', 'b', 'c'];
  const told: string[] = [];
  let products = 700;
  const tellOne = async (): Promise<void> => {
    const orderId = orderIds[random(3)]!;
    const versions = told.filter((one) => one === orderId).length;
    if (random(4) === 0) {
      products += 1;
      return happen(productAdded(`P${told.length}`));
    }
    told.push(orderId);
    if (versions === 0) await happen(orderPlaced(orderId));
    else await happen(versions === 1 ? orderEvent.reserved(orderId) : orderEvent.inDoubt(orderId));
  };
  for (const orderId of orderIds) {
    told.push(orderId);
    await happen(orderPlaced(orderId));
  }
  await happen(...Array.from({ length: products }, (_, n) => productAdded(`Before ${n}`)));
  const everything = Array.from({ length: 6 }, () => reader('/v1/live', {}, fromTheBeginning));
  const ofOrders = [...orderIds, ...orderIds].map((orderId) => ({
    orderId,
    ...reader('/v1/orders/:orderId/live', { params: { orderId } }),
  }));
  const all = [...everything, ...ofOrders];
  const first = reader('/v1/orders/:orderId/live', { params: { orderId: 'c' } });
  await until('the read side has all orders', () => first.open().then(() => true));
  first.close();

  for (let step = 0; step < 600; step += 1) {
    const chosen = all[random(all.length)]!;
    if (random(3) > 0) await tellOne();
    else if (chosen.isOpen()) chosen.close();
    else await chosen.open(slowly);
    await slowly();
  }
  for (const one of all) if (!one.isOpen()) await one.open();

  const heads = { catalog: products, ordering: told.length };
  for (const one of everything) {
    await until('it has all of them', async () => (one.seen.length >= products + told.length ? true : null));
    for (const service of ['catalog', 'ordering'] as const) {
      const ids = one.seen.filter((event) => event.service === service).map(({ id }) => id);
      assert.deepEqual(
        ids,
        upTo(heads[service]).map((n) => `${service}-0-${n}`),
        `seed ${seed}`,
      );
    }
  }
  for (const { orderId, seen } of ofOrders) {
    const last = told.filter((one) => one === orderId).length;
    await until('it has the last', async () => (seen.at(-1)?.version === last ? true : null), 20_000);
    const versions = versionsOf(seen);
    assert.deepEqual(versions, upTo(last).slice(versions[0]! - 1), `seed ${seed}`);
  }
  assert.deepEqual(troubles, []);
});

test('who has an open stream of everything sees what is done from then on', async (t) => {
  const { happen, reader } = await streamsFor(t);
  await happen(orderPlaced('a'));
  const everything = reader('/v1/live');
  await everything.open();
  await happen(orderPlaced('b'));
  await until('it is sent', async () => (everything.seen.length > 0 ? true : null));
  assert.deepEqual(
    everything.seen.map(({ id }) => id),
    ['ordering-0-2'],
  );
});

test('a version is sent when the read side shows it, and not before', async (t) => {
  const { happen, reader, readSide } = await streamsFor(t);
  await happen(orderPlaced('a'));
  const order = reader('/v1/orders/:orderId/live', { params: { orderId: 'a' } });
  await until('it is shown', () => order.open().then(() => true));
  await until('it has begun', async () => (order.seen.length === 1 ? true : null));
  await readSide.stop();
  await happen(orderEvent.reserved('a'), orderEvent.completed('a'));
  const everything = reader('/v1/live', { query: { type: 'OrderCompleted' } }, fromTheBeginning);
  await everything.open();
  await until('who sees everything does not wait', async () => (everything.seen.length === 1 ? true : null));
  // Who comes while the read side is behind is told, too.
  const late = reader('/v1/orders/:orderId/live', { params: { orderId: 'a' } });
  await late.open();
  await until('it has begun, too', async () => (late.seen.length === 1 ? true : null));
  assert.deepEqual([versionsOf(order.seen), versionsOf(late.seen)], [[1], [1]]);
  readSide.start();
  for (const { seen } of [order, late]) {
    // Sooner than a look would find it: it was told.
    await until('it has all', async () => (seen.length === 3 ? true : null), 8_000);
    assert.deepEqual(versionsOf(seen), [1, 2, 3]);
    assert.equal(seen.at(-1).status, 'completed');
  }
});

test('who is the first to come while the read side is behind misses nothing', async (t) => {
  const { happen, reader, readSide } = await streamsFor(t);
  await happen(orderPlaced('a'));
  await until('it is shown', async () => (readSide.applied() === 1 ? true : null));
  await readSide.stop();
  await happen(orderEvent.reserved('a'));
  const order = reader('/v1/orders/:orderId/live', { params: { orderId: 'a' } });
  await order.open();
  await until('it has begun', async () => (order.seen.length === 1 ? true : null));
  readSide.start();
  await until('it has all', async () => (order.seen.length === 2 ? true : null), 8_000);
  assert.deepEqual(versionsOf(order.seen), [1, 2]);
});

test('who looks at one customer is told that the read side is behind, and who looks at everything goes on', async (t) => {
  const { happen, reader, readSide } = await streamsFor(t);
  await happen(customerRegistered('alice'));
  const [alices, all] = [reader('/v1/live', { query: { customerId: 'alice' } }, fromTheBeginning), reader('/v1/live')];
  await Promise.all([alices.open(), all.open()]);
  await until('it has begun', async () => (alices.seen.length === 1 ? true : null));
  await readSide.stop();
  await happen(orderPlaced('a', { customerId: 'alice' }));
  await until('what is placed names its customer', async () => (alices.seen.length === 2 ? true : null));
  alices.close();
  await happen(orderEvent.reserved('a'));
  const another = reader('/v1/live', { query: { customerId: 'bob' } });
  const paid: Told = {
    type: 'PaymentVoided',
    data: { paymentId: 'p', orderId: 'unheard-of', reason: 'withdrawn' },
  };
  await another.open();
  await happen(paid);
  await until('it is told', async () => (another.errors.length === 1 ? true : null));
  assert.deepEqual(another.errors, [{ code: 'read-model-behind' }]);
  await until('the others go on', async () => (all.seen.at(-1)?.type === 'PaymentVoided' ? true : null));
  readSide.start();
  await alices.open();
  await until('it has gone on', async () => (alices.seen.length === 3 ? true : null));
  assert.deepEqual(
    alices.seen.map(({ type }) => type),
    ['CustomerRegistered', 'OrderPlaced', 'OrderReserved'],
  );
});

test('a version that was passed over, and applied later without a further event, is found by looking', async (t) => {
  const often: Ports = { ...systemPorts, every: (_ms, act) => systemPorts.every(20, act) };
  const { happen, reader, readSide } = await streamsFor(t, often);
  await happen(orderPlaced('a'), orderPlaced('b'));
  const order = reader('/v1/orders/:orderId/live', { params: { orderId: 'a' } });
  const other = reader('/v1/orders/:orderId/live', { params: { orderId: 'b' } });
  await until('they are shown', () => Promise.all([order.open(), other.open()]).then(() => true));
  await until('they have begun', async () => (order.seen.length + other.seen.length === 2 ? true : null));
  await readSide.stop();
  readSide.passOver(3);
  await happen(orderEvent.reserved('a'));
  // The streams hear of it, and find nothing changed.
  for (let n = 0; n < 100; n += 1) await turn();
  readSide.start();
  await until('it is found', async () => (order.seen.length === 2 ? true : null));
  assert.deepEqual([versionsOf(order.seen), versionsOf(other.seen)], [[1, 2], [1]]);
});

test('streams that are stopped let go of what they wait for', async (t) => {
  const { happen, reader, readSide, live } = await streamsFor(t);
  await happen(orderPlaced('a'));
  const order = reader('/v1/orders/:orderId/live', { params: { orderId: 'a' } });
  await until('it is shown', () => order.open().then(() => true));
  const all = reader('/v1/live');
  await all.open();
  await readSide.stop();
  await happen(orderEvent.reserved('a'));
  await until('everything is heard', async () => (all.seen.length === 1 ? true : null));
  const began = performance.now();
  await live.stop();
  assert.ok(performance.now() - began < 2_000);
});
