import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, suite, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { type Run, sample, sampleOrders, startImport } from './import-process.fixture.ts';
import type { ImportSummary } from './import-report.ts';
import { columns } from './invoice-file.ts';
import { MemoryShop } from './shop.fixture.ts';

type Report = ImportSummary & {
  readonly skippedLines: readonly { reason: string }[];
  readonly refusedOrders: unknown[];
};

suite('twofold import', () => {
  let folder = '';
  let shop: MemoryShop;
  const started: ChildProcess[] = [];

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'twofold-import-'));
    shop = new MemoryShop();
    await shop.listen();
  });
  afterEach(async () => {
    for (const process of started.splice(0)) process.kill('SIGKILL');
    await shop.close();
    await rm(folder, { recursive: true });
  });

  const start = (...args: string[]): ReturnType<typeof startImport> => {
    const running = startImport(folder, ...args);
    started.push(running.process);
    return running;
  };
  const importFile = (file: string, ...args: string[]): Promise<Run> =>
    start(file, '--url', shop.address, ...args).ended;
  const report = async (): Promise<Report> => {
    const name = (await readdir(folder)).find((file) => /^import-report-.*\.json$/.test(file))!;
    return JSON.parse(await readFile(join(folder, name), 'utf8')) as Report;
  };
  const smallFile = async (...lines: string[]): Promise<string> => {
    const path = join(folder, 'small.csv');
    await writeFile(path, [columns.join(','), ...lines, ''].join('\n'));
    return path;
  };
  const lamps = (invoice: number, pieces = 1): string =>
    `${invoice},LAMP,LAMP,${pieces},2011-02-01 08:${String(invoice % 60).padStart(2, '0')}:00,2.50,17850.0,France`;

  test('imports the sample month in time order, and every sum is equal', async () => {
    const run = await importFile(sample);
    assert.equal(run.code, 0, run.stderr);
    assert.deepEqual(shop.statusCounts(), { completed: sampleOrders });
    assert.match(run.stdout, /1,126 orders with 27,184 lines, 760 customers, 2,407 products/);
    assert.match(run.stdout, /cancellation +475/);
    assert.match(run.stdout, /completed +1,126/);
    assert.match(run.stdout, /2011-02 +1,126 +1,126 +523,631\.89 +523,631\.89/);
    assert.match(run.stderr, /All sums equal those of the file/);
    const { state, skippedLines, check, plan } = await report();
    assert.equal(state, 'equal');
    assert.equal(skippedLines.length, 523);
    assert.deepEqual(check?.differences, []);
    assert.equal(check?.salesReportCompared, true);
    assert.deepEqual(check?.foundByMonth, plan.byMonth);
    assert.equal(
      [...shop.products.values()].reduce((left, { onHand }) => left + onHand, 0),
      0,
    );
  });

  test('starts orders in time order, and not more at once than it is told', async () => {
    let open = 0;
    let openMax = 0;
    shop.fault = ({ method, url }) => {
      if (method === 'POST' && url.pathname === '/v1/orders') openMax = Math.max(openMax, (open += 1));
      return undefined;
    };
    shop.onAnswer = async ({ method, url }) => {
      await new Promise((resolve) => setImmediate(resolve));
      if (method === 'POST' && url.pathname === '/v1/orders') open -= 1;
    };
    const lines = Array.from({ length: 50 }, (_, at) => lamps(100 + at));
    const run = await importFile(await smallFile(...lines), '--in-flight', '1');
    assert.equal(run.code, 0, run.stderr);
    const inTime = [...shop.orders.values()]
      .map(({ view }) => view)
      .sort((a, b) => Date.parse(a.placedAt) - Date.parse(b.placedAt));
    assert.deepEqual(
      shop.placed,
      inTime.map(({ orderId }) => orderId),
    );
    assert.equal(openMax, 1);
  });

  test('sends each order with a token that includes the catalogue', async () => {
    assert.equal((await importFile(await smallFile(lamps(1)))).code, 0);
    const at = shop.requests.findIndex(({ method, url }) => method === 'POST' && url.pathname === '/v1/orders');
    assert.equal(shop.requests[at]!.headers['consistency-token'], `seen-${at}`);
    assert.match(shop.requests[at]!.headers['idempotency-key'] as string, /^import-[0-9a-f]{16}-order-1$/);
  });

  test('a penny that is missing, an order that is gone and one that was cancelled are differences: exit 1', async () => {
    const file = await smallFile(...Array.from({ length: 60 }, (_, at) => lamps(100 + at)));
    assert.equal((await importFile(file)).code, 0);
    const change = (orderId: string, changed: object): void => {
      const order = shop.orders.get(orderId)!;
      order.view = { ...order.view, ...changed };
    };
    change('110', { total: { amount: 249, currency: 'GBP' } });
    change('130', { status: 'cancelled' });
    shop.orders.delete('145');
    const run = await importFile(file, '--patience', '0.2');
    assert.equal(run.code, 1);
    assert.match(run.stderr, /orders completed +60 +58\n/);
    assert.match(run.stderr, /orders cancelled +0 +1\n/);
    assert.match(run.stderr, /orders missing +0 +1\n/);
    assert.match(run.stderr, /2011-02 revenue found +150\.00 +144\.99\n/);
    assert.match(run.stderr, /order 110 +as in the file +total 249\n/);
    assert.match(run.stderr, /twofold import: not as in the file; see /);
    const { state, check } = await report();
    assert.equal(state, 'differences');
    assert.equal(check?.ordersByStatus.missing, 1);
  });

  test('orders that stay open are waited for as long as it is told, then they are a difference', async () => {
    const file = await smallFile(lamps(1), lamps(2));
    assert.equal((await importFile(file)).code, 0);
    const order = shop.orders.get('2')!;
    order.view = { ...order.view, status: 'reserved' };
    const run = await importFile(file, '--patience', '0.2');
    assert.equal(run.code, 1);
    assert.match(run.stderr, /orders reserved +0 +1\n/);
  });

  test('an order that the server holds with other content is refused, reported, and exit 1', async () => {
    const file = await smallFile(lamps(1), lamps(2));
    const first = await importFile(await smallFile(lamps(1, 5), lamps(3)));
    assert.equal(first.code, 0, first.stderr);
    const run = await importFile(
      await smallFile(lamps(1), lamps(2)),
      '--patience',
      '0.2',
      '--report',
      join(folder, 'second.json'),
    );
    assert.equal(run.code, 1, file);
    assert.match(run.stderr, /orders refused +0 +1\n/);
    const second = JSON.parse(await readFile(join(folder, 'second.json'), 'utf8')) as Report;
    assert.deepEqual(second.refusedOrders, [{ orderId: '1', refusal: '409 order-exists (because of order-exists)' }]);
  });

  test('a refusal of all orders ends it before it has asked for each', async () => {
    shop.fault = ({ method, url }) =>
      method === 'POST' && url.pathname === '/v1/orders' ? { status: 400, code: 'invalid-request' } : undefined;
    const run = await importFile(sample);
    assert.equal(run.code, 1);
    assert.match(run.stderr, /twofold import: more than 100 orders were refused, the last: 400 invalid-request/);
    assert.ok(
      shop.requests.filter(({ method, url }) => method === 'POST' && url.pathname === '/v1/orders').length < 200,
    );
  });

  test('orders of others in the same months are left out of the sums, and the sales report is then not compared', async () => {
    const file = await smallFile(lamps(1), lamps(2));
    assert.equal((await importFile(await smallFile(lamps(1), lamps(7)))).code, 0);
    const run = await importFile(await smallFile(lamps(1), lamps(2)), '--report', join(folder, 'second.json'));
    assert.equal(run.code, 0, run.stderr + file);
    assert.match(run.stdout, /The sales report was not compared: of these months 1 order is not from this file\./);
  });

  test('a sales report that says otherwise is a difference', async () => {
    const file = await smallFile(lamps(1));
    shop.fault = ({ url }) =>
      url.pathname === '/v1/reports/sales' ? { status: 200, html: '{"buckets":[]}' } : undefined;
    const run = await importFile(file, '--patience', '0.3');
    assert.equal(run.code, 1);
    assert.match(run.stderr, /2011-02 revenue in the sales report +2\.50 +0\.00\n/);
  });

  test('with --stock, scarce goods fail as out of stock, and that is no difference', async () => {
    const file = await smallFile(...Array.from({ length: 40 }, (_, at) => lamps(100 + at, 2)));
    const run = await importFile(file, '--stock', '21');
    assert.equal(run.code, 0, run.stderr);
    assert.deepEqual(shop.statusCounts(), { completed: 10, failed: 30 });
    assert.equal(shop.products.get('LAMP')?.onHand, 1);
    assert.match(run.stdout, /failed +30/);
  });

  test('with --stock, more sold than there was is a difference', async () => {
    const file = await smallFile(...Array.from({ length: 10 }, (_, at) => lamps(100 + at, 2)));
    shop.onAnswer = ({ url }) => {
      if (url.pathname.endsWith('/stock-adjustments')) shop.products.get('LAMP')!.onHand += 15;
    };
    const run = await importFile(file, '--stock', '5');
    assert.equal(run.code, 1);
    assert.match(run.stderr, /pieces of LAMP sold, at most +5 +20\n/);
  });

  test('another --stock for the same file is refused in one line and adds nothing', async () => {
    const file = await smallFile(lamps(1));
    assert.equal((await importFile(file)).code, 0);
    const run = await importFile(file, '--stock', '9', '--report', join(folder, 'second.json'));
    assert.equal(run.code, 1);
    assert.match(run.stderr, /twofold import: this file's stock was imported before with another --stock \(LAMP\)/);
    assert.equal(shop.products.get('LAMP')?.onHand, 0);
  });

  test('--speed spreads the orders as the file does', async () => {
    // 08:01 and 08:05: four minutes, at 480 seconds a second.
    const run = await importFile(await smallFile(lamps(1), lamps(5)), '--speed', '480', '--json');
    assert.equal(run.code, 0, run.stderr);
    const summary = JSON.parse(run.stdout) as ImportSummary;
    assert.ok(summary.run!.ordersMs >= 490, String(summary.run!.ordersMs));
  });

  test('--json prints the summary alone on stdout', async () => {
    const run = await importFile(
      await smallFile(lamps(1), 'C2,LAMP,LAMP,-1,2011-02-01 09:00:00,2.50,,France'),
      '--json',
    );
    assert.equal(run.code, 0, run.stderr);
    const summary = JSON.parse(run.stdout) as ImportSummary;
    assert.equal(summary.state, 'equal');
    assert.deepEqual(summary.plan.skippedByReason, { cancellation: 1 });
    assert.equal(summary.check?.ordersByStatus.completed, 1);
  });

  test('a caller who is not let in is told so', async () => {
    shop.fault = ({ headers }) =>
      headers.authorization === 'Bearer good' ? undefined : { status: 401, code: 'unauthenticated' };
    const file = await smallFile(lamps(1));
    const run = await importFile(file);
    assert.equal(run.code, 1);
    assert.match(run.stderr, /twofold import: not let in: 401 unauthenticated/);
    assert.equal((await importFile(file, '--token', 'good')).code, 0);
  });

  test('each bad file ends in one line and exit 1, and nothing is sent', async () => {
    const whole = await readFile(sample);
    const files: readonly [name: string, content: string | Buffer, message: RegExp][] = [
      ['empty.csv', '', /empty\.csv is empty/],
      ['cut.csv.gz', whole.subarray(0, whole.length / 2), /cut\.csv\.gz is a gzip file that ends too early/],
      ['picture.png', Buffer.from('89504e470d0a1a0a', 'hex'), /picture\.png is not UTF-8 text/],
      ['other.csv', 'sku,price\n1,2\n', /other\.csv is not a CSV file with the columns/],
      [
        'none.csv',
        `${columns.join(',')}\nC1,A,A,-1,2011-02-01 08:00:00,1,,France\n`,
        /none\.csv has no sale in it; see /,
      ],
      ['zipped.csv', gzipSync('text'), /zipped\.csv is not a CSV file/],
    ];
    for (const [name, content, message] of files) {
      await writeFile(join(folder, name), content);
      const run = await importFile(join(folder, name));
      assert.equal(run.code, 1, name);
      assert.match(run.stderr, message);
      assert.equal(run.stderr.trimEnd().split('\n').length, 1, run.stderr);
    }
    const missing = await importFile(join(folder, 'missing.csv'));
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /^twofold import: \S+missing\.csv does not exist\n$/);
    assert.equal(shop.requests.length, 0);
  });

  test('options that make no sense are refused', async () => {
    const cases = [
      ['--speed', '0'],
      ['--speed', 'fast'],
      ['--stock', '1.5'],
      ['--in-flight', '0'],
      ['--patience', '-1'],
      ['--url', 'here'],
    ];
    for (const option of cases) {
      const run = await start(sample, ...option).ended;
      assert.equal(run.code, 1, option.join(' '));
      assert.match(run.stderr, /^error: option '--/);
    }
  });

  test('a report that cannot be written is said before anything is sent', async () => {
    const run = await importFile(await smallFile(lamps(1)), '--report', join(folder, 'small.csv', 'report.json'));
    assert.equal(run.code, 1);
    assert.match(run.stderr, /^twofold import: the report \S+ cannot be written/);
    assert.equal(shop.requests.length, 0);
  });
});
