/** The queries service: the list of its read models, and how they hang together. */
import type { QueryRoute } from '#contracts/routes.ts';
import type { Positions } from '#cqrs/consistency-token.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { Database } from '#platform/postgres.ts';
import { customersReadModel } from './customers.ts';
import { historyReadModel } from './history.ts';
import { type LiveParts, liveStreams, type Streams } from './live.ts';
import { ordersReadModel } from './orders.ts';
import { paymentsReadModel } from './payments.ts';
import { productsReadModel } from './products.ts';
import { type CacheStats, createResourceCache } from './resource-cache.ts';
import { salesReadModel } from './sales.ts';

export const queriesSchema = new URL('./schema/', import.meta.url);

/** How far the read models are, as their queries tell it. */
export type ReadSide = Pick<QueryRoute, 'caughtUp' | 'positions'> & {
  /** The dead letter that keeps one of `streams` from showing `positions`, or null. */
  parked(streams: readonly string[], positions: Positions): string | null;
};

export type ReadModels = {
  readonly projections: readonly Projection[];
  routes(readSide: ReadSide): QueryRoute[];
  live(parts: LiveParts): Streams;
  /** Hits and misses since the start; entries and bytes now. */
  cacheStats(): CacheStats;
  /**
   * Forgets every answer kept in memory. To be called whenever rows may have changed without the
   * projections' hooks here: before a consumer goes on from a checkpoint that it has read anew.
   */
  forgetAnswers(): void;
};

export { readsOptions } from './listing.ts';
export { rebuildInThread } from './rebuild-thread.ts';

/** `database` answers queries, opened with `readsOptions`; `cacheMb` MiB of answers are kept in memory, 0: none. */
export function createReadModels({ database, cacheMb }: { database: Database; cacheMb: number }): ReadModels {
  const cache = createResourceCache(cacheMb);
  const customers = customersReadModel(database, cache);
  const orders = ordersReadModel(database, cache, customers.isCustomer);
  const models = [
    orders,
    customers,
    productsReadModel(database, cache),
    paymentsReadModel(database, orders.find),
    historyReadModel(database, orders.find),
    salesReadModel(database),
  ];
  return {
    projections: models.map((model) => model.projection),
    routes: (readSide) =>
      models.flatMap((model) =>
        model.queries.map(({ streams, ...query }) => ({
          ...query,
          heldBack: (params: never, positions: Positions) => readSide.parked(streams?.(params) ?? [], positions),
          caughtUp: (positions, waitMs) => readSide.caughtUp(positions, waitMs),
          positions: () => readSide.positions(),
        })),
      ),
    live: (parts) => liveStreams(database, orders.find, parts),
    cacheStats: () => cache.stats(),
    forgetAnswers: () => cache.clear(),
  };
}
