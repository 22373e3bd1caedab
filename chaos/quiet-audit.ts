/**
 * `npm run audit:soak`: a healthy system under full load whose processes are killed and restarted, while it is
 * audited all the time. Every divergence it reports is a false alarm.
 */
import { randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { AuditOutcome, AuditsView, DivergenceList } from '#contracts/audit-http.ts';
import type { JobView } from '#contracts/http.ts';
import { untilAtRest } from '../tests/invariants.ts';
import { openEnding, programDataDir, startTestProgram, type TestProgram } from '../tests/running-program.ts';
import { until } from '../tests/shop-client.ts';
import { startLoad } from './load.ts';

const { values: flags } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    restarts: { type: 'string', default: '15' },
    clients: { type: 'string', default: '32' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (flags.help) {
  console.log(`Usage: npm run audit:soak [-- OPTIONS]

  --minutes M    how long clients order and read (default 30)
  --restarts N   how often the program, its PostgreSQL or its payment provider is killed or told to stop (default 15)
  --clients N    clients that order without a pause, with as many that read (default 32)

Ends with 1 when any divergence was reported, or when the audit did not look at everything.

Examples:
  npm run audit:soak
  npm run audit:soak -- --minutes 2 --restarts 4`);
  process.exit(0);
}
const [minutes, restarts, clients] = (['minutes', 'restarts', 'clients'] as const).map((name) => {
  if (/^\d{1,4}$/.test(flags[name]) && (name === 'restarts' || Number(flags[name]) > 0)) return Number(flags[name]);
  console.error(`--${name} is "${flags[name]}"; right would be a whole number.`);
  process.exit(2);
}) as [number, number, number];

/** Many rounds, rather than the one an hour that is the default. */
const env = {
  TWOFOLD_AUDIT_SHARE_PERCENT: '20',
  TWOFOLD_AUDIT_PERIOD_MINUTES: '1',
  TWOFOLD_PAYMENT_TIMEOUT_MS: '300',
};
const readPauseMs = 20;
const jobTimeoutMs = 1_200_000;
const restTimeoutMs = 120_000;

const ending = openEnding();
const onSignal = (): void => void ending.end().finally(() => process.exit(130));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, onSignal);
let alarms = 0;
try {
  const dataDir = await programDataDir(ending);
  let program = await startTestProgram(ending, dataDir, env);
  const load = startLoad({ shop: () => program.shop, clients });
  ending.after(() => load.abandon());
  const readers = startReaders(() => program);
  ending.after(() => readers.stop());

  const since = performance.now();
  const lengthMs = minutes * 60_000;
  for (let n = 1; n <= restarts; n += 1) {
    const due = ((n - Math.random()) * lengthMs) / restarts;
    await delay(Math.max(0, since + due - performance.now()));
    const said = await disturb(program);
    program = await startTestProgram(ending, dataDir, env);
    if (load.failed()) break;
    // Every second time all is looked at right after the start, under load.
    if (n % 2 === 0) await fullAudit(program, `after ${said}`);
    else console.log(`${clock(since)} ${said}`);
  }
  await delay(Math.max(0, since + lengthMs - performance.now()));
  const { placed } = await load.stop();
  const reads = await readers.stop();
  await untilAtRest(program.databaseUrls, restTimeoutMs);
  await fullAudit(program, `at rest after ${placed.length} orders and ${reads} reads`);

  const { body } = await program.shop.get<AuditsView>('/v1/ops/audits');
  const { lastRound, walks } = body.rolling;
  console.log(`the last round of the rolling audit looked at ${lastRound?.looked ?? 0} in ${walks.length} walks`);
  const divergences = (await program.shop.get<DivergenceList>('/v1/ops/divergences?limit=100')).body.items;
  for (const one of divergences) console.log(`false alarm: ${one.check} ${one.entity}, ${one.state}: ${one.says}`);
  alarms = divergences.length;
  console.log(`${alarms} divergences, ${restarts} restarts, ${minutes} min`);
} finally {
  await ending.end();
}
process.exit(alarms === 0 ? 0 : 1);

/** Ends the program, one way or the other; resolves to what was done, once it has ended. */
async function disturb(program: TestProgram): Promise<string> {
  const { node, postgres, sandbox } = program.pids();
  const ways = [
    ['told the program to stop', node, 'SIGTERM'],
    ['killed the program', node, 'SIGKILL'],
    ['killed PostgreSQL and the program', postgres, 'SIGKILL'],
    ['killed the payment provider and the program', sandbox, 'SIGKILL'],
  ] as const;
  const [said, pid, signal] = ways[randomInt(ways.length)]!;
  process.kill(pid, signal);
  if (pid !== node) {
    await delay(randomInt(2_000));
    try {
      process.kill(node, 'SIGKILL');
    } catch (error) {
      // It has ended because of the other.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
  await program.ended();
  return said;
}

async function fullAudit({ shop }: TestProgram, when: string): Promise<void> {
  const began = performance.now();
  const id = await until('a full audit has begun', async () => {
    const { status, body } = await shop.request<JobView>('POST', '/v1/ops/audits', { json: {} });
    return status === 202 ? body.id : null;
  });
  const job = await until(
    'the full audit has ended',
    async () => {
      const { body } = await shop.get<JobView>(`/v1/ops/jobs/${id}`);
      return body.state === 'running' ? null : body;
    },
    jobTimeoutMs,
  );
  if (job.state !== 'done') throw new Error(`the full audit has failed: ${job.error}`);
  const { walks } = job.outcome as AuditOutcome;
  const looked = walks.reduce((sum, walk) => sum + walk.looked, 0);
  const found = walks.reduce((sum, walk) => sum + walk.found, 0);
  if (looked === 0) throw new Error('the full audit has looked at nothing');
  const seconds = ((performance.now() - began) / 1_000).toFixed(1);
  console.log(`full audit ${when}: looked at ${looked} in ${seconds} s, found ${found}`);
}

/** Clients that look at what there is; while a server is down they wait. */
function startReaders(program: () => TestProgram): { stop(): Promise<number> } {
  const paths = ['/v1/orders?limit=20', '/v1/products?limit=20', '/v1/orders?status=completed&limit=50'];
  let reads = 0;
  let stopping = false;
  const running = Promise.all(
    Array.from({ length: clients }, async (_, n) => {
      for (let at = n; !stopping; at += 1) {
        const list = await program()
          .shop.get<{ items: { orderId?: string }[] }>(paths[at % paths.length]!)
          .catch(() => null);
        if (list?.status === 200) reads += 1;
        for (const { orderId } of list?.status === 200 ? list.body.items : []) {
          if (stopping || orderId === undefined) break;
          const order = await program()
            .shop.get(`/v1/orders/${orderId}`)
            .catch(() => null);
          if (order?.status === 200) reads += 1;
        }
        await delay(readPauseMs);
      }
    }),
  );
  return {
    async stop() {
      stopping = true;
      await running;
      return reads;
    },
  };
}

function clock(since: number): string {
  const seconds = Math.round((performance.now() - since) / 1_000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}
