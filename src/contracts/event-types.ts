/**
 * All events that services publish, with every version that was ever written. A new version is the new
 * schema in the service's file, and the one before in `older` here, with what makes the new one of it
 * (docs/event-versions.md). `npm run check:events` says when one is needed.
 */
import type { EventDeclarations } from '#cqrs/event-types.ts';
import { auditEvents } from './audit.ts';
import { catalogEvents } from './catalog.ts';
import { inventoryEvents } from './inventory.ts';
import { orderingEvents } from './ordering.ts';
import { paymentEvents } from './payments.ts';
import type { CommandServiceName } from './service.ts';

export const publishedEvents: Readonly<Record<CommandServiceName, EventDeclarations>> = {
  catalog: { newest: catalogEvents, older: {} },
  ordering: { newest: orderingEvents, older: {} },
  inventory: { newest: inventoryEvents, older: {} },
  payments: { newest: paymentEvents, older: {} },
  audit: { newest: auditEvents, older: {} },
};
