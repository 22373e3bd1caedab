/**
 * Durations in microseconds with three digits, by name. They cross processes as counts and are added up: no percentile
 * is ever averaged.
 */
import * as perfHooks from 'node:perf_hooks';
import { createHistogram, type Histogram, type RecordableHistogram } from 'node:perf_hooks';

// Node has both; its published types do not yet.
const { importHistogram } = perfHooks as typeof perfHooks & { importHistogram(bytes: Uint8Array): RecordableHistogram };
declare module 'node:perf_hooks' {
  interface Histogram {
    export(): Uint8Array;
  }
}

/** What is recorded of a request that was never answered, and of an order that never came to its end. */
export const unansweredMs = 60_000;

/** By name. */
export type Exported = Readonly<Record<string, Uint8Array>>;

export class Latencies {
  readonly #byName = new Map<string, RecordableHistogram>();

  record(name: string, ms: number): void {
    this.#of(name).record(Math.min(Math.max(1, Math.round(ms * 1_000)), unansweredMs * 1_000));
  }

  /** Adds what another process has recorded. */
  add(exported: Exported): void {
    for (const [name, bytes] of Object.entries(exported)) this.#of(name).add(importHistogram(bytes));
  }

  /** Null where nothing was recorded. */
  of(...names: readonly string[]): Summary | null {
    const found = names.flatMap((name) => this.#byName.get(name) ?? []).filter(({ count }) => count > 0);
    if (found.length === 0) return null;
    const sum = newHistogram();
    for (const one of found) sum.add(one);
    return summaryOf(sum);
  }

  names(): readonly string[] {
    return [...this.#byName.keys()];
  }

  export(): Exported {
    return Object.fromEntries([...this.#byName].map(([name, histogram]) => [name, histogram.export()]));
  }

  /** Begins anew. */
  reset(): void {
    this.#byName.clear();
  }

  #of(name: string): RecordableHistogram {
    let histogram = this.#byName.get(name);
    if (histogram === undefined) this.#byName.set(name, (histogram = newHistogram()));
    return histogram;
  }
}

const newHistogram = (): RecordableHistogram =>
  createHistogram({ lowest: 1, highest: unansweredMs * 1_000, figures: 3 });

/** In milliseconds. */
export type Summary = {
  readonly count: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
};

function summaryOf(histogram: Histogram): Summary {
  const ms = (percentile: number): number => histogram.percentile(percentile) / 1_000;
  return { count: histogram.count, p50: ms(50), p90: ms(90), p99: ms(99), p999: ms(99.9), max: histogram.max / 1_000 };
}
