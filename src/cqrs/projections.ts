/** Runs the projections of a read database: one transaction per batch for all of them. */
import { type Ports, systemPorts } from '#platform/ports.ts';
import type { Database } from '#platform/postgres.ts';
import { batchEventsMax, type Consumer, type ReportTrouble, startConsumer, waitForEventsMs } from './consumer.ts';
import { EngineError } from './errors.ts';
import type { Feed } from './feed.ts';
import type { Projection } from './projection.ts';

/** Runs those projections of the read database that fold the log of `feed`. One transaction per batch for all of them. */
export function startProjections(options: {
  readonly feed: Feed;
  readonly ports?: Ports;
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

  return startConsumer({
    ports: options.ports ?? systemPorts,
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
