/** The queries service: the list of its read models, and how they hang together. */
import type { QueryRequest, QueryRoute } from '#contracts/routes.ts';
import type { Positions } from '#cqrs/consistency-token.ts';
import type { ParkedStream } from '#cqrs/consumer.ts';
import type { Projection } from '#cqrs/projection.ts';
import { type Ports, systemPorts } from '#platform/ports.ts';
import { type Database, overOneConnection } from '#platform/postgres.ts';
import { appliedHere } from './applied.ts';
import { auditCache, type CacheDifference, type ReadResources } from './cache-audit.ts';
import { customersReadModel } from './customers.ts';
import { historyReadModel } from './history.ts';
import { type LiveParts, liveStreams, type Streams } from './live.ts';
import { ordersReadModel } from './orders.ts';
import { paymentsReadModel } from './payments.ts';
import { firstShown } from './parked-streams.ts';
import { productsReadModel } from './products.ts';
import { type CacheStats, createResourceCache } from './resource-cache.ts';
import { salesReadModel } from './sales.ts';
import { createSecondLevel } from './second-level.ts';
import type { SharedCache } from './shared-cache.ts';
import { wordFrequencies } from './word-frequencies.ts';

export const queriesSchema = new URL('./schema/', import.meta.url);

/** How far the read models are, as their queries tell it. */
export type ReadSide = Pick<QueryRoute, 'caughtUp' | 'positions'> & {
  /** The streams that dead letters at or before `positions` keep from being shown. */
  parked(positions: Positions): readonly ParkedStream[];
};

export type ReadModels = {
  readonly projections: readonly Projection[];
  routes(readSide: ReadSide): QueryRoute[];
  live(parts: LiveParts): Streams;
  /** Counts since the start; entries and bytes now. */
  cacheStats(): CacheStats;
  /** I16: what differs among the answers kept in memory, so many or those with these keys, from what their rows say. */
  auditCache(which: number | readonly string[]): Promise<CacheDifference[]>;
  /** Of the answers kept in memory. */
  answerKeys(): string[];
  /** Forgets one of them: the next read makes it anew. */
  forgetAnswer(key: string): void;
  /**
   * Forgets every answer kept in memory. To be called whenever rows may have changed without the
   * projections' hooks here: before a consumer goes on from a checkpoint that it has read anew.
   */
  forgetAnswers(): void;
};

export { openReads, type ReadDatabases } from './listing.ts';
export { rebuildInProcess } from './rebuild-process.ts';

/**
 * `database` and `plannedOnce` answer queries (`openReads`; projections alone do with one); `cacheMb` MiB of answers are kept in memory, 0: none.
 * `shared` stands behind them, for several processes; by default nothing does.
 */
export function createReadModels({
  database,
  plannedOnce = database,
  cacheMb,
  shared = null,
  ports = systemPorts,
}: {
  readonly database: Database;
  readonly plannedOnce?: Database;
  readonly cacheMb: number;
  readonly shared?: SharedCache | null;
  readonly ports?: Ports;
}): ReadModels {
  let side: Pick<ReadSide, 'positions' | 'caughtUp'> = { positions: () => ({}), caughtUp: async () => true };
  const applied = appliedHere(
    () => projections,
    () => side,
  );
  const cache = createResourceCache(cacheMb, applied, shared === null ? null : createSecondLevel(shared, ports));
  const single = overOneConnection(plannedOnce);
  const lists = { database, plannedOnce, frequencies: wordFrequencies(database, ports) };
  const customers = customersReadModel(database, single, cache, applied);
  const orders = ordersReadModel(lists, single, cache, applied, customers.isCustomer);
  const models = [
    orders,
    customers,
    productsReadModel(lists, single, cache, applied),
    paymentsReadModel(database, applied, orders.find),
    historyReadModel(database, applied, orders.find),
    salesReadModel(database, applied),
  ];
  const projections = models.map((model) => model.projection);
  const resources = Object.assign({}, ...models.map((model) => model.resources ?? {})) as ReadResources;
  return {
    projections,
    routes(readSide) {
      side = readSide;
      return models.flatMap((model) =>
        model.queries.map(({ shows, ...query }) => ({
          ...query,
          heldBack: async (request: QueryRequest<never, never>, positions: Positions) =>
            firstShown(readSide.parked(positions), shows(request as never)),
          caughtUp: (positions, waitMs) => readSide.caughtUp(positions, waitMs),
          positions: () => readSide.positions(),
        })),
      );
    },
    live: (parts) => liveStreams(database, orders.find, parts),
    cacheStats: () => cache.stats(),
    auditCache: (which) => auditCache(cache, resources, which, ports),
    answerKeys: () => cache.keys(),
    forgetAnswer: (key) => cache.forget(key),
    forgetAnswers: () => cache.clear(),
  };
}
