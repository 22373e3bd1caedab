/** Audit, put together: what is looked at, by whom, and where it is kept. It records in a log of its own. */
import type { CommandServiceName, RunningService } from '#contracts/service.ts';
import type { TakenAnchor } from '#contracts/audit.ts';
import type { QueryRoute, Route } from '#contracts/routes.ts';
import type { CommandBus } from '#cqrs/command-bus.ts';
import type { EventLog } from '#cqrs/event-log.ts';
import type { Feed } from '#cqrs/feed.ts';
import { logSchemaFolders } from '#cqrs/postgres-log.ts';
import type { Logger } from '#platform/logger.ts';
import type { DatabaseOwner } from '#platform/settings.ts';
import type { ReadModels } from '#services/queries/service.ts';
import { startAlerts } from './alert.ts';
import { cacheWalk } from './cache-walk.ts';
import type { Check } from './check.ts';
import { auditRoutes, type AuditJobs, openByCheck } from './http.ts';
import { createRecording } from './recording.ts';
import { isLate, startRunning } from './running.ts';
import { startSampling } from './sampling.ts';
import type { WalkParts } from './evidence.ts';
import { createWalks } from './walks.ts';

export { auditTables } from './streams.ts';

export const auditSchema = [...logSchemaFolders, new URL('./schema/', import.meta.url)];

export type AuditOptions = WalkParts & {
  readonly log: EventLog;
  readonly bus: CommandBus;
  readonly feed: Feed;
  /** Where the log of a service stands. */
  anchorOf(service: CommandServiceName): Promise<Omit<TakenAnchor, 'source'>>;
  readonly databaseUrls: Readonly<Record<DatabaseOwner, string>>;
  /** Null: the answers in memory are those of another process. */
  readonly readModels: ReadModels | null;
  readonly jobs: AuditJobs;
  readonly sharePercent: number;
  readonly periodMinutes: number;
  /** By check, beside the policy that each has of its own. */
  readonly policies: Readonly<Record<string, Check['policy']>>;
  readonly alertUrl?: string;
  readonly logger: Logger;
};

/** What is shown of the audit as metrics. */
export type AuditFigures = {
  /** Open divergences by check; of every check. */
  readonly open: Readonly<Record<string, number>>;
  /** Entities looked at in the round under way, or the last one, by walk. */
  readonly looked: Readonly<Record<string, number>>;
  /** Null: there was none yet. */
  readonly secondsSinceRound: number | null;
  readonly workedSeconds: number;
  readonly periodKept: boolean;
};

export type Audit = RunningService & {
  readonly routes: readonly Route[];
  figures(): Promise<AuditFigures>;
  /** A route that answers reads here; now and then what it has answered from is looked at. */
  sampled(route: QueryRoute): QueryRoute;
};

const services = ['catalog', 'ordering', 'inventory', 'payments', 'audit'] as const;
/** What starts has more urgent things to do; a small shop has been looked at within a minute all the same. */
const firstRoundAfterMs = 10_000;

/** The policies name a check that there is not; the message says which there are. */
class UnknownCheck extends Error {
  override readonly name = 'UnknownCheck';
}

/** Starts looking. Throws UnknownCheck. */
export function startAudit(options: AuditOptions): Audit {
  const { log, bus, databases, sourceOf, readModels, policies, ports, logger, sharePercent } = options;
  const database = databases.audit;
  const walksThere = createWalks(options);
  const walksHere = readModels === null ? [] : [cacheWalk(readModels)];
  const walks = [...walksThere, ...walksHere];
  assertKnown(
    policies,
    walks.flatMap((walk) => walk.checks),
  );

  const periodMs = options.periodMinutes * 60_000;
  const recording = createRecording({ bus, database, walks, policies, ports, logger });
  const anchors = (): Promise<TakenAnchor[]> =>
    Promise.all(services.map(async (service) => ({ source: sourceOf(service), ...(await options.anchorOf(service)) })));
  const running = startRunning({
    database,
    bus,
    recorder: recording,
    order: {
      databaseUrls: options.databaseUrls,
      providerUrl: options.providerUrl,
      idempotencyRetentionHours: options.idempotencyRetentionHours,
      sources: Object.fromEntries(services.map((service) => [service, sourceOf(service)])) as Record<
        CommandServiceName,
        string
      >,
    },
    walksHere,
    anchors,
    sharePercent,
    periodMs,
    firstRoundAfterMs,
    ports,
    logger,
  });
  const sampling = sharePercent === 0 ? null : startSampling(ports, (sample) => running.sample(sample));
  const alerts =
    options.alertUrl === undefined
      ? null
      : startAlerts({ url: options.alertUrl, feed: options.feed, database, ports, logger });

  return {
    consumers: [],
    timers: null,
    routes: auditRoutes({
      bus,
      source: log.source,
      database,
      walks,
      recording,
      running,
      jobs: options.jobs,
      anchors,
      sharePercent,
      periodMs,
      ports,
    }),
    sampled: (route) => sampling?.sampled(route) ?? route,
    async stop() {
      sampling?.stop();
      await Promise.all([running.stop(), alerts?.stop()]);
    },

    async figures() {
      const [open, rolling] = await Promise.all([openByCheck(database), running.rolling()]);
      const checks = walks.flatMap((walk) => walk.checks.map(({ name }) => name));
      return {
        open: { ...Object.fromEntries(checks.map((name) => [name, 0])), ...open },
        looked: Object.fromEntries(Object.entries(rolling?.walks ?? {}).map(([name, { looked }]) => [name, looked])),
        secondsSinceRound:
          rolling === null || rolling.last === null ? null : (ports.now() - Date.parse(rolling.last.endedAt)) / 1_000,
        workedSeconds: (rolling?.workedMs ?? 0) / 1_000,
        periodKept: rolling === null || !isLate(rolling, periodMs, ports.now()),
      };
    },
  };
}

function assertKnown(policies: AuditOptions['policies'], checks: readonly Check[]): void {
  const known = checks.map(({ name }) => name);
  const unknown = Object.keys(policies).filter((name) => !known.includes(name));
  if (unknown.length === 0) return;
  throw new UnknownCheck(
    `TWOFOLD_AUDIT_POLICY names ${unknown.join(', ')}; right would be some of ${known.join(', ')}.`,
  );
}
