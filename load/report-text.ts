/** What a run has come to, for a terminal. */
import type { AuditResult } from './audit-after.ts';
import type { Verdict } from './judgement.ts';
import type { Measured, Progress } from './measure.ts';
import { followUps, readMix } from './profiles.ts';

export type Report = {
  /** What was run, in one line. */
  readonly title: string;
  readonly command: string;
  readonly startedAt: string;
  readonly seed: number;
  readonly syncsPerSecond: number;
  readonly measured: Measured;
  readonly verdicts: readonly Verdict[];
  readonly audit: AuditResult | null;
  /** Of a search for the limit: each rate that was tried. */
  readonly tried?: readonly {
    readonly requestsPerSecond: number;
    readonly kept: boolean;
    readonly missed: readonly string[];
  }[];
};

/** One line a second. */
export function progressLine(progress: Progress): string {
  const { atMs, offered, answered, waiting, underWay, openOrders, errorsSoFar, placeP99, readsP99, retries } = progress;
  const second = Math.round(atMs / 1_000);
  const when = second <= 0 ? `warm-up ${second} s` : `${second} s`;
  const p99 = (what: string, ms: number | null): string => (ms === null ? '' : `  ${what} p99 ${ms.toFixed(1)} ms`);
  return (
    `${when.padStart(12)}  offered ${whole(offered)}  answered ${whole(answered)}  under way ${whole(underWay + waiting)}` +
    `  open orders ${whole(openOrders)}${p99('place', placeP99)}${p99('reads', readsP99)}` +
    `  errors ${errorsSoFar}${retries > 0 ? `  retries ${retries}` : ''}`
  );
}

/** The rows of the table of requests, in the order in which they are shown. */
export const requestKinds = ['place', 'cancel', 'own write', 'reads', ...readMix.map(({ name }) => name)] as const;

export function textOf(report: Report): string {
  const { measured, verdicts, audit } = report;
  const { totals, latencies, processes, seconds, freshness } = measured;
  const lines: string[] = ['', report.title, report.command, ''];
  const answeredAll = sumOf(totals.answered);
  const offeredByUsers = sumOf(totals.offered) - (totals.offered['own write'] ?? 0) - (totals.offered['cancel'] ?? 0);
  lines.push(
    `offered ${(offeredByUsers / seconds).toFixed(0)}/s by schedule, with what follows from them ${(sumOf(totals.offered) / seconds).toFixed(0)}/s; ` +
      `answered ${(answeredAll / seconds).toFixed(0)}/s over ${seconds} s; fdatasync of 4 KiB ${whole(report.syncsPerSecond)}/s`,
    '',
    row('', ['offered/s', 'answered/s', 'p50 ms', 'p90 ms', 'p99 ms', 'p99.9 ms', 'max ms']),
  );
  for (const name of requestKinds) {
    const summary = latencies[name];
    if (summary === undefined) continue;
    const of = (counts: Readonly<Record<string, number>>): number =>
      name === 'reads' ? readMix.reduce((sum, read) => sum + (counts[read.name] ?? 0), 0) : (counts[name] ?? 0);
    const { p50, p90, p99, p999, max } = summary;
    const rates = [of(totals.offered) / seconds, of(totals.answered) / seconds].map((rate) => rate.toFixed(1));
    lines.push(row(isPart(name) ? `  ${name}` : name, [...rates, ...[p50, p90, p99, p999, max].map(ms)]));
  }
  const { ends, 'noticed late': late } = latencies;
  lines.push('');
  if (ends !== undefined) {
    const { p50, p90, p99, p999, max } = ends;
    lines.push(row('orders to their end', ['', '', ...[p50, p90, p99, p999, max].map(ms)]));
  }
  if (freshness !== null) {
    const upTo = (value: number): string => `≤ ${value}`;
    lines.push(
      row('freshness of events', ['', '', upTo(freshness.p50), '', upTo(freshness.p99), upTo(freshness.p999), '']),
    );
  }
  if (late !== undefined) {
    const { p50, p90, p99, p999, max } = late;
    lines.push(row('generator late', ['', '', ...[p50, p90, p99, p999, max].map(ms)]));
  }
  lines.push('', row('', ['% of a core', 'µs/request', 'MB']));
  for (const { name, corePercent, microsPerRequest, memoryMb } of processes)
    lines.push(row(name, [corePercent.toFixed(1), microsPerRequest.toFixed(1), memoryMb.toFixed(0)]));
  const { ordersPlaced, ordersOpen, reopened, retries, errors } = totals;
  lines.push(
    '',
    `${whole(ordersPlaced)} orders placed, ${ordersOpen} without an end; connections opened anew ${reopened}; ` +
      `sent again ${sumOf(retries)}${listed(retries)}`,
    `errors ${sumOf(errors)}${listed(errors)}`,
  );
  for (const example of totals.examples) lines.push(`  ${example.replaceAll('\n', '\n    ')}`);
  if (audit?.kind === 'none') lines.push('This system has no audit: nothing was compared.');
  if (audit?.kind === 'ended') lines.push(...audit.divergences.map((one) => `  ${one}`));
  for (const { requestsPerSecond, kept, missed } of report.tried ?? [])
    lines.push(
      `${requestsPerSecond.toFixed(0).padStart(8)} requests/s  ${kept ? 'kept' : `missed: ${missed.join(', ')}`}`,
    );
  lines.push('', [''.padEnd(46), 'found'.padStart(16), 'must'.padStart(12), 'aim'.padStart(10)].join(''));
  for (const { what, found, must, aim, kept } of verdicts)
    lines.push(
      `${what.padEnd(46)}${found.padStart(16)}${must.padStart(12)}${aim.padStart(10)}  ${kept ? 'kept' : 'MISSED'}`,
    );
  return lines.join('\n');
}

/** The mix as it is offered, for `--help`. */
export const mixText = (): string =>
  [
    ...readMix.map(
      ({ name, percent, staff }) =>
        `  ${name.padEnd(16)}${`${percent} %`.padStart(5)}  ${staff ? 'staff' : 'customers'}`,
    ),
    `  An order is read at once under its token in ${followUps.ownReadShare * 100} %, cancelled at once in ${followUps.cancelShare * 100} % of the cases.`,
  ].join('\n');

const isPart = (name: string): boolean => readMix.some((read) => read.name === name);
const row = (name: string, cells: readonly string[]): string =>
  `${name.padEnd(22)}${cells.map((cell) => cell.padStart(12)).join('')}`;
const ms = (value: number): string => value.toFixed(value < 100 ? 1 : 0);
const whole = (value: number): string => Math.round(value).toLocaleString('en');
const sumOf = (counts: Readonly<Record<string, number>>): number =>
  Object.values(counts).reduce((sum, one) => sum + one, 0);
const listed = (counts: Readonly<Record<string, number>>): string => {
  const names = Object.entries(counts).sort(([, a], [, b]) => b - a);
  return names.length === 0 ? '' : `: ${names.map(([name, count]) => `${count} × ${name}`).join('; ')}`;
};
