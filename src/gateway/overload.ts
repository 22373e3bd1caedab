/**
 * Whether there is room for one more request: by how long it would wait, not by how many there are. It is asked before
 * anything else is done for a request, so saying no costs a few microseconds.
 *
 * A crowd that passes is served, however long it waits; of a line that stands everybody beyond its target is turned away.
 */
import type { Ports } from '#platform/ports.ts';
import { standingLine } from './standing-line.ts';

/**
 * What a request would wait for too long: for its turn of the event loop and those that have come before it, for the
 * commands before it, or for the consumers, which are behind with what follows from commands.
 */
export type Line = 'turn' | 'commands' | 'consumers';
export const lines: readonly Line[] = ['turn', 'commands', 'consumers'];

export type OverloadOptions = {
  readonly ports: Ports;
  /** What the event loop has used of the processor so far. */
  processorMs(): number;
  /** The target of a turn of the event loop; the others' follow from it. 0: nobody is ever turned away. */
  readonly waitMs: number;
  /** How long the command has been waiting that has waited for longest. */
  commandWaitMs(): number;
  /** How far consumers are behind because there is much to do, not because they stand. */
  behindMs(): number;
};

export type Overload = {
  /**
   * The line that is too long for one more request, or null. To be asked once for each request, when it comes;
   * `turnWaitMs`: how long the first of those has been waiting that have come before and are not taken up yet.
   */
  tooLong(isRead: boolean, turnWaitMs: number): Line | null;
  /** For how long requests have been turned away, with a short pause at most; 0: they are not. */
  sinceMs(): number;
};

/** Commands make more work than they are: of each turn, reads have the second half to themselves. */
const commandShare = 0.5;
/** Of what one may wait: whoever has just missed a turn waits for all of it, and then for its place in the next. */
const turnShare = 0.5;
const turnPatienceMs = 300;
/** A batch on its way takes tens of milliseconds; a command waits for one, and for its own. */
const commandTarget = 4;
const commandPatienceMs = 1_000;
/** An order waits for five consumers one after the other, and has to be final within 5 s. */
const behindTarget = 20;
const behindPatienceMs = 2_000;

export function createOverload({ ports, processorMs, waitMs, commandWaitMs, behindMs }: OverloadOptions): Overload {
  const turn = standingLine(turnPatienceMs);
  const commands = standingLine(commandPatienceMs);
  const consumers = standingLine(behindPatienceMs);
  let commandsWait = 0;
  let behind = 0;
  const turnMs = waitMs * turnShare;
  let isTurn = false;
  /** In this turn somebody has been waiting for longer than one may. */
  let isWaited = false;
  let turnBeganMs = 0;
  let workedBeforeMs = 0;

  function beginTurn(nowMs: number): void {
    isTurn = true;
    isWaited = false;
    turnBeganMs = nowMs;
    workedBeforeMs = processorMs();
    // Two lines that change no faster than turns do.
    commandsWait = commandWaitMs();
    behind = behindMs();
    commands.note(commandsWait > waitMs * commandTarget, nowMs, nowMs);
    consumers.note(behind > waitMs * behindTarget, nowMs, nowMs);
    ports.soon(endTurn);
  }

  /**
   * How long the turn has been working, as far as that is more than `enoughMs`. A turn in which others had the processor
   * is no longer than its work: turning away those who came meanwhile would not give it back.
   */
  function workedMs(nowMs: number, enoughMs: number): number {
    return nowMs - turnBeganMs > enoughMs ? processorMs() - workedBeforeMs : 0;
  }

  function endTurn(): void {
    const nowMs = ports.elapsed();
    isTurn = false;
    turn.note(isWaited || workedMs(nowMs, turnMs) > turnMs, turnBeganMs, nowMs);
  }

  return {
    tooLong(isRead, turnWaitMs) {
      if (waitMs === 0) return null;
      const nowMs = ports.elapsed();
      if (!isTurn) beginTurn(nowMs);
      const turnTargetMs = turnMs * (isRead ? 1 : commandShare);
      const worked = workedMs(nowMs, turnTargetMs);
      // One turn alone can be longer than anybody's patience.
      if (worked > turnPatienceMs) turn.note(true, turnBeganMs, nowMs);
      if (turnWaitMs > waitMs) {
        isWaited = true;
        turn.note(true, nowMs - (turnWaitMs - waitMs), nowMs);
      }
      if (turn.stands && (worked > turnTargetMs || turnWaitMs > waitMs * (isRead ? 1 : commandShare))) {
        turn.note(true, turnBeganMs, nowMs);
        return 'turn';
      }
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
