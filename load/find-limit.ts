/** The highest rate at which a system keeps every limit. */
import { judge } from './judgement.ts';
import type { Measured } from './measure.ts';

export type FoundLimit = {
  /** Of the highest rate that kept every limit, or of the lowest that was tried. */
  readonly measured: Measured;
  readonly tried: readonly {
    readonly requestsPerSecond: number;
    readonly kept: boolean;
    readonly missed: readonly string[];
  }[];
};

/** Until the rate that keeps them and the one that does not are this close. */
const closeEnough = 1.05;
const stepsMax = 16;

/** Doubles the rate from `first` while the limits are kept, or halves it while they are not, then bisects. */
export async function findLimit(
  first: number,
  measureAt: (requestsPerSecond: number) => Promise<Measured>,
  say: (what: string) => void,
): Promise<FoundLimit> {
  const tried: { requestsPerSecond: number; kept: boolean; missed: readonly string[] }[] = [];
  let kept: Measured | null = null;
  let last: Measured | null = null;
  let missedAt = Infinity;
  for (let rate = first; tried.length < stepsMax;) {
    last = await measureAt(rate);
    const missed = judge(last, null)
      .filter((verdict) => !verdict.kept)
      .map(({ what, found }) => `${what} ${found}`);
    tried.push({ requestsPerSecond: rate, kept: missed.length === 0, missed });
    say(`${rate.toFixed(0)} requests/s: ${missed.length === 0 ? 'kept' : `missed: ${missed.join(', ')}`}`);
    if (missed.length === 0) kept = last;
    else missedAt = rate;
    const low = kept?.requestsPerSecond ?? 0;
    if (missedAt === Infinity) rate = low * 2;
    else if (low === 0) rate = missedAt / 2;
    else if (missedAt / low <= closeEnough) break;
    else rate = (low + missedAt) / 2;
  }
  return { measured: kept ?? last!, tried };
}
