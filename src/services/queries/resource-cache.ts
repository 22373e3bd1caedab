/**
 * The answers of single resources as bytes, ready to send: bounded by bytes, filled by what is
 * applied, and by reads that miss. Two rules keep it true to the rows: older never overwrites newer,
 * and a read that was under way while its resource changed is not kept. A second level may stand behind
 * it; what comes from there is passed on, and never kept here.
 */
import { LRUCache } from 'lru-cache';
import type { SecondLevel } from './second-level.ts';
import type { SharedResource } from './shared-cache.ts';

export type Resource = {
  readonly bytes: Buffer;
  /** How many bytes there are at most, of a resource that has not made them yet. */
  readonly bytesMax?: number;
  readonly etag: string;
  /** Grows with every change of the resource, by those of its sources that count here. */
  readonly revision: number;
  /** Grows with every other change of it: of a source that is applied beside the first. */
  readonly revisionBeside?: number;
  /** The customer that may see it; undefined: every caller. */
  readonly owner?: string;
};

/**
 * A resource that has been applied, and makes its bytes when somebody asks for them: of an order three versions are applied within
 * moments, and most of them are never read.
 *
 * Promises:
 * - what is applied is made into bytes when it is read, once
 */
export class AppliedResource implements Resource {
  readonly bytesMax: number;
  readonly etag: string;
  readonly revision: number;
  readonly revisionBeside: number;
  readonly owner?: string;
  #make: (() => string) | null;
  #bytes: Buffer | null = null;

  constructor(make: () => string, known: Omit<Resource, 'bytes'> & { readonly bytesMax: number }) {
    this.#make = make;
    this.bytesMax = known.bytesMax;
    this.etag = known.etag;
    this.revision = known.revision;
    this.revisionBeside = known.revisionBeside ?? 0;
    if (known.owner !== undefined) this.owner = known.owner;
  }

  get bytes(): Buffer {
    if (this.#bytes === null) {
      this.#bytes = Buffer.from(this.#make!());
      // What it was made of is not kept with it.
      this.#make = null;
    }
    return this.#bytes;
  }
}

export type CacheStats = {
  readonly hits: number;
  readonly misses: number;
  readonly entries: number;
  readonly bytes: number;
  readonly bytesMax: number;
  /** Left out for want of room. */
  readonly evictions: number;
} & Partial<SecondLevel['figures']>;

export type ResourceCache = ReturnType<typeof createResourceCache>;

/** What an entry weighs besides its bytes: key, entity tag, bookkeeping. Measured at some 400 bytes. */
const entryBytes = 400;

/** A cache of `cacheMb` MiB; 0: nothing is kept, reads of one resource at a time still share one answer. */
export function createResourceCache(cacheMb: number, second: SecondLevel | null = null) {
  const bytesMax = Math.floor(cacheMb * 1_048_576);
  // A limit of 0 would mean none.
  const kept = new LRUCache<string, Resource>({
    maxSize: Math.max(1, bytesMax),
    sizeCalculation: sizeOf,
    dispose: (_resource, _key, reason) => {
      if (reason === 'evict') evictions += 1;
    },
  });
  const underWay = new Map<string, Promise<Resource | undefined>>();
  const asking = new Map<string, Promise<SharedResource | undefined>>();
  let hits = 0;
  let misses = 0;
  let evictions = 0;

  const putNewer = (key: string, resource: Resource): void => {
    const present = kept.peek(key);
    if (!present || includes(resource, present)) kept.set(key, resource);
    // Each has seen what the other has not: the row has both.
    else if (!includes(present, resource)) kept.delete(key);
  };

  function fill(key: string, load: () => Promise<Resource | undefined>): Promise<Resource | undefined> {
    const shared = underWay.get(key);
    if (shared) return shared;
    const shows = second?.positions();
    const loading: Promise<Resource | undefined> = load()
      .then((resource) => {
        if (resource && underWay.get(key) === loading) {
          putNewer(key, resource);
          if (shows) second?.put(key, resource, shows);
        }
        return resource;
      })
      .finally(() => {
        if (underWay.get(key) === loading) underWay.delete(key);
      });
    underWay.set(key, loading);
    return loading;
  }

  /** Whoever asks the second level meanwhile gets the same answer too. */
  function ask(key: string): Promise<SharedResource | undefined> {
    const shared = asking.get(key);
    if (shared) return shared;
    const answer = second!.get(key).finally(() => asking.delete(key));
    asking.set(key, answer);
    return answer;
  }

  return {
    /**
     * The resource, from memory or by `load`; whoever asks meanwhile gets the same answer. Where it
     * `mayBeBehind` what has been applied, the second level may answer too: then it tells what it shows.
     */
    read(
      key: string,
      load: () => Promise<Resource | undefined>,
      mayBeBehind = false,
    ): Resource | undefined | Promise<Resource | SharedResource | undefined> {
      const present = kept.get(key);
      if (present) {
        hits += 1;
        return present;
      }
      misses += 1;
      if (!mayBeBehind || second === null || underWay.has(key)) return fill(key, load);
      return ask(key).then((shared) => shared ?? kept.get(key) ?? fill(key, load));
    },

    /** The resource, if it is in memory. Who does not find it here asks `read`, which counts the miss. */
    kept(key: string): Resource | undefined {
      const present = kept.get(key);
      if (present) hits += 1;
      return present;
    },

    peek: (key: string): Resource | undefined => kept.peek(key),

    /** After commit: the resource is now this. For those whose changes are applied one after the other. */
    put(key: string, resource: Resource): void {
      underWay.delete(key);
      putNewer(key, resource);
      second?.put(key, resource, second.positions());
    },

    /**
     * After commit, for those which several feeds change at once: what is kept becomes what `make` gives,
     * unless that is older, and is forgotten when there is none. What is not kept stays out, and is not made.
     */
    refresh(key: string, make: () => Resource | undefined): void {
      underWay.delete(key);
      const resource = kept.has(key) ? make() : undefined;
      if (!resource) {
        kept.delete(key);
        second?.invalidate(key);
      } else {
        putNewer(key, resource);
        second?.put(key, resource, second.positions());
      }
    },

    /** The rows may have changed untold: after a lost answer to a commit, or because another worker wrote them. */
    clear(): void {
      underWay.clear();
      kept.clear();
    },

    /** One resource may be wrong here: the next read makes it anew. */
    forget(key: string): void {
      underWay.delete(key);
      kept.delete(key);
      second?.invalidate(key);
    },

    /** Of all that is kept. */
    keys: (): string[] => [...kept.keys()],

    /** Up to `max` of what is kept, from a place that `random` (from 0 to below 1) chooses. */
    sample(max: number, random: number): [key: string, resource: Resource][] {
      const first = Math.floor(random * Math.max(1, kept.size - max + 1));
      return [...kept.entries().drop(first).take(max)];
    },

    stats: (): CacheStats => ({
      hits,
      misses,
      entries: kept.size,
      bytes: kept.calculatedSize,
      bytesMax,
      evictions,
      ...second?.figures,
    }),
  };
}

/** Whether `one` has seen all that `other` has. */
export const includes = (one: Resource, other: Resource): boolean =>
  one.revision >= other.revision && (one.revisionBeside ?? 0) >= (other.revisionBeside ?? 0);

export const sizeOf = (resource: Resource): number => (resource.bytesMax ?? resource.bytes.length) + entryBytes;
