/**
 * Idempotency keys, as far as one process sees them: keys whose first request is still under way,
 * and what the finished ones were used for. Only refuses; the first answer comes from the service,
 * which keeps it in the same transaction as the effect.
 */
import { hash } from 'node:crypto';
import { LRUCache } from 'lru-cache';

const finishedKeysMax = 100_000;
/** Not longer than a service keeps a key at the least. */
const finishedKeyMs = 24 * 60 * 60 * 1_000;

type KeyClaim = 'claimed' | 'in-flight' | 'reused';

export type IdempotencyKeys = {
  /** Claims a key for a request. Synchronous: of two requests at once, exactly one gets it. */
  claim(scope: string, key: string, fingerprint: string): KeyClaim;
  /** Gives a claimed key back. `kept`: its answer has been kept, so the key belongs to this request for good. */
  release(scope: string, key: string, kept: boolean): void;
};

export function createIdempotencyKeys(): IdempotencyKeys {
  const inFlight = new Map<string, string>();
  const finished = new LRUCache<string, string>({ max: finishedKeysMax, ttl: finishedKeyMs });
  // A key has no line break, so the last one in a name divides it from its scope.
  const nameOf = (scope: string, key: string): string => `${scope}\n${key}`;

  return {
    claim(scope, key, fingerprint) {
      const name = nameOf(scope, key);
      const other = inFlight.get(name);
      if (other !== undefined) return other === fingerprint ? 'in-flight' : 'reused';
      const before = finished.get(name);
      if (before !== undefined && before !== fingerprint) return 'reused';
      inFlight.set(name, fingerprint);
      return 'claimed';
    },

    release(scope, key, kept) {
      const name = nameOf(scope, key);
      const fingerprint = inFlight.get(name);
      inFlight.delete(name);
      if (kept && fingerprint !== undefined) finished.set(name, fingerprint);
    },
  };
}

/** The same for the same request: SHA-256 over method, path and the body with its fields in order. */
export const fingerprintOf = (method: string, path: string, body: unknown): string =>
  hash('sha256', `${method}\n${path}\n${canonicalJson(body)}`, 'base64url');

/** Recursion is bounded: only bodies that passed a schema come here, and no schema is recursive. */
function canonicalJson(value: unknown): string {
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${fields.map(([name, field]) => `${JSON.stringify(name)}:${canonicalJson(field)}`).join(',')}}`;
}
