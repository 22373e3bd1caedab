/**
 * Takes requests up in the order in which they have come, for a few milliseconds of each turn of the event loop. All that
 * have come in one turn, taken up at once, are a turn of a hundred milliseconds when there are many: so long whatever
 * the databases have answered would lie there, and of a batch for them only what their sockets hold would have left.
 */
import type { Ports } from '#platform/ports.ts';

export type Turns = {
  /** Does `act`, now or in a later turn; false: too many are waiting, and it will not be done. */
  enter(act: () => void): boolean;
  /** How long one more would wait, in milliseconds, at the rate at which requests have lately been taken up; 0: nobody waits. */
  waitMs(): number;
};

/** Of a turn, for requests. With 1 reads took longer, with 10 orders did. */
const shareMs = 4;
/** As many as may be under way: a connection can send a request after the other without waiting for answers. */
const waitingMax = 20_000;
/** So many that have been taken up may still be held. */
const keptMax = 500;
/** Of what is known of the rate, each turn takes the place of so much. */
const turnWeight = 0.1;

/**
 * Promises:
 * - as long as there is time nobody waits
 * - who waits is taken up in a later turn, in the order of arrival, and before whoever comes then
 * - who takes too long makes nobody lose their place
 * - whoever throws makes nobody lose their place
 * - no more wait than there may, and nobody for nothing
 * - how long one more would wait is told from how many do, and how quickly others were taken up
 */
export function createTurns(ports: Pick<Ports, 'elapsed' | 'soon'>): Turns {
  let waiting: (() => void)[] = [];
  let taken = 0;
  let isTurn = false;
  let beganMs = 0;
  let takenInTurn = 0;
  /** Of turns that have left somebody waiting: their time, and how many they have taken up. */
  let fullTurnsMs = 0;
  let takenInFullTurns = 0;

  function begin(): void {
    isTurn = true;
    beganMs = ports.elapsed();
    takenInTurn = 0;
    ports.soon(end);
  }

  function end(): void {
    isTurn = false;
    if (taken === waiting.length) return;
    fullTurnsMs += (ports.elapsed() - beganMs - fullTurnsMs) * turnWeight;
    takenInFullTurns += (takenInTurn - takenInFullTurns) * turnWeight;
    begin();
    while (taken < waiting.length && ports.elapsed() - beganMs < shareMs) {
      const act = waiting[taken]!;
      taken += 1;
      takenInTurn += 1;
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
      if (!isWaiting && ports.elapsed() - beganMs < shareMs) {
        takenInTurn += 1;
        act();
        return true;
      }
      if (waiting.length - taken >= waitingMax) return false;
      waiting.push(act);
      return true;
    },
    waitMs: () => (takenInFullTurns === 0 ? 0 : ((waiting.length - taken) * fullTurnsMs) / takenInFullTurns),
  };
}
