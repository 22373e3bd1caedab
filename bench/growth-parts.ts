/** What each part of `npm run bench:growth` is given, and what it tells. */
import type { Ending } from '../tests/running-program.ts';
import type { Bench } from './ratio-groups.ts';
import type { turnsOf } from './turns.ts';

export type GrowthBench = ReturnType<typeof turnsOf> & {
  /** What is noted here is done when the part has been measured. */
  readonly ending: Ending;
  readonly progress: Bench['progress'];
  /** Little data and short blocks: whether it works, not how fast. */
  readonly smoke: boolean;
  /** So many of them are stored, in a system each. */
  readonly events: readonly number[];
  readonly minutes: number;
  readonly requestsPerSecond: number;
};

/** A part rejects when something that it has checked was wrong. */
export type Told = {
  readonly text: string;
  /** Of times and costs, what was not as it has to be. */
  readonly missed: readonly string[];
};

/** A line of a table: what it tells of, and so many cells. */
export const row = (name: string, cells: readonly string[]): string =>
  `${name.padEnd(36)}${cells.map((cell) => `  ${cell}`.padStart(28)).join('')}`.trimEnd();
