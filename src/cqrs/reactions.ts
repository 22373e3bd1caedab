/** Reactions: what a service does about the events of another, through its own command bus. */
import { type Ports, systemPorts } from '#platform/ports.ts';
import type { CommandBus, Scope, StreamRef } from './command-bus.ts';
import { batchEventsMax, type Consumer, type ReportTrouble, startConsumer, waitForEventsMs } from './consumer.ts';
import type { EventLog, RecordedEvent } from './event-log.ts';
import type { Feed } from './feed.ts';

/** What a service does about one type of another service's events: commands on its own streams. */
export type Reaction = {
  reads(event: RecordedEvent<never>): readonly StreamRef[];
  react(event: RecordedEvent<never>, scope: Scope): void;
};
export type Reactions = Readonly<Record<string, Reaction>>;

/** A checkpoint may lag this far behind when nothing in between had an effect. */
const idleEventsMax = 1_000;

/** Runs `reactions` to the events of `feed` through the service's own command bus. */
export function startReactions(options: {
  readonly name: string;
  readonly feed: Feed;
  readonly ports?: Ports;
  readonly log: EventLog;
  readonly bus: CommandBus;
  readonly reactions: Reactions;
  readonly reportTrouble: ReportTrouble;
}): Consumer {
  const { name, feed, log, bus, reactions } = options;
  let stored = 0;
  let position = 0;

  return startConsumer({
    ports: options.ports ?? systemPorts,
    name,
    feed,
    reportTrouble: options.reportTrouble,
    async start() {
      stored = await log.checkpoint(name);
      position = stored;
      return position;
    },
    async step() {
      const events = await feed.next(position, batchEventsMax, waitForEventsMs);
      const last = events.at(-1);
      if (last === undefined) return position;
      const relevant = events.filter((event) => reactions[event.type] !== undefined);
      if (relevant.length > 0 || last.position - stored >= idleEventsMax) {
        await bus.execute({
          reads: relevant.flatMap((event) => reactions[event.type]!.reads(event as never)),
          origin: { actor: name, correlationId: name, causationId: name },
          run(scope) {
            for (const event of relevant) {
              scope.because(follows(event, name));
              reactions[event.type]!.react(event as never, scope);
            }
          },
          checkpoint: { consumer: name, from: stored, to: last.position },
        });
        stored = last.position;
      }
      position = last.position;
      return position;
    },
  });
}

/** Whatever follows from an event names it as its cause and stays in its trace. */
const follows = (event: RecordedEvent, actor: string): Parameters<Scope['because']>[0] => ({
  actor,
  correlationId: event.origin.correlationId,
  causationId: event.id,
  ...(event.origin.traceparent === undefined ? {} : { traceparent: event.origin.traceparent }),
});
