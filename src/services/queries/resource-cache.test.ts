import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { Positions } from '#cqrs/consistency-token.ts';
import { AppliedResource, createResourceCache, type ReadResource, type Resource } from './resource-cache.ts';

const resource = (revision: number, size = 10): Resource => ({
  bytes: Buffer.alloc(size, String(revision)),
  etag: String(revision),
  revision,
});

/** As it is read, by a process that has applied nothing, of rows to which nothing has been applied. */
const read = (revision: number, size = 10, shows: Positions = {}): ReadResource => ({
  resource: resource(revision, size),
  shows,
});
const nothing = { positions: (): Positions => ({}), includes: async () => true };

const tooLargeToKeep = 2_000_000;

/** A read whose answer arrives when the test says so. */
function slowRead() {
  const { promise, resolve, reject } = Promise.withResolvers<ReadResource | undefined>();
  let asked = 0;
  return { load: () => ((asked += 1), promise), resolve, reject, asked: () => asked };
}

test('callers that miss together share one read', async () => {
  const cache = createResourceCache(1, nothing);
  const slow = slowRead();
  const first = cache.read('a', slow.load);
  const second = cache.read('a', slow.load);
  slow.resolve(read(1));
  assert.deepEqual([await first, await second], [resource(1), resource(1)]);
  assert.equal(slow.asked(), 1);
  assert.deepEqual(cache.read('a', slow.load), resource(1));
  const { hits, misses, entries } = cache.stats();
  assert.deepEqual({ hits, misses, entries }, { hits: 1, misses: 2, entries: 1 });
});

test('what is not there is not remembered as missing', async () => {
  const cache = createResourceCache(1, nothing);
  assert.equal(await cache.read('a', async () => undefined), undefined);
  assert.deepEqual(await cache.read('a', async () => read(1)), resource(1));
});

test('a read that fails is tried again by the next caller', async () => {
  const cache = createResourceCache(1, nothing);
  await assert.rejects(async () => cache.read('a', () => Promise.reject(new Error('down'))), /down/);
  assert.deepEqual(await cache.read('a', async () => read(1)), resource(1));
});

test('older never overwrites newer', () => {
  const cache = createResourceCache(1, nothing);
  cache.put('a', resource(2));
  cache.put('a', resource(1));
  cache.refresh('a', () => resource(1));
  assert.equal(cache.peek('a')?.revision, 2);
  cache.refresh('a', () => resource(3));
  assert.equal(cache.peek('a')?.revision, 3);
});

test('a read under way when its resource changes is neither kept nor shared with later callers', async () => {
  for (const change of ['put', 'refresh', 'clear'] as const) {
    const cache = createResourceCache(1, nothing);
    const slow = slowRead();
    const early = cache.read('a', slow.load);
    if (change === 'clear') cache.clear();
    else if (change === 'put') cache.put('a', resource(2, tooLargeToKeep));
    else cache.refresh('a', () => resource(2, tooLargeToKeep));
    const late = cache.read('a', async () => read(2, tooLargeToKeep));
    slow.resolve(read(1));
    assert.equal((await early)?.revision, 1);
    assert.equal((await late)?.revision, 2, change);
    assert.equal(cache.peek('a'), undefined, change);
  }
});

test('of two answers that each have seen what the other has not, neither is kept', () => {
  const cache = createResourceCache(1, nothing);
  const seen = (revision: number, revisionBeside: number): Resource => ({ ...resource(revision), revisionBeside });
  for (const [first, second] of [
    [seen(2, 0), seen(1, 9)],
    [seen(1, 1), seen(2, 0)],
  ] as const) {
    cache.put('a', first);
    cache.refresh('a', () => second);
    assert.equal(cache.peek('a'), undefined);
  }
  cache.put('a', seen(1, 1));
  cache.refresh('a', () => seen(1, 2));
  cache.refresh('a', () => seen(1, 1));
  assert.deepEqual(cache.peek('a'), seen(1, 2));
});

test('refreshing touches only what is kept, and forgets what is gone', () => {
  const cache = createResourceCache(1, nothing);
  cache.refresh('a', () => resource(1));
  assert.equal(cache.peek('a'), undefined);
  cache.put('a', resource(1));
  cache.refresh('a', () => undefined);
  assert.equal(cache.peek('a'), undefined);
});

test('memory is bounded by bytes, and 0 keeps nothing', async () => {
  const cache = createResourceCache(1, nothing);
  for (let n = 0; n < 100; n += 1) cache.put(`k${n}`, resource(1, 50_000));
  assert.ok(cache.stats().bytes <= cache.stats().bytesMax);
  assert.ok(cache.stats().entries >= 20);
  assert.equal(cache.stats().entries + cache.stats().evictions, 100);
  const none = createResourceCache(0, nothing);
  none.put('a', resource(1, 0));
  assert.equal(none.peek('a'), undefined);
  assert.equal((await none.read('a', async () => read(2)))?.revision, 2);
});

test('what is applied is made into bytes when it is read, once', () => {
  const cache = createResourceCache(1, nothing);
  let made = 0;
  const applied = (revision: number): Resource =>
    new AppliedResource(() => ((made += 1), `revision ${revision}`), {
      bytesMax: 20,
      etag: String(revision),
      revision,
    });
  for (const revision of [1, 2, 3]) cache.put('a', applied(revision));
  assert.deepEqual([made, cache.stats().entries], [0, 1]);
  assert.deepEqual(
    [1, 2].map(() => cache.kept('a')?.bytes.toString()),
    ['revision 3', 'revision 3'],
  );
  assert.equal(made, 1);
});

/** A process whose positions the test moves; whoever waits for them is told. */
function processAt(first: Positions) {
  let positions = first;
  const waiting: { shown: Positions; resolve: (isIncluded: boolean) => void }[] = [];
  return {
    positions: () => positions,
    includes: (shown: Positions) => new Promise<boolean>((resolve) => waiting.push({ shown, resolve })),
    waiting,
    async comesTo(next: Positions, isIncluded = true): Promise<void> {
      positions = next;
      for (const { resolve } of waiting.splice(0)) resolve(isIncluded);
      await turn();
    },
  };
}

test('what shows more than this process has applied says so, and is kept once it has', async () => {
  const applied = processAt({ 'a.0': 3, 'b.0': 5 });
  const cache = createResourceCache(1, applied);
  let loads = 0;
  const load = async () => ((loads += 1), read(2, 10, { 'a.0': 4, 'b.0': 2 }));
  for (let n = 0; n < 2; n += 1)
    assert.deepEqual(await cache.read('a', load), { ...resource(2), shows: { 'a.0': 4, 'b.0': 5 } });
  assert.deepEqual([cache.peek('a'), loads, applied.waiting[0]?.shown], [undefined, 1, { 'a.0': 4, 'b.0': 2 }]);
  await applied.comesTo({ 'a.0': 4, 'b.0': 5 });
  assert.deepEqual(cache.read('a', load), resource(2));
  assert.equal(loads, 1);
});

test('what this process does not come to, or changes meanwhile, is not kept', async () => {
  for (const change of ['put', 'nothing'] as const) {
    const applied = processAt({ 'a.0': 3 });
    const cache = createResourceCache(1, applied);
    await cache.read('a', async () => read(2, 10, { 'a.0': 4 }));
    if (change === 'put') cache.put('a', resource(3, tooLargeToKeep));
    await applied.comesTo({ 'a.0': 3 }, change === 'put');
    assert.equal(cache.peek('a'), undefined, change);
    assert.equal((await cache.read('a', async () => read(4)))?.revision, 4, change);
  }
});

test('what is applied while a row is read is not taken back by what the answer shows', async () => {
  const applied = processAt({ 'a.0': 3 });
  const cache = createResourceCache(1, applied);
  const slow = slowRead();
  const early = cache.read('a', slow.load);
  await applied.comesTo({ 'a.0': 9 });
  const late = cache.read('a', slow.load);
  slow.resolve(read(2, 10, { 'a.0': 4 }));
  assert.deepEqual(await early, { ...resource(2), shows: { 'a.0': 4 } });
  assert.deepEqual(await late, resource(2));
});
