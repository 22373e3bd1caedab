/** Databases of one's own that were restored: who was left behind notices, and who was restored with them goes on. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { resolve } from 'node:path';
import { test, type TestContext } from 'node:test';
import { openDatabase } from '#platform/postgres.ts';
import { databaseOwners, type DatabaseOwner, databaseUrlName } from '#platform/settings.ts';
import { untilAtRest } from './invariants.ts';
import type { DatabaseUrls } from './running-program.ts';
import { startTestSystem } from './running-system.ts';
import { newId, type Shop, until } from './shop-client.ts';

const project = resolve(import.meta.dirname, '..');

test('after one database is restored its consumers stop and say so; after all are, everything goes on', async (t) => {
  const first = await startTestSystem(t);
  const { databaseUrls, shop } = first;
  const { sku, customerId } = await shop.furnish(1_000);
  const early = await shop.place({ customerId, sku });
  await untilAtRest(databaseUrls);
  await first.stop();
  const backup = await copyAll(t, databaseUrls);

  const second = await startTestSystem(t, { beside: first });
  const late = await second.shop.place({ customerId, sku });
  await untilAtRest(databaseUrls);
  const running = await restored([], databaseUrls);
  assert.equal(running.code, 2);
  assert.match(running.errors, /Twofold is connected to the database of \w+: stop it first/);
  await second.stop();

  await t.test('a database that is beyond what was restored with it is refused, and nothing is changed', async () => {
    await putBack(databaseUrls, backup, ['ordering']);
    const epoch = await epochOf(databaseUrls);
    const { code, errors } = await restored(['ordering', 'queries'], databaseUrls);
    assert.equal(code, 2);
    assert.match(errors, /projections-of-ordering\.0 of queries: a position up to \d+, the head of ordering\.0; \d+/);
    assert.equal(await epochOf(databaseUrls), epoch);
  });

  await t.test('consumers that were not restored with their source apply nothing, and say why', async (step) => {
    const epoch = await epochOf(databaseUrls);
    const { code, said, errors } = await restored(['ordering', '--json'], databaseUrls);
    assert.equal(code, 0, errors);
    const [log] = (JSON.parse(said) as { logs: { source: string; epoch: string }[] }).logs;
    assert.equal(log!.source, 'ordering.0');
    assert.notEqual(log!.epoch, epoch);

    const third = await startTestSystem(step, { beside: first });
    const reasons = await until('they have noticed', async () => {
      const noticed = (await notReady(third.shop)).filter((reason) => reason.includes('source-went-back'));
      return noticed.length >= 3 ? noticed : null;
    });
    for (const consumer of ['inventory-of-ordering', 'payments-of-ordering', 'projections-of-ordering.0'])
      assert.ok(
        reasons.some((reason) => reason.startsWith(consumer)),
        `${consumer}: ${reasons.join('\n')}`,
      );
    // At the positions of events that they had applied already.
    await third.shop.place({ customerId, sku });
    assert.equal((await third.shop.get(`/v1/orders/${late}`)).status, 200, 'the read side is as it was');
    await third.stop();
  });

  await t.test('restored to the same point, all go on together', async (step) => {
    await putBack(databaseUrls, backup, databaseOwners);
    const { code, said, errors } = await restored([], databaseUrls);
    assert.equal(code, 0, errors);
    assert.match(said, /ordering\.0 +at position \d+: customer 1, offer 1, order 1/);
    const fourth = await startTestSystem(step, { beside: first });
    assert.equal((await fourth.shop.waitFinal(early)).status, 'completed');
    assert.equal((await fourth.shop.get(`/v1/orders/${late}`)).status, 404);
    assert.equal((await fourth.shop.waitFinal(await fourth.shop.place({ customerId, sku }))).status, 'completed');
    assert.deepEqual(await notReady(fourth.shop), []);
    await fourth.stop();
  });
});

test('who names no database, or a service that is none, is told', async () => {
  const unknown = await restored(['stock'], {});
  assert.equal(unknown.code, 2);
  assert.match(unknown.errors, /There is no service stock; there are catalog, /);
  const missing = await restored(['ordering'], {});
  assert.equal(missing.code, 2);
  assert.match(missing.errors, /Set DATABASE_URL_ORDERING, or name/);
});

async function notReady(shop: Shop): Promise<readonly string[]> {
  const { status, body } = await shop.get<{ reasons?: readonly string[] }>('/readyz');
  return status === 200 ? [] : body.reasons!;
}

function restored(
  args: readonly string[],
  urls: Partial<DatabaseUrls>,
): Promise<{ code: number; said: string; errors: string }> {
  const env = Object.fromEntries(
    Object.entries(urls).map(([owner, url]) => [databaseUrlName(owner as DatabaseOwner), url]),
  );
  return new Promise((done) => {
    const options = { cwd: project, env: { ...process.env, ...env } };
    execFile(process.execPath, ['src/main.ts', 'restored', ...args], options, (error, said, errors) =>
      done({ code: error === null ? 0 : Number(error.code), said, errors }),
    );
  });
}

async function epochOf(urls: DatabaseUrls): Promise<string> {
  return withDatabase(urls.ordering, async (sql) => {
    const [row] = await sql.query<{ epoch: string }>('epoch', 'select epoch from log_head');
    return row!.epoch;
  });
}

type Copies = Readonly<Record<DatabaseOwner, string>>;

/** A copy of each database, which nobody is connected to. */
async function copyAll(t: TestContext, urls: DatabaseUrls): Promise<Copies> {
  const copies: [DatabaseOwner, string][] = [];
  for (const owner of databaseOwners) {
    const copy = newId('backup').replaceAll('-', '_');
    await administer(urls[owner], `create database ${copy} template ${nameOf(urls[owner])} strategy file_copy`);
    t.after(() => administer(urls[owner], `drop database ${copy}`));
    copies.push([owner, copy]);
  }
  return Object.fromEntries(copies) as Copies;
}

async function putBack(urls: DatabaseUrls, copies: Copies, owners: readonly DatabaseOwner[]): Promise<void> {
  for (const owner of owners) {
    const name = nameOf(urls[owner]);
    await administer(urls[owner], `drop database ${name}`);
    await administer(urls[owner], `create database ${name} template ${copies[owner]} strategy file_copy`);
  }
}

const nameOf = (url: string): string => /\/(test_\w+)\?/.exec(url)![1]!;

const administer = (url: string, statement: string): Promise<unknown> =>
  withDatabase(url.replace(nameOf(url), 'postgres'), (sql) => sql.query('', statement));

async function withDatabase<T>(url: string, work: (sql: ReturnType<typeof openDatabase>) => Promise<T>): Promise<T> {
  const database = openDatabase(url, { applicationName: 'test', poolMax: 1 });
  return work(database).finally(() => database.end());
}
