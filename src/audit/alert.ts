/** Tells an address of each new divergence: in the order of the audit's log, at least once, never in anybody's way. */
import type { Feed } from '#cqrs/feed.ts';
import type { RecordedEvent } from '#cqrs/event-log.ts';
import type { Logger } from '#platform/logger.ts';
import { type Ports, sleep } from '#platform/ports.ts';
import type { Database } from '#platform/postgres.ts';
import { onlyOne } from './only-one.ts';

export type AlertOptions = {
  readonly url: string;
  /** Of the audit's log. */
  readonly feed: Feed;
  readonly database: Database;
  readonly ports: Ports;
  readonly logger: Logger;
};

/** What is sent, as JSON. */
export type Alert = {
  /** Of the event: who gets it twice knows it by this. */
  readonly id: string;
  readonly type: string;
  readonly at: string;
  readonly divergence: object;
};

const alerting: ReadonlySet<string> = new Set(['DivergenceFound', 'DivergenceReopened']);
const consumer = 'alerts-of-audit';
const batchEventsMax = 100;
const waitMs = 5_000;
const answerTimeoutMs = 10_000;
const retryFirstMs = 1_000;
const retryMaxMs = 60_000;

/**
 * Sends what is recorded from the first start on. What the address does not take with a 2xx is sent again, later and
 * later, and what comes after it waits: the log is the queue, and the checkpoint moves once it is taken.
 */
export function startAlerts({ url, feed, database, ports, logger }: AlertOptions): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const reportTrouble = (error: unknown): void =>
    logger.warn({ err: error, to: new URL(url).origin }, 'an alert was not taken; it is sent again');

  /** Of several processes one sends. */
  async function follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const position = await checkpoint();
      const events = await feed.next(position, batchEventsMax, waitMs);
      for (const event of events) {
        if (signal.aborted) return;
        if (alerting.has(event.type)) await sendUntilTaken(event, signal);
        if (!signal.aborted) await moveTo(event.position);
      }
    }
  }

  async function sendUntilTaken(event: RecordedEvent, signal: AbortSignal): Promise<void> {
    for (let pauseMs = retryFirstMs; !signal.aborted; pauseMs = Math.min(pauseMs * 2, retryMaxMs)) {
      try {
        return await send(event, signal);
      } catch (error) {
        if (signal.aborted) return;
        reportTrouble(error);
        await sleep(ports, pauseMs, signal);
      }
    }
  }

  async function checkpoint(): Promise<number> {
    const ask = (): Promise<{ position: number }[]> =>
      database.query<{ position: number }>('alerted', 'select position from checkpoints where consumer = $1', [
        consumer,
      ]);
    const [known] = await ask();
    if (known !== undefined) return known.position;
    // From now on: what was found before anybody asked for alerts is in the list of divergences.
    await database.query(
      'begin alerts',
      'insert into checkpoints (consumer, position) select $1, position from log_head on conflict do nothing',
      [consumer],
    );
    return (await ask())[0]!.position;
  }

  const moveTo = (position: number): Promise<unknown> =>
    database.query('alert taken', 'update checkpoints set position = $2 where consumer = $1 and position < $2', [
      consumer,
      position,
    ]);

  async function send({ id, type, at, data }: RecordedEvent, signal: AbortSignal): Promise<void> {
    const alert: Alert = { id, type, at, divergence: data };
    const late = new AbortController();
    const cancel = ports.after(answerTimeoutMs, () => late.abort(new Error(`no answer within ${answerTimeoutMs} ms`)));
    try {
      const answer = await fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(alert),
        signal: AbortSignal.any([late.signal, signal]),
      });
      await answer.body?.cancel();
      if (!answer.ok) throw new Error(`it answers ${answer.status}`);
    } finally {
      cancel();
    }
  }

  const following = onlyOne({ database, name: consumer, ports, signal: stopping.signal, reportTrouble }, follow);
  return {
    async stop() {
      stopping.abort();
      feed.interrupt();
      await following;
    },
  };
}
