/** Orders and reads at a steady rate for so many minutes: whether vacuum keeps up, and the last minutes are like the first. */
import { auditAfter } from '../load/audit-after.ts';
import { Latencies } from '../load/latencies.ts';
import { usedBetween } from '../load/machine.ts';
import { measure, type Progress } from '../load/measure.ts';
import { profiles } from '../load/profiles.ts';
import { furnish } from '../load/shop.ts';
import type { GrowthBench, Told } from './growth-parts.ts';
import { compareThirds, type Minute } from './minutes.ts';
import { isOfOverload, microsPerRequest } from './order-load.ts';
import { type OwnSystem, settled, startOwnSystem } from './own-system.ts';
import { digits } from './ratio-table.ts';
import { grownBeyondRows, openTableSizes, type TableSize, type TableSizes } from './table-sizes.ts';

const warmUpSeconds = 10;

export async function vacuum(bench: GrowthBench): Promise<Told> {
  const { ending, smoke, minutes, requestsPerSecond, progress } = bench;
  const minuteSeconds = smoke ? 2 : 60;
  const system = await startOwnSystem(ending);
  const run = Date.now().toString(36);
  const connections = smoke ? 50 : 1_000;
  const customers = Array.from({ length: connections }, (_, n) => ({ customerId: `steady-${run}-${n}` }));
  const skus = await furnish(system.shop, run, smoke ? 20 : 1_000, customers);
  await settled(system);
  const steady = watchMinutes(system, openTableSizes(ending, system.program.databaseUrls), minuteSeconds);
  const measured = await measure(
    {
      system,
      run,
      seed: 1,
      generators: 1,
      connections,
      requestsPerSecond,
      orderShare: profiles.B.ordersPerSecond / profiles.B.requestsPerSecond,
      seconds: minutes * minuteSeconds,
      warmUpSeconds: smoke ? 1 : warmUpSeconds,
      thinkMs: 0,
      hotShare: 0,
      lines: 2,
      customers,
      skus,
      onProgress: steady.second,
    },
    ending,
  );
  const { all, sizes } = await steady.ended();
  await settled(system);
  progress.begin('auditing', 1);
  const audit = await auditAfter(system.shop);
  progress.reach(1);
  progress.end();
  const errors = Object.entries(measured.totals.errors).map(([kind, times]) => `${times} × ${kind}`);
  const [overloads, wrong] = [errors.filter(isOfOverload), errors.filter((error) => !isOfOverload(error))];
  const { totals, brokenOff } = measured;
  if (audit.kind === 'failed') wrong.push(`the audit: ${audit.why}`);
  if (audit.kind === 'ended') wrong.push(...audit.divergences);
  if (wrong.length > 0) throw new Error([...wrong, ...totals.examples].join('\n'));
  const undone = overloads.map((error) => `what was asked for was too much: ${error}`);
  if (brokenOff !== null) undone.push(brokenOff);
  if (totals.ordersOpen > 0) undone.push(`${totals.ordersOpen} of ${totals.ordersPlaced} orders came to no end`);
  const { text, missed } = compareThirds(all);
  // By the end of the first third what is written anew has found its room.
  const grown = grownBeyondRows(sizes[Math.ceil(sizes.length / 3) - 1] ?? [], sizes.at(-1) ?? []);
  const larger = grown.map(
    ({ name, bytes, explainedBytes }) =>
      `  ${name}: ${megabytes(bytes)}, of which its rows explain ${megabytes(explainedBytes)}`,
  );
  const answered = Object.values(totals.answered).reduce((sum, one) => sum + one, 0);
  return {
    text: [
      text,
      '',
      `Tables that have grown since the first third by more than their rows explain: ${larger.length === 0 ? 'none' : ''}`.trimEnd(),
      ...larger,
      `Checked: ${answered.toLocaleString('en')} answers, ${totals.ordersPlaced.toLocaleString('en')} orders; ` +
        (audit.kind === 'ended' ? `a full audit of ${audit.seconds.toFixed(0)} s found no divergence` : 'no audit'),
    ].join('\n'),
    missed: smoke ? [] : [...undone, ...missed],
  };
}

/** Tells of each minute when it is over. */
function watchMinutes(system: OwnSystem, tables: TableSizes, minuteSeconds: number) {
  const all: Minute[] = [];
  const sizes: (readonly TableSize[])[] = [];
  const used = usedBetween(system.pids, []);
  let minute: Minute = { latencies: new Latencies(), answered: 0, spentMicros: 0 };
  let walBefore = tables.wal();
  let telling: Promise<void> = Promise.resolve();

  async function tell(number: number, { latencies, answered, spentMicros }: Minute): Promise<void> {
    const [before, wal, found] = [await walBefore, await tables.wal(), await tables.read()];
    walBefore = Promise.resolve(wal);
    sizes.push(found);
    const p99 = (name: string): string => `${digits(latencies.of(name)?.p99 ?? 0)} ms`;
    console.log(
      `${String(number).padStart(3)} min  ${digits(answered / minuteSeconds)} answers/s  place p99 ${p99('place')}  reads p99 ${p99('reads')}` +
        `  ${digits(spentMicros / Math.max(1, answered))} µs each  WAL ${megabytes(wal - before)}`,
    );
    for (const { name, bytes, rows, deadRows, vacuums } of found)
      console.log(
        `         ${name.padEnd(34)}${megabytes(bytes).padStart(12)}${whole(rows).padStart(14)} rows${whole(deadRows).padStart(12)} dead` +
          `${whole(vacuums).padStart(6)} vacuums`,
      );
  }

  return {
    second({ atMs, answered, latencies }: Progress): void {
      const second = Math.round(atMs / 1_000);
      if (second === 0) used.begin();
      if (second <= 0) return;
      minute.latencies.add(latencies);
      minute.answered += answered;
      const number = second / minuteSeconds;
      // What comes after the last minute answers what was asked before.
      if (!Number.isInteger(number) || minute.answered === 0) return;
      used.end();
      minute.spentMicros = microsPerRequest(used.rows(minute.answered)) * minute.answered;
      used.begin();
      const over = minute;
      all.push(over);
      telling = telling.then(() => tell(number, over));
      minute = { latencies: new Latencies(), answered: 0, spentMicros: 0 };
    },

    /** Once all minutes are told. */
    async ended(): Promise<{ readonly all: readonly Minute[]; readonly sizes: readonly (readonly TableSize[])[] }> {
      await telling;
      return { all, sizes };
    },
  };
}

const megabytes = (bytes: number): string => `${digits(bytes / 1_048_576)} MB`;
const whole = (value: number): string => value.toLocaleString('en');
