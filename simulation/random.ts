/** Chance from a seed: the same seed gives the same sequence on every machine. */

export type Random = {
  /** From 0 to below 1. */
  next(): number;
  /** A whole number from 0 to below `n`. */
  below(n: number): number;
  /** From `low` to below `high`. */
  between(low: number, high: number): number;
  /** A whole number from `low` to `high`, both included. */
  whole(low: number, high: number): number;
  /** True once in `1 / probability` times. */
  chance(probability: number): boolean;
  pick<T>(from: readonly T[]): T;
  shuffled<T>(from: readonly T[]): T[];
};

/** `purpose` tells sequences of one seed apart: what is drawn for one leaves the others as they are. */
export function seededRandom(seed: number, purpose: string): Random {
  let [a, b, c, d] = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0, textHash(purpose), 1];

  // The generator "small fast counter", 32 bits.
  const next = (): number => {
    const sum = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + sum) | 0;
    return (sum >>> 0) / 2 ** 32;
  };
  for (let n = 0; n < 12; n += 1) next();

  const below = (n: number): number => Math.floor(next() * n);
  return {
    next,
    below,
    between: (low, high) => low + next() * (high - low),
    whole: (low, high) => low + below(high - low + 1),
    chance: (probability) => next() < probability,
    pick: (from) => from[below(from.length)]!,
    shuffled(from) {
      const mixed = [...from];
      for (let n = mixed.length - 1; n > 0; n -= 1) {
        const other = below(n + 1);
        [mixed[n], mixed[other]] = [mixed[other]!, mixed[n]!];
      }
      return mixed;
    },
  };
}

/** FNV-1a, 32 bits. */
export function textHash(text: string): number {
  let hash = 0x811c9dc5;
  for (let n = 0; n < text.length; n += 1) hash = Math.imul(hash ^ text.charCodeAt(n), 0x01000193);
  return hash >>> 0;
}
