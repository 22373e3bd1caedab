/** Inventory, put together: stock per product, and what is held for orders. */
import type { Audited, Service, ServiceParts } from '#contracts/service.ts';
import { parkedStreams } from '#cqrs/consumer.ts';
import { startReactions } from '#cqrs/reactions.ts';
import { logSchemaFolders } from '#cqrs/postgres-log.ts';
import { commandsCaughtUp } from '#cqrs/progress.ts';
import { startTimers } from '#cqrs/timers.ts';
import { inventoryRoutes } from './http.ts';
import { inventoryTables } from './inline-tables.ts';
import { tellReservation, toCatalog, toOrdering } from './reactions.ts';
import { listingStream, reservationStream, stockStream } from './streams.ts';

export { inventoryCorrections } from './corrections.ts';

/** Types of streams whose versions count events of other streams, too: what happens to reservations. */
export const movedByOthers: readonly string[] = [stockStream.name];

export const inventorySchema = [...logSchemaFolders, new URL('./schema/', import.meta.url)];

/** How long the catalogue is listened to before a product is called unknown. */
const hearCatalogMs = 1_000;

/** What the audit compares with the log. */
export const inventoryAudited: Audited = {
  streams: [listingStream, reservationStream, stockStream],
  tables: inventoryTables,
};

export function startInventory(parts: ServiceParts & { readonly reservationTtlSeconds: number }): Service {
  const { log, bus, ports, feedOf, reportTrouble } = parts;
  const catalog = startReactions({
    name: 'inventory-of-catalog',
    feed: feedOf('catalog'),
    log,
    bus,
    reactions: toCatalog,
    reportTrouble,
    ports,
  });
  const ordering = startReactions({
    name: 'inventory-of-ordering',
    feed: feedOf('ordering'),
    log,
    bus,
    reactions: toOrdering(parts.reservationTtlSeconds),
    reportTrouble,
    ports,
  });
  const consumers = [catalog, ordering];
  const timers = startTimers({
    log,
    ports,
    reportTrouble,
    whenDue: {
      async reservation(orderId, origin) {
        await bus.execute({
          reads: [{ type: reservationStream, id: orderId }],
          origin: { ...origin, actor: 'reservation-expiry' },
          run: (scope) => tellReservation(scope, orderId, { type: 'ExpireReservation', now: scope.now }),
        });
      },
    },
  });

  return {
    consumers,
    timers,
    routes: inventoryRoutes({
      bus,
      source: log.source,
      caughtUp: commandsCaughtUp(log, consumers),
      catalogDeadLetter: (sku, positions) =>
        parkedStreams([catalog], positions).find(({ stream }) => stream === `product-${sku}`)?.deadLetter ?? null,
      async hearCatalog() {
        return catalog.progress.reach(await parts.headOf('catalog'), hearCatalogMs);
      },
    }),
  };
}
