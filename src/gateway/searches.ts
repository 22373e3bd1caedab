/** Reads that are asked of the database each time: so many at once, so that they keep nobody else from it. */
import type { Ports } from '#platform/ports.ts';
import type { RequestFigures } from './request-figures.ts';
import { patienceMs, standingLine } from './standing-line.ts';

export type SearchesOptions = {
  readonly ports: Ports;
  readonly atOnceMax: number;
  readonly waitingMax: number;
  /** How long one may wait for the others before some are turned away; 0: nobody is, but for `waitingMax`. */
  readonly waitMs: number;
  readonly figures: Pick<RequestFigures, 'searching' | 'shed'>;
};

export type Searches = {
  /** Resolves to what `work` does, when it is its turn. Null, at once or later: it would wait for too long. */
  run<T>(work: () => Promise<T>): Promise<T | null> | null;
};

/** As with commands: one that is let in waits for a free place, and then for the database. */
const waitTarget = 10;

export function createSearches({ ports, atOnceMax, waitingMax, waitMs, figures }: SearchesOptions): Searches {
  const waiting = new Set<{ readonly sinceMs: number; go(): void; giveUp(): void }>();
  const line = standingLine();
  let underWay = 0;

  /** The one at the head has come first. */
  const isTooLong = (): boolean => {
    if (waitMs === 0) return false;
    const nowMs = ports.elapsed();
    const [head] = waiting;
    const isLong = head !== undefined && nowMs - head.sinceMs > waitMs * waitTarget;
    line.note(isLong, nowMs, nowMs);
    return isLong && line.stands;
  };

  async function go<T>(work: () => Promise<T>): Promise<T> {
    underWay += 1;
    try {
      return await work();
    } finally {
      underWay -= 1;
      const tooLong = isTooLong();
      for (const next of waiting) {
        waiting.delete(next);
        // Of a line that stands, its beginning is what nobody needs any more.
        if (!tooLong || ports.elapsed() - next.sinceMs <= patienceMs) {
          next.go();
          break;
        }
        figures.shed.searches.reads += 1;
        next.giveUp();
      }
      figures.searching = waiting.size;
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
      return new Promise<T | null>((resolve) => {
        waiting.add({ sinceMs: ports.elapsed(), go: () => resolve(go(work)), giveUp: () => resolve(null) });
        figures.searching = waiting.size;
      });
    },
  };
}
