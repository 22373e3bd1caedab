/** Rebuilds of read models run in a thread of their own: answering and projecting go on beside them as before. */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { publishedEvents } from '#contracts/event-types.ts';
import type { CommandServiceName } from '#contracts/service.ts';
import { EngineError, type EngineErrorCode } from '#cqrs/errors.ts';
import { createEventTypes } from '#cqrs/event-types.ts';
import { postgresLogReader } from '#cqrs/postgres-log.ts';
import { besideOptions, rebuild, type RebuildProgress, type RebuildReport } from '#cqrs/rebuild.ts';
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
export async function rebuildInThread(
  order: RebuildOrder,
  onProgress: (progress: RebuildProgress) => void,
  signal: AbortSignal,
): Promise<RebuildReport> {
  const worker = new Worker(new URL(import.meta.url), { workerData: order });
  const { promise, resolve, reject } = Promise.withResolvers<RebuildReport>();
  worker.on('message', (message: Message) => {
    if ('progress' in message) onProgress(message.progress);
    else if ('report' in message) resolve(message.report);
    else if (message.code !== undefined) reject(new EngineError(message.code, message.failed));
    else reject(new Error(message.failed));
  });
  worker.on('error', reject);
  worker.on('exit', (code) => reject(new Error(`the thread of the rebuild has ended with code ${code}`)));
  const end = (): void => {
    reject(new Error('the rebuild was stopped'));
    void worker.terminate();
  };
  signal.addEventListener('abort', end, { once: true });
  try {
    signal.throwIfAborted();
    return await promise;
  } finally {
    signal.removeEventListener('abort', end);
    await worker.terminate();
  }
}

async function work(order: RebuildOrder, tell: (message: Message) => void): Promise<void> {
  const live = openDatabase(order.databaseUrl, { applicationName: 'twofold rebuild' });
  const beside = openDatabase(order.databaseUrl, {
    ...besideOptions,
    applicationName: 'twofold rebuild',
    poolMax: besideConnectionsMax,
  });
  const sources = order.logs.map(({ databaseUrl }) =>
    openDatabase(databaseUrl, { applicationName: 'twofold rebuild', poolMax: logConnectionsMax }),
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

if (!isMainThread && parentPort !== null) {
  const port = parentPort;
  void work(workerData as RebuildOrder, (message) => port.postMessage(message));
}
