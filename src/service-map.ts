/** Which services there are, whose logs each listens to, and what their logs are called. */
import { publishedEvents } from '#contracts/event-types.ts';
import type { CommandServiceName } from '#contracts/service.ts';
import { serviceOf } from '#cqrs/event-log.ts';
import { createEventTypes, type EventTypes } from '#cqrs/event-types.ts';
import type { DatabaseOwner } from '#platform/settings.ts';

export type ServiceName = DatabaseOwner;

export const commandServices = ['catalog', 'ordering', 'inventory', 'payments'] as const;
/** One shard per service, for now: its number is part of every position that leaves the service. */
export const sourceOf = (service: CommandServiceName): string => `${service}.0`;
export const writerOf = (source: string): CommandServiceName => serviceOf(source) as CommandServiceName;

/** Whose logs each part listens to. */
export const listensTo: Readonly<Record<ServiceName, readonly CommandServiceName[]>> = {
  catalog: [],
  ordering: ['catalog', 'inventory', 'payments'],
  inventory: ['catalog', 'ordering'],
  payments: ['ordering'],
  queries: ['catalog', 'ordering', 'inventory', 'payments'],
};

export const eventTypesOf: Readonly<Record<CommandServiceName, EventTypes>> = {
  catalog: createEventTypes(publishedEvents.catalog),
  ordering: createEventTypes(publishedEvents.ordering),
  inventory: createEventTypes(publishedEvents.inventory),
  payments: createEventTypes(publishedEvents.payments),
};

/** Types of streams whose versions count events of other streams, too. */
export const movedByOthers: readonly string[] = ['stock'];
