/**
 * How an answer leaves. Written to the socket directly, with headers as one flat list: the bytes are
 * ready, so no serialisation and no further hooks stand between a handler and its client.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { problems, type ProblemCode } from '#contracts/problems.ts';
import { systemPorts } from '#platform/ports.ts';
import { traceOf } from './trace-context.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** The RateLimit headers of a limited caller, as a flat list. */
    limitHeaders: readonly string[] | null;
  }
}

/** Header names and values in turn. */
export type Headers = string[];

/** What a browser is told about every answer that is data: no more than means something there, as every read pays for it. */
const securityHeaders = [
  'X-Content-Type-Options',
  'nosniff',
  'X-Frame-Options',
  'DENY',
  'Content-Security-Policy',
  "default-src 'none'; frame-ancestors 'none'",
] as const;

export const JSON_TYPE = 'application/json; charset=utf-8';
export const PROBLEM_TYPE = 'application/problem+json';

/** Sends `body` with `type`. */
export function answer(
  request: FastifyRequest,
  reply: FastifyReply,
  status: number,
  type: string,
  headers: Headers,
  body: string | Buffer,
): void {
  describe(headers, type, body);
  finish(request, reply, status, headers, body);
}

/** Adds what `body` is to the headers of its answer. */
export function describe(headers: Headers, type: string, body: string | Buffer): void {
  const length = typeof body === 'string' ? Buffer.byteLength(body) : body.length;
  headers.push('Content-Type', type, 'Content-Length', String(length));
}

/** Sends a 304: the client has what it asks for. */
export function answerNotModified(request: FastifyRequest, reply: FastifyReply, headers: Headers): void {
  finish(request, reply, 304, headers, undefined);
}

/** Sends the head of a stream of events; what follows is written to the response that is returned. */
export function answerStream(request: FastifyRequest, reply: FastifyReply): ServerResponse {
  const headers = ['Content-Type', 'text/event-stream', 'Cache-Control', 'no-store', 'X-Accel-Buffering', 'no'];
  headers.push('X-Request-Id', request.id, ...(request.limitHeaders ?? []), ...securityHeaders);
  reply.raw.writeHead(200, headers);
  reply.hijack();
  return reply.raw;
}

function finish(
  request: FastifyRequest,
  reply: FastifyReply,
  status: number,
  headers: Headers,
  body: string | Buffer | undefined,
): void {
  headers.push(...(request.limitHeaders ?? []));
  send(reply.raw, request.id, status, headers, body);
  // After it: a header that cannot be written still becomes a 500.
  reply.hijack();
  request.timed?.times.record(status, request.timed.sinceMs);
}

/** Sends an answer as it is, with what every answer has. A header that cannot be written throws. */
export function send(
  response: ServerResponse,
  requestId: string,
  status: number,
  headers: Headers,
  body: string | Buffer | undefined,
): void {
  headers.push('X-Request-Id', requestId, ...securityHeaders);
  response.writeHead(status, headers);
  leaving.push({ response, body });
  if (leaving.length === 1) systemPorts.soon(leave);
  else if (leaving.length === leavingMax) leave();
}

/**
 * The answers of a turn of the event loop leave together, at its end. Whoever waits for one has gone to sleep, and is woken by the
 * system before the write returns: one by one, that takes longer than making the answer. Those who are woken once find the others.
 */
let leaving: { readonly response: ServerResponse; readonly body: string | Buffer | undefined }[] = [];
/** More wait for nobody. */
const leavingMax = 64;

function leave(): void {
  const all = leaving;
  leaving = [];
  for (const { response, body } of all) {
    // The same bytes, but as a text: they leave together with the head, as one piece instead of two.
    if (Buffer.isBuffer(body) && body.length <= onePieceBytesMax) response.end(body.toString('latin1'), 'latin1');
    else response.end(body);
  }
}

/** Up to this size it is cheaper to copy a body than to send it beside its head. */
const onePieceBytesMax = 16_384;

type Members = { readonly [member: string]: unknown };

export type ProblemExtras = {
  /** Members of its own; those that every problem has keep their meaning. */
  readonly members?: Members;
  readonly headers?: Headers;
  /** Of the first answer, when this is that answer again. */
  readonly traceId?: string;
};

/** Sends a problem of the registry. */
export function answerProblem(
  request: FastifyRequest,
  reply: FastifyReply,
  code: ProblemCode,
  detail: string,
  extras: ProblemExtras = {},
): void {
  const headers = ['Cache-Control', 'no-store', ...(extras.headers ?? [])];
  const seconds = retryAfterSeconds[code];
  if (seconds !== undefined) headers.push('Retry-After', String(seconds));
  const traceId = extras.traceId ?? traceOf(request).traceId;
  const body = problemBody(code, detail, pathOf(request), traceId, extras.members);
  answer(request, reply, problems[code].status, PROBLEM_TYPE, headers, body);
}

/** When it makes sense to ask again. */
const retryAfterSeconds: { readonly [code in ProblemCode]?: number } = {
  'idempotency-key-in-flight': 1,
  'read-model-behind': 1,
  overloaded: 1,
  'too-many-streams': 5,
  'log-unavailable': 1,
  'database-unavailable': 1,
  'token-keys-unavailable': 5,
};

/** A problem as RFC 9457 has it. */
export function problemBody(
  code: ProblemCode,
  detail: string,
  instance: string,
  traceId: string,
  members: Members = {},
): string {
  const { status, title } = problems[code];
  const own = { type: `/problems/${code}`, title, status, detail, instance, code, traceId };
  return JSON.stringify({ ...own, ...members, ...own });
}

/** The id that a request was given by its client, if it can be one, or else a new one. */
export function requestIdOf(raw: IncomingMessage): string {
  const sent = raw.headers['x-request-id'];
  return typeof sent === 'string' && REQUEST_ID.test(sent) ? sent : systemPorts.newId();
}

const REQUEST_ID = /^[\w.:~@+/=-]{1,128}$/;

/** The path of a request as it was sent, without its query. */
export function pathOf(request: FastifyRequest): string {
  const url = request.raw.url ?? '';
  const mark = url.indexOf('?');
  return mark < 0 ? url : url.slice(0, mark);
}

export const isProblemCode = (code: unknown): code is ProblemCode =>
  typeof code === 'string' && Object.hasOwn(problems, code);
