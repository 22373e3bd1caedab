/** One life of one simulated process: from its start until it is killed. What it knows dies with it. */
import type { Ports } from '#platform/ports.ts';
import type { Random } from './random.ts';
import type { Owner, Scheduler, Step } from './scheduler.ts';

/** When every world begins, by clocks that are right. */
export const worldBeganAt = Date.parse('2026-01-01T00:00:00.000Z');

export type Clock = {
  /** How far the clock of a process is ahead; may jump. */
  skewMs: number;
};

export class Incarnation implements Owner {
  /** `ordering#2`: the second life of the process `ordering`. */
  readonly name: string;
  readonly ports: Ports;
  readonly #scheduler: Scheduler;
  #alive = true;
  #heldBack: Step[] | null = null;

  constructor(name: string, scheduler: Scheduler, random: Random, clock: Clock) {
    this.name = name;
    this.#scheduler = scheduler;
    let ids = 0;
    const after = (ms: number, act: () => void): (() => void) => {
      // A timer is never early, and a little late.
      const step = scheduler.after(ms + random.next(), 'timer', this, act);
      return () => {
        step.act = null;
      };
    };
    this.ports = {
      now: () => Math.floor(worldBeganAt + scheduler.nowMs + clock.skewMs),
      elapsed: () => scheduler.nowMs,
      after,
      every(ms, act) {
        let cancelled = false;
        let cancel = (): void => {};
        const turn = (): void => {
          act();
          if (!cancelled) cancel = after(ms, turn);
        };
        cancel = after(ms, turn);
        return () => {
          cancelled = true;
          cancel();
        };
      },
      soon: (act) => this.deliver(random.next() * 0.05, 'soon', act),
      newId: () => `${name}-${(ids += 1)}`,
      randomHex: (bytes) =>
        Array.from({ length: bytes }, () => random.below(256).toString(16).padStart(2, '0')).join(''),
      random: () => random.next(),
    };
  }

  get alive(): boolean {
    return this.#alive;
  }

  get heldBack(): Step[] | null {
    return this.#heldBack;
  }

  /** Something reaches the process after `delayMs`, unless it is dead by then. */
  deliver(delayMs: number, kind: string, act: () => void): void {
    this.#scheduler.after(delayMs, kind, this, act);
  }

  /** As by SIGKILL: nothing of it happens any more. */
  kill(): void {
    this.#alive = false;
    this.#heldBack = null;
  }

  /** As by SIGSTOP: whatever falls due waits. */
  pause(): void {
    this.#heldBack ??= [];
  }

  /** As by SIGCONT: whatever has fallen due in the meantime happens now. */
  resume(): void {
    const waiting = this.#heldBack ?? [];
    this.#heldBack = null;
    this.#scheduler.release(waiting);
  }
}
