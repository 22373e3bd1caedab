/** What repairs need of the services, all of which run in this process. */
import type { CommandServiceName } from '#contracts/service.ts';
import type { CommandBus } from '#cqrs/command-bus.ts';
import type { Origin } from '#cqrs/event-log.ts';
import type { Finding, Mandate } from './check.ts';

export type Corrections = {
  readonly buses: Readonly<Record<CommandServiceName, CommandBus>>;
  /** Rows of the read database were replaced: whoever remembers some here asks anew at once; others do within seconds. */
  rowsReplaced(): void;
};

/** The origin of what follows from a repair. */
export const originOf = (finding: Finding, { by, reason }: Mandate): Origin => ({
  actor: by,
  correlationId: finding.orderId ?? finding.entity,
  causationId: `repair-of-${finding.check}`,
  reason,
});
