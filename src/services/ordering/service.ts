/** Ordering, put together: customers, orders, and the copy of the catalogue that prices them. */
import type { Audited, Service, ServiceParts } from '#contracts/service.ts';
import { parkedStreams } from '#cqrs/consumer.ts';
import { logSchemaFolders } from '#cqrs/postgres-log.ts';
import { startReactions } from '#cqrs/reactions.ts';
import { commandsCaughtUp } from '#cqrs/progress.ts';
import { startTimers } from '#cqrs/timers.ts';
import { orderingRoutes } from './http.ts';
import { orderingTables } from './inline-tables.ts';
import { tellOrder, toCatalog, toInventory, toPayments } from './reactions.ts';
import { customerStream, offerStream, orderStream } from './streams.ts';

export { orderingCorrections } from './corrections.ts';

export const orderingSchema = [...logSchemaFolders, new URL('./schema/', import.meta.url)];

/** How long an order waits for catalogue entries that it knows to be on their way, before it is priced. */
const hearCatalogMs = 250;
/** How long before a product is called unknown. */
const hearCatalogThoroughlyMs = 1_000;

/** What the audit compares with the log. */
export const orderingAudited: Audited = {
  streams: [customerStream, offerStream, orderStream],
  tables: orderingTables,
};

export function startOrdering(parts: ServiceParts & { readonly orderDeadlineSeconds: number }): Service {
  const { log, bus, ports, feedOf, reportTrouble } = parts;
  const catalog = startReactions({
    name: 'ordering-of-catalog',
    feed: feedOf('catalog'),
    log,
    bus,
    reactions: toCatalog,
    reportTrouble,
    ports,
  });
  const inventory = startReactions({
    name: 'ordering-of-inventory',
    feed: feedOf('inventory'),
    log,
    bus,
    reactions: toInventory,
    reportTrouble,
    ports,
  });
  const payments = startReactions({
    name: 'ordering-of-payments',
    feed: feedOf('payments'),
    log,
    bus,
    reactions: toPayments,
    reportTrouble,
    ports,
  });
  const consumers = [catalog, inventory, payments];
  const timers = startTimers({
    log,
    ports,
    reportTrouble,
    whenDue: {
      async order(orderId, origin) {
        await bus.execute({
          reads: [{ type: orderStream, id: orderId }],
          origin: { ...origin, actor: 'order-deadline' },
          run: (scope) => tellOrder(scope, orderId, { type: 'TimeOutOrder', now: scope.now }),
        });
      },
    },
  });

  return {
    consumers,
    timers,
    routes: orderingRoutes({
      bus,
      source: log.source,
      orderDeadlineSeconds: parts.orderDeadlineSeconds,
      newId: () => ports.newId(),
      caughtUp: commandsCaughtUp(log, consumers),
      catalogDeadLetter(skus, positions) {
        const streams = new Set(skus.map((sku) => `product-${sku}`));
        return parkedStreams([catalog], positions).find(({ stream }) => streams.has(stream))?.deadLetter ?? null;
      },
      async hearCatalog(thoroughly) {
        return thoroughly
          ? catalog.progress.reach(await parts.headOf('catalog'), hearCatalogThoroughlyMs)
          : catalog.progress.reach(catalog.head(), hearCatalogMs);
      },
    }),
  };
}
