/** Which services there are, whose logs each listens to, and what their logs are called. */
import { auditTables } from '#audit/service.ts';
import { publishedEvents } from '#contracts/event-types.ts';
import type { CommandServiceName } from '#contracts/service.ts';
import { serviceOf } from '#cqrs/event-log.ts';
import { createEventTypes, type EventTypes } from '#cqrs/event-types.ts';
import type { InlineTable } from '#cqrs/table-rows.ts';
import { type DatabaseOwner, databaseOwners } from '#platform/settings.ts';
import { catalogAudited } from '#services/catalog/service.ts';
import { inventoryAudited } from '#services/inventory/service.ts';
import { orderingAudited } from '#services/ordering/service.ts';
import { paymentsAudited } from '#services/payments/service.ts';

export type ServiceName = DatabaseOwner;

export const commandServices = ['catalog', 'ordering', 'inventory', 'payments', 'audit'] as const;
/** One shard per service, for now: its number is part of every position that leaves the service. */
export const sourceOf = (service: CommandServiceName): string => `${service}.0`;
export const writerOf = (source: string): CommandServiceName => serviceOf(source) as CommandServiceName;

/** Whose logs each part listens to. */
export const listensTo: Readonly<Record<ServiceName, readonly CommandServiceName[]>> = {
  catalog: [],
  ordering: ['catalog', 'inventory', 'payments'],
  inventory: ['catalog', 'ordering'],
  payments: ['ordering'],
  audit: [],
  queries: ['catalog', 'ordering', 'inventory', 'payments', 'audit'],
};

/** Whose databases some services need: their own, those that they listen to, and the audit all there are. */
export const databasesOf = (services: readonly ServiceName[]): readonly ServiceName[] =>
  databaseOwners.filter((owner) =>
    services.some((one) => one === owner || one === 'audit' || (listensTo[one] as readonly string[]).includes(owner)),
  );

export const eventTypesOf: Readonly<Record<CommandServiceName, EventTypes>> = {
  catalog: createEventTypes(publishedEvents.catalog),
  ordering: createEventTypes(publishedEvents.ordering),
  inventory: createEventTypes(publishedEvents.inventory),
  payments: createEventTypes(publishedEvents.payments),
  audit: createEventTypes(publishedEvents.audit),
};

/** What each keeps beside its log, in the same transaction. */
export const inlineTablesOf: Readonly<Record<CommandServiceName, readonly InlineTable[]>> = {
  catalog: catalogAudited.tables,
  ordering: orderingAudited.tables,
  inventory: inventoryAudited.tables,
  payments: paymentsAudited.tables,
  audit: auditTables,
};
