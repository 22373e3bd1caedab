/**
 * The answers of single resources as bytes, ready to send: bounded by bytes, filled by what is
 * applied, and by reads that miss. Three rules keep it true to the rows: older never overwrites newer,
 * a read that was under way while its resource changed is not kept, and one that shows what this process has not
 * applied yet is not kept before it has. A second level may stand behind it; what comes from there is passed on, and never kept here.
 */
import { LRUCache } from 'lru-cache';
import type { Applied } from './applied.ts';
import { isReached, mergePositions, type Positions } from '#cqrs/consistency-token.ts';
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
      const text = this.#make!();
      // Memory of their own: a slice of the pool that Node shares out, 64 KiB, would keep all of that as long as it is kept.
      this.#bytes = Buffer.allocUnsafeSlow(Buffer.byteLength(text));
      this.#bytes.write(text);
      // What it was made of is not kept with it.
      this.#make = null;
    }
    return this.#bytes;
  }
}

/** A resource as its row was read, with what the row shows. */
export type ReadResource = { readonly resource: Resource; readonly shows: Positions };

export type CacheStats = {
  readonly hits: number;
  readonly misses: number;
  readonly entries: number;
  readonly bytes: number;
  readonly bytesMax: number;
  /** Left out for want of room. */
  readonly evictions: number;
} & Partial<SecondLevel['figures']>;

type Load = () => Promise<ReadResource | undefined>;

export type ResourceCache = ReturnType<typeof createResourceCache>;

/** What an entry weighs besides its bytes: key, entity tag, bookkeeping. Measured at some 400 bytes. */
const entryBytes = 400;

/** A cache of `cacheMb` MiB; 0: nothing is kept, reads of one resource at a time still share one answer. */
export function createResourceCache(
  cacheMb: number,
  applied: Pick<Applied, 'positions' | 'includes'>,
  second: SecondLevel | null = null,
) {
  const bytesMax = Math.floor(cacheMb * 1_048_576);
  // A limit of 0 would mean none.
  const kept = new LRUCache<string, Resource>({
    maxSize: Math.max(1, bytesMax),
    sizeCalculation: sizeOf,
    dispose: (_resource, _key, reason) => {
      if (reason === 'evict') evictions += 1;
    },
  });
  const underWay = new Map<string, Promise<ReadResource | undefined>>();
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

  function fill(key: string, load: Load): Promise<ReadResource | undefined> {
    const shared = underWay.get(key);
    if (shared) return shared;
    const loading = load();
    underWay.set(key, loading);
    keep(key, loading).catch(() => {
      // Whoever has asked is told.
      if (underWay.get(key) === loading) underWay.delete(key);
    });
    return loading;
  }

  /** Whoever asks before the resource is kept shares the answer, too. */
  async function keep(key: string, loading: Promise<ReadResource | undefined>): Promise<void> {
    const read = await loading;
    if (read && underWay.get(key) === loading) second?.put(key, read.resource, read.shows);
    const isSafe =
      read !== undefined && (isReached(read.shows, applied.positions()) || (await applied.includes(read.shows)));
    if (underWay.get(key) !== loading) return;
    underWay.delete(key);
    if (isSafe) putNewer(key, read.resource);
  }

  /** Another process may have applied more than this one: then the answer says what it shows. */
  async function fromRow(key: string, load: Load): Promise<Resource | SharedResource | undefined> {
    const before = applied.positions();
    const read = await fill(key, load);
    if (!read || isReached(read.shows, before)) return read?.resource;
    return showing(read.resource, mergePositions(before, read.shows));
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
     * The resource, from memory or by `load`; whoever asks meanwhile gets the same answer. It tells what it shows, where that
     * may be more than had been applied here. Where it `mayBeBehind` that, the second level may answer too, and tells likewise.
     */
    read(
      key: string,
      load: Load,
      mayBeBehind = false,
    ): Resource | undefined | Promise<Resource | SharedResource | undefined> {
      const present = kept.get(key);
      if (present) {
        hits += 1;
        return present;
      }
      misses += 1;
      if (!mayBeBehind || second === null || underWay.has(key)) return fromRow(key, load);
      return ask(key).then((shared) => {
        if (shared) return shared;
        const now = kept.get(key);
        return now ? showing(now, applied.positions()) : fromRow(key, load);
      });
    },

    /** The resource, if it is in memory. Who does not find it here asks `read`, which counts the miss. */
    kept(key: string): Resource | undefined {
      const present = kept.get(key);
      if (present) hits += 1;
      return present;
    },

    peek: (key: string): Resource | undefined => kept.peek(key),

    /** Whether an answer from memory would be older than `resource`. */
    isBehind(key: string, resource: Revisions): boolean {
      const present = kept.peek(key);
      return present !== undefined && !includes(present, resource);
    },

    /** After commit: the resource is now this. For those whose changes are applied one after the other. */
    put(key: string, resource: Resource): void {
      underWay.delete(key);
      putNewer(key, resource);
      second?.put(key, resource, applied.positions());
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
        second?.put(key, resource, applied.positions());
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

/** The resource, with what it shows. */
export const showing = (
  { bytes, etag, revision, revisionBeside, owner }: Resource,
  shows: Positions,
): SharedResource => ({
  bytes,
  etag,
  revision,
  ...(revisionBeside === undefined ? {} : { revisionBeside }),
  ...(owner === undefined ? {} : { owner }),
  shows,
});

type Revisions = Pick<Resource, 'revision' | 'revisionBeside'>;

/** Whether `one` has seen all that `other` has. */
export const includes = (one: Revisions, other: Revisions): boolean =>
  one.revision >= other.revision && (one.revisionBeside ?? 0) >= (other.revisionBeside ?? 0);

export const sizeOf = (resource: Resource): number => (resource.bytesMax ?? resource.bytes.length) + entryBytes;
