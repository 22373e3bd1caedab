/** How often a caller may ask: so many requests a minute, told in every answer (draft-ietf-httpapi-ratelimit-headers). */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Identity } from './access.ts';
import type { Headers } from './answers.ts';

const windowSeconds = 60;
/** Callers whose count is kept; the one unseen for longest is forgotten first. */
const callersMax = 100_000;

type Limit = { readonly headers: Headers; readonly exceeded: boolean };

export type Limits = {
  /** Counts one request; null: this caller has no limit. */
  count(request: FastifyRequest, identity: Identity): Promise<Limit> | null;
  /** Whether this caller has one. */
  apply(identity: Identity): boolean;
};

/** Limits by role, in requests a minute; 0: none. Needs @fastify/rate-limit on `app`. */
export function createLimits(
  app: FastifyInstance,
  perMinute: { readonly customer: number; readonly operator: number },
): Limits {
  const limiter = (role: 'customer' | 'operator') => {
    const max = perMinute[role];
    if (max === 0) return null;
    const policy = `"${role}";q=${max};w=${windowSeconds}`;
    const options = {
      max,
      timeWindow: windowSeconds * 1_000,
      cache: callersMax,
      keyGenerator: (request: FastifyRequest) => request.identity.scope,
    };
    const countRequest = app.createRateLimit(options);
    return async (request: FastifyRequest): Promise<Limit> => {
      const count = await countRequest(request);
      if (count.isAllowed) return { headers: [], exceeded: false };
      const seconds = Math.max(1, count.ttlInSeconds);
      const headers = ['RateLimit-Policy', policy, 'RateLimit', `"${role}";r=${count.remaining};t=${seconds}`];
      if (count.isExceeded) headers.push('Retry-After', String(seconds));
      return { headers, exceeded: count.isExceeded };
    };
  };
  const limiters = { customer: limiter('customer'), operator: limiter('operator') };

  return {
    count: (request, identity) => limiters[identity.caller.role]?.(request) ?? null,
    apply: ({ caller }) => limiters[caller.role] !== null,
  };
}
