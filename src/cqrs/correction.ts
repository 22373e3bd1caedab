/** A command that somebody gives out of turn, to put right what has gone wrong. */
import type { CommandBus, Scope, StreamRef } from './command-bus.ts';
import type { Origin } from './event-log.ts';

/** The state of the stream that was corrected. */
export type Correction = { readonly before: unknown; readonly after: unknown };

/**
 * Has `decide` correct `ref` by events. Rejects when nothing followed: there was nothing to correct.
 *
 * Promises:
 * - a correction tells the state before and after, and one that changes nothing is refused
 */
export async function correct(
  bus: CommandBus,
  origin: Origin,
  ref: StreamRef,
  decide: (scope: Scope) => void,
): Promise<Correction> {
  const done = await bus.execute({
    reads: [ref],
    origin,
    run(scope): Correction {
      const [before, version] = [scope.state(ref.type, ref.id) as unknown, scope.version(ref.type, ref.id)];
      decide(scope);
      if (scope.version(ref.type, ref.id) === version)
        throw new Error(`nothing about ${ref.type.name}-${ref.id} is to be corrected that way`);
      return { before, after: scope.state(ref.type, ref.id) as unknown };
    },
  });
  return done.result;
}
