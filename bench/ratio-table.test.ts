import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isPassed, jsonOf, type Outcome, type Outcomes, reached, textOf } from './ratio-table.ts';

const measured = (...pairs: readonly number[]): Outcome => ({
  kind: 'measured',
  pairs,
  figures: [{ name: 'reads', unit: 'a second', blocks: [12_345, 12_345] }],
  notes: ['every answer checked'],
});
const missing: Outcome = { kind: 'not measured', why: 'no registry' };
const wrong: Outcome = { kind: 'wrong', why: '2 events are missing' };

test('a ratio that is better the larger reaches must and aim from below', () => {
  assert.equal(reached(1, measured(0.69, 0.6, 5)), 'missed');
  assert.equal(reached(1, measured(0.7)), 'must');
  assert.equal(reached(1, measured(0.9)), 'aim');
});

test('a ratio that is better the smaller reaches them from above', () => {
  assert.equal(reached(12, measured(2.1)), 'missed');
  assert.equal(reached(12, measured(2)), 'must');
  assert.equal(reached(12, measured(1.2)), 'aim');
});

test('a missed must fails, unless no time is judged; what is wrong fails always, what cannot be measured never', () => {
  const outcomes = (outcome: Outcome): Outcomes =>
    new Map([
      [1, measured(1)],
      [5, outcome],
    ]);
  const passed = (outcome: Outcome): boolean[] => [true, false].map((judges) => isPassed(outcomes(outcome), judges));
  assert.deepEqual(passed(measured(4.9)), [false, true]);
  assert.deepEqual(passed(measured(5)), [true, true]);
  assert.deepEqual(passed(wrong), [false, false]);
  assert.deepEqual(passed(missing), [true, true]);
});

test('the table tells each ratio with its spread, what it must be, and what stands behind it', () => {
  const outcomes: Outcomes = new Map([
    [1, measured(0.7, 0.8, 0.9)],
    [5, missing],
    [12, wrong],
  ]);
  const text = textOf(outcomes, true);
  assert.match(text, /^ 1 {2}cached GET .* 0\.80 +0\.75–0\.85 +≥ 0\.7 +≥ 0\.9 {2}must$/m);
  assert.match(text, /^ +reads: 12,345 a second \(12,345–12,345\)\n +every answer checked$/m);
  assert.match(text, /^ 5 {2}.*≥ 5 +≥ 10\n +not measured: no registry$/m);
  assert.match(text, /^12 {2}.*≤ 2 +≤ 1\.2 {2}WRONG\n +2 events are missing$/m);
  assert.doesNotMatch(textOf(outcomes, false), /must$/m);
});

test('a program reads medians, spreads, verdicts and every pair', () => {
  const [first, second] = jsonOf(
    new Map([
      [1, measured(0.7, 0.8, 0.9)],
      [5, missing],
    ]),
  ) as Record<string, unknown>[];
  assert.equal(first!['ratio'], 1);
  assert.equal(first!['median'], 0.8);
  assert.equal(first!['reached'], 'must');
  assert.deepEqual(first!['pairs'], [0.7, 0.8, 0.9]);
  assert.equal(second!['why'], 'no registry');
});
