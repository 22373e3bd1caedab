import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { columns } from './invoice-file.ts';
import { sumByMonth } from './month-sums.ts';
import { type ImportPlan, orderBody, planImport } from './order-plan.ts';

const sample = fileURLToPath(new URL('../../examples/online-retail-2011-02.csv.gz', import.meta.url));

suite('the plan of the sample month', () => {
  test('has every line as a sale or with a reason, and sums that were counted by other means', async () => {
    const plan = await planImport(sample);
    const [february, ...others] = sumByMonth(plan.orders);
    assert.deepEqual(others, []);
    assert.deepEqual(february, {
      month: '2011-02',
      orders: 1126,
      lines: 27_184,
      units: 286_695,
      revenuePence: 52_363_189,
    });
    assert.equal(plan.lines, 27_707);
    assert.equal(plan.lines, february.lines + plan.skipped.length);
    assert.deepEqual(
      Object.entries(Object.groupBy(plan.skipped, ({ reason }) => reason)).map(([reason, lines]) => [
        reason,
        lines?.length,
      ]),
      [
        ['cancellation', 475],
        ['negative-quantity', 48],
      ],
    );
    assert.equal(plan.customers.length, 760);
    assert.equal(plan.products.length, 2407);
    assert.equal(
      plan.products.reduce((pieces, { demand }) => pieces + demand, 0),
      286_695,
    );
    assert.equal(plan.severalTimes.length, 8);
  });

  test('is in time order and the same each time', async () => {
    const [plan, again] = await Promise.all([planImport(sample), planImport(sample)]);
    assert.deepEqual(plan, again);
    assert.ok(plan.orders.every(({ placedAtMs }, at) => at === 0 || placedAtMs >= plan.orders[at - 1]!.placedAtMs));
  });
});

suite('the plan of a file', () => {
  let folder = '';
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'twofold-import-'));
  });
  after(() => rm(folder, { recursive: true }));

  const planOf = async (...lines: string[]): Promise<ImportPlan> => {
    const path = join(folder, 'file.csv');
    await writeFile(path, [columns.join(','), ...lines, ''].join('\n'));
    return planImport(path);
  };

  test('an invoice is one order with its lines as they are, the same SKU twice', async () => {
    const plan = await planOf(
      '536365,A1,LAMP,6,2010-12-01 08:26:00,2.55,17850.0,France',
      '536365,B2,CUP,1,2010-12-01 08:26:00,0,17850.0,France',
      '536365,A1,LAMP,2,2010-12-01 08:26:00,2.10,17850.0,France',
    );
    const price = (amount: number): { amount: number; currency: string } => ({ amount, currency: 'GBP' });
    assert.deepEqual(plan.orders.map(orderBody), [
      {
        orderId: '536365',
        customerId: '17850',
        lines: [
          { sku: 'A1', quantity: 6, unitPrice: price(255) },
          { sku: 'B2', quantity: 1, unitPrice: price(0) },
          { sku: 'A1', quantity: 2, unitPrice: price(210) },
        ],
        payment: { method: 'pm_ok' },
        placedAt: '2010-12-01T08:26:00.000Z',
      },
    ]);
    assert.deepEqual(plan.customers, [{ customerId: '17850', name: 'Customer 17850', country: 'France' }]);
    assert.deepEqual(plan.products, [
      { sku: 'A1', name: 'LAMP', pence: 210, demand: 8 },
      { sku: 'B2', name: 'CUP', pence: 0, demand: 1 },
    ]);
  });

  test('lines without a customer belong to a guest of their country', async () => {
    const plan = await planOf(
      '1,A1,LAMP,1,2010-12-01 08:26:00,1,,Channel Islands',
      '2,A1,LAMP,1,2010-12-01 08:27:00,1,,Channel Islands',
      '3,A1,LAMP,1,2010-12-01 08:28:00,1,,',
    );
    assert.deepEqual(
      plan.orders.map((order) => order.customerId),
      ['guest-channel-islands', 'guest-channel-islands', 'guest-unspecified'],
    );
    assert.deepEqual(plan.customers, [
      { customerId: 'guest-channel-islands', name: 'Guest (Channel Islands)', country: 'Channel Islands' },
      { customerId: 'guest-unspecified', name: 'Guest (Unspecified)', country: '' },
    ]);
  });

  test('orders go by time, invoices that share it by the file', async () => {
    const plan = await planOf(
      '9,A1,LAMP,1,2010-12-02 08:00:00,1,,France',
      '8,A1,LAMP,1,2010-12-01 08:00:00,1,,France',
      '7,A1,LAMP,1,2010-12-01 08:00:00,1,,France',
      '9,B2,CUP,1,2010-12-02 08:00:00,1,,France',
    );
    assert.deepEqual(
      plan.orders.map(({ orderId, lines }) => [orderId, lines.length]),
      [
        ['8', 1],
        ['7', 1],
        ['9', 2],
      ],
    );
  });

  test('an invoice with several customers or times takes the first of each and is counted', async () => {
    const plan = await planOf(
      '1,A1,LAMP,1,2010-12-01 08:00:00,1,11111.0,France',
      '1,A1,LAMP,1,2010-12-01 08:01:00,1,22222.0,France',
      '2,A1,LAMP,1,2010-12-01 08:02:00,1,,France',
      '2,A1,LAMP,1,2010-12-01 08:02:00,1,,Spain',
    );
    assert.deepEqual(
      plan.orders.map((order) => order.customerId),
      ['11111', 'guest-france'],
    );
    assert.deepEqual(plan.severalCustomers, ['1', '2']);
    assert.deepEqual(plan.severalTimes, ['1']);
    assert.equal(new Date(plan.orders[0]!.placedAtMs).toISOString(), '2010-12-01T08:00:00.000Z');
  });

  test('codes that are no SKU are mapped to one that nothing else has', async () => {
    const at = '2010-12-01 08:00:00,1,,France';
    const long = 'x y'.repeat(30);
    const plan = await planOf(
      `1,BANK CHARGES,C,1,${at}`,
      `1,BANK-CHARGES,C,2,${at}`,
      `1,BANK/CHARGES,C,3,${at}`,
      `1,${long},C,4,${at}`,
      `1,${long}z,C,5,${at}`,
    );
    const mapped = 'x-y'.repeat(30);
    assert.deepEqual(plan.mappedSkus, [
      { code: 'BANK CHARGES', sku: 'BANK-CHARGES-2' },
      { code: 'BANK/CHARGES', sku: 'BANK-CHARGES-3' },
      { code: long, sku: mapped.slice(0, 64) },
      { code: `${long}z`, sku: `${mapped.slice(0, 62)}-2` },
    ]);
    assert.deepEqual(
      plan.orders[0]!.lines.map(({ product }) => product.sku),
      ['BANK-CHARGES-2', 'BANK-CHARGES', 'BANK-CHARGES-3', mapped.slice(0, 64), `${mapped.slice(0, 62)}-2`],
    );
  });

  test('a product has the name it was sold under most often, not a remark', async () => {
    const at = '2010-12-01 08:00:00';
    const plan = await planOf(
      `1,A1,LAMP,1,${at},1,,France`,
      `2,A1,BLUE LAMP,1,${at},1,,France`,
      `3,A1,BLUE LAMP,1,${at},2.5,,France`,
      ...['4', '5', '6'].map((invoice) => `${invoice},A1,found,1,${at},0,,France`),
      `7,B2,,1,${at},3,,France`,
      `8,C3,adjustment,1,${at},0,,France`,
    );
    assert.deepEqual(
      plan.products.map(({ sku, name, pence }) => [sku, name, pence]),
      [
        ['A1', 'BLUE LAMP', 250],
        ['B2', 'B2', 300],
        ['C3', 'adjustment', 0],
      ],
    );
  });

  test('what is no sale is listed with line, reason and what it said; its products and customers stay out', async () => {
    const plan = await planOf(
      '1,A1,LAMP,1,2010-12-01 08:00:00,0.125,,France',
      'C2,B2,CUP,-1,2010-12-01 08:00:00,1.95,33333.0,France',
      '3,A1,damaged,-5,2010-12-01 08:00:00,0,,France',
      'rubbish',
    );
    assert.deepEqual(plan.skipped, [
      { line: 3, invoice: 'C2', sku: 'B2', quantity: '-1', price: '1.95', reason: 'cancellation' },
      { line: 4, invoice: '3', sku: 'A1', quantity: '-5', price: '0', reason: 'negative-quantity' },
      { line: 5, invoice: 'rubbish', sku: '', quantity: '', price: '', reason: 'wrong-number-of-fields' },
    ]);
    assert.deepEqual(plan.roundedPrices, [{ line: 2, invoice: '1', pence: 12 }]);
    assert.deepEqual(
      plan.products.map(({ sku }) => sku),
      ['A1'],
    );
    assert.deepEqual(
      plan.customers.map(({ customerId }) => customerId),
      ['guest-france'],
    );
    assert.equal(plan.lines, 4);
  });

  test('an invoice that is larger than an order may be is left out whole, with its demand', async () => {
    const plan = await planOf(
      ...Array.from({ length: 2_001 }, () => '1,A1,LAMP,1,2010-12-01 08:00:00,1,,France'),
      ...Array.from({ length: 2_000 }, () => '2,A1,LAMP,1,2010-12-01 08:00:00,1,,France'),
      '3,B2,GOLD,1000000,2010-12-01 08:00:00,1000000000.00,,France',
    );
    assert.deepEqual(
      plan.orders.map(({ orderId, lines }) => [orderId, lines.length]),
      [['2', 2_000]],
    );
    assert.deepEqual(
      plan.products.map(({ sku, demand }) => [sku, demand]),
      [['A1', 2_000]],
    );
    assert.equal(plan.skipped.filter(({ reason }) => reason === 'too-many-lines').length, 2_001);
    assert.deepEqual(plan.skipped.at(-1), {
      line: 4_003,
      invoice: '3',
      sku: 'B2',
      quantity: '1000000',
      price: '1000000000.00',
      reason: 'total-too-large',
    });
  });
});
