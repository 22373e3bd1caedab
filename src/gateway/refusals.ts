/** Refusals and failures as problems: the one place where either becomes an HTTP answer. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type { Refusal } from '#cqrs/decider.ts';
import { problems, type ProblemCode } from '#contracts/problems.ts';
import { answerProblem, isProblemCode, pathOf, type ProblemExtras } from './answers.ts';
import { InvalidInput } from './schema-compiler.ts';
import { traceOf } from './trace-context.ts';

/** A refusal of a service, its members included. Throws when its code is not in the registry: that is a bug. */
export function answerRefusal(
  request: FastifyRequest,
  reply: FastifyReply,
  refusal: Refusal,
  extras: ProblemExtras = {},
): void {
  if (!isProblemCode(refusal.code))
    throw new Error(`refused with ${refusal.code}, which is not in the problem registry`);
  answerProblem(request, reply, refusal.code, refusal.detail, { ...extras, members: refusal });
}

/** Answers whatever a parser, a validator, a hook or a handler threw. Nothing internal leaves but the trace id. */
export function failureHandler(logger: Logger): (error: unknown, request: FastifyRequest, reply: FastifyReply) => void {
  return (error, request, reply) => {
    if (error instanceof InvalidInput) {
      const errors = error.explain(request.bodyBytes);
      const first = errors[0]!;
      const more = errors.length > 1 ? `, and ${errors.length - 1} more` : '';
      answerProblem(request, reply, 'invalid-request', `${first.pointer || 'The body'} ${first.detail}${more}.`, {
        members: { errors },
      });
      return;
    }
    const problem = problemOf(error);
    logFailure(logger, request, problem, error);
    answerProblem(request, reply, problem, problems[problem].explanation, {
      headers: isBodyWorthSkipping(request) ? [] : ['Connection', 'close'],
    });
  };
}

/** The problem that a failure is for its client. */
export function problemOf(error: unknown): ProblemCode {
  const { code, statusCode } = (error ?? {}) as { readonly code?: unknown; readonly statusCode?: unknown };
  if (isProblemCode(code)) return code;
  return problemByFrameworkCode[String(code)] ?? problemByStatus[Number(statusCode)] ?? 'internal';
}

/** Logs what is not the client's doing. */
export function logFailure(logger: Logger, request: FastifyRequest, problem: ProblemCode, error: unknown): void {
  // Those who are turned away are counted: a line for each would be work where there is too much of it.
  if (problems[problem].status < 500 || problem === 'overloaded') return;
  const about = {
    traceId: traceOf(request).traceId,
    requestId: request.id,
    method: request.method,
    path: pathOf(request),
  };
  // A database that is down fails every request for the same known reason: no stack for each.
  if (problem === 'internal') logger.error({ ...about, err: error }, problem);
  else logger.warn({ ...about, reason: error instanceof Error ? error.message : String(error) }, problem);
}

const problemByFrameworkCode: { readonly [code: string]: ProblemCode } = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'body-too-large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported-media-type',
  FST_ERR_CTP_EMPTY_TYPE: 'unsupported-media-type',
  FST_ERR_CTP_INVALID_JSON_BODY: 'malformed-json',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'malformed-request',
  FST_ERR_BAD_URL: 'malformed-request',
  FST_ERR_MAX_PARAM_LENGTH: 'malformed-request',
  // The client went away within its body.
  ECONNRESET: 'malformed-request',
};

/** What the static file server throws. */
const problemByStatus: { readonly [status: number]: ProblemCode } = {
  400: 'malformed-request',
  403: 'not-found',
  404: 'not-found',
};

const skippedBodyBytesMax = 8 * 1_048_576;

/**
 * Whether the rest of a body that is not wanted is read and thrown away. Closing on a client that is
 * still sending resets the connection, and the client never sees the answer.
 */
function isBodyWorthSkipping(request: FastifyRequest): boolean {
  const length = request.headers['content-length'];
  return length === undefined || Number(length) <= skippedBodyBytesMax;
}
