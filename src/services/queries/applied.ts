/** How far this process has applied what happened, and what it reads of what has been committed beyond that, here or elsewhere. */
import { isReached, type Positions } from '#cqrs/consistency-token.ts';
import { type ShownRow, shownPositions } from '#cqrs/shown-positions.ts';

export type Applied = {
  /** What this process has applied. */
  positions(): Positions;
  /** What rows show that were read with `shownColumn`. */
  positionsIn(rows: readonly ShownRow[]): Positions;
  /** The same, for an answer that is made of them; nothing where none of them tells: it may lie beyond the statement's limit. */
  shownBy(rows: readonly ShownRow[]): { readonly shows?: Positions };
  /** Resolves to whether this process has applied `shown`, which is committed: it waits for that. */
  includes(shown: Positions): Promise<boolean>;
};

/** Between a commit and its answer lie milliseconds, and turns of a busy event loop. */
const includesWaitMs = 1_000;

/** `side` is that of this process; it is asked for when it is known. */
export function appliedHere(
  projections: () => readonly { readonly name: string }[],
  side: () => { positions(): Positions; caughtUp(positions: Positions, waitMs: number): Promise<boolean> },
): Applied {
  const positionsIn = shownPositions(projections);
  const positions = (): Positions => side().positions();
  return {
    positions,
    positionsIn,
    shownBy: (rows) => (rows.every(({ shown }) => shown === null) ? {} : { shows: positionsIn(rows) }),
    includes: async (shown) => isReached(shown, positions()) || side().caughtUp(shown, includesWaitMs),
  };
}
