/**
 * The newest events of a log, kept in memory by the process that appended them: consumers beside the
 * writer read from here instead of asking the database for what it has just been told.
 */
import type { RecordedEvent } from './event-log.ts';

/** Two to three seconds of a log that records 3,000 events a second: who is further behind has more to fear than reading. */
export const tailEventsMax = 8_192;
export const tailBytesMax = 8 * 1024 * 1024;

type Listener = (events: readonly RecordedEvent[]) => void;

export class Tail {
  #events: RecordedEvent[] = [];
  #bytes: number[] = [];
  #bytesTotal = 0;
  #listeners: Listener[] = [];

  /** Takes what was just committed; `bytes` is the size of each event. A jump in positions (another writer) starts anew. */
  push(events: readonly RecordedEvent[], bytes: readonly number[]): void {
    const first = events[0];
    if (first === undefined) return;
    const last = this.#events.at(-1);
    if (last !== undefined && first.position !== last.position + 1) {
      this.#events = [];
      this.#bytes = [];
      this.#bytesTotal = 0;
    }
    for (let n = 0; n < events.length; n += 1) {
      this.#events.push(events[n]!);
      this.#bytes.push(bytes[n]!);
      this.#bytesTotal += bytes[n]!;
    }
    this.#trim();
    for (const listener of this.#listeners) listener(events);
  }

  /** Up to `limit` events after `position`, or null when the tail does not reach back that far. */
  after(position: number, limit: number): RecordedEvent[] | null {
    const first = this.#events[0];
    if (first === undefined || position + 1 < first.position) return null;
    const from = position + 1 - first.position;
    return this.#events.slice(from, from + limit);
  }

  /** Of the last event that this process has appended; 0 before the first. */
  get position(): number {
    return this.#events.at(-1)?.position ?? 0;
  }

  onPush(listener: Listener): void {
    this.#listeners.push(listener);
  }

  /** Drops the oldest half at once, so that the cost per event stays small. */
  #trim(): void {
    while (this.#events.length > tailEventsMax || (this.#bytesTotal > tailBytesMax && this.#events.length > 1)) {
      const dropped = Math.ceil(this.#events.length / 2);
      for (const bytes of this.#bytes.slice(0, dropped)) this.#bytesTotal -= bytes;
      this.#events = this.#events.slice(dropped);
      this.#bytes = this.#bytes.slice(dropped);
    }
  }
}
