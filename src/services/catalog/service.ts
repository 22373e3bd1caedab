/** Catalog, put together: products and prices. It listens to nobody. */
import type { Service, ServiceParts } from '#contracts/service.ts';
import { logSchemaFolders } from '#cqrs/postgres-log.ts';
import { commandsCaughtUp } from '#cqrs/progress.ts';
import { catalogRoutes } from './http.ts';

export const catalogSchema = [...logSchemaFolders, new URL('./schema/', import.meta.url)];

export function startCatalog({ log, bus }: ServiceParts): Service {
  return {
    consumers: [],
    timers: null,
    routes: catalogRoutes({ bus, source: log.source, caughtUp: commandsCaughtUp(log, []) }),
  };
}
