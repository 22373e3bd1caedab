/** An import that is cut off at any moment, and done again: every order once, every sum right. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, suite, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { type Run, sample, sampleOrders, startImport } from '../../src/import/import-process.fixture.ts';
import type { ImportSummary } from '../../src/import/import-report.ts';
import { MemoryShop } from '../../src/import/shop.fixture.ts';

suite('an import that is cut off and done again', () => {
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
  const report = async (): Promise<ImportSummary> => {
    const name = (await readdir(folder)).find((file) => /^import-report-.*\.json$/.test(file))!;
    return JSON.parse(await readFile(join(folder, name), 'utf8')) as ImportSummary;
  };
  const stockKeys = (): string[] =>
    shop.requests
      .filter(({ url }) => url.pathname.endsWith('/stock-adjustments'))
      .map(({ headers }) => String(headers['idempotency-key']));

  test('done twice, from any folder and plain or gzip, it doubles nothing', async () => {
    assert.equal((await importFile(sample)).code, 0);
    const plain = join(folder, 'plain.csv');
    await writeFile(plain, gunzipSync(await readFile(sample)));
    const again = await importFile(plain, '--report', join(folder, 'elsewhere', 'report.json'));
    assert.equal(again.code, 0, again.stderr);
    assert.equal(shop.placed.length, sampleOrders);
    assert.deepEqual(shop.statusCounts(), { completed: sampleOrders });
    assert.equal(new Set(stockKeys()).size, 2407);
    assert.equal(
      [...shop.products.values()].reduce((left, { onHand }) => left + onHand, 0),
      0,
    );
  });

  test('done again in the same folder, it sends no order and no stock a second time', async () => {
    assert.equal((await importFile(sample)).code, 0);
    shop.requests.length = 0;
    const again = await importFile(sample);
    assert.equal(again.code, 0, again.stderr);
    assert.match(again.stderr, /resuming: 1126 of 1126 orders/);
    assert.deepEqual(
      shop.requests.filter(({ method }) => method !== 'GET'),
      [],
    );
  });

  test('killed in the middle, it resumes where it was', async () => {
    const first = start(sample, '--url', shop.address);
    shop.onAnswer = () => {
      if (shop.placed.length >= 800) first.process.kill('SIGKILL');
    };
    assert.equal((await first.ended).signal, 'SIGKILL');
    const placedBefore = shop.placed.length;
    assert.ok(placedBefore < sampleOrders);
    shop.onAnswer = () => undefined;
    shop.requests.length = 0;
    const second = await importFile(sample);
    assert.equal(second.code, 0, second.stderr);
    assert.equal(new Set(shop.placed).size, shop.placed.length);
    assert.deepEqual(shop.statusCounts(), { completed: sampleOrders });
    const sent = shop.requests.filter(({ method, url }) => method === 'POST' && url.pathname === '/v1/orders').length;
    assert.equal(sent, (await report()).run?.sent);
  });

  test('a journal of a server that has lost everything is not believed', async () => {
    assert.equal((await importFile(sample)).code, 0);
    shop.wipe();
    const again = await importFile(sample);
    assert.equal(again.code, 0, again.stderr);
    assert.match(again.stderr, /importing from the beginning/);
    assert.deepEqual(shop.statusCounts(), { completed: sampleOrders });
  });

  test('cut connections, lost replies and overload on the way change nothing', async () => {
    let request = 0;
    shop.fault = ({ method }) => {
      request += 1;
      if (method !== 'GET' && request % 17 === 0) return 'cut-after';
      if (request % 23 === 0) return 'cut-before';
      if (request % 29 === 0) return { status: 503, code: 'overloaded', retryAfter: 0 };
      return undefined;
    };
    const run = await importFile(sample);
    assert.equal(run.code, 0, run.stderr);
    assert.equal(shop.placed.length, sampleOrders);
    assert.deepEqual(shop.statusCounts(), { completed: sampleOrders });
  });

  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    test(`${signal} waits for the answers under way, says how to resume and exits with ${code}`, async () => {
      const first = start(sample, '--url', shop.address);
      let told = false;
      shop.onAnswer = async () => {
        if (shop.placed.length < 300) return;
        // Answers leave only once the process knows that it is to stop.
        if (!told) for (const _ of ['the terminal', 'npm']) first.process.kill(signal);
        told = true;
        await stopping;
      };
      const stopping = new Promise<void>((resolve) => {
        first.process.stderr?.on('data', (text) => String(text).includes('stopping: waiting') && resolve());
      });
      const run = await first.ended;
      assert.equal(run.code, code, run.stderr);
      assert.match(
        run.stderr,
        new RegExp(`stopped after ${shop.placed.length} of 1126 orders; the same command resumes the import`),
      );
      assert.equal((await report()).state, 'interrupted');
      shop.onAnswer = () => undefined;
      const placed = shop.placed.length;
      const second = await importFile(sample);
      assert.equal(second.code, 0, second.stderr);
      assert.match(second.stderr, new RegExp(`resuming: ${placed} of 1126`));
      assert.deepEqual(shop.statusCounts(), { completed: sampleOrders });
    });
  }

  test('asked to stop again while it waits, it stops at once', async () => {
    const first = start(sample, '--url', shop.address);
    let again: NodeJS.Timeout | undefined;
    shop.onAnswer = async () => {
      if (shop.placed.length < 100) return;
      again ??= setInterval(() => first.process.kill('SIGINT'), 100);
      await first.ended;
    };
    const run = await first.ended;
    clearInterval(again);
    assert.equal(run.code, 130, run.stderr);
    assert.match(run.stderr, /stopping: waiting for the answers under way/);
    assert.doesNotMatch(run.stderr, /stopped after/);
  });

  test('a server that stays away ends it with one line; the same command resumes', async () => {
    shop.fault = () => (shop.placed.length >= 400 ? 'cut-before' : undefined);
    const run = await importFile(sample, '--patience', '0.3');
    assert.equal(run.code, 1);
    assert.match(
      run.stderr,
      /twofold import: no success from http:\S+ for \d+ s \(ECONNRESET\); the same command resumes the import\n$/,
    );
    assert.equal((await report()).state, 'stopped');
    shop.fault = () => undefined;
    const second = await importFile(sample);
    assert.equal(second.code, 0, second.stderr);
    assert.deepEqual(shop.statusCounts(), { completed: sampleOrders });
  });
});
