/**
 * Rebuilds of read models run in a process of their own, which lets all others go first: answering and projecting
 * go on beside it as before.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { publishedEvents } from '#contracts/event-types.ts';
import type { CommandServiceName } from '#contracts/service.ts';
import { EngineError, type EngineErrorCode } from '#cqrs/errors.ts';
import { createEventTypes } from '#cqrs/event-types.ts';
import { postgresLogReader } from '#cqrs/postgres-log.ts';
import { besideOptions, rebuild, type RebuildProgress, type RebuildReport } from '#cqrs/rebuild.ts';
import { stepBack } from '#platform/background.ts';
import { openDatabase } from '#platform/postgres.ts';
import { dieWithParent } from '#platform/supervised-process.ts';
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
export async function rebuildInProcess(
  order: RebuildOrder,
  onProgress: (progress: RebuildProgress) => void,
  signal: AbortSignal,
): Promise<RebuildReport> {
  signal.throwIfAborted();
  const child = fork(import.meta.filename, [], {
    execArgv: [],
    // A session of its own: Ctrl-C in the terminal reaches this process only, which says when to stop.
    detached: true,
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const { promise, resolve, reject } = Promise.withResolvers<RebuildReport>();
  child.on('message', (message: Message) => {
    if ('progress' in message) onProgress(message.progress);
    else if ('report' in message) resolve(message.report);
    else if (message.code !== undefined) reject(new EngineError(message.code, message.failed));
    else reject(new Error(message.failed));
  });
  child.on('error', reject);
  child.on('exit', (code, how) =>
    reject(new Error(`the process of the rebuild has ended with ${how ?? `code ${code}`}`)),
  );
  const end = (): void => reject(new Error('the rebuild was stopped'));
  signal.addEventListener('abort', end, { once: true });
  try {
    if (child.pid !== undefined) stepBack(child.pid);
    child.send(order);
    return await promise;
  } finally {
    signal.removeEventListener('abort', end);
    if (child.exitCode === null && child.signalCode === null && child.pid !== undefined) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  }
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

if (process.argv[1] === import.meta.filename) {
  dieWithParent(() => process.exit());
  process.once('message', (order) => void work(order as RebuildOrder, (message) => process.send!(message)));
}
