/** Answers to what moves no log, kept under their Idempotency-Key: jobs that are begun, decisions about messages and consumers. */
import type { CommandRequest } from '#contracts/routes.ts';
import type { Answer, ClientAnswer } from '#cqrs/command-request.ts';
import type { Refusal } from '#cqrs/decider.ts';
import { type Ports, timeNow } from '#platform/ports.ts';
import type { Database } from '#platform/postgres.ts';

export type AnsweredOnce = (
  request: Pick<CommandRequest, 'idempotency' | 'origin'>,
  work: () => Promise<ClientAnswer>,
) => Promise<ClientAnswer>;

type Kept = { readonly answer: Answer } | { readonly refused: Refusal; readonly traceId: string };

/**
 * Answers requests by doing their work, once per key. `database` has the tables of the folder `checkpoints`; what is kept in
 * another is not known here. The answer is kept after the work, not with it: a process that dies between the two leaves none,
 * and the work is done again for the same request. So it has to be harmless then, or refused.
 *
 * Promises:
 * - the same key again gets the first answer, and nothing is done a second time
 * - a refusal that is kept is given again, in the trace of the first request
 * - what is not kept, or failed, is tried anew under the same key
 * - a key that came with another request is refused before anything is done
 * - keys are those of their caller
 * - of two processes that were asked at once, the one that is later gives the answer of the other
 * - old answers are forgotten, young ones are given again
 */
export function keptAnswers(database: Database, ports: Ports): AnsweredOnce {
  async function answerTo({ idempotency, origin }: Parameters<AnsweredOnce>[0]): Promise<ClientAnswer | null> {
    const rows = await database.query<{ fingerprint: string; answer: string }>(
      'kept answer',
      'select fingerprint, answer from kept_answers where caller = $1 and key = $2',
      [idempotency?.caller, idempotency?.key],
    );
    if (rows[0] === undefined) return null;
    if (rows[0].fingerprint !== idempotency?.fingerprint) {
      const refused = {
        code: 'idempotency-key-reused',
        detail: 'This Idempotency-Key came with another request before.',
      };
      return { refused, isKept: false, replayed: false, traceId: origin.correlationId };
    }
    const kept = JSON.parse(rows[0].answer) as Kept;
    if ('refused' in kept) return { ...kept, isKept: true, replayed: true };
    return { kept: kept.answer, replayed: true, positions: {} };
  }

  return async (request, work) => {
    const { idempotency } = request;
    if (idempotency === undefined) return work();
    const before = await answerTo(request);
    if (before !== null) return before;
    const answer = await work();
    if ('refused' in answer && !answer.isKept) return answer;
    const kept: Kept =
      'refused' in answer ? { refused: answer.refused, traceId: answer.traceId } : { answer: answer.kept };
    const { caller, key, fingerprint } = idempotency;
    const rows = await database.query(
      'keep answer',
      `insert into kept_answers (caller, key, fingerprint, answer, at) values ($1, $2, $3, $4, $5)
       on conflict do nothing returning 1`,
      [caller, key, fingerprint, JSON.stringify(kept), timeNow(ports)],
    );
    return rows.length > 0 ? answer : ((await answerTo(request)) ?? answer);
  };
}

/** Forgets the answers from before `before` (RFC 3339); resolves to how many. */
export async function forgetAnswers(database: Database, before: string): Promise<number> {
  const rows = await database.query('forget answers', 'delete from kept_answers where at < $1 returning 1', [before]);
  return rows.length;
}
