/**
 * A shop with orders of every ending that stands still, to plant damage in: databases, the provider's ledger, the walks of
 * the audit over them, and buses to repair through. The program itself runs only while something has to come to its end.
 */
import type { CommandServiceName } from '#contracts/service.ts';
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type CommandBus, createCommandBus } from '#cqrs/command-bus.ts';
import type { Anchor, EventLog } from '#cqrs/event-log.ts';
import { openPostgresLog } from '#cqrs/postgres-log.ts';
import { type Ports, systemPorts } from '#platform/ports.ts';
import { type Database, openDatabase, type Sql } from '#platform/postgres.ts';
import { databaseOwners, type DatabaseOwner } from '#platform/settings.ts';
import { startSandboxProvider } from '#services/payments/sandbox-provider.ts';
import type { Finding, Walk } from '../../src/audit/check.ts';
import { auditedServices } from '../../src/audit/evidence.ts';
import { anchorsId, anchorsStream } from '../../src/audit/streams.ts';
import { createWalks } from '../../src/audit/walks.ts';
import { eventTypesOf, inlineTablesOf, type ServiceName, sourceOf } from '../../src/service-map.ts';
import { testDatabaseUrl } from '../database.ts';
import { untilAtRest } from '../invariants.ts';
import type { DatabaseUrls, TestSystem } from '../running-program.ts';
import { startTestSystem } from '../running-system.ts';
import { newId, type Shop, until } from '../shop-client.ts';
import { goRound, type Round } from './rolling.ts';

export type World = {
  readonly databases: Readonly<Record<DatabaseOwner, Database>>;
  readonly providerUrl: string;
  readonly ledgerFile: string;
  /** Of orders that ended like that. */
  readonly orders: Readonly<Record<'completed' | 'outOfStock' | 'declined' | 'cancelled', string>>;
  readonly sku: string;
  readonly customerId: string;
  /** One walk after the other to its end; by a clock that is ahead by so many milliseconds. */
  fullPass(aheadMs?: number): Promise<Finding[]>;
  /** What the rolling audit finds within one round, or until it is enough. */
  goRound(isEnough: (found: readonly Finding[]) => boolean, aheadMs?: number): Promise<Round>;
  /** What the walk of `finding` says of its entity now. */
  lookAt(finding: Finding, aheadMs?: number): Promise<readonly Finding[]>;
  /** What all walks say of the entities that have changed last. */
  lookAtFreshest(limit: number): Promise<readonly Finding[]>;
  /** By the walk that has found it. */
  repair(finding: Finding, aheadMs?: number): Promise<unknown>;
  /** A bus that remembers nothing. */
  bus(service: CommandServiceName): CommandBus;
  /** Runs the whole program, or a part of it, while `work` is under way. */
  running<T>(work: (shop: Shop) => Promise<T>, services?: readonly ServiceName[]): Promise<T>;
  /** Runs it until nothing is left to do. */
  comeToRest(): Promise<void>;
  /** Runs the read side until it shows all that there is. */
  catchUp(): Promise<unknown>;
  /** All rows of all databases, by table, but for what repairs may change: how often rows were replaced. */
  dump(): Promise<ReadonlyMap<string, string>>;
};

const entitiesMax = 500;
const logged = [...auditedServices, 'audit'] as const;

export async function openWorld(t: TestContext): Promise<World> {
  const databaseUrls = await newDatabases(t);
  const folder = await mkdtemp(join(tmpdir(), 'twofold-planted-'));
  const ledgerFile = join(folder, 'ledger.sqlite');
  const provider = await startSandboxProvider({ host: '127.0.0.1', port: 0, ledgerFile, slowMs: 200 });
  t.after(() =>
    t.after(async () => {
      await provider.stop();
      await rm(folder, { recursive: true });
    }),
  );
  const beside = { databaseUrls, providerUrl: provider.url } as TestSystem;
  const running: World['running'] = async (work, services = databaseOwners) => {
    // A call that is not answered stays open for as long as the system runs.
    const system = await startTestSystem(t, { beside, services, settings: { paymentTimeoutMs: 20_000 } });
    try {
      return await work(system.shop);
    } finally {
      await system.stop();
    }
  };

  const made = await running(async (shop) => {
    const placed = await placeOrders(shop);
    await untilAtRest(databaseUrls);
    return placed;
  });
  const databases = openAll(databaseUrls);
  const logs = await openLogs(databases);
  t.after(async () => {
    for (const log of Object.values(logs)) log.close();
    await Promise.all(Object.values(databases).map((database) => database.end()));
  });
  await keepAnchors(databases, logs.audit);

  const bus = (service: CommandServiceName, ports: Ports = systemPorts): CommandBus =>
    createCommandBus({ log: logs[service], ports });
  const walksBy = (ports: Ports): Walk[] => {
    const buses = Object.fromEntries(logged.map((service) => [service, bus(service, ports)]));
    return createWalks({
      databases,
      sourceOf,
      providerUrl: provider.url,
      ports,
      idempotencyRetentionHours: 48,
      corrections: { buses: buses as Record<CommandServiceName, CommandBus>, rowsReplaced: () => {} },
    });
  };

  const walksAt = (aheadMs: number): Walk[] => walksBy({ ...systemPorts, now: () => systemPorts.now() + aheadMs });
  const walkOf = ({ check }: Finding, aheadMs: number): Walk | undefined =>
    walksAt(aheadMs).find(({ checks }) => checks.some(({ name }) => name === check));

  return {
    databases,
    providerUrl: provider.url,
    ledgerFile,
    ...made,
    fullPass: (aheadMs = 0) => fullPass(walksAt(aheadMs)),
    goRound: (isEnough, aheadMs = 0) => goRound(walksBy, aheadMs, isEnough),
    lookAt: async (finding, aheadMs = 0) => (await walkOf(finding, aheadMs)?.lookAt(finding.entity)) ?? [],
    async lookAtFreshest(limit) {
      const findings: Finding[] = [];
      for (const walk of walksAt(0))
        for (const entity of (await walk.freshest?.(limit)) ?? []) findings.push(...(await walk.lookAt(entity)));
      return findings;
    },
    async repair(finding, aheadMs = 0) {
      const walk = walkOf(finding, aheadMs);
      const [strategy] = finding.repairs;
      assert.ok(walk?.repair !== undefined && strategy !== undefined, `nobody repairs ${finding.check}`);
      return walk.repair(finding, { strategy, by: 'operator', reason: 'planted' });
    },
    bus,
    running,
    comeToRest: () => running(() => untilAtRest(databaseUrls)),
    catchUp: () => running(() => untilShown(databases), ['queries']),
    dump: () => dumpOf(databases),
  };
}

/** What a whole pass finds, one walk after the other. */
async function fullPass(walks: readonly Walk[]): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const walk of walks) {
    for (let after: string | null = null; ;) {
      const piece = await walk.look(after, entitiesMax);
      findings.push(...piece.findings);
      if (piece.next === null) break;
      after = piece.next;
    }
  }
  return findings;
}

async function placeOrders(shop: Shop): Promise<Pick<World, 'orders' | 'sku' | 'customerId'>> {
  const { sku, customerId } = await shop.furnish(20);
  const other = await shop.furnish(20);
  const completed = await shop.place({ customerId, sku, quantity: 2 }, { 'idempotency-key': newId('key') });
  await shop.place({ customerId: other.customerId, sku: other.sku, quantity: 3 });
  const lines = [sku, other.sku].map((one) => ({ sku: one, quantity: 1 }));
  await shop.place({ customerId, lines });
  const outOfStock = await shop.place({ customerId, sku, quantity: 90 });
  const declined = await shop.place({ customerId, sku, method: 'pm_declined' });
  const cancelled = await shop.place({ customerId, sku, method: 'pm_slow' });
  assert.equal((await shop.cancel(cancelled)).status, 200);
  for (const orderId of [completed, outOfStock, declined, cancelled]) await shop.waitFinal(orderId);
  return { orders: { completed, outOfStock, declined, cancelled }, sku, customerId };
}

async function newDatabases(t: TestContext): Promise<DatabaseUrls> {
  const urls = databaseOwners.map(async (owner) => [owner, await testDatabaseUrl(t)] as const);
  return Object.fromEntries(await Promise.all(urls)) as DatabaseUrls;
}

function openAll(urls: DatabaseUrls): World['databases'] {
  const entries = databaseOwners.map(
    (owner) => [owner, openDatabase(urls[owner], { applicationName: 'planted', poolMax: 4 })] as const,
  );
  return Object.fromEntries(entries) as unknown as World['databases'];
}

async function openLogs(databases: World['databases']): Promise<Record<CommandServiceName, ClosingLog>> {
  const logs = await Promise.all(
    logged.map(async (service) => {
      const log = await openPostgresLog({
        database: databases[service],
        source: sourceOf(service),
        eventTypes: eventTypesOf[service],
        inlineTables: inlineTablesOf[service],
      });
      return [service, log] as const;
    }),
  );
  return Object.fromEntries(logs) as unknown as Record<CommandServiceName, ClosingLog>;
}

type ClosingLog = EventLog & { close(): void };

/** As the audit keeps them after a round. */
async function keepAnchors(databases: World['databases'], log: EventLog): Promise<void> {
  const anchors = await Promise.all(
    auditedServices.map(async (service) => {
      const text = `select epoch, position, encode(hash, 'hex') as hash from log_head`;
      const rows = await databases[service].query<Anchor>('', text);
      return { source: sourceOf(service), ...rows[0]! };
    }),
  );
  await createCommandBus({ log }).execute({
    reads: [{ type: anchorsStream, id: anchorsId }],
    origin: { actor: 'audit', correlationId: anchorsId, causationId: anchorsId },
    run: (scope) => scope.record(anchorsStream, anchorsId, { type: 'AnchorsTaken', data: { at: scope.now, anchors } }),
  });
}

const untilShown = (databases: World['databases']): Promise<true> =>
  until('all is shown', async () => {
    for (const service of auditedServices) {
      const [head] = await databases[service].query<{ position: number }>('', 'select position from log_head');
      const behind = await databases.queries.query(
        '',
        'select consumer from checkpoints where source = $1 and position <> $2',
        [sourceOf(service), head!.position],
      );
      if (behind.length > 0) return null;
    }
    return true;
  });

const dumpsNot = ['jobs', 'previous_checkpoints', 'previous_passed'];

async function dumpOf(databases: World['databases']): Promise<ReadonlyMap<string, string>> {
  const dumps = new Map<string, string>();
  for (const owner of databaseOwners) {
    for (const table of await tablesOf(databases[owner])) {
      const columns = table === 'checkpoints' ? 'consumer, position, source, source_epoch' : '*';
      const rows = await databases[owner].query<{ row: string }>(
        '',
        `select t::text as row from (select ${columns} from ${table}) t order by 1`,
      );
      dumps.set(`${owner}.${table}`, rows.map(({ row }) => row).join('\n'));
    }
  }
  return dumps;
}

async function tablesOf(sql: Sql): Promise<string[]> {
  const rows = await sql.query<{ name: string }>(
    '',
    `select tablename as name from pg_tables where schemaname = 'public' order by 1`,
  );
  return rows.map(({ name }) => name).filter((name) => !dumpsNot.includes(name));
}
