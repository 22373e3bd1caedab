/**
 * Whether there is room for one more request: by how long it would wait, not by how many there are. It is asked before
 * the framework sees a request, so saying no costs a few microseconds; what is in memory is answered instead (`hot-reads.ts`).
 *
 * A crowd that passes is served, however many come; of a line that stands everybody beyond its target is turned away.
 */
import type { Ports } from '#platform/ports.ts';
import { standingLine } from './standing-line.ts';

/**
 * What a request would wait for too long: for its turn, for the commands before it, or for the consumers, which are
 * behind with what follows from commands.
 */
export type Line = 'turn' | 'commands' | 'consumers';
export const lines: readonly Line[] = ['turn', 'commands', 'consumers'];

export type OverloadOptions = {
  readonly ports: Ports;
  /** How long one may wait to be taken up; the other targets follow from it. 0: nobody is ever turned away. */
  readonly waitMs: number;
  /** How long a command waits for its batch. */
  commandWaitMs(): number;
  /** How far consumers are behind because there is much to do, not because they stand. */
  behindMs(): number;
};

export type Overload = {
  /**
   * The line that is too long for one more request, or null. To be asked once for each request, when it comes;
   * `turnWaitMs`: how long it would wait for its turn.
   */
  tooLong(isRead: boolean, turnWaitMs: number): Line | null;
  /** For how long requests have been turned away, with a short pause at most; 0: they are not. */
  sinceMs(): number;
};

/** Commands make more work than they are: the second half of what one may wait is for reads alone. */
const commandShare = 0.5;
/** For a turn or a batch, so many times as long as one may wait is no crowd that passes: it has been standing, or will be. */
const waitMost = 25;
/** A batch on its way takes tens of milliseconds; a command waits for one, and for its own. */
const commandTarget = 10;
/** An order waits for five consumers one after the other, and has to be final within 5 s. */
const behindTarget = 25;

export function createOverload({ ports, waitMs, commandWaitMs, behindMs }: OverloadOptions): Overload {
  const turn = standingLine();
  const commands = standingLine();
  const consumers = standingLine();
  let commandsWait = 0;
  let behind = 0;
  let isTurn = false;

  /** Two lines that change no faster than turns of the event loop do. */
  function look(nowMs: number): void {
    isTurn = true;
    commandsWait = commandWaitMs();
    behind = behindMs();
    commands.note(commandsWait > waitMs * commandTarget, commandsWait > waitMs * waitMost ? -Infinity : nowMs, nowMs);
    consumers.note(behind > waitMs * behindTarget, nowMs, nowMs);
    ports.soon(() => (isTurn = false));
  }

  return {
    tooLong(isRead, turnWaitMs) {
      if (waitMs === 0) return null;
      const nowMs = ports.elapsed();
      if (!isTurn) look(nowMs);
      turn.note(turnWaitMs > waitMs, turnWaitMs > waitMs * waitMost ? -Infinity : nowMs, nowMs);
      if (turn.stands && turnWaitMs > waitMs * (isRead ? 1 : commandShare)) return 'turn';
      if (isRead) return null;
      if (commands.stands && commandsWait > waitMs * commandTarget) return 'commands';
      if (consumers.stands && behind > waitMs * behindTarget) return 'consumers';
      return null;
    },
    sinceMs() {
      const began = Math.min(turn.sinceMs, commands.sinceMs, consumers.sinceMs);
      return began === Infinity ? 0 : ports.elapsed() - began;
    },
  };
}
