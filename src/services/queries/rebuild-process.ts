/**
 * Rebuilds of read models run in a process of their own, which lets all others go first: answering and projecting
 * go on beside it as before.
 */
import { publishedEvents } from '#contracts/event-types.ts';
import type { CommandServiceName } from '#contracts/service.ts';
import { EngineError, type EngineErrorCode } from '#cqrs/errors.ts';
import { createEventTypes } from '#cqrs/event-types.ts';
import { postgresLogReader } from '#cqrs/postgres-log-reader.ts';
import { besideOptions, rebuild, type RebuildProgress, type RebuildReport } from '#cqrs/rebuild.ts';
import { inBackgroundProcess, workForParent } from '#platform/background-process.ts';
import { openDatabase } from '#platform/postgres.ts';
import { createReadModels } from './service.ts';

export type RebuildOrder = {
  readonly databaseUrl: string;
  readonly logs: readonly {
    readonly service: CommandServiceName;
    readonly source: string;
    readonly databaseUrl: string;
  }[];
  readonly readModels: readonly string[];
  readonly sharePercent: number;
  readonly checkOnly: boolean;
};

type Message =
  | { readonly progress: RebuildProgress }
  | { readonly report: RebuildReport }
  | { readonly failed: string; readonly code?: EngineErrorCode };

/** Connections that read a log: one read is under way while what the one before gave is folded. */
const logConnectionsMax = 2;
const besideConnectionsMax = 3;

/** Resolves to the report. Rejects with what stood in the way, or when `signal` ends it. */
export function rebuildInProcess(
  order: RebuildOrder,
  onProgress: (progress: RebuildProgress) => void,
  signal: AbortSignal,
): Promise<RebuildReport> {
  return inBackgroundProcess<RebuildOrder, Message, RebuildReport>({
    name: 'the rebuild',
    script: import.meta.filename,
    signal,
    begun: (tell) => tell(order),
    heard(message) {
      if ('report' in message) return { result: message.report };
      if ('progress' in message) {
        onProgress(message.progress);
        return undefined;
      }
      throw message.code === undefined ? new Error(message.failed) : new EngineError(message.code, message.failed);
    },
  });
}

async function work(order: RebuildOrder, tell: (message: Message) => void): Promise<void> {
  const live = openDatabase(order.databaseUrl, { applicationName: 'twofold rebuild', background: true });
  const beside = openDatabase(order.databaseUrl, {
    ...besideOptions,
    applicationName: 'twofold rebuild',
    background: true,
    poolMax: besideConnectionsMax,
  });
  const sources = order.logs.map(({ databaseUrl }) =>
    openDatabase(databaseUrl, { applicationName: 'twofold rebuild', background: true, poolMax: logConnectionsMax }),
  );
  try {
    const { projections } = createReadModels({ database: beside, cacheMb: 0 });
    const report = await rebuild({
      live,
      beside,
      projections: projections.filter(({ name }) => order.readModels.includes(name)),
      logs: new Map(
        order.logs.map(({ service, source }, n) => [
          service,
          postgresLogReader(sources[n]!, source, createEventTypes(publishedEvents[service])),
        ]),
      ),
      sharePercent: order.sharePercent,
      checkOnly: order.checkOnly,
      onProgress: (progress) => tell({ progress }),
    });
    tell({ report });
  } catch (error) {
    const { message } = error as Error;
    tell(error instanceof EngineError ? { failed: message, code: error.code } : { failed: message });
  } finally {
    await Promise.all([live, beside, ...sources].map((database) => database.end()));
  }
}

if (process.argv[1] === import.meta.filename)
  workForParent<RebuildOrder, Message>((tell) => (order) => void work(order, tell));
