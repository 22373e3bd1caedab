/**
 * `npm run bench:idle`: what a system costs that nobody uses, by process, without the rolling audit, and with it once it
 * is at rest; and what open connections cost that have been used. The system is one of its own, in a temporary folder.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { AuditsView } from '#contracts/audit-http.ts';
import { type Connection, openConnection } from '../load/connection.ts';
import { type ProcessRow, usedBetween } from '../load/machine.ts';
import { openEnding, programDataDir, startTestProgram, type TestProgram } from '../tests/running-program.ts';
import { until } from '../tests/shop-client.ts';

const { values: flags } = parseArgs({
  options: {
    connections: { type: 'string', default: '10000' },
    seconds: { type: 'string', default: '60' },
    orders: { type: 'string', default: '200' },
    smoke: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (flags.help) {
  console.log(`Usage: npm run bench:idle [-- OPTIONS]

  --connections N   connections that are opened, used once and held (default 10000)
  --seconds S       how long nothing is done (default 60)
  --orders N        orders that were placed before (default 200)
  --smoke           few connections and a short time, without judging what the processors do`);
  process.exit(0);
}
const connections = flags.smoke ? 500 : Number(flags.connections);
const seconds = flags.smoke ? 5 : Number(flags.seconds);
const orders = flags.smoke ? 10 : Number(flags.orders);
const corePercentLimit = 2;
const memoryLimitMb = 600;
const settlingMs = flags.smoke ? 1_000 : 15_000;
const openingAtOnce = 100;
/** Of one source address, as ports run out. */
const connectionsPerAddress = 5_000;

const ending = openEnding();
const failures: string[] = [];
try {
  const dataDir = await programDataDir(ending);
  for (const sharePercent of [0, 5]) {
    const program = await startTestProgram(ending, dataDir, { TWOFOLD_AUDIT_SHARE_PERCENT: String(sharePercent) });
    if (sharePercent === 0) await furnish(program);
    else await auditAtRest(program);
    await delay(settlingMs);
    const used = usedBetween(program.pids, []);
    used.begin();
    await delay(seconds * 1_000);
    used.end();
    tellIdle(`idle for ${seconds} s ${sharePercent === 0 ? 'without the' : 'with a'} rolling audit`, used.rows(0));
    if (sharePercent === 0) await holdConnections(program);
    await program.stop();
  }
} finally {
  await ending.end();
}
for (const failure of failures) console.log(`missed: ${failure}`);
process.exitCode = failures.length === 0 ? 0 : 1;

async function furnish({ shop }: TestProgram): Promise<void> {
  const { sku, customerId } = await shop.furnish(1_000_000);
  for (let n = 0; n < orders; n += 1) await shop.waitFinal(await shop.place({ sku, customerId }));
}

async function auditAtRest({ shop }: TestProgram): Promise<void> {
  const state = async (): Promise<true | null> =>
    (await shop.get<AuditsView>('/v1/ops/audits')).body.rolling.state === 'waiting' ? true : null;
  await until('the rolling audit is at rest', state, 600_000);
}

function tellIdle(title: string, rows: readonly ProcessRow[]): void {
  const ours = rows.filter(({ name }) => name !== 'this process');
  const all = ours.reduce((sum, { corePercent }) => sum + corePercent, 0);
  console.log(`${title}: ${all.toFixed(2)} % of one core`);
  for (const { name, corePercent, memoryMb } of ours)
    console.log(`  ${name.padEnd(22)}${corePercent.toFixed(2).padStart(6)} %${memoryMb.toFixed(0).padStart(6)} MB`);
  if (!flags.smoke && all >= corePercentLimit)
    failures.push(`${title}: ${all.toFixed(2)} % of one core, less than ${corePercentLimit}`);
}

async function holdConnections({ address, pids }: TestProgram): Promise<void> {
  const { hostname, port } = new URL(address);
  const before = residentMb(pids().node);
  const held: Connection[] = [];
  let lost = 0;
  const open = (n: number): Promise<void> =>
    new Promise((resolve, reject) => {
      const source = `127.0.0.${1 + Math.floor(n / connectionsPerAddress)}`;
      const connection = openConnection({ host: hostname, port: Number(port) }, source, {
        opened: () => connection.send(`GET /v1/products?limit=1 HTTP/1.1\r\nHost: x\r\n\r\n`),
        answered: ({ status }) => (status === 200 ? resolve() : reject(new Error(`answered ${status}`))),
        lost(why) {
          lost += 1;
          reject(new Error(why));
        },
      });
      held.push(connection);
    });
  for (let n = 0; n < connections; n += openingAtOnce)
    await Promise.all(Array.from({ length: openingAtOnce }, (_, m) => open(n + m)));
  const after = residentMb(pids().node);
  console.log(
    `${held.length} connections: the server has ${after.toFixed(0)} MB, ${before.toFixed(0)} without them: ` +
      `${(((after - before) * 1_024) / held.length).toFixed(1)} KB each`,
  );
  if (lost > 0) failures.push(`${lost} connections were lost`);
  if (after >= memoryLimitMb) failures.push(`the server has ${after.toFixed(0)} MB, less than ${memoryLimitMb}`);
  for (const connection of held) connection.destroy();
}

/** As the machine counts, with what it shares with others. */
function residentMb(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1_024;
}
