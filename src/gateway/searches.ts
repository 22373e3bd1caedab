/** Reads that are asked of the database each time: so many at once, so that they keep nobody else from it. */
import type { Ports } from '#platform/ports.ts';
import type { RequestFigures } from './request-figures.ts';
import { standingLine } from './standing-line.ts';

export type SearchesOptions = {
  readonly ports: Ports;
  readonly atOnceMax: number;
  readonly waitingMax: number;
  /** How long one may wait for the others before some are turned away; 0: nobody is, but for `waitingMax`. */
  readonly waitMs: number;
  readonly figures: Pick<RequestFigures, 'searching' | 'shed'>;
};

export type Searches = {
  /** Resolves to what `work` does, when it is its turn; null at once: too many are waiting already. */
  run<T>(work: () => Promise<T>): Promise<T> | null;
};

const patienceMs = 500;

export function createSearches({ ports, atOnceMax, waitingMax, waitMs, figures }: SearchesOptions): Searches {
  const waiting = new Set<{ readonly sinceMs: number; go(): void }>();
  const line = standingLine(patienceMs);
  let underWay = 0;

  /** The one at the head has come first. */
  const isTooLong = (): boolean => {
    if (waitMs === 0) return false;
    const nowMs = ports.elapsed();
    const [head] = waiting;
    const isLong = head !== undefined && nowMs - head.sinceMs > waitMs;
    line.note(isLong, nowMs, nowMs);
    return isLong && line.stands;
  };

  async function go<T>(work: () => Promise<T>): Promise<T> {
    underWay += 1;
    try {
      return await work();
    } finally {
      underWay -= 1;
      const [next] = waiting;
      if (next !== undefined) {
        waiting.delete(next);
        figures.searching = waiting.size;
        next.go();
      }
    }
  }

  return {
    run<T>(work: () => Promise<T>) {
      const tooLong = isTooLong();
      if (underWay < atOnceMax) return go(work);
      if (tooLong || waiting.size >= waitingMax) {
        figures.shed.searches.reads += 1;
        return null;
      }
      return new Promise<T>((resolve) => {
        waiting.add({ sinceMs: ports.elapsed(), go: () => resolve(go(work)) });
        figures.searching = waiting.size;
      });
    },
  };
}
