/** What every shared cache has to keep; run on each of them by the tests beside them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Ports } from '#platform/ports.ts';
import { sharedAgeMaxMs, type SharedCache, type SharedResource } from './shared-cache.ts';

export const sharedResource = (revision: number, more: Partial<SharedResource> = {}): SharedResource => ({
  bytes: Buffer.from(`{"name":"Tür","version":${revision}}`),
  etag: String(revision),
  revision,
  shows: { 'ordering.0': revision },
  ...more,
});

/** `open` gives an empty cache that lives by the clock of `ports`. */
export function sharedCacheContract(name: string, open: (ports: Partial<Ports>) => Promise<SharedCache>): void {
  const put = (cache: SharedCache, ...entries: [string, SharedResource][]) => cache.putMany(new Map(entries));

  test(`${name}: what was put is given out as it was, and nothing else is`, async () => {
    const cache = await open({});
    const [a, b] = [sharedResource(1), sharedResource(2, { revisionBeside: 7, owner: 'alice' })];
    await put(cache, ['a', a], ['b', b]);
    const found = await cache.getMany(['b', 'a', 'c']);
    assert.deepEqual([found.get('a'), found.get('b'), found.get('c')], [a, b, undefined]);
    assert.deepEqual([...(await cache.getMany([])).keys()], []);
  });

  test(`${name}: older never overwrites newer`, async () => {
    const cache = await open({});
    for (const revision of [2, 1, 3, 2]) await put(cache, ['a', sharedResource(revision)]);
    assert.equal((await cache.getMany(['a'])).get('a')?.revision, 3);
  });

  test(`${name}: of two that each have seen what the other has not, neither is kept`, async () => {
    const cache = await open({});
    await put(cache, ['a', sharedResource(2, { revisionBeside: 1 })]);
    await put(cache, ['a', sharedResource(1, { revisionBeside: 2 })]);
    assert.equal((await cache.getMany(['a'])).size, 0);
  });

  test(`${name}: what is invalidated is gone`, async () => {
    const cache = await open({});
    await put(cache, ['a', sharedResource(1)], ['b', sharedResource(1)]);
    await cache.invalidate(['a', 'c']);
    assert.deepEqual([...(await cache.getMany(['a', 'b'])).keys()], ['b']);
  });

  test(`${name}: what was put longer ago than its age may be is not given out, until it is put again`, async () => {
    let now = 0;
    const cache = await open({ elapsed: () => now });
    await put(cache, ['a', sharedResource(1)]);
    now = sharedAgeMaxMs - 1;
    assert.equal((await cache.getMany(['a'])).size, 1);
    now = sharedAgeMaxMs;
    assert.equal((await cache.getMany(['a'])).size, 0);
    await put(cache, ['a', sharedResource(1)]);
    assert.equal((await cache.getMany(['a'])).size, 1);
  });
}
