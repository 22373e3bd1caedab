/** What stands before every route: is there room, who is calling, how often, and may they. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Audience, Route } from '#contracts/routes.ts';
import type { ProblemCode } from '#contracts/problems.ts';
import type { Access, Denial, Identity } from './access.ts';
import { systemPorts } from '#platform/ports.ts';
import { answerProblem } from './answers.ts';
import type { Limits } from './limits.ts';
import type { RequestFigures, RouteTimes } from './request-figures.ts';
import { isOfTheHouse } from './shedding.ts';
import { escapePointer, type FieldError } from './schema-compiler.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Set before a handler runs. */
    identity: Identity;
    /** Where the request is counted once it is answered; null: it has not been let in. */
    timed: { readonly times: RouteTimes; readonly sinceMs: number } | null;
  }
}

type Hook = (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void) => void;

export type Admission = {
  /** Lets a request through to `route`, or answers why not. Either is counted in `times`. Those of the house find room always. */
  admit(route: Pick<Route, 'audience' | 'url'>, times: RouteTimes): Hook;
  /** Lets an operator through however full the house is: that is when it is looked at. */
  readonly admitOperatorAlways: Hook;
};

type AdmissionOptions = {
  readonly access: Access;
  readonly limits: Limits;
  readonly figures: RequestFigures;
  /** Requests under way at once. */
  readonly requestsMax: number;
};

export function createAdmission({ access, limits, figures, requestsMax }: AdmissionOptions): Admission {
  const leave = (): void => {
    figures.underWay -= 1;
  };

  const identifyFor =
    (audience: Audience): Hook =>
    (request, reply, done) => {
      const verdict = judge(request, audience);
      if (verdict instanceof Promise) verdict.then((later) => conclude(later, request, reply, done), done);
      else conclude(verdict, request, reply, done);
    };

  function judge(request: FastifyRequest, audience: Audience): Verdict | Promise<Verdict> {
    const identity = access.identify(request.headers.authorization);
    if (identity instanceof Promise) return identity.then((later) => judgeIdentity(later, request, audience));
    return judgeIdentity(identity, request, audience);
  }

  function judgeIdentity(
    identity: Identity | Denial,
    request: FastifyRequest,
    audience: Audience,
  ): Verdict | Promise<Verdict> {
    if ('code' in identity) return identity;
    request.identity = identity;
    const limit = limits.count(request, identity);
    if (limit === null) return judgeRole(identity, audience);
    return limit.then(({ headers, exceeded }) => {
      request.limitHeaders = headers;
      return exceeded ? usedUp : judgeRole(identity, audience);
    });
  }

  return {
    admit({ audience, url }, times) {
      const isAlways = isOfTheHouse(url);
      const identify = identifyFor(audience);
      return (request, reply, done) => {
        request.timed = { times, sinceMs: systemPorts.elapsed() };
        if (figures.underWay >= requestsMax && !isAlways) {
          answerProblem(
            request,
            reply,
            'overloaded',
            `${requestsMax} requests are under way already. Nothing was done.`,
          );
          return;
        }
        figures.underWay += 1;
        // It is emitted once, and telling a listener that it was the only time costs each request.
        reply.raw.on('close', leave);
        const fault = faultOf(request);
        if (fault !== null) answerProblem(request, reply, 'malformed-request', fault.detail, { members: fault });
        else identify(request, reply, done);
      };
    },

    admitOperatorAlways: identifyFor('operator'),
  };
}

/** null: come in. */
type Verdict = null | { readonly code: ProblemCode; readonly detail: string; readonly challenge: string | null };

const usedUp: Verdict = { code: 'rate-limited', detail: 'The requests of this minute are used up.', challenge: null };
const operatorsOnly: Verdict = { code: 'forbidden', detail: 'This is for operators only.', challenge: null };

const judgeRole = (identity: Identity, audience: Audience): Verdict =>
  isMeant(identity, audience) ? null : operatorsOnly;

/** Whether what is for `audience` is for this caller. */
export const isMeant = ({ caller }: Identity, audience: Audience): boolean =>
  audience === 'customer' || caller.role === 'operator';

function conclude(verdict: Verdict, request: FastifyRequest, reply: FastifyReply, done: () => void): void {
  if (verdict === null) return done();
  const headers = verdict.challenge === null ? [] : ['WWW-Authenticate', verdict.challenge];
  answerProblem(request, reply, verdict.code, verdict.detail, { headers });
}

type Fault = { readonly detail: string; readonly errors?: readonly FieldError[] };

/** What is wrong with a request as HTTP that the parser and the router let through. */
function faultOf(request: FastifyRequest): Fault | null {
  const { url = '', httpVersion, headers } = request.raw;
  if (headers.host === undefined && httpVersion === '1.1') return { detail: 'The Host header is missing.' };
  const mark = url.indexOf('?');
  if (mark < 0 || !url.includes('%', mark) || isText(url.slice(mark))) return null;
  const [name = ''] = url
    .slice(mark + 1)
    .split('&')
    .find((parameter) => !isText(parameter))!
    .split('=');
  const detail = 'is not percent-encoded UTF-8, or has the character U+0000';
  const pointer = `/${escapePointer(name)}`;
  return { detail: `${pointer} ${detail}.`, errors: [{ pointer, detail }] };
}

/** Whether `encoded` is percent-encoded UTF-8 without U+0000. */
function isText(encoded: string): boolean {
  try {
    return !decodeURIComponent(encoded).includes('\0');
  } catch {
    return false;
  }
}
