/** Answers that include what a Consistency-Token stands for: a bounded wait, then the truth about it. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { decodeToken, encodeToken, type Positions } from '#cqrs/consistency-token.ts';
import type { Route } from '#contracts/routes.ts';
import { answerProblem } from './answers.ts';
import { waitPreferredMs } from './preconditions.ts';
import type { RequestFigures } from './request-figures.ts';

export type Consistency = {
  /**
   * Waits until `route` includes the request's token, as long as the request prefers, and sees to it that no dead letter
   * keeps any of it from what is `asked`. Resolves to whether it does; when not, the problem has been answered.
   */
  reached(
    request: FastifyRequest,
    reply: FastifyReply,
    route: Includes,
    token: Positions,
    asked: object,
  ): Promise<boolean>;
};

type Includes = Pick<Route, 'caughtUp'> & {
  heldBack?(asked: never, positions: Positions): string | null | Promise<string | null>;
};

export function createConsistency(options: {
  readonly waitersMax: number;
  readonly figures: RequestFigures;
}): Consistency {
  const { figures } = options;
  return {
    async reached(request, reply, route, token, asked) {
      if (figures.waiting >= options.waitersMax) {
        answerProblem(request, reply, 'overloaded', `${options.waitersMax} requests are waiting already.`);
        return false;
      }
      const waitMs = waitPreferredMs(headerOf(request, 'prefer'));
      figures.waiting += 1;
      const caughtUp = await route.caughtUp(token, waitMs).finally(() => {
        figures.waiting -= 1;
      });
      if (!caughtUp) {
        answerProblem(
          request,
          reply,
          'read-model-behind',
          `What the Consistency-Token names has not arrived within ${waitMs / 1_000} s.`,
        );
        return false;
      }
      const deadLetter = (await route.heldBack?.(asked as never, token)) ?? null;
      if (deadLetter === null) return true;
      answerProblem(
        request,
        reply,
        'read-model-behind',
        `What the Consistency-Token names could not be applied yet: dead letter ${deadLetter} waits for an operator.`,
      );
      return false;
    },
  };
}

/** The positions of the request's Consistency-Token; undefined without one, null when it cannot be read. */
export function requestToken(request: FastifyRequest): Positions | undefined | null {
  const token = headerOf(request, 'consistency-token');
  return token === undefined ? undefined : decodeToken(token);
}

/** Encodes positions; the same object again costs nothing. */
export function tokenEncoder(): (positions: Positions) => string {
  let last: Positions | null = null;
  let token = '';
  return (positions) => {
    if (positions !== last) {
      token = encodeToken(positions);
      last = positions;
    }
    return token;
  };
}

/** A header that has one value however often it was sent: Node joins repetitions with commas. */
export const headerOf = (request: FastifyRequest, name: string): string | undefined =>
  request.headers[name] as string | undefined;
