/** Reactions: what a service does about the events of another, through its own command bus. */
import { failpoint } from '#platform/failpoint.ts';
import { type Ports, systemPorts } from '#platform/ports.ts';
import type { CommandBus, Scope, StreamRef } from './command-bus.ts';
import { batchEventsMax, type Consumer, type ReportTrouble, startConsumer, waitForEventsMs } from './consumer.ts';
import type { CheckpointMove, EventLog, RecordedEvent } from './event-log.ts';
import type { Feed } from './feed.ts';
import { gathering } from './gathering.ts';
import { createParking, MessageFailed } from './parking.ts';
import { assertSourceStands } from './source-epoch.ts';

/** What a service does about one type of another service's events: commands on its own streams. */
export type Reaction = {
  reads(event: RecordedEvent<never>): readonly StreamRef[];
  react(event: RecordedEvent<never>, scope: Scope): void;
};
export type Reactions = Readonly<Record<string, Reaction>>;

/** How far apart batches begin: five of them follow one another before an order has come to its end. */
const gatherMs = 15;

/**
 * Runs `reactions` to the events of `feed` through the service's own command bus. An event that no
 * reaction can take is parked with its stream; see `createParking`.
 *
 * Promises:
 * - each event has its effect once and in order, however often the consumer is stopped and started
 * - an effect whose record was not confirmed is not repeated
 * - of two workers at once each event has its effect once
 * - a worker that was overtaken changes nothing, and goes on behind the other one without trouble
 * - what follows from an event names it as its cause, and stays in its trace
 * - a message that cannot be applied is parked with its stream, and other streams flow on in order
 * - a handler that fails for all streams pauses its consumer, which parks nothing and goes on by itself
 * - a log that cannot be written is nobody’s fault: nothing is parked
 * - a retry replays a stream in order, and newer messages do not overtake it
 * - trouble is told, retried more and more slowly, and over once the events are applied
 * - events that come close to each other are reacted to together, unless somebody waits for them
 * - what cannot be read is parked at once, unless the consumer does nothing about its type anyway
 * - a consumer whose source went back applies and skips nothing, says so, and goes on once that is settled
 * - a consumer stops at once while it waits for events, and while it waits to try again
 */
export function startReactions(options: {
  readonly name: string;
  readonly feed: Feed;
  readonly ports?: Ports;
  readonly log: EventLog;
  readonly bus: CommandBus;
  readonly reactions: Reactions;
  readonly reportTrouble: ReportTrouble;
}): Consumer {
  const { name, feed, log, bus, reactions, reportTrouble } = options;
  const ports = options.ports ?? systemPorts;

  async function apply(events: readonly RecordedEvent[], checkpoint: CheckpointMove): Promise<void> {
    failpoint('reaction-deciding');
    let failed: MessageFailed | null = null;
    const guarded = <T>(event: RecordedEvent, act: () => T): T => {
      try {
        return act();
      } catch (error) {
        failed = new MessageFailed(event.position, error);
        throw error;
      }
    };
    try {
      await bus.execute({
        reads: events.flatMap((event) => guarded(event, () => reactions[event.type]!.reads(event as never))),
        origin: { actor: name, correlationId: name, causationId: name },
        run(scope) {
          for (const event of events) {
            scope.because(follows(event, name));
            guarded(event, () => reactions[event.type]!.react(event as never, scope));
          }
        },
        checkpoint,
      });
    } catch (error) {
      // What a reaction threw may have been dealt with by the bus, which then failed for another reason.
      throw failed !== null && (failed as MessageFailed).cause === error ? failed : error;
    }
    failpoint('reaction-appended');
  }

  const gathered = gathering(feed, { ports, everyMs: gatherMs, progress: () => consumer.progress });
  const consumer: Consumer = startConsumer({
    ports,
    name,
    feed: gathered,
    reportTrouble,
    ...createParking({
      consumer: name,
      feed: gathered,
      ports,
      parked: log.parked,
      reportTrouble,
      batchEventsMax,
      waitForEventsMs: () => waitForEventsMs,
      async checkpoint() {
        const position = await log.checkpoint(name);
        await assertSourceStands(feed, new Map([[name, position]]), log.rememberSource);
        return position;
      },
      concerns: (type) => Object.hasOwn(reactions, type),
      apply,
    }),
  });
  return consumer;
}

/** Whatever follows from an event names it as its cause and stays in its trace. */
const follows = (event: RecordedEvent, actor: string): Parameters<Scope['because']>[0] => ({
  actor,
  correlationId: event.origin.correlationId,
  causationId: event.id,
  ...(event.origin.traceparent === undefined ? {} : { traceparent: event.origin.traceparent }),
});
