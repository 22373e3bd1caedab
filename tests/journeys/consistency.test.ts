/** Reads and commands under consistency tokens: they wait, say honestly that they are behind, or include it. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { CustomerView, OrderPaymentsView, OrderView, ProductView, SalesReport } from '#contracts/http.ts';
import { decodeToken, encodeToken, type Positions } from '#cqrs/consistency-token.ts';
import { openDatabase } from '#platform/postgres.ts';
import { databaseOwners } from '#platform/settings.ts';
import { type DatabaseUrls, startTestProcess, type TestSystem } from '../running-program.ts';
import { startTestSystem } from '../running-system.ts';
import { newId, openShop, type Reply, type Shop, until } from '../shop-client.ts';

const commandServices = ['catalog', 'ordering', 'inventory', 'payments', 'audit'] as const;
type Items<Item> = { readonly items: readonly Item[] };
type Source = (typeof commandServices)[number];

const tokenOf = ({ headers }: Reply<unknown>): Record<string, string> => ({
  'consistency-token': headers.get('consistency-token')!,
});

/** Pauses a consumer, or has it go on; resolves once it does. */
async function setPause(shop: Shop, consumer: string, paused: boolean): Promise<void> {
  const { status } = await shop.request('POST', `/v1/ops/consumers/${consumer}/${paused ? 'pause' : 'resume'}`, {
    json: {},
  });
  assert.equal(status, 200);
  await shop.waitFor(`${consumer} is ${paused ? 'paused' : 'running'}`, async () =>
    (await shop.get<string>('/metrics')).body.includes(
      `twofold_consumer_paused{consumer="${consumer}"} ${paused ? 1 : 0}`,
    ),
  );
}

const projectionsOf = (source: Source): string => `projections-of-${source}.0`;

/** How far the logs have come, once stock of the order has been shipped and nothing follows any more. */
async function headsOnceShipped(t: TestContext, urls: DatabaseUrls, orderId: string): Promise<Positions> {
  const heads: Record<string, number> = {};
  // Inventory comes last.
  for (const source of ['catalog', 'payments', 'ordering', 'inventory'] as const) {
    const log = openDatabase(urls[source], { applicationName: 'heads', poolMax: 1 });
    t.after(() => log.end());
    if (source === 'payments') await untilLogged(urls, 'inventory', `reservation-${orderId}`, 'StockShipped');
    const [row] = await log.query<{ position: number }>('head', 'select position from log_head');
    heads[`${source}.0`] = row!.position;
  }
  return heads;
}

async function untilLogged(urls: DatabaseUrls, source: Source, stream: string, type: string): Promise<void> {
  const log = openDatabase(urls[source], { applicationName: 'looks', poolMax: 1 });
  try {
    await until(`${type} of ${stream} is recorded`, async () => {
      const rows = await log.query('look', 'select from events where stream = $1 and type = $2', [stream, type]);
      return rows.length > 0 ? true : null;
    });
  } finally {
    await log.end();
  }
}

test('what the catalogue has said and a service has not heard yet is not taken for unknown, and no key is spent on it', async (t) => {
  const { shop } = await startTestSystem(t);
  const { customerId } = await shop.furnish(10);
  const sku = newId('sku');
  const unknown = { customerId, lines: [{ sku: newId('sku'), quantity: 1 }], payment: { method: 'pm_ok' } };
  const askForUnknown = () =>
    shop.request('POST', '/v1/orders', { json: unknown, headers: { 'idempotency-key': 'kept' } });
  assert.equal((await askForUnknown()).body.code, 'unknown-product');
  for (const service of ['ordering', 'inventory']) await setPause(shop, `${service}-of-catalog`, true);
  await shop.putProduct(sku);
  const replayed = await askForUnknown();
  assert.deepEqual([replayed.body.code, replayed.headers.get('idempotent-replayed')], ['unknown-product', 'true']);
  const json = { customerId, lines: [{ sku, quantity: 1 }], payment: { method: 'pm_ok' } };
  const commands = [
    ['/v1/orders', json],
    [`/v1/products/${sku}/stock-adjustments`, { quantity: 5, reason: 'delivered' }],
  ] as const;
  for (const [path, body] of commands) {
    const answer = await shop.request('POST', path, { json: body, headers: { 'idempotency-key': `key of ${path}` } });
    assert.deepEqual([answer.status, answer.body.code], [503, 'read-model-behind'], path);
    assert.equal(answer.headers.get('retry-after'), '1');
  }
  for (const service of ['ordering', 'inventory']) await setPause(shop, `${service}-of-catalog`, false);
  for (const [path, body] of commands) {
    const answer = await shop.request('POST', path, { json: body, headers: { 'idempotency-key': `key of ${path}` } });
    assert.deepEqual([answer.status, answer.headers.get('idempotent-replayed')], [201, null], path);
  }
});

test('while projections are paused, no read passes off what was before; once they go on, each shows all', async (t) => {
  const { shop, databaseUrls } = await startTestSystem(t);
  const { sku, customerId } = await shop.furnish(10);
  await shop.waitFinal(await shop.place({ customerId, sku }));
  for (const source of commandServices) await setPause(shop, projectionsOf(source), true);
  await shop.putProduct(sku, { amount: 7, currency: 'EUR' }, 'Renamed');
  const orderId = await shop.place({ customerId, sku, quantity: 2 });
  const token = encodeToken(await headsOnceShipped(t, databaseUrls, orderId));

  const ordered = ({ items }: Items<OrderView>): boolean => items.some((order) => order.orderId === orderId);
  const reads: readonly [path: string, isRight: (body: never) => boolean, before: number][] = [
    [`/v1/orders/${orderId}`, ({ status }: OrderView) => status === 'completed', 404],
    [`/v1/orders/${orderId}?version=3`, ({ status }: OrderView) => status === 'completed', 404],
    [
      `/v1/orders/${orderId}/history`,
      ({ items }: Items<{ type: string }>) => items.some(({ type }) => type === 'StockShipped'),
      404,
    ],
    [`/v1/orders/${orderId}/payments`, ({ status }: OrderPaymentsView) => status === 'captured', 404],
    ['/v1/orders', ordered, 200],
    [`/v1/orders?status=completed&customerId=${customerId}`, ordered, 200],
    [`/v1/orders?q=${sku}`, ordered, 200],
    [`/v1/customers/${customerId}`, ({ orders }: CustomerView) => orders === 2, 200],
    [`/v1/customers/${customerId}/orders`, ordered, 200],
    [
      `/v1/products/${sku}`,
      ({ name, availability }: ProductView) => name === 'Renamed' && availability.onHand === 7,
      200,
    ],
    ['/v1/products?q=renamed', ({ items }: Items<ProductView>) => items[0]?.sku === sku, 200],
    [
      '/v1/reports/sales',
      ({ buckets }: SalesReport) => buckets.reduce((sum, { orders }) => sum + orders, 0) === 2,
      200,
    ],
  ];

  await t.test('without a token the answer comes at once, and shows what was before', async () => {
    for (const [path, isRight, before] of reads) {
      const { status, body } = await shop.get(path, { prefer: 'wait=5' });
      assert.equal(status, before, path);
      assert.ok(status !== 200 || !isRight(body as never), path);
    }
  });

  await t.test('under a token it waits as long as it may, and says that it is behind', async () => {
    const since = performance.now();
    await Promise.all(
      reads.map(async ([path]) => {
        const reply = await shop.get(path, { 'consistency-token': token, prefer: 'wait=1' });
        assert.deepEqual([reply.status, reply.body.code], [503, 'read-model-behind'], path);
        assert.equal(reply.headers.get('retry-after'), '1');
        assert.ok(performance.now() - since >= 990, path);
      }),
    );
  });

  await t.test('what one log is behind with keeps nobody waiting who asks for nothing of it', async () => {
    await setPause(shop, projectionsOf('catalog'), false);
    const put = await shop.putProduct(newId('sku'));
    const read = await shop.get(`/v1/products/${put.body.sku}`, { ...tokenOf(put), prefer: 'wait=5' });
    assert.equal(read.status, 200, JSON.stringify(read.body));
  });

  await t.test('with the last of them that goes on, all that wait have their answers', async () => {
    for (const source of ['inventory', 'payments'] as const) await setPause(shop, projectionsOf(source), false);
    const waiting = reads.map(async ([path, isRight]) => {
      const reply = await shop.get(path, { 'consistency-token': token, prefer: 'wait=5' });
      assert.equal(reply.status, 200, `${path}: ${JSON.stringify(reply.body)}`);
      assert.ok(isRight(reply.body as never), `${path}: ${JSON.stringify(reply.body)}`);
      const [asked, shown] = [decodeToken(token)!, decodeToken(reply.headers.get('consistency-token')!)!];
      for (const [source, position] of Object.entries(asked)) assert.ok(shown[source]! >= position, path);
    });
    await shop.waitFor('they wait', async () =>
      (await shop.get<string>('/metrics')).body.includes(`twofold_http_requests_waiting ${reads.length}`),
    );
    await setPause(shop, projectionsOf('ordering'), false);
    await Promise.all(waiting);
  });
});

test('a command under a token waits for what its own side has to apply, and says when that is behind', async (t) => {
  const { shop } = await startTestSystem(t);
  const { customerId } = await shop.furnish(0);
  await setPause(shop, 'ordering-of-catalog', true);
  const sku = newId('sku');
  const put = await shop.putProduct(sku);
  const wish = { customerId, sku };
  const behind = await shop.send<{ code: string }>(wish, { ...tokenOf(put), prefer: 'wait=0.2' });
  assert.deepEqual([behind.status, behind.body.code], [503, 'read-model-behind']);
  assert.equal(behind.headers.get('retry-after'), '1');
  const waiting = shop.send(wish, { ...tokenOf(put), prefer: 'wait=5' });
  await setPause(shop, 'ordering-of-catalog', false);
  assert.equal((await waiting).status, 201);
});

test('sessions that jump between two processes never see anything go back, and see what they did', async (t) => {
  const commands = await startTestSystem(t, { services: commandServices });
  const readers: Shop[] = [];
  for (let n = 0; n < 2; n += 1) readers.push(await startReader(t, commands));
  const { sku, customerId } = await commands.shop.furnish(10_000);
  const wait = { prefer: 'wait=5' };
  let jumps = 0;

  await Promise.all(
    Array.from({ length: 8 }, async () => {
      let token: Record<string, string> = {};
      const seen = new Map<string, number>();

      async function read<View>(path: string, figureOf: (body: View) => number): Promise<View> {
        jumps += 1;
        const reply = await readers[jumps % 2]!.get<View>(path, { ...token, ...wait });
        assert.equal(reply.status, 200, `${path}: ${JSON.stringify(reply.body)}`);
        const [before, now] = [seen.get(path) ?? 0, figureOf(reply.body)];
        assert.ok(now >= before, `${path} shows ${now} after ${before}`);
        seen.set(path, now);
        const later = decodeToken(reply.headers.get('consistency-token')!)!;
        for (const [source, position] of Object.entries(decodeToken(token['consistency-token']!)!))
          assert.ok(later[source]! >= position, `${source} is at ${later[source]} after ${position}`);
        token = tokenOf(reply);
        return reply.body;
      }

      for (let n = 1; n <= 10; n += 1) {
        const placed = await commands.shop.send({ customerId, sku }, { ...token, ...wait });
        assert.equal(placed.status, 201, JSON.stringify(placed.body));
        const { orderId } = placed.body;
        token = tokenOf(placed);
        for (let status = ''; status !== 'completed';) {
          ({ status } = await read<OrderView>(`/v1/orders/${orderId}`, ({ version }) => version));
          await read<CustomerView>(`/v1/customers/${customerId}`, ({ orders }) => orders);
          await read<ProductView>(`/v1/products/${sku}`, ({ availability }) => 10_000 - availability.available);
          await read<Items<object>>(`/v1/orders/${orderId}/history`, ({ items }) => items.length);
        }
        const mine = await read<CustomerView>(`/v1/customers/${customerId}`, ({ orders }) => orders);
        assert.ok(mine.orders >= n);
        await read<SalesReport>('/v1/reports/sales', ({ buckets }) =>
          buckets.reduce((sum, { orders }) => sum + orders, 0),
        );
      }
    }),
  );
  t.diagnostic(`${jumps} reads`);
});

/** A process of its own that only answers queries. */
async function startReader(t: TestContext, { databaseUrls, providerUrl }: TestSystem): Promise<Shop> {
  const urls = databaseOwners.map((owner) => [`DATABASE_URL_${owner.toUpperCase()}`, databaseUrls[owner]] as const);
  const env = { ...Object.fromEntries(urls), TWOFOLD_PROVIDER_URL: providerUrl };
  const { said } = await startTestProcess(t, ['serve', 'queries', '--port', '0'], env, / at (http:\S+)/);
  return openShop(said[0]!);
}
