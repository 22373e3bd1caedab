/**
 * A second level behind the answers that a process keeps: shared by several processes, so that what one has
 * read another need not. Nothing makes it current by itself: what is in it tells how much it shows, and is
 * given out for a few seconds only.
 */
import { LRUCache } from 'lru-cache';
import type { Positions } from '#cqrs/consistency-token.ts';
import { type Ports, systemPorts } from '#platform/ports.ts';
import { includes, type Resource, sizeOf } from './resource-cache.ts';

/** `shows`: what had been applied, at least, when its row was read. */
export type SharedResource = Resource & { readonly shows: Positions };

/** May reject, and may take its time: whoever asks it limits that. */
export type SharedCache = {
  /** Those of `keys` that are kept, and were put within `sharedAgeMaxMs`. */
  getMany(keys: readonly string[]): Promise<ReadonlyMap<string, SharedResource>>;
  /** Keeps each, unless what is kept includes more. Of two that each have seen what the other has not, neither is kept. */
  putMany(resources: ReadonlyMap<string, SharedResource>): Promise<void>;
  invalidate(keys: readonly string[]): Promise<void>;
};

/** What nobody has invalidated, because that was lost, is given out no longer than an event may take to be shown. */
export const sharedAgeMaxMs = 5_000;

/** One in this process, of `cacheMb` MiB: for several read sides in it. */
export function memorySharedCache(cacheMb: number, ports: Ports = systemPorts): SharedCache {
  type Kept = { readonly resource: SharedResource; readonly putAt: number };
  const kept = new LRUCache<string, Kept>({
    maxSize: cacheMb * 1_048_576,
    sizeCalculation: ({ resource }) => sizeOf(resource),
  });
  return {
    async getMany(keys) {
      const found = new Map<string, SharedResource>();
      for (const key of keys) {
        const one = kept.get(key);
        if (one !== undefined && ports.elapsed() - one.putAt < sharedAgeMaxMs) found.set(key, one.resource);
      }
      return found;
    },
    async putMany(resources) {
      for (const [key, resource] of resources) {
        const present = kept.peek(key)?.resource;
        if (present === undefined || includes(resource, present)) kept.set(key, { resource, putAt: ports.elapsed() });
        else if (!includes(present, resource)) kept.delete(key);
      }
    },
    async invalidate(keys) {
      for (const key of keys) kept.delete(key);
    },
  };
}
