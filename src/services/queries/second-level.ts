/** How a process uses a shared cache: within limits of time and memory, so that one that is slow or gone costs reads next to nothing. */
import type { Positions } from '#cqrs/consistency-token.ts';
import { type Ports, systemPorts } from '#platform/ports.ts';
import { type Resource, showing } from './resource-cache.ts';
import type { SharedCache, SharedResource } from './shared-cache.ts';

export type SecondLevel = {
  /** What is shared of `key`. Resolves to undefined when there is nothing, or no answer in time. */
  get(key: string): Promise<SharedResource | undefined>;
  /** Shared soon, or not at all. */
  put(key: string, resource: Resource, shows: Positions): void;
  invalidate(key: string): void;
  readonly figures: { readonly sharedHits: number; readonly sharedMisses: number; readonly sharedFailures: number };
};

/** A read asks its database when it has waited this long: about ten times what an answer from the next machine takes. */
const readTimeoutMs = 20;
const writeTimeoutMs = 1_000;
/** After a failure it is left alone for so long. */
const restMs = 1_000;
/** More than this is not kept waiting to be shared. */
const waitingMax = 10_000;

export function createSecondLevel(shared: SharedCache, ports: Ports = systemPorts): SecondLevel {
  const figures = { sharedHits: 0, sharedMisses: 0, sharedFailures: 0 };
  /** By key; null: it is to be invalidated. */
  let waiting = new Map<string, SharedResource | null>();
  let writing = false;
  let restsUntil = -Infinity;
  const rests = (): boolean => ports.elapsed() < restsUntil;

  /** What `work` resolves to, or null: it failed, or has not ended in time. Then the cache is left alone for a while. */
  function inTime<T>(timeoutMs: number, work: () => Promise<T>): Promise<T | null> {
    return new Promise((resolve) => {
      const fail = (): void => {
        cancel();
        figures.sharedFailures += 1;
        restsUntil = ports.elapsed() + restMs;
        resolve(null);
      };
      const cancel = ports.after(timeoutMs, fail, { quiet: true });
      // Also what it throws without a promise.
      Promise.try(work).then((result) => {
        cancel();
        resolve(result);
      }, fail);
    });
  }

  function share(key: string, resource: SharedResource | null): void {
    if (rests() || (waiting.size >= waitingMax && !waiting.has(key))) return;
    waiting.set(key, resource);
    if (!writing) void write();
  }

  async function write(): Promise<void> {
    writing = true;
    while (waiting.size > 0) {
      const batch = waiting;
      waiting = new Map();
      const puts = [...batch].filter((one): one is [string, SharedResource] => one[1] !== null);
      const gone = [...batch].flatMap(([key, resource]) => (resource === null ? [key] : []));
      const written = await inTime(writeTimeoutMs, () =>
        Promise.all([gone.length > 0 && shared.invalidate(gone), puts.length > 0 && shared.putMany(new Map(puts))]),
      );
      if (written === null) waiting.clear();
    }
    writing = false;
  }

  return {
    async get(key) {
      if (rests()) return undefined;
      const found = await inTime(readTimeoutMs, () => shared.getMany([key]));
      const resource = found?.get(key);
      if (resource !== undefined) figures.sharedHits += 1;
      else if (found !== null) figures.sharedMisses += 1;
      return resource;
    },
    put: (key, resource, shows) => share(key, showing(resource, shows)),
    invalidate: (key) => share(key, null),
    figures,
  };
}
