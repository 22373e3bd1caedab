/** Records a history: several servers on the same databases, clients that ask any of them, and kills. */
import { randomInt } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { openDatabase } from '#platform/postgres.ts';
import { databaseOwners } from '#platform/settings.ts';
import { startTestServer, type TestServer } from '../tests/postgres-server.ts';
import { type Ending, startTestProcess, type TestProcess } from '../tests/running-program.ts';
import { openShop } from '../tests/shop-client.ts';
import type { HistoryLine, LoggedEvent } from './history.ts';
import { startHistoryClients } from './history-clients.ts';

export type HistoryRun = {
  readonly seconds: number;
  readonly kills: number;
  readonly clients: number;
  onProgress(line: string): void;
};

const serversAtOnce = 2;
const services = ['catalog', 'ordering', 'inventory', 'payments'] as const;
/** Every so many kills all servers die together. */
const allDieEvery = 3;
const stock = 1_000_000;

export async function recordHistory(ending: Ending, run: HistoryRun): Promise<HistoryLine[]> {
  const postgres = await startTestServer();
  ending.after(() => ending.after(() => postgres.stop()));
  await createDatabases(postgres);
  const env = await environment(ending, postgres);
  const start = (): Promise<TestProcess> =>
    startTestProcess(ending, ['serve', ...services, '--port', '0'], env, / at (http:\S+)/);
  // One after the other: the first makes the tables.
  const servers: TestProcess[] = [];
  for (let n = 0; n < serversAtOnce; n += 1) servers.push(await start());
  const addresses = (): string[] => servers.map(({ said }) => said[0]!);

  const shop = openShop(addresses()[0]!);
  const furnished = await shop.furnish(stock);
  const clients = startHistoryClients({ addresses, clients: run.clients, ...furnished });
  const since = performance.now();
  for (let kill = 1; kill <= run.kills; kill += 1) {
    // At any moment of its share of the time.
    const due = ((kill - Math.random()) * run.seconds * 1_000) / (run.kills + 1);
    await delay(Math.max(0, since + due - performance.now()));
    const one = randomInt(serversAtOnce);
    const dying = kill % allDieEvery === 0 ? servers.map((_, n) => n) : [one];
    await Promise.all(
      dying.map(async (n) => {
        const { pid } = servers[n]!;
        clients.noteKill(`server-${n + 1}`);
        servers[n]!.kill('SIGKILL');
        await servers[n]!.ended();
        servers[n] = await start();
        run.onProgress(`killed server ${n + 1} (${pid}) after ${clients.begun()} operations, started it again`);
      }),
    );
  }
  await delay(Math.max(0, since + run.seconds * 1_000 - performance.now()));
  const lines = await clients.stop();
  for (const server of servers) {
    server.kill('SIGTERM');
    await server.ended();
  }
  return [...lines, ...(await loggedEvents(postgres, new Set(lines.flatMap(streamOf))))];
}

async function createDatabases(postgres: TestServer): Promise<void> {
  const database = openDatabase(postgres.url('postgres'), { applicationName: 'histories' });
  for (const owner of services) await database.query(`create ${owner}`, `create database ${owner}`);
  await database.end();
}

/** Of all servers: the databases, and a payment provider that outlives them. */
async function environment(ending: Ending, postgres: TestServer): Promise<Record<string, string>> {
  const dataDir = await mkdtemp(join(tmpdir(), 'twofold-provider-'));
  ending.after(() => ending.after(() => rm(dataDir, { recursive: true })));
  const provider = await startTestProcess(
    ending,
    ['serve', 'sandbox'],
    { TWOFOLD_DATA_DIR: dataDir, TWOFOLD_SANDBOX_PORT: '0' },
    /provider answers at (\S+)/,
  );
  const urls = databaseOwners.map((owner) => [`DATABASE_URL_${owner.toUpperCase()}`, postgres.url(owner)]);
  return { ...Object.fromEntries(urls), TWOFOLD_PROVIDER_URL: provider.said[0]! };
}

const streamOf = (line: HistoryLine): string[] => ('stream' in line ? [line.stream] : []);

/** What the logs hold of `streams`, read once nobody writes any more. */
async function loggedEvents(postgres: TestServer, streams: ReadonlySet<string>): Promise<LoggedEvent[]> {
  const found: LoggedEvent[] = [];
  for (const owner of ['catalog', 'ordering'] as const) {
    const database = openDatabase(postgres.url(owner), { applicationName: 'histories' });
    const rows = await database.query<{ stream: string; version: number; type: string; data: string }>(
      'events',
      'select stream, version, type, data from events order by position',
    );
    await database.end();
    for (const { stream, version, type, data } of rows) {
      if (!streams.has(stream)) continue;
      found.push({ type: 'event', stream, version, event: type, value: valueOf(type, JSON.parse(data) as Data) });
    }
  }
  return found;
}

type Data = { readonly name?: string; readonly reason?: string; readonly lines?: readonly { unitPrice: number }[] };

/** The value of the operation that an event records. */
function valueOf(type: string, { name, reason, lines }: Data): string | number | null {
  switch (type) {
    case 'ProductAdded':
    case 'ProductChanged':
    case 'CustomerRegistered':
    case 'CustomerChanged':
      return name ?? null;
    case 'OrderPlaced':
      return lines?.[0]?.unitPrice ?? null;
    case 'OrderCancelled':
      return reason ?? null;
    default:
      return null;
  }
}
