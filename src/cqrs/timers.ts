/**
 * Durable timers. A stream's timer is a function of its state (`dueAt`), stored with it in the same
 * transaction: it cannot be lost, needs no cancelling, and a completion that came first has removed
 * it. When it is due, the service is told; what it then decides is fenced by the stream's version.
 */
import { failpoint } from '#platform/failpoint.ts';
import { type Ports, systemPorts, timeNow } from '#platform/ports.ts';
import type { DueStream, EventLog, Origin } from './event-log.ts';
import { entityOf } from './event-log.ts';
import type { ReportTrouble } from './consumer.ts';

export type Timers = {
  /** Streams that were due at the last look. */
  overdue(): number;
  stop(): Promise<void>;
};

/**
 * By stream type: what to do about an entity whose timer is due, as `origin` of what follows but for who does it: the timer goes on
 * in the trace of the event that set it. Resolves when done or under way; may be told again until `dueAt` has moved.
 */
export type WhenDue = Readonly<Record<string, (id: string, origin: Omit<Origin, 'actor'>) => Promise<void>>>;

const lookEveryMs = 500;
const dueStreamsMax = 500;

/**
 * Looks for streams that are due, and tells `whenDue`, one call per stream, all of a look at once.
 *
 * Promises:
 * - a stream is told of when it is due, and none that is not
 * - what a timer leads to follows from the event that set it, in its trace
 * - a stream whose timer was moved is not told of again, until that time has come
 * - a clock that jumps by years finds what has come due meanwhile
 * - what goes wrong with one stream is reported, and the others are told of all the same
 * - timers stop at once, but for what they have told already
 */
export function startTimers(options: {
  readonly log: EventLog;
  readonly ports?: Ports;
  readonly whenDue: WhenDue;
  readonly reportTrouble: ReportTrouble;
}): Timers {
  const { log, whenDue, ports = systemPorts } = options;
  const name = `timers-of-${log.source}`;
  let overdue = 0;
  let stopping = false;
  let wake = (): void => {};

  const tell = async ({ stream, last }: DueStream): Promise<void> => {
    const type = stream.slice(0, stream.indexOf('-'));
    const act = whenDue[type];
    if (act === undefined) throw new Error(`nobody waits for the timer of ${stream}`);
    const id = entityOf(stream);
    if (last === null) return act(id, { correlationId: id, causationId: `timer-of-${stream}` });
    const { correlationId, traceparent } = last.origin;
    await act(id, { correlationId, causationId: last.id, ...(traceparent === undefined ? {} : { traceparent }) });
  };

  async function look(): Promise<void> {
    const due = await log.due(timeNow(ports), dueStreamsMax);
    overdue = due.length;
    if (due.length > 0) failpoint('timer-due');
    const told = await Promise.allSettled(due.map(tell));
    if (told.length > 0) failpoint('timer-told');
    for (const one of told) if (one.status === 'rejected') options.reportTrouble(name, one.reason);
  }

  async function loop(): Promise<void> {
    while (!stopping) {
      await look().catch((error: unknown) => options.reportTrouble(name, error));
      await new Promise<void>((resolve) => {
        const cancel = ports.after(lookEveryMs, resolve);
        wake = () => {
          cancel();
          resolve();
        };
        if (stopping) wake();
      });
    }
  }

  const running = loop();
  return {
    overdue: () => overdue,
    async stop() {
      stopping = true;
      wake();
      await running;
    },
  };
}
