/** What measures some of the ratios together, because they need the same things around them. */
import type { Ending } from '../tests/running-program.ts';
import type { Figure, Measured, Outcome, RatioName } from './ratio-table.ts';

export type Bench = {
  /** What is noted here is done when the group has been measured. */
  readonly ending: Ending;
  readonly wanted: ReadonlySet<RatioName>;
  /** Little data and short blocks: whether it works, not how fast. */
  readonly quick: boolean;
  /** Pairs of blocks. */
  readonly pairs: number;
  /** Shows what is being done for long. */
  readonly progress: Pick<Progress, 'begin' | 'reach' | 'end'>;
  /** Runs each of `blocks` until it is as fast as it gets, and then all of them by turns, as often as is wanted. */
  warmInTurn<Name extends string>(
    label: string,
    blocks: Readonly<Record<Name, () => Promise<number>>>,
  ): Promise<Record<Name, number[]>>;
  /** By turns at once. */
  inTurn<Name extends string, Block>(
    label: string,
    blocks: Readonly<Record<Name, () => Promise<Block>>>,
  ): Promise<Record<Name, Block[]>>;
};

type Progress = { begin(label: string, total: number): void; reach(done: number): void; end(): void };

export type Group = {
  readonly ratios: readonly RatioName[];
  /** Resolves to those of its ratios that are wanted. Rejects when something is not as it should be. */
  measure(bench: Bench): Promise<ReadonlyMap<RatioName, Measured | Extract<Outcome, { kind: 'not measured' }>>>;
};

export const figure = (name: string, unit: string, blocks: readonly number[]): Figure => ({ name, unit, blocks });
