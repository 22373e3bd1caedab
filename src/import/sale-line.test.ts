import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { type SaleLine, saleLineOf, skipReasons } from './sale-line.ts';

const sale = {
  invoice: '536365',
  code: '85123A',
  description: 'WHITE HANGING HEART T-LIGHT HOLDER',
  quantity: '6',
  time: '2010-12-01 08:26:00',
  price: '2.55',
  customer: '17850.0',
  country: 'United Kingdom',
};
const fieldsOf = (changed: Partial<typeof sale> = {}): string[] => Object.values({ ...sale, ...changed });
const lineOf = (changed: Partial<typeof sale>): SaleLine => saleLineOf(fieldsOf(changed)) as SaleLine;

suite('a line of an invoice file', () => {
  test('is a sale with its price in pence and its time in UTC', () => {
    assert.deepEqual(saleLineOf(fieldsOf()), {
      invoice: '536365',
      code: '85123A',
      description: 'WHITE HANGING HEART T-LIGHT HOLDER',
      quantity: 6,
      pence: 255,
      exact: true,
      atMs: Date.UTC(2010, 11, 1, 8, 26),
      customer: '17850',
      country: 'United Kingdom',
    });
  });

  test('may name no customer, have no description, or cost nothing', () => {
    assert.equal(lineOf({ customer: '' }).customer, null);
    assert.equal(lineOf({ customer: '17850' }).customer, '17850');
    assert.equal(lineOf({ description: '' }).description, '');
    assert.equal(lineOf({ price: '0.0' }).pence, 0);
  });

  test('may have a code that is no SKU, and an invoice number that begins with another letter than C', () => {
    assert.equal(lineOf({ code: 'BANK CHARGES' }).code, 'BANK CHARGES');
    assert.equal(lineOf({ invoice: 'A563185' }).invoice, 'A563185');
  });

  test('says when its price was finer than a penny', () => {
    assert.deepEqual([lineOf({ price: '0.001' }).pence, lineOf({ price: '0.001' }).exact], [0, false]);
  });

  const cases: readonly [reason: keyof typeof skipReasons, fields: readonly string[]][] = [
    ['wrong-number-of-fields', fieldsOf().slice(1)],
    ['wrong-number-of-fields', [...fieldsOf(), 'one more']],
    ['wrong-number-of-fields', ['']],
    ['cancellation', fieldsOf({ invoice: 'C536379', quantity: '-1' })],
    ['cancellation', fieldsOf({ invoice: 'C536379' })],
    ['malformed-invoice', fieldsOf({ invoice: '' })],
    ['malformed-invoice', fieldsOf({ invoice: '536 365' })],
    ['malformed-invoice', fieldsOf({ invoice: '5'.repeat(65) })],
    ['no-stock-code', fieldsOf({ code: '' })],
    ['no-stock-code', fieldsOf({ code: '  ' })],
    ['malformed-quantity', fieldsOf({ quantity: '1.5' })],
    ['malformed-quantity', fieldsOf({ quantity: '' })],
    ['malformed-time', fieldsOf({ time: '12/1/2010 8:26' })],
    ['malformed-time', fieldsOf({ time: '2011-02-30 08:26:00' })],
    ['malformed-time', fieldsOf({ time: '2011-02-28 24:00:00' })],
    ['malformed-time', fieldsOf({ time: '2011-13-01 08:26:00' })],
    ['malformed-price', fieldsOf({ price: '2,55' })],
    ['malformed-price', fieldsOf({ price: '' })],
    ['malformed-customer', fieldsOf({ customer: 'nobody' })],
    ['negative-quantity', fieldsOf({ quantity: '-10' })],
    ['zero-quantity', fieldsOf({ quantity: '0' })],
    ['quantity-too-large', fieldsOf({ quantity: '1000001' })],
    ['negative-price', fieldsOf({ invoice: 'A563186', price: '-11062.06' })],
    ['negative-price', fieldsOf({ price: '-0.001' })],
    ['price-too-large', fieldsOf({ price: '10000000000.01' })],
  ];
  for (const [reason, fields] of cases) {
    test(`is left out as ${reason}: ${JSON.stringify(fields).slice(0, 60)}`, () =>
      assert.equal(saleLineOf(fields), reason));
  }

  test('every reason but those of whole invoices has a case here', () => {
    const ofInvoices = ['too-many-lines', 'total-too-large'];
    const covered = new Set<string>([...cases.map(([reason]) => reason), ...ofInvoices]);
    assert.deepEqual(
      Object.keys(skipReasons).filter((reason) => !covered.has(reason)),
      [],
    );
  });
});
