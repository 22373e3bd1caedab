/** Who may see and do what, and how often. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OrderView } from '#contracts/http.ts';
import { bearer, jwt, startTestSystem } from '../running-system.ts';
import { newId, openShop } from '../shop-client.ts';

test('customers see and change what is theirs, and operators everything', async (t) => {
  const { address, shop } = await startTestSystem(t, { settings: { jwt, customerRequestsPerMinute: 0 } });
  const { sku } = await shop.furnish(10);
  const [ada, emmy] = [newId('ada'), newId('emmy')];
  const shopOf = async (customerId: string) => openShop(address, await bearer('customer', customerId));
  const [adasShop, emmysShop] = [await shopOf(ada), await shopOf(emmy)];

  await t.test('a customer registers, orders and follows the order', async () => {
    await adasShop.putCustomer(ada);
    await emmysShop.putCustomer(emmy);
    const order = await adasShop.waitFinal(await adasShop.place({ customerId: ada, sku }));
    assert.equal(order.status, 'completed');
    for (const path of [
      `/v1/orders/${order.orderId}/history`,
      `/v1/orders/${order.orderId}/payments`,
      `/v1/customers/${ada}`,
    ]) {
      assert.equal((await adasShop.get(path)).status, 200);
      assert.equal((await emmysShop.get(path)).status, 404);
    }
    const { items } = (await adasShop.get<{ items: { actor: string }[] }>(`/v1/orders/${order.orderId}/history`)).body;
    assert.equal(items[0]?.actor, `customer:${ada}`);
  });

  await t.test('lists show a customer its own orders only, whatever it asks for', async () => {
    await emmysShop.waitFinal(await emmysShop.place({ customerId: emmy, sku }));
    const ownersSeenBy = async (caller: typeof shop, path: string): Promise<string[]> => {
      const { items } = (await caller.get<{ items: OrderView[] }>(path)).body;
      return [...new Set(items.map(({ customerId }) => customerId))].sort();
    };
    assert.deepEqual(await ownersSeenBy(adasShop, '/v1/orders'), [ada]);
    assert.deepEqual(await ownersSeenBy(adasShop, `/v1/orders?sku=${sku}&sort=total`), [ada]);
    assert.deepEqual(await ownersSeenBy(adasShop, `/v1/orders?customerId=${emmy}`), []);
    assert.deepEqual(await ownersSeenBy(adasShop, `/v1/customers/${ada}/orders`), [ada]);
    assert.equal((await adasShop.get(`/v1/customers/${emmy}/orders`)).status, 404);
    assert.deepEqual(await ownersSeenBy(shop, '/v1/orders'), [ada, emmy].sort());
  });

  await t.test('the cursor of one customer shows another one nothing', async () => {
    await adasShop.waitFinal(await adasShop.place({ customerId: ada, sku }));
    const { nextCursor } = (await adasShop.get<{ nextCursor: string }>('/v1/orders?limit=1')).body;
    const { status, body } = await emmysShop.get(`/v1/orders?limit=1&cursor=${nextCursor}`);
    assert.deepEqual([status, body.code], [400, 'malformed-cursor']);
  });

  await t.test('a key of one customer is another key for the next', async () => {
    const headers = { 'idempotency-key': 'the-same-key' };
    const [adas, emmys] = await Promise.all([
      adasShop.send({ customerId: ada, sku }, headers),
      emmysShop.send({ customerId: emmy, sku }, headers),
    ]);
    assert.deepEqual([adas.status, emmys.status], [201, 201]);
    assert.notEqual(adas.body.orderId, emmys.body.orderId);
    const again = await adasShop.send({ customerId: ada, sku }, headers);
    assert.deepEqual([again.body, again.headers.get('idempotent-replayed')], [adas.body, 'true']);
  });

  await t.test('products are there for everyone who has a token, and for nobody else', async () => {
    assert.equal((await adasShop.get(`/v1/products/${sku}`)).status, 200);
    assert.equal((await adasShop.get('/v1/products')).status, 200);
    const { status, headers } = await openShop(address).get('/v1/products');
    assert.equal(status, 401);
    assert.match(headers.get('www-authenticate') ?? '', /^Bearer /);
  });

  await t.test('metrics are for operators, and whether the process lives for everyone', async () => {
    assert.equal((await adasShop.get('/metrics')).status, 403);
    assert.equal((await openShop(address).get('/metrics')).status, 401);
    assert.equal((await shop.get('/metrics')).status, 200);
    assert.equal((await openShop(address).get('/livez')).status, 200);
  });
});

test('who asks too often is told when to come back, and nobody else notices', async (t) => {
  const { address, shop } = await startTestSystem(t, { settings: { jwt, customerRequestsPerMinute: 5 } });
  const customer = openShop(address, await bearer('customer', 'ada'));
  const other = openShop(address, await bearer('customer', 'emmy'));
  for (let n = 1; n <= 5; n += 1) {
    const { status, headers } = await customer.get('/v1/products');
    assert.equal(status, 200);
    assert.match(headers.get('ratelimit-policy') ?? '', /;q=5;w=60$/);
    assert.match(headers.get('ratelimit') ?? '', new RegExp(`;r=${5 - n};t=\\d+$`));
  }
  for (const path of ['/v1/products', '/v1/orders/nothing']) {
    const { status, headers, body } = await customer.get(path);
    assert.deepEqual([status, body.code, body.status], [429, 'rate-limited', 429]);
    assert.equal(headers.get('content-type'), 'application/problem+json');
    assert.match(headers.get('retry-after') ?? '', /^[1-9]\d*$/);
    assert.match(headers.get('ratelimit-policy') ?? '', /;q=5;w=60$/);
    assert.match(headers.get('ratelimit') ?? '', /;r=0;t=\d+$/);
  }
  assert.equal((await other.get('/v1/products')).status, 200);
  for (let n = 0; n < 10; n += 1) {
    const { status, headers } = await shop.get('/v1/products');
    assert.deepEqual([status, headers.get('ratelimit')], [200, null]);
  }
});
