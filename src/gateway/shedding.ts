/** Turning requests away when there are too many: before the framework sees them, as a problem like any other. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { problems } from '#contracts/problems.ts';
import type { Ports } from '#platform/ports.ts';
import { describe, PROBLEM_TYPE, requestIdOf, send } from './answers.ts';
import { comeFirst } from './before-framework.ts';
import { bodyBytesMax } from './json-body.ts';
import type { Overload } from './overload.ts';
import type { RequestFigures, Shed } from './request-figures.ts';
import { continueTrace } from './trace-context.ts';
import { createTurns } from './turns.ts';

export type SheddingOptions = {
  readonly overload: Overload;
  readonly figures: RequestFigures;
  readonly ports: Ports;
  /** Of the larger bodies of all requests that are under way. */
  readonly bodyBytesUnderWayMax: number;
};

/**
 * Puts itself before whoever answers the requests of `server`, and answers those itself for which there is no room; the
 * others are let in a few at a time. Those who look after the house are always let in, and at once.
 */
export function shedRequests(
  server: Server,
  { overload, figures, ports, bodyBytesUnderWayMax }: SheddingOptions,
): void {
  /** Whether there is room for the body of a request; if so, it is taken until the answer has left. */
  function hasRoom(request: IncomingMessage, response: ServerResponse): boolean {
    const bytes = bodyBytesOf(request);
    if (bytes <= smallBodyBytesMax) return true;
    if (figures.bodyBytes + bytes > bodyBytesUnderWayMax) return false;
    figures.bodyBytes += bytes;
    response.once('close', () => (figures.bodyBytes -= bytes));
    return true;
  }

  const turns = createTurns(ports);

  comeFirst(server, (request, response, goOn) => {
    const isRead = request.method === 'GET' || request.method === 'HEAD';
    const tooLong = overload.tooLong(isRead, turns.waitMs());
    const isFirst = isOfTheHouse(request.url!);
    // Whoever has gone while waiting is answered no more.
    const letIn = (): void => void (request.socket.destroyed || goOn(request, response));
    let line: keyof Shed;
    if (tooLong !== null && !isFirst) line = tooLong;
    else if (!hasRoom(request, response)) line = 'bodies';
    else if (isFirst) return letIn();
    else if (turns.enter(letIn)) return;
    else line = 'turn';
    figures.shed[line][isRead ? 'reads' : 'commands'] += 1;
    turnAway(request, response, line, retryAfterSeconds(overload.sinceMs(), ports.random()));
  });
}

/** Health and figures, and what operators decide. Whether the caller is one is seen to later. */
export const isOfTheHouse = (url: string): boolean =>
  url.startsWith('/v1/ops/') || url.startsWith('/livez') || url.startsWith('/readyz') || url.startsWith('/metrics');

/** As announced; what is too large is never kept. */
function bodyBytesOf({ headers }: IncomingMessage): number {
  if (headers['transfer-encoding'] !== undefined) return bodyBytesMax;
  return Math.min(Number(headers['content-length'] ?? 0), bodyBytesMax);
}

/** Smaller ones are bounded by the number of requests under way. */
const smallBodyBytesMax = 16_384;

/** What takes long has no sooner end than it has had a beginning: so nobody comes too early, nor all at once. */
function retryAfterSeconds(sinceMs: number, random: number): number {
  const spread = Math.min(Math.max(sinceMs / 1_000, retrySpreadSecondsMin), retrySpreadSecondsMax);
  return 1 + Math.floor(random * spread);
}

const retrySpreadSecondsMin = 2;
const retrySpreadSecondsMax = 30;

/** In words, what is too long. */
export const details: Readonly<Record<keyof Shed, string>> = {
  turn: 'Too many requests have come at once.',
  commands: 'Too many commands are waiting already.',
  consumers: 'What follows from earlier commands has not been done yet.',
  searches: 'Too many such reads are waiting for the database already.',
  bodies: 'Too many large bodies are on their way already.',
};

/** What does not differ, ready: a problem that is turned away costs its request's share of the line, and no more. */
const { status, title } = problems.overloaded;
const bodyBegins = Object.fromEntries(
  Object.entries(details).map(([line, detail]) => {
    const begin = JSON.stringify({ type: '/problems/overloaded', title, status, detail, code: 'overloaded' });
    return [line, `${begin.slice(0, -1)},"instance":`];
  }),
) as Readonly<Record<keyof Shed, string>>;

function turnAway(request: IncomingMessage, response: ServerResponse, line: keyof Shed, seconds: number): void {
  const url = request.url!;
  const mark = url.indexOf('?');
  const { traceId } = continueTrace(request.headers['traceparent']);
  const body = `${bodyBegins[line]}${JSON.stringify(mark < 0 ? url : url.slice(0, mark))},"traceId":"${traceId}"}`;
  const headers = ['Cache-Control', 'no-store', 'Retry-After', String(seconds)];
  describe(headers, PROBLEM_TYPE, body);
  send(response, requestIdOf(request), status, headers, body);
}
