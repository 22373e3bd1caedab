/** What operators are offered of the system that runs here: figures, dead letters, rebuilds, and whether it is ready. */
import type { CommandServiceName, RunningService } from '#contracts/service.ts';
import type { Route } from '#contracts/routes.ts';
import type { CommandBus } from '#cqrs/command-bus.ts';
import type { Consumer } from '#cqrs/consumer.ts';
import { postgresParkedMessages } from '#cqrs/postgres-parked-messages.ts';
import type { Readiness } from '#gateway/health.ts';
import type { LiveStreams } from '#gateway/live-streams.ts';
import type { RequestFigures } from '#gateway/request-figures.ts';
import { deadLetterRoutes, type DeadLettersOptions } from '#operations/dead-letters.ts';
import type { Freshness } from '#operations/freshness.ts';
import { createJobs, jobRoute, type Jobs } from '#operations/jobs.ts';
import { keptAnswers } from '#operations/kept-answers.ts';
import { createMetrics } from '#operations/metrics.ts';
import { createRebuilds } from '#operations/rebuilds.ts';
import { createTopology, type RunningPart } from '#operations/topology.ts';
import { sleep, systemPorts } from '#platform/ports.ts';
import type { Database } from '#platform/postgres.ts';
import { type ReadModels, rebuildInProcess } from '#services/queries/service.ts';
import type { Auditing } from './auditing.ts';
import { commandServices, listensTo, type ServiceName, sourceOf } from './service-map.ts';
import type { SystemOptions } from './system.ts';

type OperatingOptions = {
  readonly system: SystemOptions;
  readonly databases: ReadonlyMap<ServiceName, Database>;
  readonly running: ReadonlyMap<CommandServiceName, RunningService>;
  readonly buses: ReadonlyMap<CommandServiceName, CommandBus>;
  /** Null: the query service does not run here. */
  readonly readModels: ReadModels | null;
  readonly readSide: readonly Consumer[];
  /** Null: the audit does not run here. */
  readonly audit: Auditing | null;
  readonly freshness: Freshness;
  readonly figures: RequestFigures;
  readonly liveStreams: LiveStreams;
  reportTrouble(who: string, error: unknown): void;
};

export type Operating = {
  readonly routes: readonly Route[];
  /** Resolves once all consumers have begun, or have had the time for it. */
  begun(): Promise<void>;
  /** Prometheus text. */
  metrics(): Promise<string>;
  readiness(): Promise<Readiness>;
  stop(): Promise<void>;
};

/** What has not begun by then is no reason to keep the doors shut: /readyz says what it waits for. */
const beginTimeoutMs = 3_000;

/** Begins at once to bring read models up to date that an older version of this program has made. */
export function startOperating(options: OperatingOptions): Operating {
  const { system, databases, running, buses, readModels, readSide, audit, freshness, figures, liveStreams } = options;
  const services = [...running.values()];
  const consumers = [...services.flatMap((service) => service.consumers), ...readSide];
  /** For their checkpoints. */
  const waiting = new Set(consumers);
  for (const consumer of consumers) void consumer.begun.then(() => waiting.delete(consumer));
  const metrics = createMetrics({
    consumers,
    buses,
    timers: services.flatMap((service) => service.timers ?? []),
    cacheStats: readModels === null ? null : () => readModels.cacheStats(),
    requests: figures,
    freshness,
    liveStreams: () => liveStreams.statistics(),
    audit: audit === null ? null : () => audit.figures(),
  });
  const topology = createTopology({
    ports: systemPorts,
    parts: partsOf(options),
    freshness,
    reads: () => ({ answered: readsAnswered(figures), waiting: figures.waiting }),
  });
  const rebuilds = readModels === null ? null : startRebuilds(options, readModels);
  const jobs = [rebuilds, audit].flatMap((one) => one?.jobs ?? []);
  return {
    routes: [
      ...deadLetterRoutes(parkedIn(system.services, databases, consumers)),
      topology.route,
      ...(rebuilds?.routes ?? []),
      ...(jobs.length === 0 ? [] : [jobRoute(jobs)]),
    ],
    async begun() {
      const late = new AbortController();
      await Promise.race([
        Promise.all(consumers.map((consumer) => consumer.begun)),
        sleep(systemPorts, beginTimeoutMs, late.signal),
      ]);
      late.abort();
    },
    metrics: () => metrics.text(),
    readiness: () => readiness(databases, consumers, waiting),
    async stop() {
      topology.stop();
      await rebuilds?.stop();
    },
  };
}

function partsOf({ running, buses, readModels, readSide }: OperatingOptions): RunningPart[] {
  const commandSide = [...running].map(([name, { consumers, outside }]) => ({
    name,
    consumers,
    bus: buses.get(name)!,
    ...(outside === undefined ? {} : { outside }),
  }));
  if (readModels === null) return commandSide;
  const names = readModels.projections.map(({ name }) => name);
  return [...commandSide, { name: 'queries', consumers: readSide, readModels: names }];
}

/** What operators ask about the system itself is answered by no read model. */
const readsAnswered = (figures: RequestFigures): number =>
  figures
    .answered()
    .filter(({ method, route }) => method === 'GET' && !route.startsWith('/v1/ops/'))
    .reduce((sum, { durations }) => sum + durations.counts.reduce((counted, count) => counted + count, 0), 0);

/** Rebuilds of read models, beginning with those that an older version of this program has made. */
function startRebuilds(
  { system, databases, readSide, reportTrouble }: OperatingOptions,
  { projections }: ReadModels,
): Pick<Operating, 'routes' | 'stop'> & { readonly jobs: Jobs } {
  const database = databases.get('queries')!;
  const jobs = createJobs(database, {
    ports: systemPorts,
    reportTrouble: (job, error) => system.logger.warn({ err: error, job }, 'a job has failed'),
  });
  const rebuilds = createRebuilds({
    database,
    projections,
    consumers: readSide,
    jobs,
    answeredOnce: keptAnswers(database, systemPorts),
    ports: systemPorts,
    reportTrouble,
    rebuild: (wanted, tell, signal) =>
      rebuildInProcess(
        {
          ...wanted,
          databaseUrl: system.databaseUrl('queries'),
          logs: listensTo.queries.map((service) => ({
            service,
            source: sourceOf(service),
            databaseUrl: system.databaseUrl(service),
          })),
        },
        tell,
        signal,
      ),
  });
  const stopping = new AbortController();
  const upToDate = rebuilds.bringUpToDate(stopping.signal);
  return {
    routes: rebuilds.routes,
    jobs,
    async stop() {
      stopping.abort();
      await Promise.all([jobs.stop(), upToDate]);
    },
  };
}

/** The parked messages of the services that run here and of those whose events they hear, and of their consumers those here. */
function parkedIn(
  services: readonly ServiceName[],
  databases: ReadonlyMap<ServiceName, Database>,
  consumers: readonly Consumer[],
): DeadLettersOptions {
  const near = new Set(services.flatMap((service) => [service, ...listensTo[service]]));
  // One that this process has had migrated; where it can, one that all who answer queries share.
  const keeper = (['queries', ...commandServices] as const).find((one) => services.includes(one))!;
  const stores = new Map([...near].map((name) => [name, postgresParkedMessages(databases.get(name)!)]));
  const owners = new Map(
    [...near].flatMap((owner) =>
      listensTo[owner].map((source) => [
        owner === 'queries' ? `projections-of-${sourceOf(source)}` : `${owner}-of-${source}`,
        owner,
      ]),
    ),
  );
  return {
    ports: systemPorts,
    stores: [...stores.values()],
    storeOf(consumer) {
      const owner = owners.get(consumer);
      return owner === undefined ? null : stores.get(owner)!;
    },
    wake: (name) => consumers.find((consumer) => consumer.name === name)?.wake(),
    answeredOnce: keptAnswers(databases.get(keeper)!, systemPorts),
  };
}

async function readiness(
  databases: ReadonlyMap<ServiceName, Database>,
  consumers: readonly Consumer[],
  waiting: ReadonlySet<Consumer>,
): Promise<Readiness> {
  const reasons: string[] = [];
  await Promise.all(
    [...databases].map(async ([name, database]) => {
      await database
        .query('ping', 'select 1')
        .catch((error: Error) => reasons.push(`the database of ${name}: ${error.message}`));
    }),
  );
  for (const consumer of consumers) {
    const trouble = consumer.trouble();
    if (trouble === null && waiting.has(consumer)) reasons.push(`${consumer.name} has not begun yet`);
    if (trouble !== null) reasons.push(`${consumer.name} has been failing since ${trouble.since}: ${trouble.message}`);
  }
  const details = consumers.map((consumer) => ({
    consumer: consumer.name,
    position: consumer.progress.position,
    head: consumer.head(),
    lag: consumer.head() - consumer.progress.position,
    parked: consumer.parked(),
    paused: consumer.paused(),
  }));
  return { ready: reasons.length === 0, reasons: reasons.sort(), details };
}
