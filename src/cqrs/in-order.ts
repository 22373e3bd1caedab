/** An at-least-once bus may double, delay and reorder: what a consumer takes of a delivery is what comes next. */
import type { RecordedEvent } from './event-log.ts';

/** How long a consumer waits before it asks again, when nothing of a delivery comes next. */
export const askAgainMs = 20;

/**
 * Of `events` those that follow `position` without a hole, in order, each once.
 *
 * Promises:
 * - a hole ends the delivery
 * - what was applied already is dropped, and so is what comes twice
 * - whatever the bus makes of a log, what is taken is the next of it
 */
export function inOrder(events: readonly RecordedEvent[], position: number): readonly RecordedEvent[] {
  if (events.every((event, n) => event.position === position + n + 1)) return events;
  const next: RecordedEvent[] = [];
  for (const event of events.toSorted((a, b) => a.position - b.position)) {
    const expected = position + next.length + 1;
    if (event.position > expected) break;
    if (event.position === expected) next.push(event);
  }
  return next;
}
