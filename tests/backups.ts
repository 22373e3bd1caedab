/** A shop is backed up while it sells, and goes on elsewhere from the backup, or where it was. `npm run backups`. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { openDatabase } from '#platform/postgres.ts';
import { databaseOwners, type DatabaseOwner } from '#platform/settings.ts';
import { readEvidence, untilAtRest, violations } from './invariants.ts';
import { type DatabaseUrls, type Ending, programDataDir, startTestProgram } from './running-program.ts';
import { newId, type OrderWish, type Shop, until } from './shop-client.ts';

const project = resolve(import.meta.dirname, '..');
/** Charges whose replies are lost stay open for as long as the first system runs. */
const patient = { TWOFOLD_PAYMENT_TIMEOUT_MS: '60000' };
const quick = { TWOFOLD_PAYMENT_TIMEOUT_MS: '700' };
const clients = 4;
const ordersOnEachSide = 80;
/** The shop sells, and the machine has other things to do. */
const pauseMs = 20;

test('a shop that is backed up while it sells goes on elsewhere, and nothing that was acknowledged is lost or charged twice', async (t) => {
  const shopDir = await programDataDir(t);
  const backups = await programDataDir(t);
  const backup = join(backups, 'monday');
  const shop = await startTestProgram(t, shopDir, patient);
  const { sku, customerId } = await shop.shop.furnish(100_000);
  const underWay = await chargedWithoutReply(shop.shop, shop.providerUrl, { sku, customerId });

  const load = startLoad(shop.shop, { sku, customerId });
  await until('orders before the backup', async () => (load.placed.length >= ordersOnEachSide ? true : null));
  const before = [...underWay, ...load.placed];
  const taken = await amidCheckpoints(shop.databaseUrls, () =>
    twofold(['backup', backup, '--data-dir', shopDir, '--json']),
  );
  assert.equal(taken.code, 0, taken.errors);
  const placedMeanwhile = load.placed.length + underWay.length - before.length;
  const upTo = load.placed.length + ordersOnEachSide;
  await until('orders after the backup', async () => (load.placed.length >= upTo ? true : null));
  const after = new Set([...load.placed, ...(await load.stop())].filter((id) => !before.includes(id)));
  const outcome = JSON.parse(taken.said) as BackupOutcome;
  t.diagnostic(
    `${before.length} orders before, ${placedMeanwhile} during, ${after.size} in all after the backup began; ` +
      `${outcome.bytes} bytes in ${outcome.seconds} s`,
  );
  assert.equal(outcome.online, true);
  assert.ok(placedMeanwhile > 0, 'the shop went on');
  assert.deepEqual(readdirSync(backups), ['monday']);
  assert.equal(await slots(shop.databaseUrls), 0);

  await t.test('what is in use, or has data in it, is not restored over', async () => {
    const running = await twofold(['restore', backup, '--data-dir', shopDir, '--replace']);
    assert.equal(running.code, 2);
    assert.match(running.errors, /in use by another Twofold/);
    await shop.stop();
    const full = await twofold(['restore', backup, '--data-dir', shopDir]);
    assert.equal(full.code, 2);
    assert.match(full.errors, /There are data in .*--replace/);
    const again = await twofold(['backup', backup, '--data-dir', shopDir]);
    assert.equal(again.code, 2);
    assert.match(again.errors, /is not empty/);
  });

  const otherDir = await programDataDir(t);
  await t.test(
    'a backup of which one byte was changed, or a file is missing, is refused, and nothing is restored',
    async () => {
      const { files } = JSON.parse(readFileSync(join(backup, 'twofold-backup.json'), 'utf8')) as Manifest;
      const { path } = files.find((file) => /^postgres\/base\/.*\d$/.test(file.path) && file.bytes > 0)!;
      const file = join(backup, path);
      const right = readFileSync(file);
      const wrong = Buffer.from(right);
      wrong[right.length >> 1] = wrong[right.length >> 1]! ^ 1;
      writeFileSync(file, wrong);
      const changed = await twofold(['restore', backup, '--data-dir', otherDir]);
      writeFileSync(file, right);
      assert.equal(changed.code, 1);
      assert.ok(changed.errors.includes(`${path}: changed`), changed.errors);

      renameSync(file, `${file}.away`);
      const incomplete = await twofold(['restore', backup, '--data-dir', otherDir]);
      renameSync(`${file}.away`, file);
      assert.equal(incomplete.code, 1);
      assert.ok(incomplete.errors.includes(`${path}: missing`), incomplete.errors);
      assert.ok(!existsSync(join(otherDir, 'postgres')) && !existsSync(join(otherDir, 'restoring')));
    },
  );

  await t.test('a restore that is killed leaves what was there, and is begun anew', async () => {
    const restoring = join(otherDir, 'restoring');
    const child = launch(['restore', backup, '--data-dir', otherDir]);
    endServerOf(t, restoring);
    await until('its server recovers', async () =>
      existsSync(join(restoring, 'postgres/postmaster.pid')) ? true : null,
    );
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.ok(!existsSync(join(otherDir, 'postgres')));
  });

  const restored = await twofold(['restore', backup, '--data-dir', otherDir, '--json']);
  assert.equal(restored.code, 0, restored.errors);
  const { logs, findings, divergences, seconds } = JSON.parse(restored.said) as RestoreOutcome;
  t.diagnostic(`restored in ${seconds} s: ${logs.map(({ source, position }) => `${source} ${position}`).join(', ')}`);
  assert.deepEqual([findings, divergences], [[], []]);
  for (const { source, position, epoch } of outcome.logs) {
    const log = logs.find((one) => one.source === source)!;
    assert.ok(log.position >= position);
    assert.notEqual(log.epoch, epoch, 'a new epoch has begun');
  }
  assert.ok(!existsSync(join(otherDir, 'restoring')) && !existsSync(join(otherDir, 'restored')));

  await t.test('the restored shop ends what was under way, charges nothing twice and sells on', async (step) => {
    const other = await startTestProgram(step, otherDir, quick);
    assert.deepEqual(await paymentsNowDue(other.databaseUrls, underWay), underWay.toSorted());
    await untilAtRest(other.databaseUrls, 90_000);
    for (const orderId of underWay) {
      const { status, payment } = await other.shop.waitFinal(orderId);
      assert.deepEqual([status, payment.status], ['completed', 'captured']);
    }
    const more = await Promise.all(Array.from({ length: 20 }, () => other.shop.place({ customerId, sku })));
    await untilAtRest(other.databaseUrls);
    await allIsWell(other.databaseUrls, other.providerUrl, [...before, ...more], after);
    await other.stop();
  });

  await t.test('with --replace the data that were there are kept aside', async () => {
    const replaced = await twofold(['restore', backup, '--data-dir', otherDir, '--replace', '--json']);
    assert.equal(replaced.code, 0, replaced.errors);
    const { movedAside, logs: again } = JSON.parse(replaced.said) as RestoreOutcome;
    assert.deepEqual(
      movedAside.map((folder) => folder.split('/').at(-1)),
      ['postgres', 'sandbox'],
    );
    assert.ok(movedAside.some((folder) => existsSync(join(folder, 'PG_VERSION'))));
    assert.ok(movedAside.some((folder) => existsSync(join(folder, 'ledger.sqlite'))));
    const positions = (all: readonly Log[]): unknown => all.map(({ source, position }) => [source, position]);
    assert.deepEqual(positions(again), positions(logs));
  });

  await t.test('a restore that was cut off while data took their place is not started from', async (step) => {
    renameSync(join(otherDir, 'postgres'), join(otherDir, 'restored'));
    await assert.rejects(startTestProgram(step, otherDir), /run `twofold restore` again/);
    renameSync(join(otherDir, 'restored'), join(otherDir, 'postgres'));
  });
});

test('a backup that is killed or stopped leaves nothing that looks like one; the next clears it away, and brings back what was wrong, too', async (t) => {
  const shopDir = await programDataDir(t);
  const backups = await programDataDir(t);
  const backup = join(backups, 'monday');
  const unfinished = `${backup}.unfinished`;
  const shop = await startTestProgram(t, shopDir, quick);
  const { sku, customerId } = await shop.shop.furnish(100);
  await shop.shop.waitFinal(await shop.shop.place({ customerId, sku }));
  const copies = async (): Promise<true | null> => (existsSync(join(unfinished, 'postgres/base/1')) ? true : null);

  const killed = launch(['backup', backup, '--data-dir', shopDir]);
  await until('files are copied', copies);
  killed.kill('SIGKILL');
  await once(killed, 'exit');
  assert.ok(!existsSync(backup));
  const otherDir = await programDataDir(t);
  const noBackup = await twofold(['restore', unfinished, '--data-dir', otherDir]);
  assert.equal(noBackup.code, 2);
  assert.match(noBackup.errors, /is no backup/);
  await until('the server has given the backup up', async () => ((await slots(shop.databaseUrls)) === 0 ? true : null));

  const stopped = launch(['backup', backup, '--data-dir', shopDir]);
  // Of this one, not of the one that was killed.
  await until('it has begun', async () => (lockOf(unfinished) === stopped.pid && (await copies()) ? true : null));
  const second = await twofold(['backup', backup, '--data-dir', shopDir]);
  assert.equal(second.code, 2);
  assert.match(second.errors, /Another backup to .* is under way/);
  stopped.kill('SIGINT');
  const [code] = (await once(stopped, 'exit')) as [number];
  assert.equal(code, 130);
  assert.deepEqual(readdirSync(backups), []);

  const leftover = launch(['backup', backup, '--data-dir', shopDir]);
  await until('files are copied', copies);
  leftover.kill('SIGKILL');
  await once(leftover, 'exit');
  await editEvent(shop.databaseUrls);
  await editStockShown(shop.databaseUrls);
  await shop.stop();
  const atRest = await twofold(['backup', backup, '--data-dir', shopDir]);
  assert.equal(atRest.code, 0, atRest.errors);
  assert.deepEqual(readdirSync(backups), ['monday']);
  assert.ok(!existsSync(join(shopDir, 'postgres/postmaster.pid')), 'the server that it started is stopped');
  assert.match(atRest.said, /ordering\.0 +up to position \d+/);

  const restored = await twofold(['restore', backup, '--data-dir', otherDir]);
  assert.equal(restored.code, 1, restored.errors);
  assert.match(restored.said, /ordering\.0 +at position \d+: customer 1, offer 1, order 1/);
  assert.match(restored.said, /something was wrong with the data then:\n +ordering: batch-hash position \d+: [^\n]+\n/);
  assert.match(restored.said, new RegExp(`\n  read-product-is-sources queries/products/${sku}: `));
  assert.match(restored.said, /\nOnce it runs, `twofold divergences` lists what the audit finds/);
  assert.ok(existsSync(join(otherDir, 'postgres/PG_VERSION')), 'it is in its place all the same');
});

test('a backup never takes the place of what is no empty folder, or of another disk', async (t) => {
  const folder = await programDataDir(t);
  const file = join(folder, 'file');
  writeFileSync(file, '');
  const cases: [string, RegExp][] = [
    [file, /is no folder/],
    [folder, /is not empty/],
    ['/dev/mqueue', /where another disk begins/],
  ];
  for (const [target, said] of cases) {
    if (!existsSync(target)) continue;
    const { code, errors } = await twofold(['backup', target, '--data-dir', folder]);
    assert.equal(code, 2);
    assert.match(errors, said);
  }
});

test('without data, or with databases elsewhere, a backup says what to do instead', async (t) => {
  const empty = await programDataDir(t);
  for (const dataDir of [empty, join(empty, 'none')]) {
    const { code, errors } = await twofold(['backup', join(empty, 'backup'), '--data-dir', dataDir]);
    assert.equal(code, 2);
    assert.match(errors, /nothing to back up/);
  }
  const url = { DATABASE_URL_ORDERING: 'postgresql://user@127.0.0.1:1/ordering' };
  for (const command of ['backup', 'restore']) {
    const { code, errors } = await twofold([command, join(empty, 'backup'), '--data-dir', empty], url);
    assert.equal(code, 2);
    assert.match(errors, /DATABASE_URL_ORDERING is set.*docs\/backup\.md/);
  }
});

type Log = { readonly source: string; readonly position: number; readonly epoch: string };
type BackupOutcome = {
  readonly online: boolean;
  readonly bytes: number;
  readonly seconds: number;
  readonly logs: readonly Log[];
};
type RestoreOutcome = {
  readonly logs: readonly Log[];
  readonly findings: readonly unknown[];
  readonly divergences: readonly unknown[] | null;
  readonly movedAside: readonly string[];
  readonly seconds: number;
};
type Manifest = { readonly files: readonly { readonly path: string; readonly bytes: number }[] };

const launched = new Set<ChildProcess>();
test.after(() => {
  for (const child of launched) child.kill('SIGKILL');
});

function launch(args: readonly string[], env: Readonly<Record<string, string>> = {}): ChildProcess {
  const child = spawn(process.execPath, ['src/main.ts', ...args], { cwd: project, env: { ...process.env, ...env } });
  launched.add(child);
  child.once('exit', () => launched.delete(child));
  return child;
}

/** Runs `twofold <args>` to its end. */
async function twofold(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ code: number | null; said: string; errors: string }> {
  const child = launch(args, env);
  let [said, errors] = ['', ''];
  child.stdout!.setEncoding('utf8').on('data', (text: string) => (said += text));
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (errors += text));
  await once(child, 'close');
  return { code: child.exitCode, said, errors };
}

/** Runs `work` while the server writes checkpoints: pages change on disk, and recovery must not begin at the latest one. */
async function amidCheckpoints<T>(urls: DatabaseUrls, work: () => Promise<T>): Promise<T> {
  const database = openDatabase(urls.ordering, { applicationName: 'audit', poolMax: 1 });
  let over = false;
  const checkpoints = (async () => {
    while (!over) await database.query('', 'checkpoint');
  })();
  try {
    return await work();
  } finally {
    over = true;
    await checkpoints.finally(() => database.end());
  }
}

/** Orders that the provider has charged, while the reply of that is still awaited. */
async function chargedWithoutReply(
  shop: Shop,
  providerUrl: string,
  wish: { sku: string; customerId: string },
): Promise<string[]> {
  const placed = await Promise.all(Array.from({ length: 5 }, () => shop.place({ ...wish, method: 'pm_reply_lost' })));
  for (const orderId of placed) {
    await until(`${orderId} is charged`, async () => {
      const { entries } = (await (await fetch(`${providerUrl}/ledger?after=0`)).json()) as { entries: Entry[] };
      return entries.some((entry) => entry.orderId === orderId && entry.kind === 'capture') ? true : null;
    });
    await until(`${orderId} is shown as reserved`, async () => {
      const { status, body } = await shop.get<{ status: string }>(`/v1/orders/${orderId}`);
      if (status === 200 && body.status !== 'pending') assert.equal(body.status, 'reserved');
      return body.status === 'reserved' ? true : null;
    });
  }
  return placed;
}

type Entry = { readonly kind: string; readonly orderId: string | null };

/** Clients that place one order after the other until they are stopped. */
function startLoad(
  shop: Shop,
  wish: { sku: string; customerId: string },
): { placed: string[]; stop(): Promise<string[]> } {
  const methods: readonly NonNullable<OrderWish['method']>[] = ['pm_ok', 'pm_slow', 'pm_ok', 'pm_declined', 'pm_flaky'];
  const placed: string[] = [];
  let stopped = false;
  const working = Array.from({ length: clients }, async (_, client) => {
    for (let n = client; !stopped; n += 1) {
      placed.push(
        await shop.place({ ...wish, method: methods[n % methods.length]! }, { 'idempotency-key': newId('key') }),
      );
      await delay(pauseMs);
    }
  });
  return {
    placed,
    async stop() {
      stopped = true;
      await Promise.all(working);
      return placed;
    },
  };
}

/** Lets the time pass that payments without an answer wait for. Resolves to those of `orders` that were among them. */
async function paymentsNowDue(urls: DatabaseUrls, orders: readonly string[]): Promise<string[]> {
  const database = openDatabase(urls.payments, { applicationName: 'audit', poolMax: 1 });
  try {
    const rows = await database.query<{ orderId: string }>(
      'now due',
      `update streams set due_at = now() where due_at is not null returning state ->> 'orderId' as "orderId"`,
    );
    const due = rows.map(({ orderId }) => orderId);
    return orders.filter((orderId) => due.includes(orderId)).sort();
  } finally {
    await database.end();
  }
}

/** Every invariant holds, of what the databases know; the provider knows of later orders, and of no others. */
async function allIsWell(
  urls: DatabaseUrls,
  providerUrl: string,
  placed: readonly string[],
  later: ReadonlySet<string>,
): Promise<void> {
  const databases = Object.fromEntries(
    databaseOwners.map((owner) => [owner, openDatabase(urls[owner], { applicationName: 'audit', poolMax: 1 })]),
  ) as Record<DatabaseOwner, ReturnType<typeof openDatabase>>;
  try {
    const evidence = await readEvidence(databases, providerUrl);
    const rows = await databases.ordering.query<{ id: string }>('orders', 'select order_id as id from orders');
    const known = new Set(rows.map(({ id }) => id));
    const ledger = evidence.ledger.filter(({ orderId }) => known.has(orderId ?? ''));
    const unknown = evidence.ledger.filter((entry) => !ledger.includes(entry));
    assert.deepEqual(violations({ ...evidence, ledger }, { placed, refused: [] }), []);
    assert.deepEqual(
      unknown.filter(({ orderId }) => !later.has(orderId ?? '')),
      [],
    );
  } finally {
    await Promise.all(databaseOwners.map((owner) => databases[owner].end()));
  }
}

async function editEvent(urls: DatabaseUrls): Promise<void> {
  const database = openDatabase(urls.ordering, { applicationName: 'audit', poolMax: 1 });
  const sql = `update events set data = '{"edited":true}' where type = 'OrderPlaced'`;
  await database.query('', sql).finally(() => database.end());
}

async function editStockShown(urls: DatabaseUrls): Promise<void> {
  const database = openDatabase(urls.queries, { applicationName: 'audit', poolMax: 1 });
  await database.query('', 'update products set on_hand = on_hand + 1').finally(() => database.end());
}

/** How many replication slots there are: a backup that is over has left none. */
async function slots(urls: DatabaseUrls): Promise<number> {
  const database = openDatabase(urls.ordering, { applicationName: 'audit', poolMax: 1 });
  try {
    const [row] = await database.query<{ count: number }>(
      'slots',
      'select count(*) as count from pg_replication_slots',
    );
    return row!.count;
  } finally {
    await database.end();
  }
}

function lockOf(folder: string): number | null {
  try {
    return (JSON.parse(readFileSync(join(folder, 'twofold.lock'), 'utf8')) as { pid: number }).pid;
  } catch {
    return null;
  }
}

/** A server that a killed restore has left, should the next one not have ended it. */
function endServerOf(ending: Ending, folder: string): void {
  ending.after(() => {
    const file = join(folder, 'postgres/postmaster.pid');
    if (existsSync(file)) process.kill(Number(readFileSync(file, 'utf8').split('\n')[0]), 'SIGQUIT');
  });
}
