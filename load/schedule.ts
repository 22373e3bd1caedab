/** When requests are due, whether or not the system keeps up. */

/** A seed gives the same numbers again; each is from 0 to below 1. */
export function randomOf(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Milliseconds from the beginning at which one request after the other is due: a Poisson process, as of many users
 * who know nothing of each other. Even gaps would spare the system the small crowds that real users make; and the
 * arrivals of several generators add up to a Poisson process again. The rate grows to the full one within `rampMs`;
 * from each of the `steps` on, it is so many times the full one.
 */
export function arrivals({ ratePerSecond, rampMs, steps = [], random }: ArrivalOptions): () => number {
  let at = 0;
  let factor = 1;
  let next = 0;
  return () => {
    const share = at < rampMs ? Math.max(rampShareMin, at / rampMs) : 1;
    while (next < steps.length && steps[next]!.fromMs <= at) factor = steps[next++]!.factor;
    at -= (Math.log(1 - random()) * 1_000) / (ratePerSecond * share * factor);
    return at;
  };
}

type ArrivalOptions = {
  readonly ratePerSecond: number;
  readonly rampMs: number;
  readonly steps?: readonly Step[];
  random(): number;
};

/** In the order of `fromMs`, since the beginning. */
export type Step = { readonly fromMs: number; readonly factor: number };

const rampShareMin = 0.1;
