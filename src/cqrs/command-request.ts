/** A command that came from a client: how its outcome becomes the answer that is given, and given again. */
import type { CommandBus, Scope, StreamRef } from './command-bus.ts';
import type { Positions } from './consistency-token.ts';
import type { Refusal } from './decider.ts';
import { EngineError } from './errors.ts';
import type { Origin } from './event-log.ts';

/** What a client is told, as plain JSON. */
export type Answer = {
  readonly status: number;
  readonly body: unknown;
  /** The version behind the `ETag` header. */
  readonly version?: number;
  readonly location?: string;
};

export type AnswerOrRefusal = { readonly answer: Answer } | { readonly refused: Refusal };

export type ClientCommand = {
  readonly bus: CommandBus;
  readonly source: string;
  readonly origin: Origin;
  readonly idempotency: { readonly caller: string; readonly key: string; readonly fingerprint: string } | undefined;
  readonly reads: readonly StreamRef[];
  run(scope: Scope): AnswerOrRefusal;
  /** Refusals that may change without the client's doing are not kept under its key. */
  keeps?(refusal: Refusal): boolean;
};

export type ClientAnswer =
  | { readonly kept: Answer; readonly replayed: boolean; readonly positions: Positions }
  | {
      readonly refused: Refusal;
      /** Whether it belongs to its key from now on. */
      readonly isKept: boolean;
      readonly replayed: boolean;
      readonly traceId: string;
    };

type Kept = { readonly answer: Answer } | { readonly refused: Refusal; readonly traceId: string };

/**
 * Executes the command; what stands in its way becomes a refusal with the engine's code.
 *
 * Promises:
 * - an answer comes with the position that includes its effect
 * - the same key again gets the same answer, and says that it does
 * - a refusal is an answer: it is kept under its key, in the trace of the first request
 * - a key that was used for another request is refused
 * - what stands in the way of a command becomes a refusal with its code
 * - a bug is no refusal
 */
export async function executeForClient(command: ClientCommand): Promise<ClientAnswer> {
  const { bus, origin, idempotency, reads, run } = command;
  const keeps = command.keeps ?? ((refusal: Refusal) => refusal.code !== 'version-mismatch');
  try {
    const done = await bus.execute<Kept>({
      reads,
      origin,
      idempotency,
      run(scope) {
        const outcome = run(scope);
        return 'refused' in outcome ? { ...outcome, traceId: origin.correlationId } : outcome;
      },
      keep: (result) => ('refused' in result && !keeps(result.refused) ? undefined : result),
    });
    const { result, replayed } = done;
    if ('refused' in result) return { ...result, isKept: replayed || keeps(result.refused), replayed };
    return { kept: result.answer, replayed, positions: { [command.source]: done.position } };
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    const refused = { code: error.code, detail: error.message };
    return { refused, isKept: false, replayed: false, traceId: origin.correlationId };
  }
}

/** The versions that an If-Match header allows; `any`: whichever, if there is one; null: it was not sent. */
export type IfMatch = readonly number[] | 'any' | null;

/**
 * Null when `ifMatch` allows `current`, 0 where there is no resource yet; else the refusal.
 *
 * Promises:
 * - If-Match allows the versions that it names
 * - `*` allows what is there, whatever its version
 * - a stale version is not kept: the client may come again with the right one
 */
export function staleVersion(ifMatch: IfMatch, current: number): { readonly refused: Refusal } | null {
  if (ifMatch === null || (ifMatch === 'any' ? current > 0 : ifMatch.includes(current))) return null;
  const detail = current === 0 ? 'The resource does not exist yet.' : `The current version is ${current}.`;
  return { refused: { code: 'version-mismatch', detail, currentVersion: current } };
}
