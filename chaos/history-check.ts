/** Checks a history in two ways that know nothing of each other: by the order of the log, and by search. */
import { byStream, type HistoryLine } from './history.ts';
import { linearize } from './linearizability.ts';
import { contradictions } from './log-order.ts';
import { modelOf } from './stream-models.ts';

export type HistoryVerdict = {
  readonly streams: number;
  readonly operations: number;
  /** What does not hold, in words. */
  readonly found: readonly string[];
  /** Of the search, over all streams. */
  readonly steps: number;
};

export function checkHistory(lines: readonly HistoryLine[]): HistoryVerdict {
  const found: string[] = [];
  let steps = 0;
  const histories = byStream(lines);
  for (const history of histories) {
    found.push(...contradictions(history));
    const { stream, operations } = history;
    const verdict = linearize(operations, modelOf(stream));
    steps += verdict.steps;
    if (verdict.linearizable === null) found.push(`${stream}: no order found within ${verdict.steps} steps`);
    if (verdict.linearizable === false) {
      const { stuck, order } = verdict;
      found.push(
        `${stream} has no order: after ${order.length} of ${operations.length} operations there is no place for ` +
          `${stuck.operation} ${stuck.value} (${stuck.id}), which ended ${JSON.stringify(stuck.outcome)}`,
      );
    }
  }
  const operations = histories.reduce((sum, history) => sum + history.operations.length, 0);
  return { streams: histories.length, operations, found, steps };
}
