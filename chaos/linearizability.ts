/**
 * Whether a history is linearisable: whether its operations can be put into one order that a sequential
 * model agrees with, and in which whatever ended before something else began comes first. The search is
 * that of Wing and Gong (1993) with the memory of visited states that Lowe (2017) added; it knows no
 * versions of a log, only what clients saw.
 */

export type Interval = {
  readonly invoked: number;
  /** Infinity: it may take effect at any time from then on, or never. */
  readonly ended: number;
};

export type Model<State, Operation> = {
  readonly initial: State;
  /** The state after `operation` with the outcome that it had; null: it cannot have had that outcome here. */
  step(state: State, operation: Operation): State | null;
  /** The same text for equal states. */
  nameOf(state: State): string;
};

export type Verdict<Operation> =
  | { readonly linearizable: true; readonly order: readonly Operation[]; readonly steps: number }
  /** `stuck`: none of the orders tried has a place for this operation after the longest beginning found, `order`. */
  | {
      readonly linearizable: false;
      readonly order: readonly Operation[];
      readonly stuck: Operation;
      readonly steps: number;
    }
  /** The search was given up after so many steps. */
  | { readonly linearizable: null; readonly steps: number };

/** A place in the history: where an operation begins, or where it ends. Those that are put in order are taken out of the list. */
type Entry<Operation> = {
  readonly operation: Operation;
  readonly index: number;
  /** The end of a beginning; null for an end, and for a beginning without one. */
  end: Entry<Operation> | null;
  readonly begins: boolean;
  readonly time: number;
  before: Entry<Operation> | null;
  after: Entry<Operation> | null;
};

/** Searches for an order of `operations`, at most `stepsMax` steps. */
export function linearize<State, Operation extends Interval>(
  operations: readonly Operation[],
  model: Model<State, Operation>,
  stepsMax = 2_000_000,
): Verdict<Operation> {
  const start = listOf(operations);
  let endsLeft = operations.filter(({ ended }) => ended !== Infinity).length;
  const seen = new Set<string>();
  const taken: { readonly entry: Entry<Operation>; readonly state: State; readonly done: bigint }[] = [];
  let [state, done] = [model.initial, 0n];
  let longest: readonly Operation[] = [];
  let stuck: Operation | undefined;
  let entry = start.after;

  let steps = 0;
  for (; endsLeft > 0; steps += 1) {
    if (steps >= stepsMax) return { linearizable: null, steps };
    if (entry?.begins === true) {
      const next = model.step(state, entry.operation);
      const doneNext = done | (1n << BigInt(entry.index));
      const place = next === null ? '' : `${doneNext.toString(36)} ${model.nameOf(next)}`;
      if (next === null || seen.has(place)) {
        entry = entry.after;
        continue;
      }
      seen.add(place);
      taken.push({ entry, state, done });
      [state, done] = [next, doneNext];
      if (entry.end !== null) endsLeft -= 1;
      takeOut(entry);
      entry = start.after;
      continue;
    }
    // Something ended that has no place yet: what was put before it last was wrong.
    if (stuck === undefined || taken.length > longest.length) {
      longest = taken.map((one) => one.entry.operation);
      stuck = entry!.operation;
    }
    const last = taken.pop();
    if (last === undefined) return { linearizable: false, order: longest, stuck, steps };
    ({ state, done } = last);
    if (last.entry.end !== null) endsLeft += 1;
    putBack(last.entry);
    entry = last.entry.after;
  }
  return { linearizable: true, order: taken.map((one) => one.entry.operation), steps };
}

/** The head of a list of all beginnings and ends in the order of time; of those at one time beginnings come first. */
function listOf<Operation extends Interval>(operations: readonly Operation[]): Entry<Operation> {
  const head = { index: -1, begins: false, time: -Infinity, end: null, before: null, after: null } as const;
  const entries = operations.flatMap((operation, index): Entry<Operation>[] => {
    const shared = { operation, index, before: null, after: null };
    const end = operation.ended === Infinity ? null : { ...shared, begins: false, time: operation.ended, end: null };
    const begin = { ...shared, begins: true, time: operation.invoked, end };
    return end === null ? [begin] : [begin, end];
  });
  entries.sort((a, b) => a.time - b.time || Number(b.begins) - Number(a.begins));
  const start = { ...head } as unknown as Entry<Operation>;
  let last = start;
  for (const entry of entries) {
    [entry.before, last.after] = [last, entry];
    last = entry;
  }
  return start;
}

function takeOut<Operation>(entry: Entry<Operation>): void {
  for (const one of [entry, entry.end]) {
    if (one === null) continue;
    one.before!.after = one.after;
    if (one.after !== null) one.after.before = one.before;
  }
}

/** In the reverse order of taking out: each finds its neighbours where they were. */
function putBack<Operation>(entry: Entry<Operation>): void {
  for (const one of [entry.end, entry]) {
    if (one === null) continue;
    one.before!.after = one;
    if (one.after !== null) one.after.before = one;
  }
}
