/**
 * `npm run bench:audit`: how long a full audit of many orders takes, and what the rolling audit costs those who read and
 * order: the same load with it and without it, in turn. The system is one of its own, in a temporary folder. It fails
 * when anything diverges, when a full audit of a million orders would take too long, or when the load suffers too much.
 */
import { execFile } from 'node:child_process';
import { parseArgs, promisify } from 'node:util';
import type { AuditOutcome, DivergenceList } from '#contracts/audit-http.ts';
import { Progress } from '#platform/progress-bar.ts';
import { openEnding, programDataDir, startTestProgram, type TestProgram } from '../tests/running-program.ts';
import { caughtUp, jobDone } from './long-work.ts';
import { makeManyOrders } from './many-orders.ts';

const { values: flags } = parseArgs({
  options: {
    orders: { type: 'string', default: '100000' },
    rounds: { type: 'string', default: '6' },
    seconds: { type: 'string', default: '60' },
    smoke: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (flags.help) {
  console.log(`Usage: npm run bench:audit [-- OPTIONS]

  --orders N    orders that are audited, about 7 events each (default 100000)
  --rounds N    blocks of load with the rolling audit, and as many without it, in turn (default 6; 0: none)
  --seconds S   length of a block (default 60: the process of the walks has begun and warmed up by then)
  --smoke       2000 orders and one short block each, without judging the times

Examples:
  npm run bench:audit
  npm run bench:audit -- --orders 1000000 --rounds 0`);
  process.exit(0);
}
const orders = flags.smoke ? 2_000 : Number(flags.orders);
const rounds = flags.smoke ? 1 : Number(flags.rounds);
const seconds = flags.smoke ? 2 : Number(flags.seconds);
/** For a million orders. */
const fullAuditLimitMs = 180_000;
const throughputLeastRatio = 0.95;
const sharePercent = 5;

const ending = openEnding();
const failures: string[] = [];
try {
  const dataDir = await programDataDir(ending);
  const progress = new Progress(process.stderr);
  progress.begin('writing orders', orders);
  const events = await makeManyOrders(ending, dataDir, orders, (done) => progress.reach(done));
  progress.end();
  const start = (share: number): Promise<TestProgram> =>
    startTestProgram(ending, dataDir, { TWOFOLD_LOG_LEVEL: 'error', TWOFOLD_AUDIT_SHARE_PERCENT: String(share) });
  const program = await start(0);
  await caughtUp(program, progress, events);
  await fullAudit(program);
  await program.stop();

  const rates: Record<'with' | 'without', number[]> = { with: [], without: [] };
  for (let round = 0; round < rounds; round += 1)
    for (const kind of round % 2 === 0 ? (['with', 'without'] as const) : (['without', 'with'] as const)) {
      const running = await start(kind === 'with' ? sharePercent : 0);
      rates[kind].push(await requestsPerSecond(running.address));
      await assertNothingDiverges(running);
      await running.stop();
    }
  if (rounds > 0) compare(rates);
} finally {
  await ending.end();
}
for (const failure of failures) console.log(`missed: ${failure}`);
process.exitCode = failures.length === 0 ? 0 : 1;

async function fullAudit(program: TestProgram): Promise<void> {
  const began = performance.now();
  const { walks } = await jobDone<AuditOutcome>(program, '/v1/ops/audits', {});
  const tookMs = performance.now() - began;
  console.log(`full audit of ${orders} orders: ${(tookMs / 1_000).toFixed(1)} s`);
  for (const { name, looked, workedMs } of walks)
    console.log(
      `  ${name.padEnd(22)}${String(looked).padStart(10)} entities${(workedMs / 1_000).toFixed(1).padStart(8)} s` +
        `${((workedMs * 1_000) / Math.max(1, looked)).toFixed(0).padStart(7)} µs each`,
    );
  await assertNothingDiverges(program);
  const perMillionMs = (tookMs * 1_000_000) / orders;
  if (!flags.smoke && perMillionMs > fullAuditLimitMs)
    failures.push(`a million orders take ${(perMillionMs / 1_000).toFixed(0)} s, at most ${fullAuditLimitMs / 1_000}`);
}

async function assertNothingDiverges({ shop }: TestProgram): Promise<void> {
  const { body } = await shop.get<DivergenceList>('/v1/ops/divergences?limit=5');
  for (const { check, entity, says } of body.items) failures.push(`${check} ${entity}: ${says}`);
}

/** All reads and orders of the HTTP benchmark together. */
async function requestsPerSecond(url: string): Promise<number> {
  const args = ['bench/http.ts', '--url', url, '--seconds', String(seconds)];
  // Its own limits are those of a smaller system: what it counts is what is wanted.
  const { stdout } = await promisify(execFile)(process.execPath, args).catch((error: { stdout: string }) => error);
  const rateOf = (kind: string): number => Number(new RegExp(`^${kind} +(\\d+)`, 'm').exec(stdout)?.[1] ?? NaN);
  const rate = rateOf('reads') + rateOf('writes');
  if (!(rate > 0) || !/ 0 of them not completed; 0 unexpected answers/.test(stdout)) failures.push(`load: ${stdout}`);
  return rate;
}

function compare(rates: Readonly<Record<'with' | 'without', readonly number[]>>): void {
  const median = (values: readonly number[]): number => {
    const sorted = values.toSorted((a, b) => a - b);
    const half = Math.floor(sorted.length / 2);
    return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
  };
  const ratio = median(rates.with.map((rate, n) => rate / rates.without[n]!));
  for (const [kind, all] of Object.entries(rates))
    console.log(`${`${kind} the rolling audit`.padEnd(28)} ${median(all).toFixed(0)} requests/s (${all.join(', ')})`);
  console.log(`throughput with it ÷ without it, median of ${rounds} pairs: ${ratio.toFixed(3)}`);
  if (!flags.smoke && ratio < throughputLeastRatio)
    failures.push(`${ratio.toFixed(3)} of the throughput is left, at least ${throughputLeastRatio}`);
}
