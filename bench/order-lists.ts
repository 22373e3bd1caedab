/**
 * Lists of orders as people and operators ask for them, in a database with few orders and one with many, both in one
 * PostgreSQL. Asked by the queries' own code, without HTTP around it and without a cache: that would hide the difference.
 */
import type { OrderListQuery } from '#contracts/http.ts';
import { checkpointSchemaFolder } from '#cqrs/postgres-log.ts';
import { migrate } from '#platform/migrations.ts';
import { openDatabase } from '#platform/postgres.ts';
import { createReadModels, openReads, queriesSchema } from '#services/queries/service.ts';
import { fillOrders, met, placedBefore } from '../tests/orders-at-size.ts';
import { startTestServer, type TestServer } from '../tests/postgres-server.ts';
import type { Ending } from '../tests/running-program.ts';
import { quantile } from './pairs.ts';
import { processorMicrosOf } from './processor-time.ts';

export type Side = {
  /** Milliseconds, and microseconds of processor time of the server. */
  ask(query: OrderListQuery): Promise<{
    readonly tookMs: number;
    readonly serverMicros: number;
    /** The answer, as JSON. */
    readonly bytes: Buffer | string;
  }>;
};

/** One per size, filled by SQL. A million orders take two minutes. */
export async function openSides(
  ending: Ending,
  sizes: readonly number[],
  onFilled: (orders: number, tookMs: number) => void,
): Promise<readonly Side[]> {
  const server = await startTestServer();
  ending.after(() => ending.after(() => server.stop()));
  for (const size of sizes) onFilled(size, await fill(server, size));
  return Promise.all(sizes.map((size) => openSide(ending, server, size)));
}

export type Figures = {
  readonly times: readonly number[];
  readonly p50: number;
  readonly p99: number;
  /** Milliseconds of the server's processor time each. */
  readonly cpu: number;
};

/** Asks all sides by turns, so often. */
export async function askByTurns(
  sides: readonly Side[],
  query: OrderListQuery,
  rounds: number,
): Promise<readonly Figures[]> {
  const times = sides.map((): number[] => []);
  const cpu = sides.map(() => 0);
  for (let round = -warmUpRounds; round < rounds; round += 1) {
    for (const [n, side] of sides.entries()) {
      const { tookMs, serverMicros } = await side.ask(query);
      if (round < 0) continue;
      times[n]!.push(tookMs);
      cpu[n]! += serverMicros;
    }
  }
  return times.map((own, n) => summary(own, cpu[n]! / rounds / 1_000));
}

export const summary = (times: readonly number[], cpu: number): Figures => ({
  times,
  p50: quantile(times, 0.5),
  p99: quantile(times, 0.99),
  cpu,
});

const warmUpRounds = 5;
const { customer, sku, word, total } = met;

/** What people look at: an index serves it, or its first entries fill a page. */
export const everyday: Readonly<Record<string, OrderListQuery>> = {
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
export const searched: Readonly<Record<string, OrderListQuery>> = {
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

async function fill(server: TestServer, size: number): Promise<number> {
  const began = performance.now();
  const postgres = openDatabase(server.url('postgres'), { applicationName: 'bench', poolMax: 1 });
  await postgres.query('', `create database ${nameOf(size)}`).finally(() => postgres.end());
  const options = { applicationName: 'bench', poolMax: 1, statementTimeoutMs: 600_000 };
  const writer = openDatabase(server.url(nameOf(size)), options);
  await migrate(writer, [checkpointSchemaFolder, queriesSchema]);
  await fillOrders(writer, size).finally(() => writer.end());
  return performance.now() - began;
}

async function openSide(ending: Ending, server: TestServer, size: number): Promise<Side> {
  const reads = openReads(server.url(nameOf(size)), { applicationName: 'bench', connectionsMax: 1 });
  ending.after(() => reads.end());
  const backends = await Promise.all(
    [reads.database, reads.plannedOnce].map((one) => one.query<{ pid: number }>('', 'select pg_backend_pid() as pid')),
  );
  const processorMicros = (): number =>
    backends.reduce((micros, [backend]) => micros + processorMicrosOf(backend!.pid), 0);
  const routes = createReadModels({ ...reads, cacheMb: 0 }).routes({
    caughtUp: async () => true,
    positions: () => ({}),
    parked: () => [],
  });
  const { read } = routes.find(({ url }) => url === '/v1/orders')!;
  return {
    async ask(query) {
      const before = processorMicros();
      const start = performance.now();
      const answer = await read({ params: {}, query, caller: { role: 'operator' } } as never);
      const tookMs = performance.now() - start;
      if (!('bytes' in answer)) throw new Error(`${JSON.stringify(query)} was refused: ${answer.refused.code}`);
      return { tookMs, serverMicros: processorMicros() - before, bytes: answer.bytes };
    },
  };
}

const nameOf = (size: number): string => `orders_${size}`;
