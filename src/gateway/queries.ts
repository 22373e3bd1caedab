/** Handlers of GET routes: ready bytes from the read side, with their entity tag and consistency token. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { QueryAnswer, QueryRoute, Shown } from '#contracts/routes.ts';
import { encodeToken } from '#cqrs/consistency-token.ts';
import { answer, answerNotModified, answerProblem, type Headers, JSON_TYPE } from './answers.ts';
import { type Consistency, headerOf, requestToken, tokenEncoder } from './consistency.ts';
import { type EntityTags, isNotModified, parseEntityTags } from './preconditions.ts';
import { answerRefusal } from './refusals.ts';
import type { Searches } from './searches.ts';
import { details } from './shedding.ts';

type Handler = (request: FastifyRequest, reply: FastifyReply) => void | Promise<void>;

export function queryHandler(route: QueryRoute, consistency: Consistency, searches: Searches): Handler {
  const encode = tokenEncoder();

  function read(
    request: FastifyRequest,
    reply: FastifyReply,
    known: EntityTags | undefined,
    underToken: boolean,
  ): void | Promise<void> {
    // Before the read: the answer may show more than its token says, never less.
    const token = encode(route.positions());
    const { params, query, identity } = request;
    const ask = () => route.read({ params, query, caller: identity.caller, underToken } as never);
    const shown = route.searches === true ? searches.run(async () => ask()) : ask();
    const give = (answered: QueryAnswer | null): void =>
      answered === null
        ? answerProblem(request, reply, 'overloaded', details.searches)
        : show(request, reply, answered, token, known);
    return shown instanceof Promise ? shown.then(give) : give(shown);
  }

  async function readOnceReached(
    request: FastifyRequest,
    reply: FastifyReply,
    known: EntityTags | undefined,
  ): Promise<void> {
    const token = requestToken(request)!;
    const { params, query, identity } = request;
    const asked = { params, query, caller: identity.caller };
    if (await consistency.reached(request, reply, route, token, asked)) return read(request, reply, known, true);
  }

  return (request, reply) => {
    const ifNoneMatch = headerOf(request, 'if-none-match');
    const known = ifNoneMatch === undefined ? undefined : parseEntityTags(ifNoneMatch);
    if (known === null)
      return answerProblem(request, reply, 'malformed-etag', 'If-None-Match is neither `*` nor a list of quoted tags.');
    const token = requestToken(request);
    if (token === undefined) return read(request, reply, known, false);
    if (token === null)
      return answerProblem(
        request,
        reply,
        'malformed-consistency-token',
        'The Consistency-Token is not one that an answer gave.',
      );
    return readOnceReached(request, reply, known);
  };
}

function show(
  request: FastifyRequest,
  reply: FastifyReply,
  shown: QueryAnswer,
  applied: string,
  known: EntityTags | undefined,
): void {
  if ('refused' in shown)
    return answerRefusal(request, reply, shown.refused, { headers: ['Consistency-Token', applied] });
  const headers = headersOf(shown, applied);
  if (hasAlready(known, shown)) answerNotModified(request, reply, headers);
  else answer(request, reply, 200, JSON_TYPE, headers, shown.bytes);
}

/** The headers of what is shown, whether or not its bytes are sent; `applied`: the token of what the read side has applied. */
export function headersOf({ shows, etag }: Shown, applied: string): Headers {
  const token = shows === undefined ? applied : encodeToken(shows);
  const headers = ['Consistency-Token', token, 'Cache-Control', 'private, no-cache'];
  if (etag !== undefined) headers.push('ETag', `"${etag}"`);
  return headers;
}

/** Whether a client that knows these need not be sent what is shown. */
export const hasAlready = (known: EntityTags | undefined, { etag }: Shown): boolean =>
  known !== undefined && etag !== undefined && isNotModified(known, etag);
