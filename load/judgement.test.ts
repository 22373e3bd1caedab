import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findLimit } from './find-limit.ts';
import { isPassed, judge } from './judgement.ts';
import type { Measured } from './measure.ts';
import { measuredRun, summary } from './measured-for-tests.ts';

const run = measuredRun(100);
const missed = (changes: Partial<Measured>, audit: Parameters<typeof judge>[1] = null): string[] =>
  judge(measuredRun(100, changes), audit).flatMap(({ what, kept }) => (kept ? [] : [what]));

test('a run that keeps every limit is kept', () => {
  assert.deepEqual(missed({}), []);
  assert.deepEqual(missed({}, { kind: 'none' }), []);
  assert.deepEqual(missed({}, { kind: 'ended', seconds: 1, divergences: [], more: false }), []);
});

test('each limit that is missed is named', () => {
  const { latencies, totals } = run;
  const cases: readonly (readonly [Partial<Measured>, string])[] = [
    [{ latencies: { ...latencies, place: summary(300) } }, 'orders placed, p99'],
    [{ latencies: { ...latencies, reads: summary(150) } }, 'reads, p99'],
    [{ latencies: { ...latencies, 'own write': summary(5_000) } }, 'own writes readable under their token, p99'],
    [{ latencies: { ...latencies, ends: summary(90, 5_000) } }, 'orders final, all of them'],
    [{ totals: { ...totals, ordersOpen: 1 } }, 'orders final, all of them'],
    [{ totals: { ...totals, errors: { 'place: 500 internal': 1 } } }, 'errors'],
    [
      { freshness: { events: 700, p50: 10, p99: 10_000, p999: Infinity, allShown: true } },
      'freshness of all events, p99',
    ],
    [{ freshness: { events: 700, p50: 10, p99: 50, p999: 75, allShown: false } }, 'freshness of all events, p99'],
    [{ brokenOff: 'nothing was answered for 8 s' }, 'run to its end'],
  ];
  for (const [changes, what] of cases) assert.deepEqual(missed(changes), [what]);
});

test('a divergence fails the run, and so does an audit that cannot be had', () => {
  const what = ['divergences after a full audit'];
  assert.deepEqual(missed({}, { kind: 'ended', seconds: 1, divergences: ['stock: A: differs'], more: false }), what);
  assert.deepEqual(missed({}, { kind: 'failed', why: 'not within 30 minutes' }), what);
});

test('a smoke run passes whatever its times are, and nothing else', () => {
  const { latencies, totals } = run;
  const passes = (changes: Partial<Measured>, smoke: boolean): boolean =>
    isPassed(judge(measuredRun(100, changes), null), smoke);
  const slow = { latencies: { ...latencies, reads: summary(150), ends: summary(90, 5_000) } };
  assert.deepEqual([passes({}, false), passes(slow, false), passes(slow, true)], [true, false, true]);
  for (const wrong of [
    { totals: { ...totals, ordersOpen: 1 } },
    { totals: { ...totals, errors: { 'place: 500 internal': 1 } } },
    { freshness: { events: 700, p50: 10, p99: 50, p999: 75, allShown: false } },
    { brokenOff: 'nothing was answered for 8 s' },
  ])
    assert.equal(passes(wrong, true), false, JSON.stringify(wrong));
});

async function limitOf(highest: number, first: number) {
  const asked: number[] = [];
  const found = await findLimit(
    first,
    async (rate) => {
      asked.push(rate);
      return rate <= highest ? measuredRun(rate) : measuredRun(rate, { brokenOff: 'too much' });
    },
    () => {},
  );
  return { asked, found };
}

test('the highest rate that is kept is found by doubling, and then by halves', async () => {
  const { asked, found } = await limitOf(730, 100);
  assert.deepEqual(asked.slice(0, 6), [100, 200, 400, 800, 600, 700]);
  assert.ok(found.measured.requestsPerSecond <= 730 && found.measured.requestsPerSecond > 730 / 1.06);
  assert.equal(found.measured.brokenOff, null);
  assert.deepEqual(
    found.tried.map(({ requestsPerSecond, kept }) => [requestsPerSecond, kept]),
    asked.map((rate) => [rate, rate <= 730]),
  );
});

test('a first rate that is too high is halved', async () => {
  const { asked, found } = await limitOf(30, 100);
  assert.deepEqual(asked.slice(0, 4), [100, 50, 25, 37.5]);
  assert.ok(found.measured.requestsPerSecond <= 30 && found.measured.requestsPerSecond > 28);
});

test('a search ends where nothing is kept, and says so', async () => {
  const { asked, found } = await limitOf(0, 100);
  assert.equal(asked.length, 16);
  assert.equal(found.measured.brokenOff, 'too much');
});
