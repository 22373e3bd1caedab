/**
 * A consumer applies the events of one source, in order, and keeps its checkpoint in the transaction
 * of the effect: whatever crashes in between, each event has its effect once. Moving the checkpoint
 * compares it with the position that the batch began at, so a worker that was overtaken changes nothing.
 */
import { type Ports, sleep, timeNow } from '#platform/ports.ts';
import type { Positions } from './consistency-token.ts';
import { isEngineError } from './errors.ts';
import type { Feed } from './feed.ts';
import { Progress } from './progress.ts';

export type Consumer = {
  /** `<what>-of-<source>`. */
  readonly name: string;
  readonly source: string;
  /** How far the effects reach. */
  readonly progress: Progress;
  /** The last position known of the source. */
  head(): number;
  /** Resolves once it knows its checkpoint, and goes on from there; not, as long as something stands in the way. */
  readonly begun: Promise<void>;
  /** When the first event was recorded that is not applied yet; null: there is none. Reads it, from the log if need be. */
  waitingSince(): Promise<string | null>;
  /** Since when, and on what, the consumer has been failing; null: it is not. */
  trouble(): { readonly since: string; readonly message: string } | null;
  /** Why it takes no events, of its own accord or because an operator said so; null: it takes them. */
  paused(): string | null;
  /** How many messages are parked, as far as known. */
  parked(): number;
  /** The first message that is parked of each stream that waits. Known before `progress` has passed it. */
  firstParked(): readonly StreamHead[];
  /** Has it look at once at what operators have decided, and try at once what it has been failing on. */
  wake(): void;
  /** Stops after the batch under way. */
  stop(): Promise<void>;
};

export type StreamHead = { readonly stream: string; readonly position: number };

/** A stream that waits at a consumer, behind the message that this could not apply. */
export type ParkedStream = { readonly stream: string; readonly deadLetter: string };

/**
 * The streams that wait at `consumers` behind a message which `positions` include; without these, all that wait.
 *
 * Promises:
 * - of the streams that wait those are told whose first message the positions include
 */
export const parkedStreams = (
  consumers: readonly Pick<Consumer, 'name' | 'source' | 'firstParked'>[],
  positions?: Positions,
): ParkedStream[] =>
  consumers.flatMap(({ name, source, firstParked }) =>
    firstParked()
      .filter(({ position }) => positions === undefined || position <= (positions[source] ?? 0))
      .map(({ stream, position }) => ({ stream, deadLetter: `${name}-${position}` })),
  );

/** Told of every failure; the consumer tries again by itself. */
export type ReportTrouble = (consumer: string, error: unknown) => void;

/** How many events a consumer asks of its feed at once, and how long it waits for the first. */
export const batchEventsMax = 500;
export const waitForEventsMs = 5_000;
const retryFirstMs = 50;
const retryMaxMs = 5_000;

/** Steps for ever; after a failure reads the checkpoint again and goes on from there, with back-off. */
export function startConsumer(options: {
  readonly name: string;
  readonly feed: Feed;
  readonly ports: Ports;
  readonly reportTrouble: ReportTrouble;
  start(): Promise<number>;
  step(): Promise<number>;
  /** Of a consumer that parks what it cannot apply. */
  paused?(): string | null;
  parked?(): number;
  firstParked?(): readonly StreamHead[];
  wake?(): void;
}): Consumer {
  const { ports } = options;
  const progress = new Progress(0, ports);
  let trouble: { since: string; message: string } | null = null;
  const stopping = new AbortController();
  let woken = new AbortController();

  const begun = Promise.withResolvers<void>();

  async function loop(): Promise<void> {
    let started = false;
    let pauseMs = retryFirstMs;
    while (!stopping.signal.aborted) {
      try {
        if (!started) progress.restart(await options.start());
        started = true;
        begun.resolve();
        progress.advance(await options.step());
        pauseMs = retryFirstMs;
        trouble = null;
      } catch (error) {
        started = false;
        // Another worker has taken over: nothing is wrong, its progress is ours.
        if (isEngineError(error, 'consumer-fenced')) continue;
        trouble ??= { since: timeNow(ports), message: '' };
        trouble.message = error instanceof Error ? error.message : String(error);
        options.reportTrouble(options.name, error);
        await sleep(ports, pauseMs, woken.signal);
        if (woken.signal.aborted) woken = new AbortController();
        pauseMs = Math.min(pauseMs * 2, retryMaxMs);
      }
    }
  }

  function wake(): void {
    woken.abort();
    options.wake?.();
    options.feed.interrupt();
  }

  const head = (): number => Math.max(options.feed.knownHead(), progress.position);
  const running = loop();
  return {
    name: options.name,
    source: options.feed.source,
    progress,
    head,
    async waitingSince() {
      const { position } = progress;
      if (head() <= position) return null;
      const [next] = await options.feed.next(position, 1, 0);
      return next?.at ?? null;
    },
    begun: begun.promise,
    trouble: () => trouble,
    paused: () => options.paused?.() ?? null,
    parked: () => options.parked?.() ?? 0,
    firstParked: () => options.firstParked?.() ?? [],
    wake,
    async stop() {
      stopping.abort();
      wake();
      await running;
    },
  };
}
