/**
 * A feed hands a consumer the events of one source, in order, in batches, from a position. The direct
 * feed reads the source's log itself: from the tail in memory where the log is written in this
 * process, else from its database. A signal only wakes it; the poll is what it can rely on.
 */
import type { Client } from 'pg';
import { type Ports, sleep, systemPorts } from '#platform/ports.ts';
import type { Database, PinnedConnection } from '#platform/postgres.ts';
import type { Anchor, LogReader, RecordedEvent } from './event-log.ts';
import { listenerName, wakeChannel } from './postgres-log.ts';
import { Progress } from './progress.ts';
import type { Tail } from './tail.ts';

export type Feed = {
  readonly source: string;
  /** Up to `limit` events after `position`, without holes. Waits up to `waitMs` for the first; then none. */
  next(position: number, limit: number, waitMs: number): Promise<readonly RecordedEvent[]>;
  /** The last position heard of: what there is to catch up with, as far as is known without asking. */
  knownHead(): number;
  /** Where the source's log stands, by itself and not by what was heard of it. */
  anchor(): Promise<Anchor>;
  /** Ends the waiting of whoever waits for events. */
  interrupt(): void;
  close(): Promise<void>;
};

const pollEveryMs = 1_000;
const listenRetryMs = 1_000;

/**
 * The feed of a log that is written in this process.
 *
 * Promises:
 * - a feed gives events in order from a position, up to the limit
 * - what this process has appended is given from memory
 * - what memory does not hold any more is read from the database, and the rest from memory again
 * - what another process writes into the log is seen within a second by itself
 * - a wait ends empty after its time, and at once when it is interrupted
 */
export function localFeed(log: LogReader & { readonly tail: Tail }, ports: Ports = systemPorts): Feed {
  const heard = new Progress(0, ports);
  log.tail.onPush((events) => heard.advance(events.at(-1)!.position));
  return directFeed(
    log,
    heard,
    ports,
    (position, limit) => log.tail.after(position, limit),
    async () => {},
  );
}

/**
 * The feed of a log that another process writes. `database` is the source's.
 *
 * Promises:
 * - events come in order from a position, up to the limit
 * - whoever waits is given what happens meanwhile
 * - on PostgreSQL, a feed of another process is woken well before it looks by itself
 * - on PostgreSQL, a feed whose connection breaks listens again
 * - on PostgreSQL, a feed closes promptly, also before it listens
 */
export function remoteFeed(log: LogReader, database: Database): Feed {
  const heard = new Progress();
  let closed = false;
  let connection: PinnedConnection | null = null;

  async function listen(): Promise<void> {
    while (!closed) {
      const pinned = await database.pin({ limited: true }).catch(() => null);
      if (closed) return pinned?.release();
      if (pinned !== null) {
        connection = pinned;
        const broken = new Promise<void>((resolve) =>
          pinned.client.once('end', resolve).once('error', () => resolve()),
        );
        pinned.client.on(
          'notification',
          () =>
            void log.head().then(
              (head) => heard.advance(head),
              () => {},
            ),
        );
        await pinned
          .query('listener', `select set_config('application_name', $1, false)`, [listenerName])
          .catch(() => {});
        await pinned.client.query(`listen ${wakeChannel}`).catch(() => {});
        await broken;
        connection = null;
        pinned.release(true);
      }
      if (!closed) await sleep(systemPorts, listenRetryMs);
    }
  }
  void listen();

  return directFeed(
    log,
    heard,
    systemPorts,
    () => null,
    async () => {
      closed = true;
      await (connection?.client as unknown as Client | undefined)?.end();
    },
  );
}

function directFeed(
  log: LogReader,
  heard: Progress,
  ports: Ports,
  fromMemory: (position: number, limit: number) => RecordedEvent[] | null,
  close: () => Promise<void>,
): Feed {
  let asked = false;
  let interrupts = 0;
  let polledMs = -Infinity;
  let polling: Promise<void> | null = null;

  /** One question for all who wait: an idle system has a dozen of them at four logs. */
  async function poll(): Promise<void> {
    if (ports.elapsed() - polledMs < pollEveryMs / 2) return;
    polling ??= log
      .head()
      .then((head) => heard.advance(head))
      .finally(() => {
        polledMs = ports.elapsed();
        polling = null;
      });
    await polling;
  }

  /** Resolves once there is something after `position`, when the time is over, or when it is interrupted. */
  async function wait(position: number, waitMs: number): Promise<void> {
    const untilMs = ports.elapsed() + waitMs;
    const interruptsBefore = interrupts;
    while (heard.position <= position && interrupts === interruptsBefore) {
      const leftMs = untilMs - ports.elapsed();
      if (leftMs <= 0) return;
      // Another process may write this log without our hearing of it.
      if (!(await heard.reach(position + 1, Math.min(leftMs, pollEveryMs)))) await poll();
    }
  }

  return {
    source: log.source,
    knownHead: () => heard.position,
    anchor: () => log.anchor(),
    interrupt() {
      interrupts += 1;
      heard.release();
    },
    close,

    async next(position, limit, waitMs) {
      const remembered = fromMemory(position, limit);
      if (remembered !== null && remembered.length > 0) {
        heard.advance(remembered.at(-1)!.position);
        return remembered;
      }
      if (!asked) {
        heard.advance(await log.head());
        asked = true;
      }
      if (waitMs > 0) {
        await wait(position, waitMs);
        if (heard.position <= position) return [];
        const fresh = fromMemory(position, limit);
        if (fresh !== null && fresh.length > 0) return fresh;
      }
      const events = await log.read(position, limit);
      if (events.length > 0) heard.advance(events.at(-1)!.position);
      return events;
    },
  };
}
