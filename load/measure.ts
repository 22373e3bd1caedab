/** One run at one rate against a system that is furnished: what was offered, what came of it, and what it cost. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Ending } from '../tests/running-program.ts';
import { startGenerators, totalOf } from './generators.ts';
import { Latencies, type Summary } from './latencies.ts';
import { type ProcessRow, usedBetween } from './machine.ts';
import { type Freshness, type MetricsWatch, watchMetrics } from './metrics.ts';
import type { Customer, Plan, Second, Totals } from './plan.ts';
import { readMix } from './profiles.ts';
import { CannotLoad, type SystemUnderLoad } from './shop.ts';

export type MeasureOptions = {
  readonly system: SystemUnderLoad;
  /** Of this run alone: begins the ids of its orders. */
  readonly run: string;
  readonly seed: number;
  readonly generators: number;
  readonly connections: number;
  readonly requestsPerSecond: number;
  readonly orderShare: number;
  readonly seconds: number;
  readonly warmUpSeconds: number;
  readonly thinkMs: number;
  readonly hotShare: number;
  readonly lines: number;
  readonly linesAlike?: boolean;
  readonly customers: readonly Customer[];
  readonly skus: readonly string[];
  /** Told once a second. */
  onProgress(progress: Progress): void;
};

export type Progress = Second & {
  /** Of the measured time so far. */
  readonly placeP99: number | null;
  readonly readsP99: number | null;
  readonly errorsSoFar: number;
};

/** A second of it, for the plots; milliseconds. Null: nothing was measured. */
export type Point = {
  readonly at: number;
  readonly offered: number;
  readonly answered: number;
  readonly errors: number;
  readonly waiting: number;
  readonly place: Pair;
  readonly reads: Pair;
  readonly ends: Pair;
  readonly lagEvents: number | null;
  readonly freshnessP99: number | null;
};
type Pair = { readonly p50: number; readonly p99: number } | null;

export type Measured = {
  readonly requestsPerSecond: number;
  readonly seconds: number;
  readonly connections: number;
  readonly totals: Omit<Totals, 'latencies'>;
  readonly latencies: Readonly<Record<string, Summary>>;
  readonly freshness: Freshness | null;
  readonly processes: readonly ProcessRow[];
  readonly points: readonly Point[];
  /** It had to be broken off: why. */
  readonly brokenOff: string | null;
};

/** Ports of one source address are used up at some 28,000. */
const connectionsPerAddress = 5_000;
/** A system that says nothing at all for so long is not waited for. */
const silentSecondsMax = 8;

/** Rejects with CannotLoad when it cannot begin. */
export async function measure(options: MeasureOptions, ending: Ending): Promise<Measured> {
  const watch = watchMetrics(options.system.shop);
  try {
    return await measureWatched(options, ending, watch);
  } finally {
    watch.close();
  }
}

async function measureWatched(options: MeasureOptions, ending: Ending, watch: MetricsWatch): Promise<Measured> {
  const { system, seconds, warmUpSeconds } = options;
  const soFar = new Latencies();
  const points: Point[] = [];
  let errorsSoFar = 0;
  let silent = 0;
  let brokenOff: string | null = null;

  const generators = await startGenerators(plansOf(options), take, ending).catch((error: unknown) => {
    throw new CannotLoad((error as Error).message, { cause: error });
  });

  function take(second: Second): void {
    const own = new Latencies();
    own.add(second.latencies);
    if (second.atMs > 0) soFar.add(second.latencies);
    errorsSoFar += second.errors;
    const point = (name: string): Pair => {
      const summary = own.of(name);
      return summary === null ? null : { p50: summary.p50, p99: summary.p99 };
    };
    const { offered, answered, errors, waiting } = second;
    points.push({
      at: Math.round(second.atMs / 1_000),
      offered,
      answered,
      errors,
      waiting,
      place: point('place'),
      reads: point('reads'),
      ends: point('ends'),
      ...watch.latest(),
    });
    options.onProgress({
      ...second,
      errorsSoFar,
      placeP99: soFar.of('place')?.p99 ?? null,
      readsP99: soFar.of('reads')?.p99 ?? null,
    });
    silent = answered === 0 && second.waiting + second.underWay > 0 ? silent + 1 : 0;
    if (silent < silentSecondsMax || brokenOff !== null) return;
    brokenOff = `nothing was answered for ${silentSecondsMax} s`;
    generators.stop();
  }

  const running = generators.run();
  const used = usedBetween(system.pids, generators.pids);
  await sooner(warmUpSeconds, running);
  used.begin();
  const shownBefore = watch.shown();
  await sooner(seconds, running);
  used.end();
  const total = totalOf(await running);
  generators.dismiss();
  const freshness = brokenOff === null ? await watch.freshness(await shownBefore) : null;

  const latencies = new Latencies();
  latencies.add(total.latencies);
  const summaries: Record<string, Summary> = {};
  for (const name of latencies.names()) summaries[name] = latencies.of(name)!;
  const reads = latencies.of(...readMix.map(({ name }) => name));
  if (reads !== null) summaries['reads'] = reads;
  const { latencies: _counts, ...totals } = total;
  const answered = Object.values(total.answered).reduce((sum, one) => sum + one, 0);
  return {
    requestsPerSecond: options.requestsPerSecond,
    seconds,
    connections: options.connections,
    totals,
    latencies: summaries,
    freshness,
    points,
    brokenOff,
    processes: used.rows(answered),
  };
}

/** Resolves after so many seconds, or as soon as `running` has ended in any way. */
async function sooner(seconds: number, running: Promise<unknown>): Promise<void> {
  await Promise.race([delay(seconds * 1_000, undefined, { ref: false }), running.catch(() => {})]);
}

/** What each generator is told to do. */
export function plansOf(options: Omit<MeasureOptions, 'onProgress'>): readonly Plan[] {
  const { system, generators, connections, customers, warmUpSeconds, seconds } = options;
  const { hostname, port, protocol } = new URL(system.address);
  const host = hostname.replace(/^\[|\]$/g, '');
  const share = (n: number, of: number): number =>
    Math.floor(((n + 1) * of) / generators) - Math.floor((n * of) / generators);
  return Array.from({ length: generators }, (_, n): Plan => {
    const mine = customers.filter((_customer, at) => at % generators === n);
    return {
      target: { host, port: Number(port) || (protocol === 'https:' ? 443 : 80) },
      localAddresses: sourceAddresses(host, connections),
      name: `load-${options.run}-${n}`,
      seed: options.seed + n,
      connections: share(n, connections),
      requestsPerSecond: options.requestsPerSecond / generators,
      orderShare: options.orderShare,
      rampMs: (warmUpSeconds * 1_000) / 2,
      warmUpMs: warmUpSeconds * 1_000,
      measureMs: seconds * 1_000,
      thinkMs: options.thinkMs,
      callers: system.callers,
      ...(system.operatorToken === undefined ? {} : { operatorToken: system.operatorToken }),
      customers: mine.length > 0 ? mine : customers,
      skus: options.skus,
      hotShare: options.hotShare,
      lines: options.lines,
      linesAlike: options.linesAlike ?? false,
    };
  });
}

/** Several of the loopback network where there are many connections: elsewhere than on Linux it has only one. */
function sourceAddresses(host: string, connections: number): readonly string[] {
  const isLoopback = host.startsWith('127.') && process.platform === 'linux';
  if (!isLoopback || connections <= connectionsPerAddress) return [];
  return Array.from({ length: Math.ceil(connections / connectionsPerAddress) }, (_, n) => `127.0.0.${n + 1}`);
}
