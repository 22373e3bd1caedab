/**
 * The system, put together: opens databases and logs, starts the services that this process carries,
 * and mounts their routes on the gateway. Which services these are is a setting; no service knows.
 */
import type { Route } from '#contracts/routes.ts';
import { publishedEvents } from '#contracts/event-types.ts';
import type { CommandServiceName, Service, ServiceParts } from '#contracts/service.ts';
import { type CommandBus, createCommandBus } from '#cqrs/command-bus.ts';
import type { Consumer } from '#cqrs/consumer.ts';
import type { Positions } from '#cqrs/consistency-token.ts';
import type { EventLog } from '#cqrs/event-log.ts';
import { createEventTypes, type EventTypes } from '#cqrs/event-types.ts';
import { type Feed, localFeed, remoteFeed } from '#cqrs/feed.ts';
import { checkpointSchemaFolder, forgetKeys, openPostgresLog, postgresLogReader } from '#cqrs/postgres-log.ts';
import { postgresReadStore, readStoreOptions } from '#cqrs/postgres-read-store.ts';
import { postgresParkedMessages } from '#cqrs/postgres-parked-messages.ts';
import { startProjections } from '#cqrs/projections.ts';
import { reachAll } from '#cqrs/progress.ts';
import type { ReadStore } from '#cqrs/read-store.ts';
import { createLiveStreams } from '#gateway/live-streams.ts';
import { startGateway } from '#gateway/server.ts';
import { deadLetterRoutes, type DeadLettersOptions } from '#operations/dead-letters.ts';
import { createJobs, jobRoute } from '#operations/jobs.ts';
import { createMetrics } from '#operations/metrics.ts';
import { createRebuilds, type Rebuilds } from '#operations/rebuilds.ts';
import { assertDurable } from '#platform/embedded-postgres.ts';
import type { Logger } from '#platform/logger.ts';
import { systemPorts } from '#platform/ports.ts';
import { migrate } from '#platform/migrations.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import type { DatabaseOwner, Settings } from '#platform/settings.ts';
import { catalogSchema, startCatalog } from '#services/catalog/service.ts';
import { inventorySchema, startInventory } from '#services/inventory/service.ts';
import { orderingSchema, startOrdering } from '#services/ordering/service.ts';
import { createProviderClient } from '#services/payments/provider-client.ts';
import { paymentsSchema, startPayments } from '#services/payments/service.ts';
import {
  createReadModels,
  queriesSchema,
  type ReadModels,
  readsOptions,
  type ReadSide,
  rebuildInThread,
} from '#services/queries/service.ts';
import { seedDemoData } from './demo-data.ts';

export type ServiceName = DatabaseOwner;

export type SystemOptions = {
  readonly services: readonly ServiceName[];
  databaseUrl(service: ServiceName): string;
  readonly providerUrl: string;
  readonly settings: Settings;
  readonly logger: Logger;
};

export type RunningSystem = {
  /** `http://host:port`. */
  readonly address: string;
  /** Fills an empty catalogue with something to try things on. Needs all services in this process. */
  seedDemoData(): Promise<void>;
  /** Finishes what is under way, then stops everything that was started. */
  stop(): Promise<void>;
};

/** Whose logs each part listens to. */
export const listensTo: Readonly<Record<ServiceName, readonly CommandServiceName[]>> = {
  catalog: [],
  ordering: ['catalog', 'inventory', 'payments'],
  inventory: ['catalog', 'ordering'],
  payments: ['ordering'],
  queries: ['catalog', 'ordering', 'inventory', 'payments'],
};

const schemas: Readonly<Record<ServiceName, readonly URL[]>> = {
  catalog: catalogSchema,
  ordering: orderingSchema,
  inventory: inventorySchema,
  payments: paymentsSchema,
  queries: [checkpointSchemaFolder, queriesSchema],
};

const commandServices = ['catalog', 'ordering', 'inventory', 'payments'] as const;
/** One shard per service, for now: its number is part of every position that leaves the service. */
const sourceOf = (service: CommandServiceName): string => `${service}.0`;
const serviceOf = (source: string): CommandServiceName => source.slice(0, source.indexOf('.')) as CommandServiceName;
const eventTypesOf: Readonly<Record<CommandServiceName, EventTypes>> = {
  catalog: createEventTypes(publishedEvents.catalog),
  ordering: createEventTypes(publishedEvents.ordering),
  inventory: createEventTypes(publishedEvents.inventory),
  payments: createEventTypes(publishedEvents.payments),
};
const requestsUnderWayMax = 20_000;
const readConnectionsMax = 6;
/** Calls to the payment provider under way at once. */
const providerCallsMax = 256;
const forgetKeysEveryMs = 600_000;
const forgetKeysBatchMax = 20_000;

/** Starts the services; rejects with what stands in the way, having stopped what was started. */
export async function startSystem(options: SystemOptions): Promise<RunningSystem> {
  const { services, settings, logger } = options;
  const stops: (() => Promise<unknown> | void)[] = [];
  const stop = async (): Promise<void> => {
    for (const undo of stops.splice(0).reverse()) await undo();
  };
  const reportTrouble = (who: string, error: unknown): void =>
    logger.error({ err: error, who }, 'failed; will be tried again');

  try {
    const databases = await openDatabases(options, stops);
    const logs = new Map<CommandServiceName, EventLog>();
    const buses = new Map<CommandServiceName, CommandBus>();
    for (const name of commandServices.filter((service) => services.includes(service))) {
      const log = await openPostgresLog({
        database: databases.get(name)!,
        source: sourceOf(name),
        eventTypes: eventTypesOf[name],
      });
      stops.push(() => log.close());
      logs.set(name, log);
      buses.set(name, createCommandBus({ log }));
    }
    const feedOf = feeds(databases, logs, stops);
    const headOf = (other: CommandServiceName): Promise<number> =>
      (logs.get(other) ?? postgresLogReader(databases.get(other)!, sourceOf(other))).head();
    const running: Service[] = [];
    const consumers: Consumer[] = [];

    for (const [name, log] of logs) {
      const parts: ServiceParts = {
        log,
        bus: buses.get(name)!,
        ports: systemPorts,
        feedOf,
        headOf,
        reportTrouble,
      };
      const service = startService(name, parts, options);
      running.push(service);
      consumers.push(...service.consumers);
      stops.push(async () => {
        await Promise.all([service.timers?.stop(), ...service.consumers.map((consumer) => consumer.stop())]);
        service.stop?.();
      });
    }

    const readModels = services.includes('queries')
      ? createReadModels({ database: openReads(options, stops), cacheMb: settings.cacheMb })
      : null;
    const readSide =
      readModels === null
        ? []
        : startReadSide(readModels, postgresReadStore(databases.get('queries')!), feedOf, reportTrouble);
    consumers.push(...readSide);
    stops.push(() => Promise.all(readSide.map((consumer) => consumer.stop())));
    stops.push(forgetOldKeys(databases, logs, settings.idempotencyRetentionHours, reportTrouble));

    const rebuilds =
      readModels === null ? null : openRebuilds(options, databases, readModels, readSide, stops, reportTrouble);

    const shown = whatIsShown(readSide);
    const live = readModels?.live({
      ...shown,
      feeds: listensTo.queries.map(feedOf),
      headOf: (source) => headOf(serviceOf(source)),
      reportTrouble,
    });
    if (live !== undefined) stops.push(() => live.stop());
    const routes: Route[] = [
      ...running.flatMap((service) => service.routes),
      ...(readModels?.routes(shown) ?? []),
      ...(live?.routes ?? []),
      ...deadLetterRoutes(parkedIn(databases, consumers)),
      ...(rebuilds?.routes ?? []),
    ];
    const liveStreams = createLiveStreams({
      streamsMax: settings.liveStreamsMax,
      streamsPerCustomerMax: settings.liveStreamsPerCustomerMax,
      heartbeatMs: settings.liveHeartbeatSeconds * 1_000,
      waitingBytesMax: settings.liveWaitingKb * 1_024,
      logger,
    });
    const metrics = createMetrics({
      consumers,
      buses,
      timers: running.flatMap((service) => service.timers ?? []),
      cacheStats: readModels === null ? null : () => readModels.cacheStats(),
      liveStreams: () => liveStreams.statistics(),
    });
    const gateway = await startGateway({
      routes,
      host: settings.host,
      port: settings.port,
      jwt: settings.jwt,
      customerRequestsPerMinute: settings.customerRequestsPerMinute,
      operatorRequestsPerMinute: settings.operatorRequestsPerMinute,
      queuedRequestsMax: requestsUnderWayMax,
      liveStreams,
      readiness: () => readiness(databases, consumers),
      metrics: () => metrics.text(),
      logger,
    });
    stops.push(() => gateway.stop());
    return { address: gateway.address, stop, seedDemoData: () => seedDemoData(routes, readSide) };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Opens what the services own, migrated and durable, and what they listen to. */
async function openDatabases(
  options: SystemOptions,
  stops: (() => Promise<unknown> | void)[],
): Promise<Map<ServiceName, Database>> {
  const { services } = options;
  const wanted = new Set(services.flatMap((service) => [service, ...listensTo[service]]));
  const databases = new Map<ServiceName, Database>();
  for (const name of wanted) {
    const database = openDatabase(options.databaseUrl(name), {
      applicationName: `twofold ${name}`,
      // Each consumer elsewhere may keep one connection to listen on.
      poolMax: 8,
      ...(name === 'queries' ? readStoreOptions : {}),
    });
    databases.set(name, database);
    stops.push(() => database.end());
  }
  await Promise.all(
    services.map(async (name) => {
      const database = databases.get(name)!;
      await assertDurable(database, { asynchronousCommit: name === 'queries' });
      await migrate(database, schemas[name]);
    }),
  );
  return databases;
}

/** The read database once more, on connections made for answering: the projections have theirs. */
function openReads(options: SystemOptions, stops: (() => Promise<unknown> | void)[]): Database {
  const reads = openDatabase(options.databaseUrl('queries'), {
    ...readsOptions,
    applicationName: 'twofold reads',
    poolMax: readConnectionsMax,
  });
  stops.push(() => reads.end());
  return reads;
}

/** One feed per source, shared by all who listen: from memory where the log is written here, else from its database. */
function feeds(
  databases: ReadonlyMap<ServiceName, Database>,
  logs: ReadonlyMap<CommandServiceName, EventLog>,
  stops: (() => Promise<unknown> | void)[],
): (service: CommandServiceName) => Feed {
  const open = new Map<CommandServiceName, Feed>();
  return (service) => {
    const known = open.get(service);
    if (known !== undefined) return known;
    const log = logs.get(service);
    const database = databases.get(service)!;
    const feed =
      log === undefined
        ? remoteFeed(postgresLogReader(database, sourceOf(service), eventTypesOf[service]), database)
        : localFeed(log);
    open.set(service, feed);
    stops.push(() => feed.close());
    return feed;
  };
}

function startService(
  name: CommandServiceName,
  parts: ServiceParts,
  { settings, providerUrl }: SystemOptions,
): Service {
  switch (name) {
    case 'catalog':
      return startCatalog(parts);
    case 'ordering':
      return startOrdering({ ...parts, orderDeadlineSeconds: settings.orderDeadlineSeconds });
    case 'inventory':
      return startInventory({ ...parts, reservationTtlSeconds: settings.reservationTtlSeconds });
    case 'payments':
      return startPayments({
        ...parts,
        provider: createProviderClient({
          url: providerUrl,
          timeoutMs: settings.paymentTimeoutMs,
          concurrencyMax: providerCallsMax,
        }),
        timeoutMs: settings.paymentTimeoutMs,
        attemptsMax: settings.paymentAttemptsMax,
      });
  }
}

function startReadSide(
  readModels: ReadModels,
  store: ReadStore,
  feedOf: (service: CommandServiceName) => Feed,
  reportTrouble: (who: string, error: unknown) => void,
): Consumer[] {
  return listensTo.queries.map((service) =>
    startProjections({
      feed: feedOf(service),
      store,
      projections: readModels.projections,
      onResume: () => readModels.forgetAnswers(),
      reportTrouble,
    }),
  );
}

/** Rebuilds of read models, beginning with those that an older version of this program has made. */
function openRebuilds(
  options: SystemOptions,
  databases: ReadonlyMap<ServiceName, Database>,
  { projections }: ReadModels,
  readSide: readonly Consumer[],
  stops: (() => Promise<unknown> | void)[],
  reportTrouble: (who: string, error: unknown) => void,
): Pick<Rebuilds, 'routes'> {
  const database = databases.get('queries')!;
  const jobs = createJobs(database, {
    ports: systemPorts,
    reportTrouble: (job, error) => options.logger.warn({ err: error, job }, 'a job has failed'),
  });
  const rebuilds = createRebuilds({
    database,
    projections,
    consumers: readSide,
    jobs,
    ports: systemPorts,
    rebuild: (wanted, tell, signal) =>
      rebuildInThread(
        {
          ...wanted,
          databaseUrl: options.databaseUrl('queries'),
          logs: listensTo.queries.map((service) => ({
            service,
            source: sourceOf(service),
            databaseUrl: options.databaseUrl(service),
          })),
        },
        tell,
        signal,
      ),
  });
  const stopping = new AbortController();
  const upToDate = rebuilds
    .bringUpToDate(stopping.signal)
    .catch((error: unknown) => reportTrouble('read models', error));
  stops.push(async () => {
    stopping.abort();
    await Promise.all([jobs.stop(), upToDate]);
  });
  return { routes: [...rebuilds.routes, jobRoute(jobs)] };
}

/** How far the read side has come: what answers and streams show. */
function whatIsShown(readSide: readonly Consumer[]): ReadSide {
  const followed = new Map(readSide.map((consumer) => [consumer.source, consumer.progress]));
  let shown: Positions = {};
  return {
    caughtUp: (positions, waitMs) => reachAll(positions, followed, waitMs),
    parked(streams, positions) {
      for (const { name, source, firstParked } of readSide) {
        for (const stream of streams) {
          const position = firstParked(stream);
          if (position !== null && position <= (positions[source] ?? 0)) return `${name}-${position}`;
        }
      }
      return null;
    },
    // The same object while nothing has changed: the token made of it is made once.
    positions() {
      if (readSide.some((consumer) => shown[consumer.source] !== consumer.progress.position)) {
        shown = Object.fromEntries(readSide.map((consumer) => [consumer.source, consumer.progress.position]));
      }
      return shown;
    },
  };
}

/** The parked messages of all databases that are open here, and of their consumers those that run here. */
function parkedIn(databases: ReadonlyMap<ServiceName, Database>, consumers: readonly Consumer[]): DeadLettersOptions {
  const stores = new Map([...databases].map(([name, database]) => [name, postgresParkedMessages(database)]));
  const owners = new Map(
    [...databases.keys()].flatMap((owner) =>
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
  };
}

async function readiness(
  databases: ReadonlyMap<ServiceName, Database>,
  consumers: readonly Consumer[],
): Promise<{ ready: boolean; reasons: string[]; details: object }> {
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

function forgetOldKeys(
  databases: ReadonlyMap<ServiceName, Database>,
  logs: ReadonlyMap<CommandServiceName, EventLog>,
  retentionHours: number,
  reportTrouble: (who: string, error: unknown) => void,
): () => void {
  return systemPorts.every(forgetKeysEveryMs, () => {
    const before = new Date(systemPorts.now() - retentionHours * 3_600_000).toISOString();
    for (const name of logs.keys()) {
      forgetKeys(databases.get(name)!, before, forgetKeysBatchMax).catch((error: unknown) =>
        reportTrouble(`keys of ${name}`, error),
      );
    }
  });
}
