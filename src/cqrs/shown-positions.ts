/**
 * How far rows have come that are read from the read database, whichever process has applied the events: a batch commits
 * its rows with its checkpoints, so a statement that reads both knows.
 */
import type { Positions } from './consistency-token.ts';

/** SQL of one more column, for `shownPositions`. It is filled in one of the rows. */
export const shownColumn = `case row_number() over () when 1 then
  (select string_agg(consumer || '=' || position, ',') from checkpoints) end as shown`;

export type ShownRow = { readonly shown: string | null };

/**
 * Reads that column. A source has come as far as all of `projections` that fold it.
 *
 * Promises:
 * - what rows show is what all projections have come through
 */
export function shownPositions(
  projections: () => readonly { readonly name: string }[],
): (rows: readonly ShownRow[]) => Positions {
  let last = '';
  let positions: Positions = {};
  return (rows) => {
    const shown = rows.find((row) => row.shown !== null)?.shown ?? '';
    if (shown !== last) {
      positions = positionsIn(shown, new Set(projections().map(({ name }) => name)));
      last = shown;
    }
    return positions;
  };
}

/** Others than projections have checkpoints too, and one that the code does not have any more leaves its own. */
function positionsIn(shown: string, names: ReadonlySet<string>): Positions {
  const positions: Record<string, number> = {};
  for (const part of shown.split(',')) {
    const [consumer, position] = part.split('=') as [string, string];
    const [name, source] = consumer.split('-of-') as [string, string | undefined];
    if (source !== undefined && names.has(name))
      positions[source] = Math.min(positions[source] ?? Infinity, Number(position));
  }
  return positions;
}
