/** I16: what is kept in memory is no newer than its row, and has the bytes that the row comes to. */
import type { Ports } from '#platform/ports.ts';
import { includes, type ReadResource, type Resource, type ResourceCache } from './resource-cache.ts';

export type CacheDifference = {
  readonly key: string;
  readonly difference: 'no-row' | 'newer-than-its-row' | 'other-bytes';
  /** The entity tag of what is kept, and of what the row comes to. */
  readonly kept: string;
  readonly row: string | null;
};

/** By what keys begin with: how a resource is read, by the rest of its key. */
export type ReadResources = Readonly<Record<string, (id: string) => Promise<ReadResource | undefined>>>;

const sampleMax = 1_000;

/**
 * Compares answers, 1,000 at most, with their rows: one read each, one after the other. `which`: so many from a random
 * place, or those with these keys that are kept. An answer that is older than its row is none: the row is changed
 * first, and the answer told of it.
 */
export async function auditCache(
  cache: ResourceCache,
  resources: ReadResources,
  which: number | readonly string[],
  ports: Ports,
): Promise<CacheDifference[]> {
  const differences: CacheDifference[] = [];
  const chosen =
    typeof which === 'number' ? cache.sample(Math.min(which, sampleMax), ports.random()) : keptOf(cache, which);
  for (const [key, kept] of chosen) {
    const cut = key.indexOf('/') + 1;
    const row = (await resources[key.slice(0, cut)]!(key.slice(cut)))?.resource;
    const difference = differenceOf(kept, row);
    if (difference !== null) differences.push({ key, difference, kept: kept.etag, row: row?.etag ?? null });
  }
  return differences;
}

const keptOf = (cache: ResourceCache, keys: readonly string[]): [key: string, resource: Resource][] =>
  keys.slice(0, sampleMax).flatMap((key) => {
    const kept = cache.peek(key);
    return kept === undefined ? [] : [[key, kept]];
  });

function differenceOf(kept: Resource, row: Resource | undefined): CacheDifference['difference'] | null {
  if (row === undefined) return 'no-row';
  if (!includes(row, kept)) return 'newer-than-its-row';
  return includes(kept, row) && !kept.bytes.equals(row.bytes) ? 'other-bytes' : null;
}
