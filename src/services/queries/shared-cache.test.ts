import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { OrderView } from '#contracts/http.ts';
import { type Ports, systemPorts } from '#platform/ports.ts';
import type { Database, Sql } from '#platform/postgres.ts';
import { createResourceCache, type ReadResource } from './resource-cache.ts';
import { createSecondLevel } from './second-level.ts';
import { memorySharedCache, type SharedCache } from './shared-cache.ts';
import { sharedCacheContract, sharedResource } from './shared-cache.contract.ts';
import {
  customerRegistered,
  orderEvent,
  orderPlaced,
  productAdded,
  readSideForTests,
  readSideOn,
  story,
} from './story-for-tests.ts';

sharedCacheContract('in this process', async (ports) => memorySharedCache(1, { ...systemPorts, ...ports }));

const nothing = { positions: () => ({}), includes: async () => true };

/** What a row comes to that shows nothing in particular. */
const read = (revision: number): ReadResource => ({ resource: sharedResource(revision), shows: {} });

/** A clock that stands until it is moved; what is due then is called. */
function standingClock(): Ports & { move(ms: number): void } {
  let now = 0;
  const due = new Map<() => void, number>();
  return {
    ...systemPorts,
    elapsed: () => now,
    after(ms, act) {
      due.set(act, now + ms);
      return () => due.delete(act);
    },
    move(ms) {
      now += ms;
      for (const [act, at] of due) {
        if (at > now) continue;
        due.delete(act);
        act();
      }
    },
  };
}

test('memory of a shared cache is bounded by bytes', async () => {
  const shared = memorySharedCache(1);
  const keys = Array.from({ length: 100 }, (_, n) => `k${n}`);
  const large = sharedResource(1, { bytes: Buffer.alloc(50_000) });
  await shared.putMany(new Map(keys.map((key) => [key, large])));
  const { size } = await shared.getMany(keys);
  assert.ok(size >= 15 && size <= 20, String(size));
});

/** Counts what is asked of a database, on whatever connection. */
function counting(database: Database): { database: Database; asked: string[] } {
  const asked: string[] = [];
  const counted = <S extends Sql>(sql: S): S => ({
    ...sql,
    query: (name, ...rest) => {
      asked.push(name);
      return sql.query(name, ...rest);
    },
  });
  const pin: Database['pin'] = async () => counted(await database.pin());
  return { database: { ...counted(database), pin }, asked };
}

const orderUrl = '/v1/orders/:orderId';
const reads = [
  [orderUrl, { orderId: 'o1' }],
  ['/v1/customers/:customerId', { customerId: 'alice' }],
  ['/v1/products/:sku', { sku: 'S1' }],
] as const;

test('what one process has read answers in another, which says how much that shows, and not under a token', async (t) => {
  const shared = memorySharedCache(1);
  const { tell } = story();
  const shows = { 'ordering.0': 3 };
  const one = await readSideForTests(t, { shared, positions: () => shows });
  await one.database.query('came', `insert into checkpoints (consumer, position) values ('orders-of-ordering.0', 3)`);
  const { database, asked } = counting(one.database);
  const other = readSideOn(database, { shared, positions: () => ({ 'ordering.0': 9 }) });
  await readSideOn(one.database).given(
    tell(customerRegistered('alice')),
    tell(orderPlaced('o1')),
    tell(productAdded('S1')),
  );
  for (const [url, params] of reads) {
    const first = await one.ask(url, { params, underToken: false });
    await turn();
    const second = await other.ask(url, { params, underToken: false });
    assert.ok('bytes' in first && 'bytes' in second);
    assert.deepEqual([second.bytes, second.etag, second.shows], [first.bytes, first.etag, shows]);
    assert.deepEqual(asked, [], url);
    assert.equal(first.shows, undefined);
  }
  const { sharedHits, entries } = other.models.cacheStats();
  assert.deepEqual([sharedHits, entries], [3, 0], 'and it is not kept as its own');

  await t.test('a customer does not see through it what is not theirs', async () => {
    const caller = { role: 'customer', customerId: 'bob' } as const;
    for (const [url, params] of reads.slice(0, 2))
      assert.ok('refused' in (await other.ask(url, { params, caller, underToken: false })));
  });

  await t.test('under a token the row is asked', async () => {
    for (const [url, params] of reads) {
      asked.length = 0;
      const answer = await other.ask(url, { params, underToken: true });
      assert.ok('bytes' in answer && answer.shows === undefined);
      assert.equal(asked.length, 1, url);
    }
  });

  await t.test('what one applies, the other has from it', async () => {
    const third = readSideOn(database, { shared });
    await one.given(tell(orderEvent.reserved('o1')));
    await turn();
    asked.length = 0;
    const order = await third.see<OrderView>(orderUrl, { params: { orderId: 'o1' }, underToken: false });
    assert.deepEqual([order.status, asked], ['reserved', []]);
  });
});

/** A shared cache as a test wants it to behave. */
const behaving = (act: () => Promise<never>): SharedCache => ({ getMany: act, putMany: act, invalidate: act });

test('a shared cache that fails fails no read, and is left alone for a second', async () => {
  const ports = standingClock();
  let asked = 0;
  const failing = behaving(async () => {
    asked += 1;
    throw new Error('gone');
  });
  const second = createSecondLevel(failing, ports);
  const cache = createResourceCache(1, nothing, second);
  const readThrough = (key: string) => cache.read(key, async () => read(1), true);
  assert.equal((await readThrough('a'))?.revision, 1);
  for (const key of ['b', 'c']) assert.equal((await readThrough(key))?.revision, 1);
  cache.put('a', sharedResource(2));
  assert.deepEqual([asked, second.figures.sharedFailures], [1, 1]);
  ports.move(1_000);
  assert.equal((await readThrough('d'))?.revision, 1);
  assert.equal(asked, 2);
});

test('a shared cache that does not answer keeps a read no longer than its time-out', async () => {
  const ports = standingClock();
  const silent = behaving(() => new Promise(() => {}));
  const cache = createResourceCache(1, nothing, createSecondLevel(silent, ports));
  let loaded = false;
  const reading = cache.read(
    'a',
    async () => {
      loaded = true;
      return read(1);
    },
    true,
  );
  await turn();
  assert.equal(loaded, false);
  ports.move(20);
  assert.equal((await reading)?.revision, 1);
});

test('a shared cache that takes no writes holds up none, and keeps no memory', async () => {
  const ports = standingClock();
  const written: number[] = [];
  let answer = (): void => {};
  const slow: SharedCache = {
    ...memorySharedCache(1),
    putMany(resources) {
      written.push(resources.size);
      return new Promise((resolve) => (answer = resolve));
    },
  };
  const second = createSecondLevel(slow, ports);
  for (let n = 0; n < 20_000; n += 1) second.put(`k${n}`, sharedResource(1), {});
  await turn();
  answer();
  await turn();
  assert.deepEqual(written, [1, 10_000]);
  second.put('more', sharedResource(1), {});
  ports.move(1_000);
  await turn();
  assert.deepEqual(written, [1, 10_000], 'what waited behind a write that was given up is not shared');
  assert.equal(second.figures.sharedFailures, 1);
});

test('readers that miss together ask a shared cache once, and read once', async () => {
  let asked = 0;
  let loads = 0;
  const empty: SharedCache = {
    ...memorySharedCache(1),
    async getMany() {
      asked += 1;
      return new Map();
    },
  };
  const cache = createResourceCache(1, nothing, createSecondLevel(empty));
  const load = async () => {
    loads += 1;
    return read(1);
  };
  await Promise.all(Array.from({ length: 10 }, async () => cache.read('a', load, true)));
  assert.deepEqual([asked, loads], [1, 1]);
});
