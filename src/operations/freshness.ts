/** How fresh reads are: of every event, how long it took from being recorded to being shown. */
import type { RecordedEvent } from '#cqrs/event-log.ts';
import { Durations } from '#platform/durations.ts';
import type { Ports } from '#platform/ports.ts';

export type Freshness = {
  /** By source. From the time that the event carries, by the clock of who has recorded it, hence append included. */
  readonly bySource: ReadonlyMap<string, Durations>;
  /** `events` of `source` are shown from now on. */
  shown(source: string, events: readonly RecordedEvent[]): void;
};

export function createFreshness(ports: Ports): Freshness {
  const bySource = new Map<string, Durations>();
  return {
    bySource,
    shown(source, events) {
      const now = ports.now();
      let durations = bySource.get(source);
      if (durations === undefined) bySource.set(source, (durations = new Durations()));
      // Events of one batch have been recorded at one time.
      let at = '';
      let recordedMs = 0;
      for (const event of events) {
        if (event.at !== at) recordedMs = Date.parse((at = event.at));
        durations.record(now - recordedMs);
      }
    },
  };
}
