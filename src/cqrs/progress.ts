/** How far something has come in a log, and who waits for it to come further. Waiters are woken, not polled. */
import { type Ports, systemPorts } from '#platform/ports.ts';

const waitersMax = 10_000;

type Waiter = { readonly position: number; readonly done: (reached: boolean) => void };

/**
 * Where something has come to.
 *
 * Promises:
 * - progress only grows
 * - whoever waits is woken as soon as the position is reached, and no earlier
 * - a wait ends unreached after its time
 * - when too many wait already, one more is told at once
 * - progress that begins anew further back is not reached until it has come there again
 */
export class Progress {
  readonly #ports: Ports;
  #position: number;
  #waiters = new Set<Waiter>();
  readonly #onWait = new Set<() => void>();

  constructor(position = 0, ports: Ports = systemPorts) {
    this.#position = position;
    this.#ports = ports;
  }

  get position(): number {
    return this.#position;
  }

  /** Positions only grow; an older one is ignored. */
  advance(position: number): void {
    if (position <= this.#position) return;
    this.#position = position;
    for (const waiter of this.#waiters) if (waiter.position <= position) waiter.done(true);
  }

  /** Begins anew at `position`, which may be an earlier one: a database that has lost its last commits goes back. */
  restart(position: number): void {
    this.#position = Math.min(this.#position, position);
    this.advance(position);
  }

  /** Lets go of everyone who waits, unreached. */
  release(): void {
    for (const waiter of this.#waiters) waiter.done(false);
  }

  /** Calls `act` when somebody begins to wait, and at once when somebody does. Returns what ends that. */
  onWait(act: () => void): () => void {
    this.#onWait.add(act);
    if (this.#waiters.size > 0) act();
    return () => this.#onWait.delete(act);
  }

  /** Resolves to true once `position` is reached, or to false after `waitMs`, or at once when too many wait already. */
  reach(position: number, waitMs: number): Promise<boolean> {
    if (this.#position >= position) return Promise.resolve(true);
    if (waitMs <= 0 || this.#waiters.size >= waitersMax) return Promise.resolve(false);
    return new Promise((resolve) => {
      const waiter: Waiter = {
        position,
        done: (reached) => {
          cancel();
          this.#waiters.delete(waiter);
          resolve(reached);
        },
      };
      const cancel = this.#ports.after(waitMs, () => waiter.done(false));
      this.#waiters.add(waiter);
      for (const act of this.#onWait) act();
    });
  }
}

/**
 * Whether everything that `positions` names has been applied, waiting up to `waitMs`. Sources that
 * are not followed here have nothing to say about what is shown here.
 *
 * Promises:
 * - all positions are reached when each of the sources that are followed has come so far
 * - a source that is not followed has nothing to say
 */
export async function reachAll(
  positions: Readonly<Record<string, number>>,
  followed: ReadonlyMap<string, { reach(position: number, waitMs: number): Promise<boolean> }>,
  waitMs: number,
): Promise<boolean> {
  const waits = Object.entries(positions).flatMap(([source, position]) => {
    const progress = followed.get(source);
    return progress === undefined ? [] : [progress.reach(position, waitMs)];
  });
  return waits.length === 0 || (await Promise.all(waits)).every(Boolean);
}

/**
 * For a service's commands: whether the service has applied `positions` of the logs it listens to, and
 * its own log has come that far.
 *
 * Promises:
 * - commands are caught up when what they listen to is applied, and their own log has come so far
 */
export function commandsCaughtUp(
  log: { readonly source: string; readonly tail: { readonly position: number }; head(): Promise<number> },
  consumers: readonly { readonly source: string; readonly progress: Progress }[],
): (positions: Readonly<Record<string, number>>, waitMs: number) => Promise<boolean> {
  const own = { reach: async (position: number) => log.tail.position >= position || (await log.head()) >= position };
  const followed = new Map<string, { reach(position: number, waitMs: number): Promise<boolean> }>([[log.source, own]]);
  for (const consumer of consumers) followed.set(consumer.source, consumer.progress);
  return (positions, waitMs) => reachAll(positions, followed, waitMs);
}
