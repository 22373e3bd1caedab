/**
 * A follower hears the newest events of one source while somebody listens, without a checkpoint: it
 * begins with what is new, and whoever wants what came before reads the log.
 */
import { type Ports, sleep, systemPorts } from '#platform/ports.ts';
import { batchEventsMax, type ReportTrouble, waitForEventsMs } from './consumer.ts';
import type { RecordedEvent } from './event-log.ts';
import type { Feed } from './feed.ts';
import { askAgainMs, inOrder } from './in-order.ts';
import { Progress } from './progress.ts';

export type Follower = {
  readonly source: string;
  /** Up to where events have been delivered. */
  readonly progress: Progress;
  /** Counts one more listener. Resolves once all that comes after `progress` will be delivered; rejects when that cannot be known. */
  enter(): Promise<void>;
  /** Once for each `enter`, also for one that has rejected. With the last listener the following ends. */
  leave(): void;
  stop(): Promise<void>;
};

const retryFirstMs = 50;
const retryMaxMs = 5_000;

/**
 * Follows `feed` from `start()` on. `deliver` is given the events after `progress`, without holes, and
 * advances it, in the same turn in which it hands them on: a listener that compares positions misses none.
 *
 * Promises:
 * - whoever is cut off again and again loses nothing, and sees nothing twice
 * - a stream goes on after the server has been stopped and started
 * - a process that only answers queries streams what others write
 */
export function createFollower(options: {
  readonly feed: Feed;
  readonly ports?: Ports;
  start(): number | Promise<number>;
  deliver(events: readonly RecordedEvent[], progress: Progress): void | Promise<void>;
  readonly reportTrouble: ReportTrouble;
}): Follower {
  const { feed, deliver, ports = systemPorts } = options;
  const progress = new Progress(0, ports);
  const stopping = new AbortController();
  let listeners = 0;
  let starting: Promise<void> | null = null;
  let running = false;
  let following: Promise<void> = Promise.resolve();

  async function follow(): Promise<void> {
    running = true;
    let pauseMs = retryFirstMs;
    while (listeners > 0 && !stopping.signal.aborted) {
      try {
        const events = await feed.next(progress.position, batchEventsMax, waitForEventsMs);
        const fresh = inOrder(events, progress.position);
        if (fresh.length > 0) await deliver(fresh, progress);
        else if (events.length > 0) await sleep(ports, askAgainMs, stopping.signal);
        pauseMs = retryFirstMs;
      } catch (error) {
        options.reportTrouble(`streams-of-${feed.source}`, error);
        await sleep(ports, pauseMs, stopping.signal);
        pauseMs = Math.min(pauseMs * 2, retryMaxMs);
      }
    }
    running = false;
  }

  async function begin(): Promise<void> {
    progress.advance(await options.start());
    following = follow();
  }

  return {
    source: feed.source,
    progress,
    async enter() {
      listeners += 1;
      if (running) return;
      starting ??= begin().finally(() => {
        starting = null;
      });
      await starting;
    },
    leave() {
      listeners -= 1;
    },
    async stop() {
      stopping.abort();
      progress.release();
      feed.interrupt();
      await following;
    },
  };
}
