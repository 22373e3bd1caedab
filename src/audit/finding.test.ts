import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Finding } from './check.ts';
import { bounded, differences, divergenceIdOf, fingerprintOf, seenOf } from './finding.ts';

const finding = (more: Partial<Finding> = {}): Finding => ({
  check: 'order-rows',
  entity: 'queries/orders/1',
  says: 'It differs.',
  expected: { a: 1, b: { c: [1, 2] } },
  found: { a: 1, b: { c: [1, 3] } },
  repairs: ['re-project'],
  ...more,
});

test('the same check and entity are the same divergence, whatever is found', () => {
  assert.match(divergenceIdOf(finding()), /^[0-9a-f]{32}$/);
  assert.equal(divergenceIdOf(finding()), divergenceIdOf(finding({ found: null })));
  assert.notEqual(divergenceIdOf(finding()), divergenceIdOf(finding({ entity: 'queries/orders/2' })));
  assert.notEqual(divergenceIdOf(finding()), divergenceIdOf(finding({ check: 'order-states' })));
});

test('a finding is told from another by what is expected and found, and not by the order of fields', () => {
  const turned = finding({ expected: { b: { c: [1, 2] }, a: 1, d: undefined } });
  assert.equal(fingerprintOf(finding()), fingerprintOf(turned));
  assert.notEqual(fingerprintOf(finding()), fingerprintOf(finding({ found: { a: 1, b: { c: [3, 1] } } })));
  assert.equal(fingerprintOf(finding({ found: undefined })), fingerprintOf(finding({ found: null })));
});

test('the paths that differ are named, and no others', () => {
  assert.deepEqual(differences(finding().expected, finding().found), ['/b/c/1: 2 expected, 3 found']);
  assert.deepEqual(differences({ 'a/b~c': 1, alone: 'x' }, { 'a/b~c': 2, other: true }), [
    '/a~1b~0c: 1 expected, 2 found',
    '/alone: "x" expected, nothing found',
    '/other: nothing expected, true found',
  ]);
  assert.deepEqual(differences(null, { a: 1 }), ['/: nothing expected, {"a":1} found']);
  assert.deepEqual(differences([1], { 0: 1 }), ['/: [1] expected, {"0":1} found']);
});

test('of very many differences the first 50 are named, and long values are cut', () => {
  const many = Object.fromEntries(Array.from({ length: 80 }, (_, n) => [`k${n}`, n]));
  const lines = differences(many, {});
  assert.deepEqual([lines.length, lines.at(-1)], [51, 'and more']);
  assert.ok(differences('x'.repeat(1_000), 'y')[0]!.length < 200);
});

test('what is recorded is bounded, and names only an order that can be', () => {
  assert.deepEqual(bounded({ a: undefined, b: 1 }), { b: 1 });
  assert.equal(bounded(undefined), null);
  const cut = bounded('x'.repeat(100_000)) as { cut: string; characters: number };
  assert.deepEqual([cut.cut.length, cut.characters], [16_384, 100_002]);
  assert.equal(seenOf(finding({ orderId: '1' })).orderId, '1');
  assert.equal('orderId' in seenOf(finding({ orderId: 'no/such' })), false);
  assert.equal(seenOf(finding({ says: 'x'.repeat(2_000) })).says.length, 1_000);
});
