/**
 * `npm run bench:lists`: what lists of orders cost with a million orders, against a thousand. Both are in one
 * PostgreSQL and asked by turns, by the queries' own code, without HTTP around it and without a cache: that would
 * hide the difference. Rows are written by SQL. It fails when the p99 of everyday lists is more than `ratioMust` times
 * that with a thousand orders, or when any list at all takes longer than `anyListMaxMs`.
 */
import { parseArgs } from 'node:util';
import type { OrderListQuery } from '#contracts/http.ts';
import { checkpointSchemaFolder } from '#cqrs/postgres-log.ts';
import { migrate } from '#platform/migrations.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import { createReadModels, queriesSchema, readsOptions } from '#services/queries/service.ts';
import { fillOrders, met, mixedLists, placedBefore } from '../tests/orders-at-size.ts';
import { startTestServer } from '../tests/postgres-server.ts';
import { processorMicrosOf } from './processor-time.ts';

const { values: flags } = parseArgs({
  options: {
    orders: { type: 'string', default: '1000000' },
    rounds: { type: 'string', default: '300' },
    smoke: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (flags.help) {
  console.log(`Usage: npm run bench:lists [-- OPTIONS]

  --orders N   orders in the large database (default 1000000, which takes two minutes to fill)
  --rounds N   how often each list is asked for (default 300)
  --smoke      20,000 orders and a few rounds, without judging the times

Examples:
  npm run bench:lists
  npm run bench:lists -- --orders 200000 --rounds 100`);
  process.exit(0);
}

const orders = flags.smoke ? 20_000 : Number(flags.orders);
const rounds = flags.smoke ? 5 : Number(flags.rounds);
const fewOrders = 1_000;
const ratioMust = 2;
const anyListMaxMs = 250;
const { customer, sku, word, total } = met;

/** What people look at: an index serves it, or its first entries fill a page. */
const everyday: Readonly<Record<string, OrderListQuery>> = {
  'the newest': {},
  'the oldest': { sort: 'placedAt' },
  'the largest': { sort: '-total' },
  'of a customer with half of all': { customerId: customer.half },
  'of a customer with some': { customerId: customer.seldom },
  'largest of a customer with half of all': { customerId: customer.half, sort: '-total' },
  'of a customer who has none': { customerId: customer.never },
  completed: { status: 'completed' },
  failed: { status: 'failed' },
  'failed of a customer with half of all': { status: 'failed', customerId: customer.half },
  pending: { status: 'pending' },
  'of a month': { placedFrom: placedBefore(900), placedTo: placedBefore(100) },
  'above a common total': { minTotal: total.half },
  'with a word that is everywhere': { q: word.everywhere },
  'with a frequent word': { q: word.often },
  'with a frequent SKU': { sku: sku.often },
};

/** What has to be searched for. */
const searched: Readonly<Record<string, OrderListQuery>> = {
  'above a rare total, newest first': { minTotal: total.seldom },
  'above any total, newest first': { minTotal: total.never },
  'largest of one day': { sort: '-total', placedFrom: placedBefore(1_440) },
  'completed, above any total': { status: 'completed', minTotal: total.never },
  'with a word of 1 in 200': { q: word.sometimes },
  'with a word of 1 in 200, failed': { q: word.sometimes, status: 'failed' },
  'with a word of 1 in 200, of a customer': { q: word.sometimes, customerId: customer.often },
  'with a word of 1 in 40,000': { q: word.seldom },
  'with a rare SKU': { sku: sku.seldom },
  'with a SKU that is nowhere': { sku: sku.never },
  'with a word that is nowhere': { q: word.never },
  'with a word that only the oldest 2 % have': { q: word.oldest },
  'with a word that is everywhere, above any total': { q: word.everywhere, minTotal: total.never },
  'with two frequent words that never meet': { q: `${word.left} ${word.right}` },
};

type Side = {
  /** Milliseconds, and microseconds of processor time of the server. */
  ask(query: OrderListQuery): Promise<{ readonly tookMs: number; readonly serverMicros: number }>;
  readonly reads: Database;
};

const server = await startTestServer();
const sides: Side[] = [];
try {
  await fill('few', fewOrders);
  await fill('many', orders);
  sides.push(await openSide('few'), await openSide('many'));
  const tables = [everyday, searched].map((lists) => Object.entries(lists));
  console.log(`\n${rounds} times each, by turns; ms\n`);
  console.log(`${'orders'.padEnd(50)} ${header(fewOrders)} ${header(orders)}    p99 ratio`);
  let ratio = 0;
  let slowest = 0;
  for (const [n, lists] of tables.entries()) {
    console.log(n === 0 ? '\neveryday' : '\nsearched');
    const all: [number[], number[]] = [[], []];
    for (const [name, query] of lists) {
      const [few, many] = await measure(query);
      all[0].push(...few!.times);
      all[1].push(...many!.times);
      print(name, few!, many!);
    }
    const ofAll = print('all of these', summary(all[0], 0), summary(all[1], 0));
    if (n === 0) ratio = ofAll;
    slowest = Math.max(slowest, ...all[1]);
  }
  const mixed: [number[], number[]] = [[], []];
  for (let round = 0; round < Math.max(1, rounds / 50); round += 1) {
    for (const query of mixedLists(round)) {
      for (const [n, side] of sides.entries()) mixed[n]!.push((await side.ask(query)).tookMs);
    }
  }
  console.log('\nany mix of filters, frequent and rare, in any sort');
  print(`${mixed[0].length} lists`, summary(mixed[0], 0), summary(mixed[1], 0));
  slowest = Math.max(slowest, ...mixed[1]);
  console.log(
    `\nnpm run bench:lists -- --orders ${orders} --rounds ${rounds}` +
      `\np99 ratio of everyday lists ${ratio.toFixed(2)} (must: ${ratioMust}); slowest list of all ${slowest.toFixed(0)} ms`,
  );
  if (!flags.smoke && (ratio > ratioMust || slowest > anyListMaxMs)) process.exitCode = 1;
} finally {
  await Promise.all(sides.map(({ reads }) => reads.end()));
  await server.stop();
}

async function fill(name: string, size: number): Promise<void> {
  const from = performance.now();
  const postgres = openDatabase(server.url('postgres'), { applicationName: 'bench', poolMax: 1 });
  await postgres.query('', `create database ${name}`).finally(() => postgres.end());
  const writer = openDatabase(server.url(name), {
    applicationName: 'bench',
    poolMax: 1,
    statementTimeoutMs: 600_000,
  });
  await migrate(writer, [checkpointSchemaFolder, queriesSchema]);
  await fillOrders(writer, size).finally(() => writer.end());
  console.log(`${size} orders written in ${((performance.now() - from) / 1_000).toFixed(0)} s`);
}

async function openSide(name: string): Promise<Side> {
  const reads = openDatabase(server.url(name), { applicationName: 'bench', poolMax: 1, ...readsOptions });
  const [backend] = await reads.query<{ pid: number }>('', 'select pg_backend_pid() as pid');
  const routes = createReadModels({ database: reads, cacheMb: 0 }).routes({
    caughtUp: async () => true,
    positions: () => ({}),
    parked: () => [],
  });
  const { read } = routes.find(({ url }) => url === '/v1/orders')!;
  return {
    reads,
    async ask(query) {
      const cpu = processorMicrosOf(backend!.pid);
      const start = performance.now();
      const answer = await read({ params: {}, query, caller: { role: 'operator' } } as never);
      const tookMs = performance.now() - start;
      if (!('bytes' in answer)) throw new Error(`${JSON.stringify(query)} was refused: ${answer.refused.code}`);
      return { tookMs, serverMicros: processorMicrosOf(backend!.pid) - cpu };
    },
  };
}

type Figures = { readonly times: readonly number[]; readonly p50: number; readonly p99: number; readonly cpu: number };

async function measure(query: OrderListQuery): Promise<Figures[]> {
  const times = sides.map((): number[] => []);
  const cpu = sides.map(() => 0);
  for (let round = -5; round < rounds; round += 1) {
    for (const [n, side] of sides.entries()) {
      const { tookMs, serverMicros } = await side.ask(query);
      if (round < 0) continue;
      times[n]!.push(tookMs);
      cpu[n]! += serverMicros;
    }
  }
  return times.map((own, n) => summary(own, cpu[n]! / rounds / 1_000));
}

function summary(times: readonly number[], cpu: number): Figures {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;
  return { times, p50: at(0.5), p99: at(0.99), cpu };
}

function header(size: number): string {
  return `${`${size}: p50`.padStart(14)} ${'p99'.padStart(7)} ${'CPU'.padStart(6)}`;
}

function print(name: string, few: Figures, many: Figures): number {
  const columns = ({ p50, p99, cpu }: Figures): string =>
    `${p50.toFixed(2).padStart(14)} ${p99.toFixed(2).padStart(7)} ${cpu === 0 ? '      ' : cpu.toFixed(2).padStart(6)}`;
  const ratio = many.p99 / few.p99;
  console.log(`${name.padEnd(50)} ${columns(few)} ${columns(many)} ${ratio.toFixed(2).padStart(12)}`);
  return ratio;
}
