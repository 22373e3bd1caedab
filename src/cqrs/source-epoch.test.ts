import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type Database } from '#platform/postgres.ts';
import { testDatabase } from '../../tests/database.ts';
import { createCommandBus, type StreamType } from './command-bus.ts';
import type { Consumer } from './consumer.ts';
import { isEngineError } from './errors.ts';
import type { EventLog } from './event-log.ts';
import { type Feed, localFeed } from './feed.ts';
import { memoryReadStore } from './memory-read-store.ts';
import { logSchemaFolders, openPostgresLog } from './postgres-log.ts';
import { startProjections } from './projections.ts';
import { startReactions } from './reactions.ts';
import { adoptEpoch, beginEpoch, checkCheckpoints } from './source-epoch.ts';

const origin = { actor: 'operator', correlationId: 'c', causationId: 'r' };
const at = '2026-01-02T03:04:05.678Z';
const counter = 'stock-of-orders';
const waitMs = 30_000;

/** A log that can be set back, and a service that counts its events. */
async function counting(t: TestContext) {
  const source = await opened(t, 'orders.0');
  const own = await opened(t, 'stock.0');
  const troubles: unknown[] = [];
  const start = (feed: Feed = localFeed(source.log)): Consumer => {
    const consumer = startReactions({
      name: counter,
      feed,
      log: own.log,
      bus: createCommandBus({ log: own.log }),
      reactions: {
        Placed: {
          reads: () => [{ type: tally, id: 'all' }],
          react: (_event, scope) => scope.record(tally, 'all', { type: 'Counted', data: {} }),
        },
      },
      reportTrouble: (_who, error) => troubles.push(error),
    });
    t.after(() => consumer.stop());
    return consumer;
  };
  return { source, own, start, troubles };
}

const tally: StreamType<number> = { name: 'tally', initial: 0, evolve: (count) => count + 1 };

async function opened(t: TestContext, source: string): Promise<{ log: EventLog; database: Database }> {
  const database = await testDatabase(t, logSchemaFolders);
  const log = await openPostgresLog({ database, source });
  t.after(() => log.close());
  return { log, database };
}

async function happen(log: EventLog, count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) {
    const stream = `order-${(await log.head()) + 1}-${n}`;
    const event = { stream, version: 1, type: 'Placed', data: {}, at, origin };
    await log.append({ checks: [], events: [event], writes: [], keys: [], checkpoints: [] });
  }
}

/** As a backup leaves it that was taken at `position`. */
async function restore(database: Database, position: number): Promise<void> {
  await database.transaction(async (sql) => {
    await sql.query('cut events', 'delete from events where position > $1', [position]);
    await sql.query('cut batches', 'delete from batches where last_position > $1', [position]);
    await sql.query(
      'cut head',
      'update log_head set (position, hash) = (select last_position, hash from batches where last_position = $1)',
      [position],
    );
  });
}

async function inTrouble(consumer: Consumer, message: RegExp): Promise<void> {
  for (let tries = 0; !message.test(consumer.trouble()?.message ?? ''); tries += 1) {
    assert.ok(tries < waitMs / 10, `the trouble is ${consumer.trouble()?.message}`);
    await delay(10);
  }
}

test('a consumer whose source went back applies and skips nothing, says so, and goes on once that is settled', async (t) => {
  const { source, own, start, troubles } = await counting(t);
  await happen(source.log, 10);
  const first = start();
  assert.ok(await first.progress.reach(10, waitMs));
  await first.stop();

  await restore(source.database, 6);
  const second = start();
  await inTrouble(
    second,
    /^source-went-back: orders\.0 ends at 6, and stock-of-orders has applied it up to 10: .*backup/,
  );
  assert.ok(isEngineError(troubles[0], 'source-went-back'));

  // Without another epoch only the head can tell; with it, also when the log has grown past the checkpoint again.
  const { epoch } = await beginEpoch(source.database);
  await happen(source.log, 8);
  second.wake();
  await inTrouble(second, new RegExp(`orders\\.0 is in the epoch ${epoch}, and stock-of-orders has applied it in`));
  assert.deepEqual([await own.log.head(), await own.log.checkpoint(counter)], [10, 10]);
  await second.stop();

  // The service's database is restored from the same backup, or an operator has decided.
  await adoptEpoch(own.database, 'orders.0', await source.log.anchor());
  const third = start();
  assert.ok(await third.progress.reach(14, waitMs));
  assert.deepEqual([await own.log.head(), third.trouble()], [14, null]);
});

test('a consumer that was running finds that its source went back when it goes on after trouble', async (t) => {
  const { source, own, start } = await counting(t);
  await happen(source.log, 5);
  let broken = false;
  const local = localFeed(source.log);
  const consumer = start({
    ...local,
    async next(position, limit, _waitMs) {
      if (broken) throw new Error('the database is being restored');
      return local.next(position, limit, 50);
    },
  });
  assert.ok(await consumer.progress.reach(5, waitMs));
  broken = true;
  await inTrouble(consumer, /being restored/);
  await restore(source.database, 3);
  await beginEpoch(source.database);
  broken = false;
  consumer.wake();
  await inTrouble(consumer, /orders\.0 ends at 3/);
  assert.equal(await own.log.head(), 5);
});

test('projections whose source went back apply and skip nothing, say so, and go on once that is settled', async (t) => {
  const { log, database } = await opened(t, 'orders.0');
  await happen(log, 4);
  const store = memoryReadStore();
  const applied: number[] = [];
  let epoch: string | null = null;
  const start = (): Consumer => {
    const local = localFeed(log);
    const consumer = startProjections({
      feed: { ...local, anchor: async () => ({ ...(await local.anchor()), ...(epoch === null ? {} : { epoch }) }) },
      store,
      projections: [
        {
          name: 'seen',
          version: 1,
          services: ['orders'],
          tables: [],
          apply: async (_service, events) => void applied.push(...events.map(({ position }) => position)),
        },
      ],
      onResume: () => {},
      reportTrouble: () => {},
    });
    t.after(() => consumer.stop());
    return consumer;
  };
  const first = start();
  assert.ok(await first.progress.reach(4, waitMs));
  await first.stop();
  const before = await log.anchor();

  await restore(database, 2);
  await beginEpoch(database);
  const second = start();
  await inTrouble(second, /orders\.0 ends at 2, and projections-of-orders\.0 has applied it up to 4/);
  await happen(log, 3);
  second.wake();
  await inTrouble(second, /orders\.0 is in the epoch/);
  await second.stop();
  assert.deepEqual(applied, [1, 2, 3, 4]);

  epoch = before.epoch;
  const third = start();
  assert.ok(await third.progress.reach(5, waitMs));
  assert.deepEqual(applied, [1, 2, 3, 4, 5]);
});

test('consumers of a restored log apply and skip nothing until they are told to go by its new epoch', async (t) => {
  const { source, own, start } = await counting(t);
  await happen(source.log, 3);
  const first = start();
  assert.ok(await first.progress.reach(3, waitMs));
  await first.stop();

  // All databases of one backup: the log stands where its consumer does, and has another epoch.
  const anchor = await beginEpoch(source.database);
  assert.deepEqual(anchor, await source.log.anchor());
  const second = start();
  await happen(source.log, 2);
  await inTrouble(second, /is in the epoch/);
  assert.deepEqual([await own.log.head(), await own.log.checkpoint(counter)], [3, 3]);
  assert.deepEqual(await adoptEpoch(own.database, 'orders.0', anchor), { adopted: [counter], beyond: [] });
  second.wake();
  assert.ok(await second.progress.reach(5, waitMs));
  assert.equal(await own.log.head(), 5);
});

test('a consumer that is beyond a restored log does not go by its new epoch', async (t) => {
  const { source, own, start } = await counting(t);
  await happen(source.log, 3);
  const first = start();
  assert.ok(await first.progress.reach(3, waitMs));
  await first.stop();
  await restore(source.database, 2);
  const anchor = await beginEpoch(source.database);
  assert.deepEqual(await adoptEpoch(own.database, 'stock.0', anchor), { adopted: [], beyond: [] });
  assert.deepEqual(await adoptEpoch(own.database, 'orders.0', anchor), { adopted: [], beyond: [counter] });
  await happen(source.log, 2);
  await inTrouble(start(), /is in the epoch/);
});

test('a checkpoint beyond the head of its source is found', async (t) => {
  const { source, own, start } = await counting(t);
  await happen(source.log, 3);
  const consumer = start();
  assert.ok(await consumer.progress.reach(3, waitMs));
  await consumer.stop();
  const headOf = async (name: string): Promise<number> => (name === 'orders.0' ? source.log.head() : 0);
  assert.deepEqual(await checkCheckpoints(own.database, headOf), []);
  await own.database.query('damage', 'update checkpoints set position = 9');
  assert.deepEqual(await checkCheckpoints(own.database, headOf), [
    {
      kind: 'checkpoint-beyond-head',
      consumer: counter,
      position: 9,
      expected: 'a position up to 3, the head of orders.0',
      found: '9',
    },
  ]);
});

test('a database without a log has no epoch', async (t) => {
  const database = await testDatabase(t, logSchemaFolders);
  await assert.rejects(beginEpoch(database), /there is no log in this database/);
});
