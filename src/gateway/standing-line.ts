/**
 * Tells a line that stands from a crowd that passes. A line is too long once it has been longer than its target for as
 * long as one has patience, until it has been short for a while: the idea of CoDel (Nichols and Jacobson, 2012).
 */
export type StandingLine = {
  /** It is longer than its target, and has been since `sinceMs` at least; or it is not. */
  note(isLong: boolean, sinceMs: number, nowMs: number): void;
  readonly stands: boolean;
  /** Since when it stands; Infinity: it does not. */
  readonly sinceMs: number;
};

/** For so long a line may be longer than its target before it stands. */
export const patienceMs = 1_000;
/** Under more than can be served a line that is kept short is short: without this it would grow to the patience again and again. */
const calmMs = 5_000;

export function standingLine(): StandingLine {
  let longSinceMs = Infinity;
  let longAtMs = -Infinity;
  let standsSinceMs = Infinity;
  return {
    note(isLong, sinceMs, nowMs) {
      if (isLong) {
        longSinceMs = Math.min(longSinceMs, sinceMs);
        longAtMs = nowMs;
        if (nowMs - longSinceMs >= patienceMs) standsSinceMs = Math.min(standsSinceMs, nowMs);
      } else {
        longSinceMs = Infinity;
        if (nowMs - longAtMs >= calmMs) standsSinceMs = Infinity;
      }
    },
    get stands() {
      return standsSinceMs < Infinity;
    },
    get sinceMs() {
      return standsSinceMs;
    },
  };
}
