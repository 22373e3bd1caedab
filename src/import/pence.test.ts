import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { penceOf, poundsOf } from './pence.ts';

suite('prices as decimal text', () => {
  for (const [pounds, pence] of [
    ['2.55', 255],
    ['0', 0],
    ['0.0', 0],
    ['7', 700],
    ['4.1', 410],
    ['11062.06', 1_106_206],
    ['38970.0', 3_897_000],
    ['2.550', 255],
  ] as const) {
    test(`${pounds} pounds are exactly ${pence} pence`, () => {
      assert.deepEqual(penceOf(pounds), { pence, negative: false, exact: true });
    });
  }

  for (const [pounds, pence] of [
    ['0.001', 0],
    ['0.005', 0],
    ['0.0050001', 1],
    ['0.015', 2],
    ['0.025', 2],
    ['0.0250', 2],
    ['1.005', 100],
    ['1.015', 102],
    ['8.345', 834],
    ['8.3451', 835],
    ['8.344999999999999999999', 834],
    ['0.999', 100],
    ['0.995', 100],
  ] as const) {
    test(`${pounds} pounds round half to even to ${pence} pence`, () => {
      assert.deepEqual(penceOf(pounds), { pence, negative: false, exact: false });
    });
  }

  test('a price below zero is told from zero, however small', () => {
    assert.equal(penceOf('-11062.06')?.negative, true);
    assert.equal(penceOf('-0.001')?.negative, true);
    assert.equal(penceOf('-0.00')?.negative, false);
  });

  for (const text of ['', 'abc', '1,50', '1e3', '.', '1.', '£2.55', ' 2.55', 'NaN', '0x10', '1'.repeat(15)]) {
    test(`'${text}' is no price`, () => assert.equal(penceOf(text), null));
  }

  test('pence are shown as pounds', () => {
    assert.deepEqual([0, 5, 99, 100, 123_456].map(poundsOf), ['0.00', '0.05', '0.99', '1.00', '1234.56']);
  });
});
