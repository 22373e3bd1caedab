/** One run at one rate against a system that is furnished: what was offered, what came of it, and what it cost. */
import { setTimeout as delay } from 'node:timers/promises';
import { shownWithin } from '../bench/shown-events.ts';
import { until } from '../tests/shop-client.ts';
import { startGenerators, totalOf } from './generators.ts';
import { Latencies, type Summary } from './latencies.ts';
import { childrenOf, type Usage, usageOf, usageOfTree } from './machine.ts';
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

/** Milliseconds; by upper bound of the buckets in which the system counts. Null: nothing was counted. */
export type Freshness = {
  readonly events: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly allShown: boolean;
};

export type ProcessRow = {
  readonly name: string;
  readonly corePercent: number;
  readonly microsPerRequest: number;
  readonly memoryMb: number;
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
const lookEveryMs = 1_000;
/** A system that says nothing at all for so long is not waited for. */
const silentSecondsMax = 8;
const caughtUpTimeoutMs = 10_000;

/** Rejects with CannotLoad when it cannot begin. */
export async function measure(
  options: MeasureOptions,
  ending: { after(work: () => unknown): void },
): Promise<Measured> {
  const { system, seconds, warmUpSeconds } = options;
  const soFar = new Latencies();
  const points: Point[] = [];
  const watch = watchMetrics(system);
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
  // Heard below; it must not be unheard meanwhile.
  running.catch(() => {});
  const used = usedBetween(system, generators.pids);
  const isOver = Promise.withResolvers<void>();
  void running.finally(() => isOver.resolve()).catch(() => {});
  await Promise.race([delay(warmUpSeconds * 1_000), isOver.promise]);
  const shownBefore = await watch.shown();
  used.begin();
  await Promise.race([delay(seconds * 1_000), isOver.promise]);
  used.end();
  const total = totalOf(await running);
  const freshness = brokenOff === null ? await watch.freshness(shownBefore) : null;
  watch.close();

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

function plansOf(options: MeasureOptions): readonly Plan[] {
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
    };
  });
}

/** Several of the loopback network where there are many connections: elsewhere than on Linux it has only one. */
function sourceAddresses(host: string, connections: number): readonly string[] {
  const isLoopback = /^127\.|^localhost$/.test(host) && process.platform === 'linux';
  if (!isLoopback || connections <= connectionsPerAddress) return [];
  return Array.from({ length: Math.ceil(connections / connectionsPerAddress) }, (_, n) => `127.0.0.${n + 1}`);
}

/** Asks `/metrics` once a second for what the system says of itself. */
function watchMetrics({ shop }: SystemUnderLoad) {
  let latest: { readonly lagEvents: number | null; readonly freshnessP99: number | null } = {
    lagEvents: null,
    freshnessP99: null,
  };
  let before: ReadonlyMap<number, number> | null = null;
  let asking = false;
  const timer = setInterval(() => void look(), lookEveryMs);

  async function look(): Promise<void> {
    if (asking) return;
    asking = true;
    try {
      const text = await metrics();
      const shown = shownWithin(text);
      latest = {
        lagEvents: lagOf(text),
        freshnessP99: before === null ? null : (freshnessOf(before, shown, true)?.p99 ?? null),
      };
      before = shown;
    } catch {
      latest = { lagEvents: null, freshnessP99: null };
    } finally {
      asking = false;
    }
  }

  const metrics = async (): Promise<string> =>
    (await shop.request<string>('GET', '/metrics', { timeoutMs: 5_000 })).body;

  return {
    latest: () => latest,
    shown: async (): Promise<ReadonlyMap<number, number> | null> => shownWithin(await metrics().catch(() => '')),
    /** Of all events since `shownBefore`, once all are shown. */
    async freshness(shownBefore: ReadonlyMap<number, number> | null): Promise<Freshness | null> {
      if (shownBefore === null || shownBefore.size === 0) return null;
      let allShown = true;
      await until(
        'all events are shown',
        async () => (lagOf(await metrics()) === 0 ? true : null),
        caughtUpTimeoutMs,
      ).catch(() => (allShown = false));
      return freshnessOf(shownBefore, shownWithin(await metrics().catch(() => '')), allShown);
    },
    close: () => clearInterval(timer),
  };
}

/** Events that the furthest behind of the read side's consumers has not applied. */
function lagOf(metrics: string): number | null {
  const lags = [...metrics.matchAll(/^twofold_consumer_lag_events\{[^}]*\} (\d+)$/gm)].map(([, lag]) => Number(lag));
  return lags.length === 0 ? null : Math.max(...lags);
}

function freshnessOf(
  before: ReadonlyMap<number, number>,
  after: ReadonlyMap<number, number>,
  allShown: boolean,
): Freshness | null {
  const between = [...after].map(([bound, count]) => [bound, count - (before.get(bound) ?? 0)] as const);
  const events = between.at(-1)?.[1] ?? 0;
  if (events === 0) return null;
  const within = (share: number): number => between.find(([, count]) => count >= share * events)?.[0] ?? Infinity;
  return { events, p50: within(0.5), p99: within(0.99), p999: within(0.999), allShown };
}

/** Processor time and memory of everything that runs on this machine for it. */
function usedBetween({ pids }: SystemUnderLoad, generatorPids: readonly number[]) {
  const read = (): ReadonlyMap<string, Usage> => {
    const found = new Map<string, Usage>();
    const put = (name: string, usage: Usage | null): void => void (usage && found.set(name, usage));
    if (pids !== null) {
      const { node, postgres, sandbox } = pids();
      put('server', usageOf(node));
      for (const child of childrenOf(node)) {
        if (child !== sandbox && child !== postgres) put(`its process ${child}`, usageOfTree(child));
      }
      put('PostgreSQL', usageOfTree(postgres));
      put('payment provider', usageOf(sandbox));
    }
    generatorPids.forEach((pid, n) =>
      put(generatorPids.length === 1 ? 'generator' : `generator ${n + 1}`, usageOf(pid)),
    );
    put('this process', usageOf(process.pid));
    return found;
  };
  let [before, after]: ReadonlyMap<string, Usage>[] = [new Map(), new Map()];
  let [beganMs, endedMs] = [0, 0];
  return {
    begin(): void {
      before = tryRead(read);
      beganMs = performance.now();
    },
    end(): void {
      after = tryRead(read);
      endedMs = performance.now();
    },
    rows: (requests: number): readonly ProcessRow[] =>
      [...after!].map(([name, { cpuMs, memoryMb }]) => {
        const spentMs = cpuMs - (before!.get(name)?.cpuMs ?? 0);
        return {
          name,
          corePercent: (spentMs * 100) / (endedMs - beganMs),
          microsPerRequest: requests === 0 ? 0 : (spentMs * 1_000) / requests,
          memoryMb,
        };
      }),
  };
}

/** A system that has ended meanwhile has no figures. */
function tryRead(read: () => ReadonlyMap<string, Usage>): ReadonlyMap<string, Usage> {
  try {
    return read();
  } catch {
    return new Map();
  }
}
