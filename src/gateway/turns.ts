/**
 * Takes requests up in the order in which they have come, for a few milliseconds of each turn of the event loop. All that
 * have come in one turn, taken up at once, are a turn of a hundred milliseconds when there are many: so long whatever
 * the databases have answered would lie there, and of a batch for them only what their sockets hold would have left.
 */
import type { Ports } from '#platform/ports.ts';

export type Turns = {
  /** Does `act`, now or in a later turn; false: too many are waiting, and it will not be done. */
  enter(act: () => void): boolean;
  /** How long the first in line has been waiting, in milliseconds; 0: nobody is. */
  waitedMs(): number;
};

/** Of a turn, for requests. With 1 reads took longer, with 10 orders did. */
const shareMs = 4;
/** As many as may be under way: a connection can send a request after the other without waiting for answers. */
const waitingMax = 20_000;
/** So many that have been taken up may still be held. */
const keptMax = 500;

/**
 * Promises:
 * - as long as there is time nobody waits
 * - who waits is taken up in a later turn, in the order of arrival, and before whoever comes then
 * - who takes too long makes nobody lose their place
 * - whoever throws makes nobody lose their place
 * - no more wait than there may, and nobody for nothing
 */
export function createTurns(ports: Pick<Ports, 'elapsed' | 'soon'>): Turns {
  type Waiting = { readonly act: () => void; readonly sinceMs: number };
  let waiting: Waiting[] = [];
  let taken = 0;
  let isTurn = false;
  let beganMs = 0;

  function begin(): void {
    isTurn = true;
    beganMs = ports.elapsed();
    ports.soon(end);
  }

  function end(): void {
    isTurn = false;
    if (taken === waiting.length) return;
    begin();
    while (taken < waiting.length && ports.elapsed() - beganMs < shareMs) {
      const { act } = waiting[taken]!;
      taken += 1;
      act();
    }
    if (taken === waiting.length || taken >= keptMax) {
      waiting = waiting.slice(taken);
      taken = 0;
    }
  }

  return {
    enter(act) {
      if (!isTurn) begin();
      const isWaiting = taken < waiting.length;
      const nowMs = ports.elapsed();
      if (!isWaiting && nowMs - beganMs < shareMs) {
        act();
        return true;
      }
      if (waiting.length - taken >= waitingMax) return false;
      waiting.push({ act, sinceMs: nowMs });
      return true;
    },
    waitedMs: () => (taken < waiting.length ? ports.elapsed() - waiting[taken]!.sinceMs : 0),
  };
}
