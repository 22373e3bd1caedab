/** W3C trace context: the trace a request belongs to, from its `traceparent` header or new. */
import type { FastifyRequest } from 'fastify';
import { systemPorts } from '#platform/ports.ts';

export type Trace = { readonly traceId: string; readonly traceparent: string };

declare module 'fastify' {
  interface FastifyRequest {
    trace: Trace | null;
  }
}

/** The trace of a request, with a span id of our own. Made when first asked for: most reads never ask. */
export function traceOf(request: FastifyRequest): Trace {
  return (request.trace ??= continueTrace(request.headers['traceparent']));
}

/** Goes on with the trace that `traceparent` names; begins one, not sampled, when it names none. */
export function continueTrace(traceparent: unknown): Trace {
  const parts = typeof traceparent === 'string' ? TRACEPARENT.exec(traceparent) : null;
  const known = parts !== null && isTrace(parts) ? parts : null;
  const traceId = known?.[2] ?? systemPorts.randomHex(16);
  const flags = known?.[4] ?? '00';
  return { traceId, traceparent: `00-${traceId}-${systemPorts.randomHex(8)}-${flags}` };
}

// Version, trace, span, flags; versions after 00 may have more.
const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

function isTrace([, version, traceId, spanId, , more]: RegExpExecArray): boolean {
  if (version === 'ff' || (version === '00' && more !== undefined)) return false;
  return traceId !== '0'.repeat(32) && spanId !== '0'.repeat(16);
}
