/**
 * The clock, the timers and the chance that everything else lives by. No other file of this program
 * asks the machine for them (`tests/tidy.test.ts` holds that), so that the simulator can put a seeded
 * schedule and a virtual clock in their place.
 */
import { randomFillSync, randomUUIDv7 } from 'node:crypto';

export type Ports = {
  /** Milliseconds since the epoch, by a clock that may jump. */
  now(): number;
  /** Milliseconds of a clock that only goes forward: for durations. */
  elapsed(): number;
  /** Calls `act` once, after `ms`; at most 2^31 - 1. Returns what cancels it. A `quiet` timer keeps no process alive. */
  after(ms: number, act: () => void, options?: { readonly quiet?: boolean }): () => void;
  /** Calls `act` every `ms` until it is cancelled; keeps no process alive. */
  every(ms: number, act: () => void): () => void;
  /** Calls `act` when the turn of the event loop under way has come to its end. */
  soon(act: () => void): void;
  /** An id that no one else has, later ones greater: a UUID of version 7. */
  newId(): string;
  /** `bytes` random bytes as hexadecimal digits. */
  randomHex(bytes: number): string;
  /** From 0 to below 1. */
  random(): number;
};

export const systemPorts: Ports = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  after(ms, act, { quiet = false } = {}) {
    const timer = setTimeout(act, ms);
    if (quiet) timer.unref();
    return () => clearTimeout(timer);
  },
  every(ms, act) {
    const timer = setInterval(act, ms).unref();
    return () => clearInterval(timer);
  },
  soon: (act) => void setImmediate(act),
  newId: () => randomUUIDv7(),
  randomHex: (bytes) => takeRandom(bytes).toString('hex'),
  random: () => Math.random(),
};

/** Asking the machine costs more than the bytes: 24 of them for each request were 1.5 % of the server's time. */
const poolBytes = 8_192;
let pool = Buffer.alloc(0);

function takeRandom(bytes: number): Buffer {
  if (pool.length < bytes) pool = randomFillSync(Buffer.alloc(Math.max(poolBytes, bytes)));
  const taken = pool.subarray(0, bytes);
  pool = pool.subarray(bytes);
  return taken;
}

/** Resolves after `ms`, or as soon as `signal` is aborted. */
export function sleep(ports: Ports, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const cancel = ports.after(ms, done);
    signal?.addEventListener('abort', done, { once: true });
    function done(): void {
      cancel();
      signal?.removeEventListener('abort', done);
      resolve();
    }
  });
}

/** RFC 3339, UTC. */
export const timeNow = (ports: Ports): string => new Date(ports.now()).toISOString();
