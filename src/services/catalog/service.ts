/** Catalog, put together: products and prices. It listens to nobody. */
import type { Audited, Service, ServiceParts } from '#contracts/service.ts';
import { logSchemaFolders } from '#cqrs/postgres-log.ts';
import { commandsCaughtUp } from '#cqrs/progress.ts';
import { catalogRoutes } from './http.ts';
import { catalogTables } from './inline-tables.ts';
import { productStream } from './streams.ts';

export const catalogSchema = [...logSchemaFolders, new URL('./schema/', import.meta.url)];

/** What the audit compares with the log. */
export const catalogAudited: Audited = { streams: [productStream], tables: catalogTables };

export function startCatalog({ log, bus }: ServiceParts): Service {
  return {
    consumers: [],
    timers: null,
    routes: catalogRoutes({ bus, source: log.source, caughtUp: commandsCaughtUp(log, []) }),
  };
}
