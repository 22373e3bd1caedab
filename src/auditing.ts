/** The audit as it runs in this process: what it is given of the system. */
import { type Audit, type AuditOptions, startAudit } from '#audit/service.ts';
import type { CommandServiceName } from '#contracts/service.ts';
import type { CommandBus } from '#cqrs/command-bus.ts';
import type { Consumer } from '#cqrs/consumer.ts';
import type { EventLog } from '#cqrs/event-log.ts';
import type { Feed } from '#cqrs/feed.ts';
import { postgresLogReader } from '#cqrs/postgres-log-reader.ts';
import { createJobs, type Jobs } from '#operations/jobs.ts';
import { systemPorts } from '#platform/ports.ts';
import type { Database } from '#platform/postgres.ts';
import { databaseOwners, type DatabaseOwner } from '#platform/settings.ts';
import type { ReadModels } from '#services/queries/service.ts';
import { type ServiceName, sourceOf } from './service-map.ts';
import type { SystemOptions } from './system.ts';

export type Auditing = Audit & { readonly jobs: Jobs };

type AuditingOptions = {
  readonly system: SystemOptions;
  readonly databases: ReadonlyMap<ServiceName, Database>;
  readonly log: EventLog;
  readonly buses: ReadonlyMap<CommandServiceName, CommandBus>;
  feedOf(service: CommandServiceName): Feed;
  readonly readModels: ReadModels | null;
  /** The consumers that project here. */
  readonly readSide: readonly Consumer[];
};

export function startAuditing(options: AuditingOptions): Auditing {
  const { system, databases, log, buses, feedOf, readModels } = options;
  const { settings, logger, providerUrl } = system;
  const each = <T>(make: (owner: DatabaseOwner) => T): Readonly<Record<DatabaseOwner, T>> =>
    Object.fromEntries(databaseOwners.map((owner) => [owner, make(owner)])) as Record<DatabaseOwner, T>;
  const jobs = createJobs(databases.get('audit')!, {
    ports: systemPorts,
    reportTrouble: (job, error) => logger.warn({ err: error, job }, 'a job has failed'),
  });
  const audit = startAudit({
    log,
    bus: buses.get('audit')!,
    ...correctionsOf(options),
    idempotencyRetentionHours: settings.idempotencyRetentionHours,
    feed: feedOf('audit'),
    databases: each((owner) => databases.get(owner)!),
    databaseUrls: each((owner) => system.databaseUrl(owner)),
    sourceOf,
    anchorOf: (service) => postgresLogReader(databases.get(service)!, sourceOf(service)).anchor(),
    providerUrl,
    readModels,
    jobs,
    sharePercent: settings.auditSharePercent,
    periodMinutes: settings.auditPeriodMinutes,
    policies: settings.auditPolicies,
    ...(settings.auditAlertUrl === undefined ? {} : { alertUrl: settings.auditAlertUrl }),
    ports: systemPorts,
    logger,
  });
  return {
    ...audit,
    jobs,
    async stop() {
      await Promise.all([jobs.stop(), audit.stop?.()]);
    },
  };
}

/** Repairs reach through all services: where one is missing, nothing is repaired but what the audit has itself. */
function correctionsOf({ buses, readModels, readSide }: AuditingOptions): Pick<AuditOptions, 'corrections'> {
  const [catalog, ordering, inventory, payments] = (['catalog', 'ordering', 'inventory', 'payments'] as const).map(
    (service) => buses.get(service),
  );
  if (!catalog || !ordering || !inventory || !payments) return {};
  return {
    corrections: {
      buses: { catalog, ordering, inventory, payments, audit: buses.get('audit')! },
      rowsReplaced() {
        readModels?.forgetAnswers();
        for (const consumer of readSide) consumer.wake();
      },
    },
  };
}
