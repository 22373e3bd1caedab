/** All that the audit looks at, but for the answers in memory. */
import type { Audited, CommandServiceName } from '#contracts/service.ts';
import { catalogAudited } from '#services/catalog/service.ts';
import { inventoryAudited } from '#services/inventory/service.ts';
import { orderingAudited } from '#services/ordering/service.ts';
import { paymentsAudited } from '#services/payments/service.ts';
import { createReadModels } from '#services/queries/service.ts';
import type { Walk } from './check.ts';
import { copiesWalk } from './checks/copies.ts';
import { ordersWalk } from './checks/orders-across.ts';
import { productRows, readProductsWalk } from './checks/read-products.ts';
import { orderRows, readRowsWalk } from './checks/read-rows.ts';
import { readSumsWalk, sumRows } from './checks/read-sums.ts';
import { stockWalk } from './checks/stock.ts';
import { streamsWalk } from './checks/streams.ts';
import { stuckWalk } from './checks/stuck.ts';
import type { WalkParts } from './evidence.ts';
import { openLedgerCopy } from './ledger.ts';
import { logWalk } from './log-walk.ts';
import { anchorsStream, divergenceStream } from './streams.ts';

const audited: Readonly<Record<CommandServiceName, Audited>> = {
  catalog: catalogAudited,
  ordering: orderingAudited,
  inventory: inventoryAudited,
  payments: paymentsAudited,
  audit: { streams: [divergenceStream, anchorsStream], tables: [] },
};

/** Each has places of its own, and may be walked beside the others. */
export function createWalks(parts: WalkParts): Walk[] {
  const { projections } = createReadModels({ database: parts.databases.queries, cacheMb: 0, ports: parts.ports });
  const orders = orderRows(parts, projections);
  return [
    logWalk(parts),
    stuckWalk(parts, projections),
    copiesWalk(parts),
    stockWalk(parts, audited.inventory),
    streamsWalk(parts, audited),
    readProductsWalk(parts, productRows(parts, projections)),
    readSumsWalk(parts, sumRows(parts, orders, projections)),
    readRowsWalk(parts, orders),
    ordersWalk(parts, openLedgerCopy(parts.providerUrl, parts.ports)),
  ];
}
