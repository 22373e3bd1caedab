/**
 * `npm run bench:rebuild`: how fast read models are rebuilt from many orders, beside COPY of the same rows into the
 * same tables with their indexes, and what those who read and order meanwhile feel of it. The system is one of its
 * own, in a temporary folder, and its logs are verified. It fails on a difference, a failed request, or a passed limit.
 */
import { rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { createHistogram } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { checkLog, logBeginning, type LogPlace } from '#cqrs/log-integrity.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import { Progress } from '#platform/progress-bar.ts';
import { movedByOthers } from '#services/inventory/service.ts';
import { openEnding, programDataDir, startTestProgram, type TestProgram } from '../tests/running-program.ts';
import { newId } from '../tests/shop-client.ts';
import { caughtUp, jobDone } from './long-work.ts';
import { makeManyOrders } from './many-orders.ts';
import { shownWithin } from './shown-events.ts';

const { values: flags } = parseArgs({
  options: {
    orders: { type: 'string', default: '200000' },
    reads: { type: 'string', default: '300' },
    smoke: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (flags.help) {
  console.log(`Usage: npm run bench:rebuild [-- OPTIONS]

  --orders N   orders whose events are rebuilt, about 7 events each (default 200000)
  --reads R    reads a second while it is watched, with an order to every tenth (default 300; 0: it is not watched)
  --smoke      2000 orders, without judging the times

Examples:
  npm run bench:rebuild
  npm run bench:rebuild -- --orders 1000000 --reads 0`);
  process.exit(0);
}
const orders = flags.smoke ? 2_000 : Number(flags.orders);
const readsPerSecond = Number(flags.reads);
const watchBeforeMs = flags.smoke ? 1_000 : 15_000;
const p99RatioMax = 2;
const freshnessLimitMs = 5_000;
const copies = 3;

type Outcome = {
  readonly events: number;
  readonly workedMs: number;
  readonly rows: number;
  readonly heldMs: number;
  readonly differences: { readonly count: number } | null;
};

const ending = openEnding();
const failures: string[] = [];
try {
  const dataDir = await programDataDir(ending);
  const progress = new Progress(process.stderr);
  progress.begin('writing orders', orders);
  const events = await makeManyOrders(ending, dataDir, orders, (done) => progress.reach(done));
  progress.end();
  console.log(`${orders} orders, ${events} events`);

  const program = await startTestProgram(ending, dataDir, { TWOFOLD_LOG_LEVEL: 'error' });
  const database = openDatabase(program.databaseUrls.queries, { applicationName: 'bench', statementTimeoutMs: 0 });
  ending.after(() => database.end());
  const began = performance.now();
  await caughtUp(program, progress, events);
  told('the live projections, from the first event', events, performance.now() - began);

  const alone = await rebuildAll(program, 100);
  told('a rebuild with nobody else there, reading', alone.outcome.events, alone.outcome.workedMs);
  told('  with indexes, the comparison of every row and the switch', alone.outcome.events, alone.tookMs);
  const copied = await copyAll(database);
  told('COPY of the same rows, and their indexes', alone.outcome.events, copied.tookMs);
  console.log(
    `${copied.rows} rows; reading at ${(copied.tookMs / alone.outcome.workedMs).toFixed(2)} of the rate of COPY and indexes`,
  );
  await verifyLogs(program, events);
  if (readsPerSecond > 0) await watch(program);
} finally {
  await ending.end();
}
for (const failure of failures) console.log(`missed: ${failure}`);
process.exitCode = failures.length === 0 ? 0 : 1;

function told(what: string, events: number, tookMs: number): void {
  console.log(
    `${what.padEnd(62)}${(tookMs / 1_000).toFixed(1).padStart(8)} s${((events * 1_000) / tookMs).toFixed(0).padStart(9)} events/s`,
  );
}

async function rebuildAll(program: TestProgram, sharePercent: number): Promise<{ outcome: Outcome; tookMs: number }> {
  const began = performance.now();
  const outcome = await jobDone<Outcome>(program, '/v1/ops/projections/all/rebuild', { sharePercent });
  if (outcome.differences?.count !== 0) failures.push(`${outcome.differences?.count} rows differ from their events`);
  return { outcome, tookMs: performance.now() - began };
}

/** The median of some runs, as PostgreSQL does it by itself: from files into bare tables, then the indexes. */
async function copyAll(database: Database): Promise<{ rows: number; tookMs: number }> {
  const tables = await database.query<{ name: string }>(
    '',
    `select distinct c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = 'previous' and c.relkind = 'r'`,
  );
  const indexes = await database.query<{ definition: string }>(
    '',
    `select indexdef as definition from pg_indexes where schemaname = 'public' and tablename = any($1)`,
    [tables.map(({ name }) => name)],
  );
  const [server] = await database.query<{ folder: string }>('', `select current_setting('data_directory') as folder`);
  // The only folder that is surely the server's own.
  const fileOf = (name: string): string => join(server!.folder, `bench-${name}.copy`);
  for (const { name } of tables) await database.query('', `copy public.${name} to '${fileOf(name)}' (format binary)`);
  const times: number[] = [];
  let rows = 0;
  for (let run = 0; run < copies; run += 1) {
    await database.query('', 'create schema copied');
    for (const { name } of tables)
      await database.query('', `create table copied.${name} (like public.${name} including storage)`);
    const began = performance.now();
    for (const { name } of tables)
      await database.query('', `copy copied.${name} from '${fileOf(name)}' (format binary)`);
    for (const { definition } of indexes) await database.query('', definition.replace(' ON public.', ' ON copied.'));
    times.push(performance.now() - began);
    rows = 0;
    for (const { name } of tables) {
      const [count] = await database.query<{ rows: number }>('', `select count(*) as rows from copied.${name}`);
      rows += count!.rows;
    }
    await database.query('', 'drop schema copied cascade');
  }
  for (const { name } of tables) rmSync(fileOf(name), { force: true });
  return { rows, tookMs: times.toSorted((a, b) => a - b)[Math.floor(copies / 2)]! };
}

/** Whether every log is what was written, and how long it takes to know. */
async function verifyLogs({ databaseUrls }: TestProgram, events: number): Promise<void> {
  const began = performance.now();
  for (const service of ['catalog', 'ordering', 'inventory', 'payments'] as const) {
    const log = openDatabase(databaseUrls[service], { applicationName: 'bench', poolMax: 1 });
    for (let place: LogPlace | null = logBeginning; place !== null;) {
      const piece: Awaited<ReturnType<typeof checkLog>> = await checkLog(log, {
        place,
        eventsMax: 10_000,
        movedByOthers,
      });
      for (const { kind, expected, found } of piece.findings)
        failures.push(`${service}: ${kind}: ${expected}; ${found}`);
      place = piece.next;
    }
    await log.end();
  }
  told('verification of the logs: positions, versions, slots and hashes', events, performance.now() - began);
}

/** Reads by schedule, and orders between them: before a rebuild, and while it goes on at its default share. */
async function watch(program: TestProgram): Promise<void> {
  const { shop, address } = program;
  const { sku, customerId } = await shop.furnish(1_000_000);
  const { body } = await shop.get<{ items: { orderId: string }[] }>('/v1/orders?limit=100');
  const paths = body.items.flatMap(({ orderId }) => [`/v1/orders/${orderId}`, `/v1/orders/${orderId}/history`]);
  paths.push('/v1/orders?limit=20', `/v1/products/${sku}`, `/v1/customers/${customerId}/orders`);
  const agent = new Agent({ keepAlive: true, maxSockets: 64 });
  ending.after(() => agent.destroy());
  let failed = 0;

  async function during<T>(work: Promise<T>): Promise<{ result: T; p50Ms: number; p99Ms: number; reads: number }> {
    const histogram = createHistogram();
    const underWay: Promise<void>[] = [];
    let ended = false;
    void work.finally(() => (ended = true)).catch(() => {});
    const start = performance.now();
    for (let n = 0; !ended; n += 1) {
      const dueMs = start + (n * 1_000) / readsPerSecond;
      const earlyMs = dueMs - performance.now();
      if (earlyMs > 0) await new Promise((resolve) => setTimeout(resolve, earlyMs));
      const path = paths[n % paths.length]!;
      underWay.push(
        get(new URL(path, address), agent).then((status) => {
          if (status !== 200) failed += 1;
          histogram.record(Math.max(1, Math.round((performance.now() - dueMs) * 1_000)));
        }),
      );
      if (n % 10 === 0)
        underWay.push(
          shop.send({ orderId: newId('order'), customerId, sku }).then(({ status }) => {
            if (status !== 201) failed += 1;
          }),
        );
    }
    await Promise.all(underWay);
    const ms = (percentile: number): number => histogram.percentile(percentile) / 1_000;
    return { result: await work, p50Ms: ms(50), p99Ms: ms(99), reads: histogram.count };
  }

  await during(new Promise((resolve) => setTimeout(resolve, watchBeforeMs / 3)));
  const before = await during(new Promise((resolve) => setTimeout(resolve, watchBeforeMs)));
  const shownBefore = shownWithin((await shop.get<string>('/metrics')).body);
  const meanwhile = await during(rebuildAll(program, 50));
  const shownAfter = shownWithin((await shop.get<string>('/metrics')).body);
  const { heldMs, events } = meanwhile.result.outcome;
  told('a rebuild at its default share, while people read and order', events, meanwhile.result.tookMs);
  const line = (what: string, { reads, p50Ms, p99Ms }: typeof before | typeof meanwhile): void =>
    console.log(`  reads ${what}: ${reads}, p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms`);
  line('before', before);
  line('meanwhile', meanwhile);
  const late = [...shownAfter].filter(([boundMs]) => boundMs >= freshnessLimitMs);
  const shown = shownAfter.get(Infinity)! - shownBefore.get(Infinity)!;
  const within = late[0]![1] - shownBefore.get(late[0]![0])!;
  console.log(
    `  writers held for ${heldMs.toFixed(0)} ms; ${within} of ${shown} events shown within ${freshnessLimitMs} ms`,
  );
  if (failed > 0) failures.push(`${failed} requests failed`);
  if (within < shown) failures.push(`${shown - within} events were shown later than ${freshnessLimitMs} ms`);
  if (!flags.smoke && meanwhile.p99Ms > p99RatioMax * before.p99Ms)
    failures.push(
      `reads at p99 took ${(meanwhile.p99Ms / before.p99Ms).toFixed(1)} times as long as before, at most ${p99RatioMax}`,
    );
}

function get(url: URL, agent: Agent): Promise<number> {
  return new Promise((resolve, reject) => {
    request(url, { agent }, (response) => {
      response.resume().on('end', () => resolve(response.statusCode ?? 0));
    })
      .on('error', reject)
      .end();
  });
}
