/** Handlers of POST, PUT and DELETE routes: preconditions, idempotency, and the answer with its token. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Answer, ClientAnswer, IfMatch } from '#cqrs/command-request.ts';
import { encodeToken, mergePositions, type Positions } from '#cqrs/consistency-token.ts';
import type { CommandRequest, CommandRoute } from '#contracts/routes.ts';
import { failpoint } from '#platform/failpoint.ts';
import { answer, answerProblem, JSON_TYPE, pathOf } from './answers.ts';
import { type Consistency, headerOf, requestToken } from './consistency.ts';
import { fingerprintOf, type IdempotencyKeys } from './idempotency-keys.ts';
import { isIdempotencyKey, parseEntityTags, versionsAllowed } from './preconditions.ts';
import { answerRefusal } from './refusals.ts';
import { traceOf } from './trace-context.ts';

type Handler = (request: FastifyRequest, reply: FastifyReply) => void | Promise<void>;
type Idempotency = NonNullable<CommandRequest['idempotency']>;

export function commandHandler(route: CommandRoute, consistency: Consistency, keys: IdempotencyKeys): Handler {
  // Up to `run` nothing is awaited: of two requests with one key, one has claimed it before the other looks.
  return (request, reply) => {
    const ifMatch = headerOf(request, 'if-match');
    const tags = ifMatch === undefined ? undefined : parseEntityTags(ifMatch);
    if (tags === null)
      return answerProblem(request, reply, 'malformed-etag', 'If-Match is neither `*` nor a list of quoted tags.');
    const token = requestToken(request);
    if (token === null)
      return answerProblem(
        request,
        reply,
        'malformed-consistency-token',
        'The Consistency-Token is not one that an answer gave.',
      );
    const key = headerOf(request, 'idempotency-key');
    if (key !== undefined && !isIdempotencyKey(key)) {
      return answerProblem(
        request,
        reply,
        'malformed-idempotency-key',
        'The Idempotency-Key does not have 1 to 255 printable ASCII characters.',
      );
    }
    const versions = tags === undefined ? null : versionsAllowed(tags, route.ifMatchPart ?? 1);
    const idempotency = key === undefined ? undefined : idempotencyOf(request, key);
    if (idempotency === undefined) return run(request, reply, versions, token, undefined);
    const claim = keys.claim(idempotency.caller, idempotency.key, idempotency.fingerprint);
    if (claim === 'in-flight') {
      return answerProblem(
        request,
        reply,
        'idempotency-key-in-flight',
        'The first request with this Idempotency-Key has not been answered yet.',
      );
    }
    if (claim === 'reused') {
      return answerProblem(
        request,
        reply,
        'idempotency-key-reused',
        'This Idempotency-Key came with another request before.',
      );
    }
    return run(request, reply, versions, token, idempotency);
  };

  async function run(
    request: FastifyRequest,
    reply: FastifyReply,
    ifMatch: IfMatch,
    token: Positions | undefined,
    idempotency: Idempotency | undefined,
  ): Promise<void> {
    let done: ClientAnswer | undefined;
    try {
      const { params, body, identity } = request;
      const { traceId, traceparent } = traceOf(request);
      const origin = { actor: identity.actor, correlationId: traceId, causationId: request.id, traceparent };
      const asked = { params, body, caller: identity.caller, ifMatch, idempotency, origin };
      if (token !== undefined && !(await consistency.reached(request, reply, route, token, asked))) return;
      done = await route.handle(asked as never);
      failpoint('command-answering');
    } finally {
      // Before the answer leaves: who has it may use the key again at once.
      if (idempotency !== undefined)
        keys.release(idempotency.caller, idempotency.key, done !== undefined && ('kept' in done || done.isKept));
    }
    if ('refused' in done) {
      const headers = done.replayed ? ['Idempotent-Replayed', 'true'] : [];
      return answerRefusal(request, reply, done.refused, { headers, traceId: done.traceId });
    }
    answerKept(
      request,
      reply,
      done.kept,
      done.replayed,
      token === undefined ? done.positions : mergePositions(token, done.positions),
    );
  }
}

const idempotencyOf = (request: FastifyRequest, key: string): Idempotency => ({
  caller: request.identity.scope,
  key,
  fingerprint: fingerprintOf(request.method, pathOf(request), request.body),
});

function answerKept(
  request: FastifyRequest,
  reply: FastifyReply,
  kept: Answer,
  replayed: boolean,
  positions: Positions,
): void {
  const headers = ['Consistency-Token', encodeToken(positions), 'Cache-Control', 'private, no-cache'];
  if (kept.version !== undefined) headers.push('ETag', `"${kept.version}"`);
  if (kept.location !== undefined) headers.push('Location', kept.location);
  if (replayed) headers.push('Idempotent-Replayed', 'true');
  answer(request, reply, kept.status, JSON_TYPE, headers, JSON.stringify(kept.body));
}
