/**
 * The system, put together: opens databases and logs, starts the services that this process carries,
 * and mounts their routes on the gateway. Which services these are is a setting; no service knows.
 */
import { auditSchema } from '#audit/service.ts';
import type { Route } from '#contracts/routes.ts';
import type { CommandServiceName, RunningService, Service, ServiceParts, ShopServiceName } from '#contracts/service.ts';
import { type CommandBus, createCommandBus } from '#cqrs/command-bus.ts';
import { type Consumer, parkedStreams } from '#cqrs/consumer.ts';
import type { Positions } from '#cqrs/consistency-token.ts';
import type { EventLog } from '#cqrs/event-log.ts';
import { type Feed, localFeed, remoteFeed } from '#cqrs/feed.ts';
import { checkpointSchemaFolder, forgetKeys, openPostgresLog } from '#cqrs/postgres-log.ts';
import { postgresLogReader } from '#cqrs/postgres-log-reader.ts';
import { postgresReadStore, readStoreOptions } from '#cqrs/postgres-read-store.ts';
import { startProjections } from '#cqrs/projections.ts';
import { watchLag } from '#cqrs/lag.ts';
import { reachAll } from '#cqrs/progress.ts';
import type { ReadStore } from '#cqrs/read-store.ts';
import { createLiveStreams } from '#gateway/live-streams.ts';
import { createOverload } from '#gateway/overload.ts';
import { createRequestFigures } from '#gateway/request-figures.ts';
import { createSearches } from '#gateway/searches.ts';
import { startGateway } from '#gateway/server.ts';
import { createFreshness, type Freshness } from '#operations/freshness.ts';
import { forgetAnswers } from '#operations/kept-answers.ts';
import { assertDurable } from '#platform/embedded-postgres.ts';
import type { Logger } from '#platform/logger.ts';
import { systemPorts } from '#platform/ports.ts';
import { migrate } from '#platform/migrations.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import type { Settings } from '#platform/settings.ts';
import { catalogSchema, startCatalog } from '#services/catalog/service.ts';
import { inventorySchema, startInventory } from '#services/inventory/service.ts';
import { orderingSchema, startOrdering } from '#services/ordering/service.ts';
import { createProviderClient } from '#services/payments/provider-client.ts';
import { paymentsSchema, startPayments } from '#services/payments/service.ts';
import {
  createReadModels,
  openReads,
  queriesSchema,
  type ReadDatabases,
  type ReadModels,
  type ReadSide,
} from '#services/queries/service.ts';
import { seedDemoData } from './demo-data.ts';
import { startAuditing } from './auditing.ts';
import { startOperating } from './operating.ts';
import {
  commandServices,
  databasesOf,
  eventTypesOf,
  inlineTablesOf,
  listensTo,
  type ServiceName,
  sourceOf,
  writerOf,
} from './service-map.ts';

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

const schemas: Readonly<Record<ServiceName, readonly URL[]>> = {
  catalog: catalogSchema,
  ordering: orderingSchema,
  inventory: inventorySchema,
  payments: paymentsSchema,
  audit: auditSchema,
  queries: [checkpointSchemaFolder, queriesSchema],
};

const requestsUnderWayMax = 20_000;
/** Each consumer elsewhere may keep one connection to listen on. */
const connectionsMax = 8;
/** That of the audit, and those that only the audit asks. */
const quietConnectionsMax = 4;
/**
 * For what is planned once (one of them takes all single rows), and as many for what is not. Each gives one answer per
 * turn of the event loop, however quick PostgreSQL is.
 */
const readConnectionsMax = 28;
/** Fewer than there are connections: whoever reads one thing finds one free. */
const searchesAtOnceMax = 24;
const searchesWaitingMax = 1_000;
/** Calls to the payment provider under way at once. */
const providerCallsMax = 256;
const forgetKeysEveryMs = 600_000;

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
        inlineTables: inlineTablesOf[name],
      });
      stops.push(() => log.close());
      logs.set(name, log);
      buses.set(name, createCommandBus({ log }));
    }
    const feedOf = feeds(databases, logs, stops);
    const headOf = (other: CommandServiceName): Promise<number> =>
      (logs.get(other) ?? postgresLogReader(databases.get(other)!, sourceOf(other))).head();
    const running = new Map<CommandServiceName, RunningService>();
    const routes: Route[] = [];

    for (const [name, log] of logs) {
      if (name === 'audit') continue;
      const parts: ServiceParts = {
        log,
        bus: buses.get(name)!,
        ports: systemPorts,
        feedOf,
        headOf,
        reportTrouble,
      };
      const service = startService(name, parts, options);
      running.set(name, service);
      routes.push(...service.routes);
      stops.push(async () => {
        await Promise.all([service.timers?.stop(), ...service.consumers.map((consumer) => consumer.stop())]);
        await service.stop?.();
      });
    }

    const freshness = createFreshness(systemPorts);
    const readModels = services.includes('queries')
      ? createReadModels({ ...openReadsOf(options, stops), cacheMb: settings.cacheMb })
      : null;
    const readSide =
      readModels === null
        ? []
        : startReadSide(readModels, postgresReadStore(databases.get('queries')!), feedOf, freshness, reportTrouble);
    stops.push(() => Promise.all(readSide.map((consumer) => consumer.stop())));
    const log = logs.get('audit');
    const audit =
      log === undefined
        ? null
        : startAuditing({ system: options, databases, log, buses, feedOf, readModels, readSide });
    if (audit !== null) {
      running.set('audit', audit);
      routes.push(...audit.routes);
      stops.push(() => audit.stop?.());
    }
    stops.push(forgetOldKeys(databases, services, settings.idempotencyRetentionHours, reportTrouble));

    const shown = whatIsShown(readSide);
    const live = readModels?.live({
      ...shown,
      feeds: listensTo.queries.map(feedOf),
      headOf: (source) => headOf(writerOf(source)),
      reportTrouble,
    });
    if (live !== undefined) stops.push(() => live.stop());
    const liveStreams = createLiveStreams({
      streamsMax: settings.liveStreamsMax,
      streamsPerCustomerMax: settings.liveStreamsPerCustomerMax,
      heartbeatMs: settings.liveHeartbeatSeconds * 1_000,
      waitingBytesMax: settings.liveWaitingKb * 1_024,
      logger,
    });
    const shopBuses = [...buses].flatMap(([name, bus]) => (name === 'audit' ? [] : [bus]));
    const shopConsumers = [...running.values()].flatMap(({ consumers }) => consumers);
    const overload = createOverload({
      ports: systemPorts,
      waitMs: settings.waitMs,
      commandWaitMs: () => Math.max(0, ...shopBuses.map((bus) => bus.waitMs())),
      behindMs: watchLag([...shopConsumers, ...readSide], systemPorts),
    });
    const figures = createRequestFigures();
    const operating = startOperating({
      system: options,
      databases,
      running,
      buses,
      readModels,
      readSide,
      audit,
      freshness,
      figures,
      liveStreams,
      reportTrouble,
    });
    stops.push(() => operating.stop());
    const reads = readModels?.routes(shown) ?? [];
    routes.push(...reads.map((route) => audit?.sampled(route) ?? route), ...(live?.routes ?? []), ...operating.routes);
    await operating.begun();
    const gateway = await startGateway({
      routes,
      host: settings.host,
      port: settings.port,
      jwt: settings.jwt,
      customerRequestsPerMinute: settings.customerRequestsPerMinute,
      operatorRequestsPerMinute: settings.operatorRequestsPerMinute,
      queuedRequestsMax: requestsUnderWayMax,
      liveStreams,
      figures,
      overload,
      searches: createSearches({
        ports: systemPorts,
        atOnceMax: searchesAtOnceMax,
        waitingMax: searchesWaitingMax,
        waitMs: settings.waitMs,
        figures,
      }),
      readiness: () => operating.readiness(),
      metrics: () => operating.metrics(),
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
  const databases = new Map<ServiceName, Database>();
  const isBusy = (name: ServiceName): boolean =>
    name !== 'audit' && services.some((one) => one === name || (listensTo[one] as readonly string[]).includes(name));
  for (const name of databasesOf(services)) {
    const database = openDatabase(options.databaseUrl(name), {
      applicationName: `twofold ${name}`,
      poolMax: isBusy(name) ? connectionsMax : quietConnectionsMax,
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
function openReadsOf(options: SystemOptions, stops: (() => Promise<unknown> | void)[]): ReadDatabases {
  const reads = openReads(options.databaseUrl('queries'), {
    applicationName: 'twofold reads',
    connectionsMax: readConnectionsMax,
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

function startService(name: ShopServiceName, parts: ServiceParts, { settings, providerUrl }: SystemOptions): Service {
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
  freshness: Freshness,
  reportTrouble: (who: string, error: unknown) => void,
): Consumer[] {
  return listensTo.queries.map((service) =>
    startProjections({
      feed: feedOf(service),
      store,
      projections: readModels.projections,
      onResume: () => readModels.forgetAnswers(),
      onVisible: (events) => freshness.shown(sourceOf(service), events),
      reportTrouble,
    }),
  );
}

/** How far the read side has come: what answers and streams show. */
function whatIsShown(readSide: readonly Consumer[]): ReadSide {
  const followed = new Map(readSide.map((consumer) => [consumer.source, consumer.progress]));
  let shown: Positions = {};
  return {
    caughtUp: (positions, waitMs) => reachAll(positions, followed, waitMs),
    parked: (positions) => parkedStreams(readSide, positions),
    // The same object while nothing has changed: the token made of it is made once.
    positions() {
      if (readSide.some((consumer) => shown[consumer.source] !== consumer.progress.position)) {
        shown = Object.fromEntries(readSide.map((consumer) => [consumer.source, consumer.progress.position]));
      }
      return shown;
    },
  };
}

function forgetOldKeys(
  databases: ReadonlyMap<ServiceName, Database>,
  services: readonly ServiceName[],
  retentionHours: number,
  reportTrouble: (who: string, error: unknown) => void,
): () => void {
  return systemPorts.every(forgetKeysEveryMs, () => {
    const before = new Date(systemPorts.now() - retentionHours * 3_600_000).toISOString();
    for (const name of services) {
      for (const forget of name === 'queries' ? [forgetAnswers] : [forgetAnswers, forgetKeys]) {
        forget(databases.get(name)!, before).catch((error: unknown) => reportTrouble(`keys of ${name}`, error));
      }
    }
  });
}
