/**
 * What appends, and what its rate is compared with, all on one PostgreSQL of its own: our log, one-row inserts, COPY,
 * and the disk. One command is one event on a new stream, its state and an idempotency key; each is durable when it
 * is answered.
 */
import { randomUUID } from 'node:crypto';
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CommandBus, createCommandBus, type StreamType } from '#cqrs/command-bus.ts';
import { logSchemaFolders, openPostgresLog } from '#cqrs/postgres-log.ts';
import { startEmbeddedPostgres } from '#platform/embedded-postgres.ts';
import { createLogger } from '#platform/logger.ts';
import { migrate } from '#platform/migrations.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import type { Ending } from '../tests/running-program.ts';
import { assertAnswersAreDurable } from './durability.ts';
import { inParallel, type OneRowInserts, openOneRowInserts, type Rate } from './one-row-inserts.ts';

export type AppendContestants = {
  append(callers: number, seconds: number): Promise<Rate>;
  readonly inserts: OneRowInserts;
  fdatasync(seconds: number): Promise<Rate>;
  /** So many of the events that were appended, at once into an empty table like that of the log, indexes and all. */
  copy(rowsMax: number): Promise<Rate>;
  /** The address of the database for the contestant from elsewhere. */
  readonly otherUrl: string;
  /** Rejects unless what was answered is there: dense positions, one event, one state and one key per command. */
  check(): Promise<string>;
};

export async function openAppendContestants(ending: Ending): Promise<AppendContestants> {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-bench-'));
  const server = await startEmbeddedPostgres({
    dataDir: folder,
    databases: ['log', 'single', 'other'],
    onUnexpectedExit: (error) => {
      throw error;
    },
    logger: createLogger('warn'),
  });
  // After all that uses it, in the order in which that was begun.
  ending.after(() =>
    ending.after(async () => {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    }),
  );
  const inserts = await openOneRowInserts(ending, server.url('single'));
  const database = openDatabase(server.url('log'), { applicationName: 'bench', statementTimeoutMs: 0 });
  await migrate(database, logSchemaFolders);
  const log = await openPostgresLog({ database, source: 'bench.0' });
  const bus = createCommandBus({ log });
  ending.after(async () => {
    log.close();
    await database.end();
  });
  await assertAnswersAreDurable(server.url('log'), () => appendOne(bus));
  return {
    append: (callers, seconds) => inParallel(callers, seconds, () => appendOne(bus)),
    inserts,
    fdatasync: (seconds) => fdatasyncs(join(folder, 'sync'), seconds),
    copy: (rowsMax) => copyEvents(database, server.location, rowsMax),
    otherUrl: server.url('other'),
    check: async () => checkWritten(database, await log.head()),
  };
}

const stream: StreamType<{ n: number }> = {
  name: 'order',
  initial: { n: 0 },
  evolve: (state) => ({ n: state.n + 1 }),
};
const origin = { actor: 'operator', correlationId: 'c', causationId: 'r' };
/** Of an event, whoever records it. */
export const eventData = {
  customerId: 'customer-1',
  lines: [{ sku: 'TEA-EARL-GREY', quantity: 2, unitPrice: 690 }],
  total: 1_380,
};

async function appendOne(bus: CommandBus): Promise<void> {
  const id = randomUUID();
  await bus.execute({
    reads: [{ type: stream, id, likelyNew: true }],
    origin,
    idempotency: { caller: 'operator', key: id, fingerprint: id },
    run(scope) {
      scope.record(stream, id, { type: 'OrderPlaced', data: eventData });
      return { status: 201, orderId: id };
    },
  });
}

async function fdatasyncs(path: string, seconds: number): Promise<Rate> {
  const file = openSync(path, 'w');
  const block = Buffer.alloc(4_096, 1);
  return inParallel(1, seconds, async () => {
    writeSync(file, block, 0, block.length, 0);
    fdatasyncSync(file);
  }).finally(() => closeSync(file));
}

async function copyEvents(database: Database, location: string, rowsMax: number): Promise<Rate> {
  // The only folder that is surely the server's own.
  const file = join(location, 'postgres', 'bench-events.copy');
  await database.query('', `copy (select * from events where position <= ${rowsMax}) to '${file}' (format binary)`);
  try {
    await database.query('', 'create table copied (like events including all)');
    const began = performance.now();
    await database.query('', `copy copied from '${file}' (format binary)`);
    const tookMs = performance.now() - began;
    const [found] = await database.query<{ rows: number; events: number }>(
      '',
      'select (select count(*) from copied) as rows, (select count(*) from events where position <= $1) as events',
      [rowsMax],
    );
    if (found!.rows === 0 || found!.rows !== found!.events)
      throw new Error(`COPY has written ${found!.rows} rows of ${found!.events} events`);
    return { perSecond: (found!.rows * 1_000) / tookMs, p99Ms: null };
  } finally {
    await database.query('', 'drop table if exists copied');
    rmSync(file, { force: true });
  }
}

async function checkWritten(database: Database, head: number): Promise<string> {
  const [row] = await database.query<{ events: number; low: number; high: number; streams: number; keys: number }>(
    'check',
    `select count(*) as events, min(position) as low, max(position) as high,
       (select count(*) from streams) as streams, (select count(*) from idempotency_keys) as keys from events`,
  );
  const expected = { events: head, low: 1, high: head, streams: head, keys: head };
  if (head === 0 || JSON.stringify(row) !== JSON.stringify(expected)) {
    throw new Error(`the log holds ${JSON.stringify(row)} where ${JSON.stringify(expected)} should be`);
  }
  return `${head.toLocaleString('en')} commands, each with its event, state and key, positions dense`;
}
