/**
 * Virtual time. Whatever happens in a simulated world is a step of one queue; the next one is the
 * earliest, and chance decides between steps of the same instant. A step has ended when every promise
 * that it has settled has been heard: the next begins with nothing left to do.
 */
import { type Random, textHash } from './random.ts';

/** Whoever a step belongs to may be held back, or be gone by the time that it is due. */
export type Owner = {
  readonly alive: boolean;
  /** Where steps go that fall due while their owner is stopped; null: it is not. */
  readonly heldBack: Step[] | null;
};

export type Step = {
  readonly atMs: number;
  readonly order: number;
  readonly kind: string;
  readonly owner: Owner | null;
  /** Null: cancelled. */
  act: (() => void) | null;
};

/** What a whole world may take, before it is said to run for ever. */
const stepsMax = 400_000;

export class Scheduler {
  #random: Random;
  /** A binary heap, the earliest first. */
  #steps: Step[] = [];
  #nowMs = 0;
  #taken = 0;
  #hash = 0x9e3779b9;
  #kinds = new Map<string, number>();

  constructor(random: Random) {
    this.#random = random;
  }

  /** Milliseconds since the beginning of the world. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** How many steps have been taken. */
  get taken(): number {
    return this.#taken;
  }

  /** Stands for the order of all that has happened: two runs of one seed have the same. */
  get traceHash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, '0');
  }

  /** Makes a happening that is no step, such as a commit, part of the trace. */
  witness(what: string): void {
    this.#mix(textHash(what));
  }

  /** Takes `act` as a step of `owner` after `delayMs`. */
  after(delayMs: number, kind: string, owner: Owner | null, act: () => void): Step {
    const step: Step = {
      atMs: this.#nowMs + Math.max(delayMs, 0),
      order: this.#random.next(),
      kind,
      owner,
      act,
    };
    this.#push(step);
    return step;
  }

  /** Puts back what was held back, all of it due at once but in its order. */
  release(steps: readonly Step[]): void {
    for (const [n, step] of steps.entries()) {
      this.#push({ ...step, atMs: this.#nowMs, order: n / (steps.length + 1), act: () => step.act?.() });
    }
  }

  /**
   * Takes steps until `done` says so, or none is left, or the next is later than `untilMs`; the clock
   * then stands at `untilMs`. Rejects with what a step throws.
   */
  run(untilMs: number, done: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      // A tick begins when the queue of microtasks has run dry. A step that is cancelled or held back costs no tick.
      const again = (): void => process.nextTick(turn);
      const turn = (): void => {
        try {
          if (this.#taken > stepsMax) throw new Error(`the world is not at rest after ${stepsMax} steps`);
          while (!done()) {
            const step = this.#steps[0];
            if (step === undefined || step.atMs > untilMs) {
              this.#nowMs = Math.max(this.#nowMs, Math.min(untilMs, step?.atMs ?? this.#nowMs));
              break;
            }
            this.#pop();
            if (!this.#take(step)) continue;
            queueMicrotask(again);
            return;
          }
          resolve();
        } catch (error) {
          reject(error);
        }
      };
      turn();
    });
  }

  #take(step: Step): boolean {
    const { act, owner } = step;
    if (act === null || owner?.alive === false) return false;
    if (owner !== null && owner.heldBack !== null) {
      owner.heldBack.push(step);
      return false;
    }
    this.#nowMs = step.atMs;
    this.#taken += 1;
    let kind = this.#kinds.get(step.kind);
    if (kind === undefined) this.#kinds.set(step.kind, (kind = textHash(step.kind)));
    this.#mix(kind ^ Math.floor(step.atMs * 1_000));
    step.act = null;
    act();
    return true;
  }

  #mix(value: number): void {
    this.#hash = Math.imul(this.#hash ^ value, 0x85ebca6b);
    this.#hash ^= this.#hash >>> 13;
  }

  #push(step: Step): void {
    const steps = this.#steps;
    let n = steps.push(step) - 1;
    while (n > 0) {
      const parent = (n - 1) >> 1;
      if (!earlier(step, steps[parent]!)) break;
      steps[n] = steps[parent]!;
      n = parent;
    }
    steps[n] = step;
  }

  #pop(): void {
    const steps = this.#steps;
    const last = steps.pop()!;
    if (steps.length === 0) return;
    let n = 0;
    for (;;) {
      let child = 2 * n + 1;
      if (child >= steps.length) break;
      if (child + 1 < steps.length && earlier(steps[child + 1]!, steps[child]!)) child += 1;
      if (!earlier(steps[child]!, last)) break;
      steps[n] = steps[child]!;
      n = child;
    }
    steps[n] = last;
  }
}

const earlier = (a: Step, b: Step): boolean => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
