import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judge } from './judgement.ts';
import { measuredRun } from './measured-for-tests.ts';
import { plotOf } from './plot.ts';
import { htmlOf } from './report-html.ts';
import { type Report, textOf } from './report-text.ts';

function reportOf(changes: Partial<Report> = {}): Report {
  const measured = measuredRun(30);
  return {
    title: 'profile B: 30 requests/s',
    command: 'npm run load -- --profile B',
    startedAt: '2026-11-21T10:00:00.000Z',
    seed: 7,
    syncsPerSecond: 5_000,
    measured,
    verdicts: judge(measured, { kind: 'none' }),
    audit: { kind: 'none' },
    ...changes,
  };
}

/** What stands between tags; throws where tags do not match. */
function parsed(html: string): string {
  const open: string[] = [];
  for (const [tag, name = ''] of html.matchAll(/<\/?([a-z0-9]+)[^<>]*>/g)) {
    if (/^<(meta|br|!)/.test(tag) || tag.endsWith('/>')) continue;
    if (!tag.startsWith('</')) open.push(name);
    else assert.equal(open.pop(), name, `${tag} closes another`);
  }
  assert.deepEqual(open, []);
  return html.replace(/<style>[^]*<\/style>/, '').replace(/<[^>]*>/g, ' ');
}

test('the table says what was offered, answered, found, and what the limits are', () => {
  const text = textOf(reportOf());
  assert.match(text, /offered 30\/s by schedule/);
  assert.match(text, /fdatasync of 4 KiB 5,000\/s/);
  assert.match(text, /^place +10\.0 +10\.0 +5\.0 +10\.0 +20\.0 +40\.0 +40\.0$/m);
  assert.match(text, /^reads +20\.0 +20\.0 /m);
  assert.match(text, /^freshness of events +≤ 10 +≤ 50 +≤ 75 *$/m);
  assert.match(text, /^server +40\.0 +120\.0 +200$/m);
  assert.match(text, /This system has no audit/);
  assert.match(text, /^reads, p99 +10 ms +< 150 ms +15 ms {2}kept$/m);
});

test('errors are listed by kind with examples, retries apart, divergences by name', () => {
  const { totals } = measuredRun(30);
  const measured = measuredRun(30, {
    totals: {
      ...totals,
      errors: { 'product: 200 of another shape': 2, 'place: 500 internal': 3 },
      examples: ['place: 500 internal\nPOST /v1/orders HTTP/1.1'],
      retries: { 'place: 503': 4 },
    },
  });
  const audit = { kind: 'ended', seconds: 2, divergences: ['stock: A: reserved differs'], more: false } as const;
  const text = textOf(reportOf({ measured, audit, verdicts: judge(measured, audit) }));
  assert.match(text, /sent again 4: 4 × place: 503/);
  assert.match(text, /errors 5: 3 × place: 500 internal; 2 × product: 200 of another shape/);
  assert.match(text, /POST \/v1\/orders HTTP\/1\.1/);
  assert.match(text, /stock: A: reserved differs/);
  assert.match(text, /^errors +5 +0 +0 {2}MISSED$/m);
});

test('the page holds everything itself, plots it, and says when a limit was missed', () => {
  const html = htmlOf(reportOf());
  const text = parsed(html);
  assert.match(text, /every limit was kept/);
  assert.equal(html.match(/<svg /g)?.length, 6);
  assert.match(html, /prefers-color-scheme: dark/);
  assert.doesNotMatch(html, /<script|https?:\/\/|src=|@import|url\(/);
  const measured = measuredRun(30, { brokenOff: 'nothing was answered for 8 s', freshness: null });
  const broken = parsed(htmlOf(reportOf({ measured, verdicts: judge(measured, null), audit: null })));
  assert.match(broken, /a limit was missed/);
  assert.match(broken, /nothing was answered for 8 s/);
});

test('what clients or servers have said cannot become part of the page', () => {
  const { totals } = measuredRun(30);
  const measured = measuredRun(30, { totals: { ...totals, errors: { 'place: <script>alert("1")</script>': 1 } } });
  const html = htmlOf(reportOf({ measured, title: '<b>&' }));
  assert.doesNotMatch(html, /<script|<b>&/);
  assert.match(parsed(html), /&lt;script&gt;alert\(&quot;1&quot;\)/);
});

test('the rates that were tried in search of the limit are shown', () => {
  const tried = [
    { requestsPerSecond: 100, kept: true, missed: [] },
    { requestsPerSecond: 200, kept: false, missed: ['reads, p99 400 ms'] },
  ];
  assert.match(textOf(reportOf({ tried })), /200 requests\/s {2}missed: reads, p99 400 ms/);
  assert.match(parsed(htmlOf(reportOf({ tried }))), /Rates that were tried[^]*reads, p99 400 ms/);
});

const plot = { title: 'Lag', unit: 'events', xUnit: 'second', xs: [0, 1, 2, 3] };
const pointsOf = (svg: string): number[][][] =>
  [...svg.matchAll(/points="([^"]*)"/g)].map(([, points = '']) =>
    points.split(' ').map((point) => point.split(',').map(Number)),
  );

test('a plot lies within its frame, higher values higher, with a gap where nothing was measured', () => {
  const [first, second] = pointsOf(plotOf({ ...plot, series: [{ name: 'lag', values: [1, 900, null, 40] }] }));
  assert.deepEqual([first!.length, second!.length], [2, 2]);
  for (const [x = 0, y = 0] of [...first!, ...second!])
    assert.ok(x >= 56 && x <= 708 && y >= 10 && y <= 190, `${x},${y}`);
  assert.ok(first![1]![1]! < first![0]![1]!);
});

test('powers of ten are as far from each other as the next ones', () => {
  const series = [{ name: 'ms', values: [1, 10, 100, 1_000] }];
  const [points] = pointsOf(plotOf({ ...plot, isLogarithmic: true, series }));
  const steps = points!.slice(1).map(([, y = 0], n) => points![n]![1]! - y);
  assert.ok(
    steps.every((step) => Math.abs(step - 60) < 0.2),
    steps.join(),
  );
});

test('a limit is drawn where it is near, and nothing where nothing was measured', () => {
  const series = [{ name: 'ms', values: [100, 120, 90, 80] }];
  assert.match(plotOf({ ...plot, series, limit: 150 }), /class="limit"/);
  assert.doesNotMatch(plotOf({ ...plot, series, limit: 5_000 }), /class="limit"/);
  assert.equal(plotOf({ ...plot, series: [{ name: 'ms', values: [null, null, null, null] }] }), '');
  // Nothing but zeros is something.
  assert.match(plotOf({ ...plot, series: [{ name: 'errors', values: [0, 0, 0, 0] }] }), /<polyline/);
});
