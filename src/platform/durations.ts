/** Durations, counted by size: recording one is an addition, whatever is asked of them later. */

/** Upper ends of the buckets, in milliseconds; beyond the last one there is one more. */
export const durationBoundsMs: readonly number[] = [
  1, 2, 5, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000,
];

export class Durations {
  /** By bucket, not added up. */
  readonly counts = new Float64Array(durationBoundsMs.length + 1);
  sumMs = 0;

  record(durationMs: number): void {
    const ms = Math.max(0, durationMs);
    let bucket = 0;
    while (ms > durationBoundsMs[bucket]!) bucket += 1;
    this.counts[bucket]! += 1;
    this.sumMs += ms;
  }
}

/**
 * The duration in milliseconds below which `share` of what `counts` counts lies, as evenly spread within its
 * bucket; beyond the last bound it is that bound. Null when nothing was counted.
 */
export function quantileMs(counts: Float64Array, share: number): number | null {
  const wanted = counts.reduce((sum, count) => sum + count, 0) * share;
  if (wanted === 0) return null;
  let below = 0;
  let lower = 0;
  for (const [bucket, upper] of durationBoundsMs.entries()) {
    const count = counts[bucket]!;
    if (below + count >= wanted) return lower + ((upper - lower) * (wanted - below)) / count;
    below += count;
    lower = upper;
  }
  return lower;
}
