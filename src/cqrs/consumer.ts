/**
 * Consumers apply the events of a log, in order, from their checkpoint. The checkpoint moves in the
 * transaction of the effect and only from its old value: at-least-once delivery becomes an
 * exactly-once effect, and a worker that was overtaken changes nothing.
 */
import type { Database } from '#platform/postgres.ts';
import type { CommandBus, Scope, StreamRef } from './command-bus.ts';
import { EngineError, isEngineError } from './errors.ts';
import type { EventLog, RecordedEvent } from './event-log.ts';
import type { Feed } from './feed.ts';
import { Progress } from './progress.ts';
import type { Projection } from './projection.ts';

/** What a service does about one type of another service's events: commands on its own streams. */
export type Reaction = {
  reads(event: RecordedEvent<never>): readonly StreamRef[];
  react(event: RecordedEvent<never>, scope: Scope): void;
};
export type Reactions = Readonly<Record<string, Reaction>>;

export type Consumer = {
  /** `<what>-of-<source>`. */
  readonly name: string;
  readonly source: string;
  /** How far the effects reach. */
  readonly progress: Progress;
  /** The last position known of the source. */
  head(): number;
  /** Since when, and on what, the consumer has been failing; null: it is not. */
  trouble(): { readonly since: string; readonly message: string } | null;
  /** Stops after the batch under way. */
  stop(): Promise<void>;
};

/** Told of every failure; the consumer tries again by itself. */
export type ReportTrouble = (consumer: string, error: unknown) => void;

const batchEventsMax = 500;
const waitForEventsMs = 5_000;
const retryFirstMs = 50;
const retryMaxMs = 5_000;
/** A checkpoint may lag this far behind when nothing in between had an effect. */
const idleEventsMax = 1_000;

/** Runs `reactions` to the events of `feed` through the service's own command bus. */
export function startReactions(options: {
  readonly name: string;
  readonly feed: Feed;
  readonly log: EventLog;
  readonly bus: CommandBus;
  readonly reactions: Reactions;
  readonly reportTrouble: ReportTrouble;
}): Consumer {
  const { name, feed, log, bus, reactions } = options;
  let stored = 0;
  let position = 0;

  return startLoop({
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

/** Runs those projections of the read database that fold the log of `feed`. One transaction per batch for all of them. */
export function startProjections(options: {
  readonly feed: Feed;
  readonly database: Database;
  readonly projections: readonly Projection[];
  /** Called before going on from a checkpoint that was read anew: rows may have changed without the hooks of `apply`. */
  readonly onResume: () => void;
  readonly reportTrouble: ReportTrouble;
}): Consumer {
  const { feed, database } = options;
  const service = feed.source.slice(0, feed.source.indexOf('.'));
  const projections = options.projections.filter((projection) => projection.services.includes(service));
  const consumerOf = (projection: Projection): string => `${projection.name}-of-${feed.source}`;
  const positions = new Map<Projection, number>();
  const slowest = (): number => Math.min(...projections.map((projection) => positions.get(projection) ?? 0));

  return startLoop({
    name: `projections-of-${feed.source}`,
    feed,
    reportTrouble: options.reportTrouble,
    async start() {
      const names = projections.map(consumerOf);
      await database.query(
        'open checkpoints',
        'insert into checkpoints (consumer, position) select unnest($1::text[]), 0 on conflict do nothing',
        [names],
      );
      const rows = await database.query<{ consumer: string; position: number }>(
        'checkpoints',
        'select consumer, position from checkpoints where consumer = any($1)',
        [names],
      );
      for (const projection of projections) {
        positions.set(projection, rows.find((row) => row.consumer === consumerOf(projection))?.position ?? 0);
      }
      options.onResume();
      return slowest();
    },
    async step() {
      // A projection that lags (a new one) catches up alone; from then on all go together.
      const from = slowest();
      const together = projections.filter((projection) => positions.get(projection) === from);
      const ahead = projections.flatMap((projection) =>
        positions.get(projection)! > from ? [positions.get(projection)! - from] : [],
      );
      const events = await feed.next(from, Math.min(batchEventsMax, ...ahead), waitForEventsMs);
      const last = events.at(-1);
      if (last === undefined) return from;
      const afterCommit = await database.transaction(async (sql) => {
        const moved = await sql.query(
          'move checkpoints',
          'update checkpoints set position = $1 where consumer = any($2) and position = $3 returning consumer',
          [last.position, together.map(consumerOf), from],
        );
        if (moved.length !== together.length) {
          throw new EngineError(
            'consumer-fenced',
            `the checkpoints of the projections of ${feed.source} have been moved by another worker`,
          );
        }
        // All have come to an end before the transaction does: none writes on after it was rolled back.
        const applied = await Promise.allSettled(together.map((projection) => projection.apply(service, events, sql)));
        return applied.map((one) => {
          if (one.status === 'rejected') throw one.reason;
          return one.value;
        });
      });
      for (const hook of afterCommit) hook?.();
      for (const projection of together) positions.set(projection, last.position);
      return slowest();
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

/** Steps for ever; after a failure reads the checkpoint again and goes on from there, with back-off. */
function startLoop(options: {
  readonly name: string;
  readonly feed: Feed;
  readonly reportTrouble: ReportTrouble;
  start(): Promise<number>;
  step(): Promise<number>;
}): Consumer {
  const progress = new Progress();
  let trouble: { since: string; message: string } | null = null;
  let stopping = false;
  let interrupt = (): void => {};
  const interrupted = new Promise<void>((resolve) => {
    interrupt = resolve;
  });

  async function loop(): Promise<void> {
    let started = false;
    let pauseMs = retryFirstMs;
    while (!stopping) {
      try {
        if (!started) progress.restart(await options.start());
        started = true;
        progress.advance(await options.step());
        pauseMs = retryFirstMs;
        trouble = null;
      } catch (error) {
        started = false;
        // Another worker has taken over: nothing is wrong, its progress is ours.
        if (isEngineError(error, 'consumer-fenced')) continue;
        trouble ??= { since: new Date().toISOString(), message: '' };
        trouble.message = error instanceof Error ? error.message : String(error);
        options.reportTrouble(options.name, error);
        await Promise.race([new Promise((resolve) => setTimeout(resolve, pauseMs)), interrupted]);
        pauseMs = Math.min(pauseMs * 2, retryMaxMs);
      }
    }
  }

  const running = loop();
  return {
    name: options.name,
    source: options.feed.source,
    progress,
    head: () => Math.max(options.feed.knownHead(), progress.position),
    trouble: () => trouble,
    async stop() {
      stopping = true;
      interrupt();
      options.feed.interrupt();
      await running;
    },
  };
}
