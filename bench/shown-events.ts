/**
 * How many events were shown within how many milliseconds of being recorded, since the start, as the system itself has
 * counted all of them: by upper bound, each with those below. `metrics` is the text of `GET /metrics`.
 */
export function shownWithin(metrics: string): ReadonlyMap<number, number> {
  const counted = new Map<number, number>();
  for (const [, bound, count] of metrics.matchAll(/^twofold_freshness_seconds_bucket\{.*le="(.+)"\} (\d+)$/gm)) {
    const boundMs = bound === '+Inf' ? Infinity : Number(bound) * 1_000;
    counted.set(boundMs, (counted.get(boundMs) ?? 0) + Number(count));
  }
  return counted;
}
