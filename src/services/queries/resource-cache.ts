/**
 * The answers of single resources as bytes, ready to send: bounded by bytes, filled by what is
 * applied, and by reads that miss. Two rules keep it true to the rows: older never overwrites newer,
 * and a read that was under way while its resource changed is not kept.
 */
import { LRUCache } from 'lru-cache';

export type Resource = {
  readonly bytes: Buffer;
  readonly etag: string;
  /** Grows with every change of the resource, by those of its sources that count here. */
  readonly revision: number;
  /** Grows with every other change of it: of a source that is applied beside the first. */
  readonly revisionBeside?: number;
  /** The customer that may see it; undefined: every caller. */
  readonly owner?: string;
};

export type CacheStats = {
  readonly hits: number;
  readonly misses: number;
  readonly entries: number;
  readonly bytes: number;
  readonly bytesMax: number;
};

export type ResourceCache = ReturnType<typeof createResourceCache>;

/** What an entry weighs besides its bytes: key, entity tag, bookkeeping. Measured at some 400 bytes. */
const entryBytes = 400;

/** A cache of `cacheMb` MiB; 0: nothing is kept, reads of one resource at a time still share one answer. */
export function createResourceCache(cacheMb: number) {
  const bytesMax = Math.floor(cacheMb * 1_048_576);
  // A limit of 0 would mean none.
  const kept = new LRUCache<string, Resource>({ maxSize: Math.max(1, bytesMax), sizeCalculation: sizeOf });
  const underWay = new Map<string, Promise<Resource | undefined>>();
  let hits = 0;
  let misses = 0;

  const putNewer = (key: string, resource: Resource): void => {
    const present = kept.peek(key);
    if (!present || includes(resource, present)) kept.set(key, resource);
    // Each has seen what the other has not: the row has both.
    else if (!includes(present, resource)) kept.delete(key);
  };

  return {
    /** The resource, from memory or by `load`; whoever asks meanwhile gets the same answer. */
    read(key: string, load: () => Promise<Resource | undefined>): Resource | undefined | Promise<Resource | undefined> {
      const present = kept.get(key);
      if (present) {
        hits += 1;
        return present;
      }
      misses += 1;
      const shared = underWay.get(key);
      if (shared) return shared;
      const loading: Promise<Resource | undefined> = load()
        .then((resource) => {
          if (resource && underWay.get(key) === loading) putNewer(key, resource);
          return resource;
        })
        .finally(() => {
          if (underWay.get(key) === loading) underWay.delete(key);
        });
      underWay.set(key, loading);
      return loading;
    },

    peek: (key: string): Resource | undefined => kept.peek(key),

    /** After commit: the resource is now this. For those whose changes are applied one after the other. */
    put(key: string, resource: Resource): void {
      underWay.delete(key);
      putNewer(key, resource);
    },

    /**
     * After commit, for those which several feeds change at once: what is kept becomes what `make` gives,
     * unless that is older, and is forgotten when there is none. What is not kept stays out, and is not made.
     */
    refresh(key: string, make: () => Resource | undefined): void {
      underWay.delete(key);
      if (!kept.has(key)) return;
      const resource = make();
      if (!resource) kept.delete(key);
      else putNewer(key, resource);
    },

    /** The rows may have changed untold: after a lost answer to a commit, or because another worker wrote them. */
    clear(): void {
      underWay.clear();
      kept.clear();
    },

    stats: (): CacheStats => ({ hits, misses, entries: kept.size, bytes: kept.calculatedSize, bytesMax }),
  };
}

const includes = (one: Resource, other: Resource): boolean =>
  one.revision >= other.revision && (one.revisionBeside ?? 0) >= (other.revisionBeside ?? 0);

const sizeOf = (resource: Resource): number => resource.bytes.length + entryBytes;
