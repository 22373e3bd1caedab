/**
 * `npm run bench:append`: what an append costs, beside what the machine and PostgreSQL can do in the
 * same minutes. Each caller executes one command after the other: one event on a new stream, its state,
 * an idempotency key; each is durable when it is answered. Rounds of all contestants alternate, and
 * the medians are compared.
 */
import { execFile, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { fdatasyncSync, mkdtempSync, openSync, closeSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createHistogram } from 'node:perf_hooks';
import { parseArgs, promisify } from 'node:util';
import { createCommandBus, type StreamType } from '#cqrs/command-bus.ts';
import { logSchemaFolders, openPostgresLog } from '#cqrs/postgres-log.ts';
import { assertDurable, startEmbeddedPostgres } from '#platform/embedded-postgres.ts';
import { createLogger } from '#platform/logger.ts';
import { migrate } from '#platform/migrations.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';

const { values: flags } = parseArgs({
  options: {
    smoke: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (flags.help) {
  console.log(`Usage: npm run bench:append [-- OPTIONS]

  --rounds N    rounds of each contestant (default 5)
  --seconds S   length of each (default 3)
  --smoke       one short round: does it run, and is what it wrote there?

Examples:
  npm run bench:append
  npm run bench:append -- --rounds 12 --seconds 5`);
  process.exit(0);
}
const rounds = Number(flags.rounds ?? (flags.smoke ? 1 : 5));
const seconds = Number(flags.seconds ?? (flags.smoke ? 0.5 : 3));
const callerCounts = [1, 32, 1_000] as const;

type Measured = { readonly perSecond: number; readonly p99Ms: number | null };
type Contestant = { readonly name: string; run(): Promise<Measured> };

const folder = mkdtempSync(join(tmpdir(), 'twofold-bench-'));
const server = await startEmbeddedPostgres({
  dataDir: folder,
  databases: ['log', 'single'],
  onUnexpectedExit: (error) => {
    throw error;
  },
  logger: createLogger('warn'),
});
const databases: Database[] = [];
const opened = (name: string, poolMax: number): Database => {
  const database = openDatabase(server.url(name), { applicationName: 'bench', poolMax });
  databases.push(database);
  return database;
};

try {
  const database = opened('log', 4);
  await assertDurable(database);
  await migrate(database, logSchemaFolders);
  const log = await openPostgresLog({ database, source: 'bench.0' });
  const bus = createCommandBus({ log });
  const single = opened('single', 40);
  await single.query(
    'table',
    'create table rows (id bigserial primary key, at timestamptz not null, body text not null)',
  );

  const contestants: Contestant[] = [
    { name: 'fdatasync of 4 KiB', run: fdatasyncs },
    ...callerCounts.map((callers) => ({ name: `append, ${callers} callers`, run: () => appends(bus, callers) })),
    ...[1, 32].map((clients) => singleInserts(clients, single)),
  ];
  const results = new Map<string, Measured[]>(contestants.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round += 1) {
    // Back and forth, so that a drift of the machine favours none.
    for (const { name, run } of round % 2 === 0 ? contestants : contestants.toReversed()) {
      results.get(name)!.push(await run());
      process.stderr.write(`round ${round + 1}/${rounds}  ${name}\n`);
    }
  }
  await checkWritten(database, await log.head());
  report(results);
  log.close();
} finally {
  await Promise.all(databases.map((database) => database.end()));
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
}

async function appends(bus: ReturnType<typeof createCommandBus>, callers: number): Promise<Measured> {
  const stream: StreamType<{ n: number }> = {
    name: 'order',
    initial: { n: 0 },
    evolve: (state) => ({ n: state.n + 1 }),
  };
  const origin = { actor: 'operator', correlationId: 'c', causationId: 'r' };
  const data = {
    customerId: 'customer-1',
    lines: [{ sku: 'TEA-EARL-GREY', quantity: 2, unitPrice: 690 }],
    total: 1_380,
  };
  return inParallel(callers, async () => {
    const id = randomUUID();
    await bus.execute({
      reads: [{ type: stream, id, likelyNew: true }],
      origin,
      idempotency: { caller: 'operator', key: id, fingerprint: id },
      run(scope) {
        scope.record(stream, id, { type: 'OrderPlaced', data });
        return { status: 201, orderId: id };
      },
    });
  });
}

/** pgbench where it is installed; else the same statement from this process, and named so. */
function singleInserts(clients: number, database: Database): Contestant {
  const insert = `insert into rows (at, body) values (now(), 'some hundred bytes of a row that says what happened to an order, and why')`;
  if (spawnSync('pgbench', ['--version']).error !== undefined) {
    return {
      name: `one-row inserts from Node, ${clients} clients`,
      run: () => inParallel(clients, () => database.query('insert', insert)),
    };
  }
  const script = join(folder, 'insert.sql');
  writeFileSync(script, `${insert};\n`, { mode: 0o644 });
  return {
    name: `pgbench one-row inserts, ${clients} clients`,
    async run() {
      const threads = clients > 1 ? '2' : '1';
      const length = String(Math.max(1, Math.round(seconds)));
      const asked = `-n -M prepared -c ${clients} -j ${threads} -T ${length}`.split(' ');
      const { stdout } = await promisify(execFile)('pgbench', [...asked, '-f', script, server.url('single')]);
      const perSecond = Number(/tps = ([\d.]+)/.exec(stdout)?.[1]);
      if (!(perSecond > 0)) throw new Error(`pgbench said nothing of its rate: ${stdout}`);
      return { perSecond, p99Ms: null };
    },
  };
}

async function fdatasyncs(): Promise<Measured> {
  const file = openSync(join(folder, 'sync'), 'w');
  const block = Buffer.alloc(4_096, 1);
  return inParallel(1, async () => {
    writeSync(file, block, 0, block.length, 0);
    fdatasyncSync(file);
  }).finally(() => closeSync(file));
}

async function inParallel(callers: number, once: () => Promise<unknown>): Promise<Measured> {
  const latencies = createHistogram();
  const start = performance.now();
  const end = start + seconds * 1_000;
  let done = 0;
  await Promise.all(
    Array.from({ length: callers }, async () => {
      while (performance.now() < end) {
        const sent = process.hrtime.bigint();
        await once();
        latencies.record(process.hrtime.bigint() - sent);
        done += 1;
      }
    }),
  );
  return { perSecond: (done * 1_000) / (performance.now() - start), p99Ms: latencies.percentile(99) / 1e6 };
}

/** What was answered is there: dense positions, one event, one state and one key per command. */
async function checkWritten(database: Database, head: number): Promise<void> {
  const [row] = await database.query<{ events: number; low: number; high: number; streams: number; keys: number }>(
    'check',
    `select count(*) as events, min(position) as low, max(position) as high,
       (select count(*) from streams) as streams, (select count(*) from idempotency_keys) as keys from events`,
  );
  const expected = { events: head, low: 1, high: head, streams: head, keys: head };
  if (head === 0 || JSON.stringify(row) !== JSON.stringify(expected)) {
    throw new Error(`the log holds ${JSON.stringify(row)} where ${JSON.stringify(expected)} should be`);
  }
  console.log(`checked: ${head.toLocaleString('en')} commands, each with its event, state and key, positions dense\n`);
}

function report(results: ReadonlyMap<string, readonly Measured[]>): void {
  const median = (numbers: readonly number[]): number =>
    numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!;
  const row = (cells: readonly string[]): void =>
    console.log(cells.map((cell, n) => (n === 0 ? cell.padEnd(36) : cell.padStart(12))).join(''));
  row(['', 'per second', 'lowest', 'highest', 'p99 ms']);
  const rates = new Map<string, number>();
  for (const [name, measured] of results) {
    const perSecond = measured.map((one) => one.perSecond);
    const p99 = measured.flatMap((one) => one.p99Ms ?? []);
    rates.set(name, median(perSecond));
    const whole = (value: number): string => Math.round(value).toLocaleString('en');
    row([
      name,
      whole(median(perSecond)),
      whole(Math.min(...perSecond)),
      whole(Math.max(...perSecond)),
      p99.length > 0 ? median(p99).toFixed(1) : '',
    ]);
  }
  const best = (pattern: RegExp): number =>
    Math.max(...[...rates].filter(([name]) => pattern.test(name)).map(([, rate]) => rate));
  console.log(`\nbest append ÷ best one-row insert: ${(best(/^append/) / best(/insert/)).toFixed(2)} (aim: 2)`);
}
