/**
 * `npm run bench:overload`: what becomes of a system that is offered more than it can take. Looks for the peak of what is
 * answered rightly and in time, offers two and five times as much, and after each half of it; users who are turned away
 * do not come back. The system is one of its own, in a temporary folder, and audits itself at the end.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { auditAfter } from '../load/audit-after.ts';
import { startGenerators } from '../load/generators.ts';
import { Latencies } from '../load/latencies.ts';
import { type ProcessRow, usedBetween } from '../load/machine.ts';
import { plansOf } from '../load/measure.ts';
import { isCaughtUp, watchMetrics } from '../load/metrics.ts';
import type { Second } from '../load/plan.ts';
import { limits, profiles } from '../load/profiles.ts';
import { furnish, openSystem } from '../load/shop.ts';
import { openEnding } from '../tests/running-program.ts';

const { values: flags } = parseArgs({
  options: {
    connections: { type: 'string', default: '10000' },
    seconds: { type: 'string', default: '30' },
    from: { type: 'string', default: '1000' },
    peak: { type: 'string' },
    smoke: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (flags.help) {
  console.log(`Usage: npm run bench:overload [-- OPTIONS]

  --connections N   keep-alive connections, each of a user (default 10000)
  --seconds S       how long each rate is offered (default 30)
  --from R          requests/s at which the search for the peak begins (default 1000)
  --peak R          requests/s that are offered as the peak, without a search for it
  --smoke           few connections and short times, without judging the times

Requests are those of profile B of npm run load. TWOFOLD_WAIT_MS=0 shows what it is like when nobody is turned away.

Examples:
  npm run bench:overload
  npm run bench:overload -- --peak 2000 --seconds 20`);
  process.exit(0);
}
const connections = flags.smoke ? 200 : Number(flags.connections);
const seconds = flags.smoke ? 4 : Number(flags.seconds);
const searchFrom = flags.smoke ? 200 : Number(flags.from);
const searchStepsMax = flags.smoke ? 2 : 12;
const searchGrowth = 1.3;
const searchSeconds = flags.smoke ? 3 : 8;
const warmUpSeconds = flags.smoke ? 1 : 8;
/** The first of a rate are of the one before it. */
const settlingSeconds = flags.smoke ? 1 : 2;
const goodputLeastRatio = 0.8;
const recoverySecondsMax = 30;
const normalInARow = 3;

/** One rate, for so long. */
type Stretch = { readonly name: string; readonly requestsPerSecond: number; readonly seconds: number };

type Offered = Stretch & {
  /** Per second, without the first ones. */
  readonly good: number;
  readonly answered: number;
  readonly shed: number;
  readonly wrong: number;
  /** Milliseconds of those who were not turned away, and of those who were. */
  readonly p99: Readonly<Record<'reads' | 'place' | 'ends' | 'turned away', number>>;
  /** Seconds from its beginning until everything was within its limits, for three of them in a row; Infinity: never. */
  readonly normalAfter: number;
  readonly processes: readonly ProcessRow[];
  readonly highest: Readonly<Record<string, number>>;
};

const ending = openEnding();
const failures: string[] = [];
try {
  say('starting');
  const system = await openSystem(ending, { issuer: 'twofold', audience: 'twofold', tokens: [] });
  const customers = Array.from({ length: connections }, (_, n) => ({ customerId: `overload-${n}` }));
  say(`furnishing for ${connections} users`);
  const skus = await furnish(system.shop, 'overload', flags.smoke ? 20 : 1_000, customers);
  const traffic = { system, customers, skus, seed: 1, generators: 1, connections, thinkMs: 0, hotShare: 0, lines: 2 };
  const { requestsPerSecond, ordersPerSecond } = profiles.B;
  const offer = offering({ ...traffic, orderShare: ordersPerSecond / requestsPerSecond });

  const peak = flags.peak === undefined ? await findPeak(offer) : Number(flags.peak);
  const half = { name: 'half', requestsPerSecond: peak / 2, seconds };
  const stretches = await offer([
    { name: 'the peak', requestsPerSecond: peak, seconds },
    { name: 'twice', requestsPerSecond: peak * 2, seconds },
    half,
    { name: 'five times', requestsPerSecond: peak * 5, seconds },
    half,
  ]);
  tell(stretches);
  judge(stretches);
  say('auditing');
  if (!(await isCaughtUp(system.shop, 60_000))) failures.push('a consumer is still behind at the end');
  const audit = await auditAfter(system.shop);
  if (audit.kind !== 'ended') failures.push(`audit: ${audit.kind === 'failed' ? audit.why : 'none'}`);
  else for (const divergence of audit.divergences) failures.push(divergence);
} finally {
  await ending.end();
}
for (const failure of failures) console.log(`missed: ${failure}`);
process.exitCode = failures.length === 0 ? 0 : 1;

/** The most that were answered rightly and in time, per second. */
async function findPeak(offer: Offer): Promise<number> {
  const stairs = Array.from({ length: searchStepsMax }, (_, n) => ({
    name: 'search',
    requestsPerSecond: searchFrom * searchGrowth ** n,
    seconds: searchSeconds,
  }));
  let peak = 0;
  await offer(stairs, ({ requestsPerSecond, good }) => {
    say(`${requestsPerSecond.toFixed(0)} requests/s: ${good.toFixed(0)} good`);
    peak = Math.max(peak, good);
    // Well beyond it.
    return good > requestsPerSecond * 0.6;
  });
  return peak;
}

type Offer = (stretches: readonly Stretch[], goOn?: (offered: Offered) => boolean) => Promise<readonly Offered[]>;

/** Offers one rate after the other, without a pause, as long as `goOn` says so. */
function offering(
  traffic: Omit<Parameters<typeof plansOf>[0], 'run' | 'requestsPerSecond' | 'seconds' | 'warmUpSeconds'>,
): Offer {
  let runs = 0;
  return async (stretches, goOn = () => true) => {
    const [first] = stretches;
    const base = first!.requestsPerSecond;
    let fromMs = warmUpSeconds * 1_000;
    const steps = stretches.map(({ requestsPerSecond, seconds: length }) => {
      const step = { fromMs, factor: requestsPerSecond / base };
      fromMs += length * 1_000;
      return step;
    });
    const all = stretches.reduce((sum, one) => sum + one.seconds, 0);
    const run = `overload-${Date.now().toString(36)}-${(runs += 1)}`;
    const options = { ...traffic, run, requestsPerSecond: base, seconds: all, warmUpSeconds };
    const watch = watchMetrics(traffic.system.shop);
    const heard: (Second & { readonly freshnessP99: number | null })[] = [];
    say(`opening ${connections} connections`);
    const generators = await startGenerators(
      plansOf(options).map((plan) => ({ ...plan, steps, takesNo: true })),
      (second) => {
        heard.push({ ...second, freshnessP99: watch.latest().freshnessP99 });
        if (second.atMs > 0) say(lineOf(second));
      },
      ending,
    );
    const highs = watchQueues(traffic.system.shop);
    const ended = generators.run();
    try {
      const offered: Offered[] = [];
      await wait(warmUpSeconds, ended);
      let began = 0;
      for (const stretch of stretches) {
        say(`${stretch.name}: ${stretch.requestsPerSecond.toFixed(0)} requests/s`);
        const used = usedBetween(traffic.system.pids, generators.pids);
        used.begin();
        highs.begin();
        await wait(stretch.seconds, ended);
        used.end();
        const within = heard.filter(({ atMs }) => atMs > began * 1_000 && atMs <= (began + stretch.seconds) * 1_000);
        offered.push({ ...whatCame(stretch, within, used.rows), highest: highs.soFar() });
        began += stretch.seconds;
        if (!goOn(offered.at(-1)!)) break;
      }
      generators.stop();
      const totals = await ended;
      const errors: Record<string, number> = Object.assign({}, ...totals.map((one) => one.errors));
      for (const [what, count] of Object.entries(errors)) say(`wrong: ${count} × ${what}`);
      return offered;
    } finally {
      highs.close();
      watch.close();
      generators.dismiss();
    }
  };
}

async function wait(length: number, ended: Promise<unknown>): Promise<void> {
  await Promise.race([delay(length * 1_000, undefined, { ref: false }), ended]);
}

function whatCame(
  stretch: Stretch,
  heard: readonly (Second & { readonly freshnessP99: number | null })[],
  rows: (requests: number) => readonly ProcessRow[],
): Omit<Offered, 'highest'> {
  const settled = heard.slice(settlingSeconds);
  const latencies = new Latencies();
  for (const second of settled) latencies.add(second.latencies);
  const p99 = (name: string): number => latencies.of(name)?.p99 ?? 0;
  const perSecond = (of: (second: Second) => number): number =>
    settled.reduce((sum, second) => sum + of(second), 0) / Math.max(1, settled.length);
  return {
    ...stretch,
    good: perSecond(({ good }) => good),
    answered: perSecond(({ answered }) => answered),
    shed: perSecond(({ shed }) => shed),
    wrong: perSecond(({ errors }) => errors),
    p99: { reads: p99('reads'), place: p99('place'), ends: p99('ends'), 'turned away': p99('turned away') },
    normalAfter: firstNormal(heard.map(isNormal)),
    processes: rows(heard.reduce((sum, { answered }) => sum + answered, 0)),
  };
}

function firstNormal(normal: readonly boolean[]): number {
  const at = normal.findIndex(
    (_is, n) => n + normalInARow <= normal.length && normal.slice(n, n + normalInARow).every(Boolean),
  );
  return at < 0 ? Infinity : at;
}

function isNormal(second: Second & { readonly freshnessP99: number | null }): boolean {
  const latencies = new Latencies();
  latencies.add(second.latencies);
  return (
    (latencies.of('reads')?.p99 ?? 0) < limits.reads.must &&
    (latencies.of('place')?.p99 ?? 0) < limits.place.must &&
    (second.freshnessP99 ?? 0) < limits.freshness.must &&
    second.shed === 0
  );
}

/** The highest that each queue of the server was seen at, once a second. */
function watchQueues(shop: { request(method: string, path: string): Promise<{ body: unknown }> }) {
  let highest: Record<string, number> = {};
  const pattern =
    /^twofold_(?:(?:http_requests_(under_way|waiting|searching))|(bus_queued_commands)\{service="(\w+)"\}|(consumer_lag_events)\{consumer="([^"]+)"[^}]*\}) (\d+)$/gm;
  const timer = setInterval(() => {
    shop.request('GET', '/metrics').then(
      ({ body }) => {
        for (const [, requests, bus, service, lag, consumer, value] of String(body).matchAll(pattern)) {
          const name = requests ?? (bus === undefined ? `${lag} ${consumer}` : `${bus} ${service}`);
          highest[name] = Math.max(highest[name] ?? 0, Number(value));
        }
      },
      () => {},
    );
  }, 1_000);
  return {
    begin: () => void (highest = {}),
    soFar: () => highest,
    close: () => clearInterval(timer),
  };
}

function lineOf({
  atMs,
  offered,
  answered,
  good,
  shed,
  errors,
  waiting,
  underWay,
  openOrders,
  latencies,
}: Second): string {
  const own = new Latencies();
  own.add(latencies);
  const p99 = (name: string): string => (own.of(name)?.p99 ?? 0).toFixed(0);
  return (
    `${(atMs / 1_000).toFixed(0)} s: offered ${offered}, answered ${answered}, good ${good}, shed ${shed}, wrong ${errors}, ` +
    `p99 reads ${p99('reads')} place ${p99('place')} ends ${p99('ends')} turned away ${p99('turned away')} ms, ` +
    `late ${waiting}, under way ${underWay}, open orders ${openOrders}`
  );
}

function tell(stretches: readonly Offered[]): void {
  const cells = (values: readonly (string | number)[]): string =>
    values.map((value, n) => (n === 0 ? String(value).padEnd(12) : String(value).padStart(11))).join('');
  console.log(
    cells([
      '',
      'offered/s',
      'good/s',
      'shed/s',
      'wrong/s',
      'reads p99',
      'place p99',
      'ends p99',
      'shed p99',
      'normal s',
    ]),
  );
  for (const { name, requestsPerSecond, good, shed, wrong, p99, normalAfter } of stretches)
    console.log(
      cells([
        name,
        ...[requestsPerSecond, good, shed, wrong, p99.reads, p99.place, p99.ends, p99['turned away']].map((one) =>
          one.toFixed(0),
        ),
        normalAfter,
      ]),
    );
  for (const { name, processes, highest } of stretches) {
    console.log(`\n${name}`);
    for (const one of processes)
      console.log(
        `  ${one.name.padEnd(20)}${one.corePercent.toFixed(0).padStart(5)} % of a core${one.memoryMb.toFixed(0).padStart(7)} MB`,
      );
    const seen = Object.entries(highest).filter(([, value]) => value > 0);
    console.log(`  highest: ${seen.map(([queue, value]) => `${queue} ${value}`).join(', ')}`);
  }
}

function judge([peak, ...others]: readonly Offered[]): void {
  for (const one of [peak!, ...others])
    if (one.wrong > 0) failures.push(`${one.name}: ${one.wrong.toFixed(1)} wrong answers a second`);
  if (flags.smoke) return;
  for (const { name, good, p99, normalAfter } of others) {
    if (name === 'half') {
      if (normalAfter > recoverySecondsMax)
        failures.push(`${name}: normal after ${normalAfter} s, at most ${recoverySecondsMax}`);
      continue;
    }
    const ratio = good / peak!.good;
    console.log(`${name}: ${(ratio * 100).toFixed(0)} % of the goodput at the peak`);
    if (ratio < goodputLeastRatio)
      failures.push(`${name}: ${ratio.toFixed(2)} of the goodput, at least ${goodputLeastRatio}`);
    for (const kind of ['reads', 'place'] as const)
      if (p99[kind] >= limits[kind].must)
        failures.push(`${name}: ${kind} p99 ${p99[kind].toFixed(0)} ms, less than ${limits[kind].must}`);
  }
}

function say(what: string): void {
  process.stderr.write(`${what}\n`);
}
