/** Read models that are rebuilt while people go on reading and ordering. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Value from 'typebox/value';
import { JobView, ProjectionList } from '#contracts/http.ts';
import { openDatabase } from '#platform/postgres.ts';
import { checkInvariants, untilAtRest } from '../invariants.ts';
import { startTestSystem } from '../running-system.ts';
import { newId, type Problem, type Shop, until } from '../shop-client.ts';

type Outcome = {
  readonly switched: boolean;
  readonly differences: { readonly count: number; readonly listed: { table: string; key: string[] }[] } | null;
};

const post = (shop: Shop, name: string, json: object = {}) =>
  shop.request<JobView & Problem>('POST', `/v1/ops/projections/${name}/rebuild`, { json });

async function ended(shop: Shop, id: string): Promise<JobView> {
  return until(`${id} has ended`, async () => {
    const { status, body } = await shop.get<JobView>(`/v1/ops/jobs/${id}`);
    assert.equal(status, 200, JSON.stringify(body));
    assert.ok(Value.Check(JobView, body), JSON.stringify(body));
    return body.state === 'running' ? null : body;
  });
}

async function rebuilt(shop: Shop, name: string, json: object = {}): Promise<Outcome> {
  const { status, body, headers } = await post(shop, name, json);
  assert.equal(status, 202, JSON.stringify(body));
  assert.equal(headers.get('location'), `/v1/ops/jobs/${body.id}`);
  const job = await ended(shop, body.id);
  assert.equal(job.state, 'done', JSON.stringify(job));
  assert.equal(job.progress, 1);
  return job.outcome as Outcome;
}

const projections = async (shop: Shop): Promise<ProjectionList['items']> => {
  const { body } = await shop.get<ProjectionList>('/v1/ops/projections');
  assert.ok(Value.Check(ProjectionList, body), JSON.stringify(body));
  return body.items;
};

test('all read models are rebuilt while orders are placed and read, and no request fails', async (t) => {
  const { shop, databaseUrls, providerUrl } = await startTestSystem(t);
  const { sku, customerId } = await shop.furnish(100_000);
  let stop = false;
  const placed: string[] = [];
  const failures: string[] = [];
  const client = async (): Promise<void> => {
    while (!stop) {
      const orderId = newId('order');
      const placing = await shop.request('POST', '/v1/orders', {
        json: { orderId, customerId, lines: [{ sku, quantity: 1 }], payment: { method: 'pm_ok' } },
      });
      if (placing.status !== 201) failures.push(`${placing.status} ${placing.body.code}`);
      placed.push(orderId);
      const headers = { 'consistency-token': placing.headers.get('consistency-token')!, prefer: 'wait=5' };
      for (const path of [
        `/v1/orders/${orderId}`,
        `/v1/orders?customerId=${customerId}&limit=1`,
        `/v1/customers/${customerId}`,
        `/v1/products/${sku}`,
        `/v1/orders/${orderId}/history`,
        '/v1/reports/sales?bucket=month',
      ]) {
        const { status, body } = await shop.request('GET', path, { headers });
        if (status !== 200) failures.push(`${path}: ${status} ${body.code} ${body.detail}`);
      }
    }
  };
  const clients = Array.from({ length: 4 }, client);
  for (const name of ['all', 'orders', 'all']) {
    const outcome = await rebuilt(shop, name, { sharePercent: 80 });
    assert.deepEqual([outcome.switched, outcome.differences], [true, { count: 0, listed: [] }]);
  }
  const back = await post(shop, 'all', { action: 'back' });
  assert.equal((await ended(shop, back.body.id)).state, 'done');
  stop = true;
  await Promise.all(clients);
  assert.deepEqual(failures, []);
  await untilAtRest(databaseUrls);
  assert.deepEqual(await checkInvariants(databaseUrls, providerUrl, { placed, refused: [] }), []);
});

test('a row that was changed by hand is found, and mended by the switch; what answers from memory is mended too', async (t) => {
  const { shop, databaseUrls } = await startTestSystem(t);
  const { sku, customerId } = await shop.furnish(100);
  const orderId = await shop.place({ customerId, sku, quantity: 2 });
  await untilAtRest(databaseUrls);
  const before = await shop.get(`/v1/orders/${orderId}`);
  const database = openDatabase(databaseUrls.queries, { applicationName: 'damage', poolMax: 1 });
  t.after(() => database.end());
  await database.query('', 'update orders set total = 1 where order_id = $1', [orderId]);
  await database.query('', 'delete from sales_hours');

  const check = await rebuilt(shop, 'all', { action: 'check' });
  assert.deepEqual(
    new Set(check.differences!.listed.map(({ table, key }) => (table === 'orders' ? key[0] : table))),
    new Set([orderId, 'sales_hours']),
  );
  // Lists of one status read rows, others answer from memory.
  const list = await shop.get<{ items: { total: object }[] }>(`/v1/orders?customerId=${customerId}&status=completed`);
  assert.deepEqual(list.body.items[0]!.total, { amount: 1, currency: 'EUR' }, 'a check mends nothing');
  assert.equal((await projections(shop)).find(({ name }) => name === 'orders')!.previous, null);

  const outcome = await rebuilt(shop, 'all');
  assert.deepEqual([outcome.switched, outcome.differences!.count], [true, 2]);
  assert.deepEqual((await shop.get(`/v1/orders/${orderId}`)).body, before.body);
  const mended = await shop.get<{ items: unknown[] }>(`/v1/orders?customerId=${customerId}`);
  assert.deepEqual(mended.body.items, [before.body]);
  const sales = await shop.get<{ buckets: unknown[] }>('/v1/reports/sales');
  assert.equal(sales.body.buckets.length, 1);
  const orders = (await projections(shop)).find(({ name }) => name === 'orders')!;
  assert.deepEqual([orders.mode, orders.lag, orders.version, orders.previous?.version], ['live', 0, 1, 1]);

  const dropped = await post(shop, 'orders', { action: 'drop-previous' });
  assert.deepEqual((await ended(shop, dropped.body.id)).outcome, { dropped: ['orders'] });
  const refused = await post(shop, 'orders', { action: 'back' });
  const job = await ended(shop, refused.body.id);
  assert.deepEqual([job.state, job.error], ['failed', 'there are no tables of orders from before a rebuild']);
});

test('what cannot be rebuilt is refused, and says why', async (t) => {
  const { shop } = await startTestSystem(t);
  const unknown = await post(shop, 'nothing');
  assert.deepEqual([unknown.status, unknown.body.code], [404, 'projection-not-found']);
  assert.match(unknown.body.detail, /there are orders, customers, .*`all`/);
  const wrong = await post(shop, 'orders', { sharePercent: 0 });
  assert.deepEqual([wrong.status, wrong.body.code], [400, 'invalid-request']);
  const none = await shop.get('/v1/ops/jobs/rebuild-01890000-0000-7000-8000-000000000000');
  assert.deepEqual([none.status, none.body.code], [404, 'job-not-found']);
  for (const id of ['no-such-job', 'a.b', '1', 'x'.repeat(200)]) {
    const { status, body } = await shop.get(`/v1/ops/jobs/${id}`);
    assert.deepEqual([status, body.code], [404, 'job-not-found'], id);
    const model = await post(shop, id);
    assert.deepEqual([model.status, model.body.code], [404, 'projection-not-found'], id);
  }
  assert.equal((await post(shop, 'No_Such')).body.code, 'projection-not-found');
  const [one, two] = await Promise.all([post(shop, 'all', { sharePercent: 1 }), post(shop, 'orders')]);
  assert.deepEqual(new Set([one.status, two.status]), new Set([202, 409]));
  const refused = one.status === 409 ? one : two;
  assert.equal(refused.body.code, 'rebuild-running');
});

test('a rebuild under a key is begun once, and answered as it was, in whichever process', async (t) => {
  const system = await startTestSystem(t);
  const { shop } = system;
  const other = await startTestSystem(t, { beside: system });
  const headers = { 'idempotency-key': newId('key') };
  const ask = (of: Shop, name: string, json: object) =>
    of.request<JobView & Problem>('POST', `/v1/ops/projections/${name}/rebuild`, { json, headers });
  const first = await ask(shop, 'orders', { action: 'check' });
  assert.equal(first.status, 202, JSON.stringify(first.body));
  await ended(shop, first.body.id);
  const reused = await ask(other.shop, 'orders', { action: 'rebuild' });
  assert.deepEqual([reused.status, reused.body.code], [422, 'idempotency-key-reused']);
  for (const asked of [other.shop, shop]) {
    const again = await ask(asked, 'orders', { action: 'check' });
    assert.deepEqual([again.status, again.body], [202, first.body]);
    assert.deepEqual(
      ['location', 'idempotent-replayed'].map((name) => again.headers.get(name)),
      [`/v1/ops/jobs/${first.body.id}`, 'true'],
    );
  }

  await t.test('one that was turned away for another that runs may come again under its key', async () => {
    const running = await post(shop, 'all', { action: 'check', sharePercent: 1 });
    assert.equal(running.status, 202, JSON.stringify(running.body));
    const key = { 'idempotency-key': newId('key') };
    const again = () =>
      shop.request<JobView & Problem>('POST', '/v1/ops/projections/orders/rebuild', { json: {}, headers: key });
    const refused = await again();
    await ended(shop, running.body.id);
    const begun = await again();
    assert.deepEqual([refused.status, refused.body.code, begun.status], [409, 'rebuild-running', 202]);
    assert.equal(begun.headers.get('idempotent-replayed'), null);
    await ended(shop, begun.body.id);
  });

  await t.test('a job has a tag that changes with what it tells', async () => {
    await shop.furnish(5);
    const { body: begun } = await post(shop, 'all', { action: 'check', sharePercent: 1 });
    const path = `/v1/ops/jobs/${begun.id}`;
    const told = new Map<string, string>();
    await until('it has ended', async () => {
      const { headers: answered, body } = await shop.get<JobView>(path);
      const tag = answered.get('etag');
      assert.match(tag ?? 'none', /^"[^"]+"$/);
      const text = JSON.stringify(body);
      assert.equal(told.get(tag!) ?? text, text, 'one tag, one body');
      told.set(tag!, text);
      return body.state === 'running' ? null : true;
    });
    assert.equal(new Set(told.values()).size, told.size, 'one body, one tag');
    assert.ok(told.size > 1, [...told.values()].join('\n'));
    const last = [...told.keys()].at(-1)!;
    const known = await shop.get<string>(path, { 'if-none-match': last });
    assert.deepEqual([known.status, known.headers.get('etag'), known.body], [304, last, '']);
    assert.equal((await shop.get(path, { 'if-none-match': [...told.keys()][0]! })).status, 200);
  });
});

test('a process of another version waits until its read models are rebuilt, and says so', async (t) => {
  const first = await startTestSystem(t);
  const { sku, customerId } = await first.shop.furnish(100);
  const orderId = await first.shop.place({ customerId, sku });
  await untilAtRest(first.databaseUrls);
  await first.stop();
  const database = openDatabase(first.databaseUrls.queries, { applicationName: 'an older version', poolMax: 1 });
  t.after(() => database.end());
  // As a program has left it whose `orders` has come out in another way.
  await database.query('', `alter table read_models drop constraint read_models_version_check`);
  await database.query('', `update read_models set version = 0 where name = 'orders'`);
  await database.query('', `update orders set status = 'pending', version = 1`);
  const second = await startTestSystem(t, { beside: first });
  await until('it is ready', async () => ((await second.shop.get('/readyz')).status === 200 ? true : null));
  const { body } = await second.shop.get<{ status: string; version: number }>(`/v1/orders/${orderId}`);
  assert.deepEqual([body.status, body.version], ['completed', 3]);
  const orders = (await projections(second.shop)).find(({ name }) => name === 'orders')!;
  assert.deepEqual([orders.version, orders.previous?.version], [1, 0]);
});
