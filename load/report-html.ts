/** What a run has come to, as one page that needs nothing else. */
import type { Point } from './measure.ts';
import { limits } from './profiles.ts';
import { escaped, type Plot, plotOf, plotStyles } from './plot.ts';
import { type Report, requestKinds } from './report-text.ts';

const percentiles = ['p50', 'p90', 'p99', 'p999', 'max'] as const;
const percentileNames = ['50', '90', '99', '99.9', '100'];

export function htmlOf(report: Report): string {
  const { title, command, startedAt, seed, syncsPerSecond, measured, verdicts, audit, tried = [] } = report;
  const { latencies, totals, processes, points, seconds } = measured;
  const kept = verdicts.every((verdict) => verdict.kept);
  const errors = Object.entries(totals.errors);
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Load: ${escaped(title)}</title>
<style>${styles}${plotStyles}</style>
<main>
<h1>${escaped(title)}</h1>
<p class="muted">${escaped(startedAt)}, seed ${seed}, fdatasync of 4 KiB ${Math.round(syncsPerSecond).toLocaleString('en')} a second<br><code>${escaped(command)}</code></p>
<p class="verdict ${kept ? 'good' : 'bad'}">${kept ? '✓ every limit was kept' : '✗ a limit was missed'}${audit?.kind === 'none' ? '; this system has no audit' : ''}</p>
${table(
  ['', 'found', 'must', 'aim', ''],
  verdicts.map(({ what, found, must, aim, kept: isKept }) => [what, found, must, aim, isKept ? '✓ kept' : '✗ missed']),
)}
<section>${plotsOf(points)
    .map((plot) => plotOf({ ...plot, xs: points.map(({ at }) => at), xUnit: 'second', from: 1 }))
    .join('')}
${plotOf({
  title: 'Latency by percentile',
  unit: 'ms',
  xs: percentileNames,
  xUnit: 'percentile',
  isLogarithmic: true,
  series: (['place', 'reads', 'own write', 'ends'] as const).map((name) => {
    const summary = latencies[name];
    return { name: nameOf(name), values: percentiles.map((one) => summary?.[one] ?? null) };
  }),
})}</section>
<h2>Requests</h2>
${table(
  ['', 'answered/s', 'p50 ms', 'p90 ms', 'p99 ms', 'p99.9 ms', 'max ms'],
  [...requestKinds, 'ends', 'noticed late'].flatMap((name) => {
    const summary = latencies[name];
    if (summary === undefined) return [];
    const answered = totals.answered[name];
    const rate = answered === undefined ? '' : (answered / seconds).toFixed(1);
    return [[nameOf(name), rate, ...percentiles.map((one) => summary[one].toFixed(1))]];
  }),
)}
<h2>Processes</h2>
${table(
  ['', '% of a core', 'µs per request', 'MB'],
  processes.map(({ name, corePercent, microsPerRequest, memoryMb }) => [
    name,
    corePercent.toFixed(1),
    microsPerRequest.toFixed(1),
    memoryMb.toFixed(0),
  ]),
)}
${
  tried.length === 0
    ? ''
    : `<h2>Rates that were tried</h2>${table(
        ['requests/s', ''],
        tried.map(({ requestsPerSecond, kept: isKept, missed }) => [
          requestsPerSecond.toFixed(0),
          isKept ? '✓ kept' : `✗ ${missed.join(', ')}`,
        ]),
      )}`
}
${
  errors.length === 0
    ? ''
    : `<h2>Errors</h2>${table(
        ['', 'times'],
        errors.map(([name, count]) => [name, String(count)]),
      )}`
}
${audit?.kind === 'ended' && audit.divergences.length > 0 ? `<h2>Divergences</h2><pre>${escaped(audit.divergences.join('\n'))}</pre>` : ''}
</main></html>
`;
}

const names: Readonly<Record<string, string>> = {
  place: 'orders placed',
  'own write': 'own writes under their token',
  ends: 'orders to their end',
  'noticed late': 'generator late',
};
const nameOf = (name: string): string => names[name] ?? name;

/** Over time; each has `xs` of its own added. */
function plotsOf(points: readonly Point[]): readonly Omit<Plot, 'xs' | 'xUnit'>[] {
  const over = (name: string, of: (point: Point) => number | null) => ({ name, values: points.map(of) });
  const finite = (value: number | null): number | null => (value === Infinity ? null : value);
  return [
    {
      title: 'Latency from when a request was due',
      unit: 'ms',
      isLogarithmic: true,
      limit: limits.place.must,
      series: [
        over('orders, 99 %', ({ place }) => place?.p99 ?? null),
        over('orders, 50 %', ({ place }) => place?.p50 ?? null),
        over('reads, 99 %', ({ reads }) => reads?.p99 ?? null),
        over('reads, 50 %', ({ reads }) => reads?.p50 ?? null),
      ],
    },
    {
      title: 'Requests',
      unit: 'a second',
      series: [
        over('offered', ({ offered }) => offered),
        over('answered', ({ answered }) => answered),
        over('waiting for a connection', ({ waiting }) => waiting),
        over('errors', ({ errors }) => errors),
      ],
    },
    {
      title: 'Orders, from when they were due to their end',
      unit: 'ms',
      isLogarithmic: true,
      limit: limits.ends.must,
      series: [over('99 %', ({ ends }) => ends?.p99 ?? null), over('50 %', ({ ends }) => ends?.p50 ?? null)],
    },
    {
      title: 'Freshness: from being recorded to being shown, 99 % of all events',
      unit: 'ms at most',
      isLogarithmic: true,
      limit: limits.freshness.must,
      series: [over('freshness', ({ freshnessP99 }) => finite(freshnessP99))],
    },
    {
      title: 'Lag of the consumer that is furthest behind',
      unit: 'events',
      series: [over('lag', ({ lagEvents }) => lagEvents)],
    },
  ];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (tag: string, row: readonly string[]): string =>
    row.map((cell) => `<${tag}${cell.startsWith('✗') ? ' class="bad"' : ''}>${escaped(cell)}</${tag}>`).join('');
  return `<div class="wide"><table><thead><tr>${cells('th', head)}</tr></thead><tbody>${rows
    .map((row) => `<tr>${cells('td', row)}</tr>`)
    .join('')}</tbody></table></div>`;
}

const styles = `
:root { color-scheme: light dark; --page: #fbfbfa; --ink: #1c1c1a; --muted: #5f5e5a; --grid: #e4e3df; --axis: #b5b4ae; --bad: #c0362c;
  --good: #1d7a46; --c0: #2a6fdb; --c1: #d9730d; --c2: #159a80; --c3: #8a4fd0 }
@media (prefers-color-scheme: dark) {
  :root { --page: #191918; --ink: #f1f0ec; --muted: #a8a69f; --grid: #33322f; --axis: #5c5b56; --bad: #ff7b6e;
    --good: #5ecb8d; --c0: #6aa5ff; --c1: #f2a35c; --c2: #4fcdb1; --c3: #bd97f5 }
}
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 1180px; margin: 0 auto; padding: 24px 16px 64px }
h1 { font-size: 22px; line-height: 1.3 } h2 { font-size: 17px; margin-top: 36px }
.muted { color: var(--muted); font-size: 13px } code { overflow-wrap: anywhere }
.verdict { font-weight: 600 } .good { color: var(--good) } .bad { color: var(--bad) }
section { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 28px; margin-top: 28px }
figure { margin: 0; min-width: 0 } figcaption { font-weight: 600 } figcaption small { font-weight: 400; color: var(--muted) }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: 4px 14px 4px 0; text-align: right; border-bottom: 1px solid var(--grid); white-space: nowrap }
th { color: var(--muted); font-weight: 400 } th:first-child, td:first-child { text-align: left }
`;
