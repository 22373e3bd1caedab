/** The contract to the letter: what clients may rely on, asked of the whole system. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Type, { type Static, type TSchema } from 'typebox';
import Value from 'typebox/value';
import {
  CustomerView,
  CustomerVersion,
  HistoryView,
  OrderCancelledAnswer,
  OrderList,
  OrderPaymentsView,
  OrderPlacedAnswer,
  OrderView,
  ProductList,
  ProductVersion,
  ProductView,
  SalesReport,
  StockLevel,
} from '#contracts/http.ts';
import { problems } from '#contracts/problems.ts';
import { encodeToken } from '#cqrs/consistency-token.ts';
import { checkInvariants, untilAtRest } from '../invariants.ts';
import { startTestSystem } from '../running-system.ts';
import { newId, type Problem, type Reply } from '../shop-client.ts';

const price = { amount: 1_250, currency: 'EUR' };
/** Of one attempt at the provider; `pm_slow` answers within it. */
const paymentTimeoutMs = 1_000;
const slowMs = 500;

test('every answer has the status, the headers and the body that the contract names', async (t) => {
  const { shop, databaseUrls, providerUrl } = await startTestSystem(t, { settings: { paymentTimeoutMs }, slowMs });
  const sku = newId('sku');
  const customerId = newId('customer');
  const orderId = newId('order');
  const product = { name: 'Teapot', description: 'Holds tea', price };

  await t.test('PUT /v1/products/{sku}', async () => {
    const put = (json: object, headers = {}) =>
      shop.request<Static<typeof ProductVersion>>('PUT', `/v1/products/${sku}`, { json, headers });
    assertWritten(await put(product), 201, ProductVersion, { sku, version: 1 });
    assertWritten(await put(product), 200, ProductVersion, { sku, version: 1 });
    assertWritten(await put({ ...product, name: 'Tea pot' }), 200, ProductVersion, { sku, version: 2 });
    assertWritten(await put(product, { 'if-match': '"2"' }), 200, ProductVersion, { sku, version: 3 });
    assertWritten(await put(product, { 'if-match': '*' }), 200, ProductVersion, { sku, version: 3 });
    assertWritten(await put(product, { 'if-match': '"2", "3"' }), 200, ProductVersion, { sku, version: 3 });
    assertStale(await put(product, { 'if-match': '"2"' }), 3);
  });

  await t.test('POST /v1/products/{sku}/stock-adjustments', async () => {
    const adjust = (quantity: number, headers = {}) =>
      shop.request<StockLevel>('POST', `/v1/products/${sku}/stock-adjustments`, {
        json: { quantity, reason: 'delivery' },
        headers,
      });
    const level = (onHand: number, version: number) => ({ sku, onHand, reserved: 0, available: onHand, version });
    assertWritten(await adjust(10), 201, StockLevel, level(10, 1));
    assertWritten(await adjust(-3, { 'if-match': '"1"' }), 201, StockLevel, level(7, 2));
    assertStale(await adjust(1, { 'if-match': '"1"' }), 2);
    const tooFew = (await adjust(-8)) as Reply<unknown> as Reply<Problem>;
    assert.deepEqual([tooFew.status, tooFew.body.code], [409, 'insufficient-stock']);
  });

  await t.test('PUT /v1/customers/{customerId}', async () => {
    const put = (json: object, headers = {}) =>
      shop.request<Static<typeof CustomerVersion>>('PUT', `/v1/customers/${customerId}`, { json, headers });
    const ada = { name: 'Ada', email: 'ada@example.org', country: 'United Kingdom' };
    assertWritten(await put(ada), 201, CustomerVersion, { customerId, version: 1 });
    assertWritten(await put(ada), 200, CustomerVersion, { customerId, version: 1 });
    assertWritten(await put({ ...ada, name: 'Ada Byron' }), 200, CustomerVersion, { customerId, version: 2 });
    assertStale(await put(ada, { 'if-match': '"1"' }), 2);
  });

  await t.test('POST /v1/orders', async () => {
    const wish = { orderId, customerId, sku, quantity: 2 };
    const placed = { orderId, status: 'pending', total: { amount: 2_500, currency: 'EUR' }, version: 1 };
    const first = await shop.send(wish);
    assertWritten(first, 201, OrderPlacedAnswer, placed);
    assert.equal(first.headers.get('location'), `/v1/orders/${orderId}`);

    await shop.waitFinal(orderId);
    const again = await shop.send(wish);
    assertWritten(again, 201, OrderPlacedAnswer, placed);
    assert.equal(again.headers.get('location'), `/v1/orders/${orderId}`);
    const other = await shop.send<Problem>({ ...wish, quantity: 3 });
    assert.deepEqual([other.status, other.body.code], [409, 'order-exists']);

    const named = await shop.send({ customerId, sku });
    assert.equal(named.status, 201);
    assert.match(named.body.orderId, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    await shop.waitFinal(named.body.orderId);

    const nobody = await shop.send<Problem>({ customerId: 'nobody', sku });
    assert.deepEqual([nobody.status, nobody.body.code], [422, 'unknown-customer']);
    const lines = ['nothing', sku, 'nothing-else', 'nothing'].map((one) => ({ sku: one, quantity: 1 }));
    const nothing = await shop.send<Problem>({ customerId, lines });
    assert.deepEqual([nothing.status, nothing.body.code], [422, 'unknown-product']);
    assert.deepEqual(nothing.body['skus'], ['nothing', 'nothing-else']);
  });

  await t.test('the price of an order is that of its moment, and stays', async () => {
    const own = newId('sku');
    await shop.putProduct(own, { amount: 100, currency: 'EUR' });
    await shop.adjustStock(own, 10);
    const before = await shop.send({ customerId, sku: own });
    const { headers } = await shop.putProduct(own, { amount: 200, currency: 'EUR' });
    const token = { 'consistency-token': headers.get('consistency-token')! };
    const after = await shop.send({ customerId, sku: own }, token);
    assert.deepEqual([before.body.total.amount, after.body.total.amount], [100, 200]);
    assert.equal((await shop.waitFinal(before.body.orderId)).total.amount, 100);
    await shop.waitFinal(after.body.orderId);
  });

  await t.test('an operator may say at which price and when, and a price may be 0', async () => {
    const lines = [
      { sku, quantity: 2, unitPrice: { amount: 0, currency: 'USD' } },
      { sku, quantity: 1, unitPrice: { amount: 7, currency: 'USD' } },
    ];
    const reply = await shop.send({ customerId, lines, placedAt: '2011-02-01T10:00:00+02:00' });
    assert.deepEqual(reply.body.total, { amount: 7, currency: 'USD' });
    const order = await shop.waitFinal(reply.body.orderId);
    assert.deepEqual([order.status, order.placedAt], ['completed', '2011-02-01T08:00:00.000Z']);
    const free = [{ sku, quantity: 1, unitPrice: { amount: 0, currency: 'USD' } }];
    assert.equal((await shop.waitFinal(await shop.place({ customerId, lines: free }))).status, 'completed');
  });

  await t.test('2,000 lines are an order, and so is one product on all of them', async () => {
    const own = newId('sku');
    const { headers } = await shop.putProduct(own, { amount: 1, currency: 'EUR' });
    await shop.adjustStock(own, 2_000);
    const lines = Array.from({ length: 2_000 }, () => ({ sku: own, quantity: 1 }));
    const token = { 'consistency-token': headers.get('consistency-token')! };
    const reply = await shop.send({ customerId, lines }, token);
    assert.deepEqual([reply.status, reply.body.total?.amount], [201, 2_000]);
    const order = await shop.waitFinal(reply.body.orderId);
    assert.deepEqual([order.status, order.lines.length], ['completed', 2_000]);
  });

  await t.test('POST /v1/orders/{orderId}/cancel', async () => {
    await shop.adjustStock(sku, 5);
    const { body } = await shop.send({ customerId, sku, method: 'pm_slow' });
    const path = `/v1/orders/${body.orderId}/cancel`;
    await shop.waitOrder(body.orderId, ({ status }) => status === 'reserved');
    assertStale(await shop.request('POST', path, { json: {}, headers: { 'if-match': '"1"' } }), 2);
    const cancelled = await shop.request('POST', path, { json: { reason: 'a change of mind' } });
    assertWritten(cancelled, 200, OrderCancelledAnswer, { orderId: body.orderId, status: 'cancelled', version: 3 });
    const again = await shop.request('POST', path, { json: { reason: 'a change of mind' } });
    assert.deepEqual(
      [again.status, again.body.code, again.body['orderStatus']],
      [409, 'order-not-cancellable', 'cancelled'],
    );
    await shop.waitFinal(body.orderId);
    // The body may be left out: all of its fields may.
    const other = await shop.place({ customerId, sku, method: 'pm_down' });
    assert.equal((await shop.request('POST', `/v1/orders/${other}/cancel`)).status, 200);
  });

  await untilAtRest(databaseUrls);
  const reads: readonly (readonly [path: string, schema: TSchema, single: boolean])[] = [
    [`/v1/orders/${orderId}`, OrderView, true],
    [`/v1/orders/${orderId}/history`, HistoryView, true],
    [`/v1/orders/${orderId}/payments`, OrderPaymentsView, true],
    ['/v1/orders', OrderList, false],
    [`/v1/customers/${customerId}`, CustomerView, true],
    [`/v1/customers/${customerId}/orders`, OrderList, false],
    ['/v1/products', ProductList, false],
    [`/v1/products/${sku}`, ProductView, true],
    ['/v1/reports/sales', SalesReport, false],
  ];
  for (const [path, schema, isSingle] of reads) {
    await t.test(
      `GET ${path.replace(orderId, '{orderId}').replace(customerId, '{customerId}').replace(sku, '{sku}')}`,
      async () => {
        const first = await shop.get<unknown>(path);
        assert.equal(first.status, 200);
        assertFits(schema, first.body);
        assert.ok(first.headers.get('consistency-token'));
        assert.equal(first.headers.get('content-type'), 'application/json; charset=utf-8');
        assert.ok(first.headers.get('x-request-id'));
        const etag = first.headers.get('etag');
        if (!isSingle) return assert.equal(etag, null);
        assert.match(etag!, /^"[^"]+"$/);
        for (const known of [etag!, `"0", ${etag}`, `W/${etag}`, '*']) {
          const { status, headers, body } = await shop.get<string>(path, { 'if-none-match': known });
          assert.deepEqual([status, headers.get('etag'), body], [304, etag, '']);
          assert.ok(headers.get('consistency-token'));
        }
        assert.equal((await shop.get(path, { 'if-none-match': '"0"' })).status, 200);
      },
    );
  }

  await t.test('the tag that a read gave is taken by a command, for as long as nothing has changed', async () => {
    const tagOf = async (path: string): Promise<string> => (await shop.get(path)).headers.get('etag')!;
    const productTag = await tagOf(`/v1/products/${sku}`);
    const changed = { json: { ...product, name: 'Kettle' }, headers: { 'if-match': productTag } };
    assert.equal((await shop.request('PUT', `/v1/products/${sku}`, changed)).status, 200);
    assert.equal((await shop.request('PUT', `/v1/products/${sku}`, changed)).status, 412);
    const adjusted = { json: { quantity: 1, reason: 'found' }, headers: { 'if-match': productTag } };
    assert.equal((await shop.request('POST', `/v1/products/${sku}/stock-adjustments`, adjusted)).status, 201);
    assert.equal((await shop.request('POST', `/v1/products/${sku}/stock-adjustments`, adjusted)).status, 412);
    const renamed = { json: { name: 'A. Byron' }, headers: { 'if-match': await tagOf(`/v1/customers/${customerId}`) } };
    assert.equal((await shop.request('PUT', `/v1/customers/${customerId}`, renamed)).status, 200);
    assert.equal((await shop.request('PUT', `/v1/customers/${customerId}`, renamed)).status, 412);
  });

  await t.test('the history tells what happened in ordering, inventory and payments, causes first', async () => {
    const { items } = (await shop.get<HistoryOf>(`/v1/orders/${orderId}/history`)).body;
    assert.deepEqual(
      items.map(({ type }) => type),
      [
        'OrderPlaced',
        'StockReserved',
        'OrderReserved',
        'PaymentRequested',
        'PaymentCaptured',
        'OrderCompleted',
        'StockShipped',
      ],
    );
    for (const [n, { causation, id }] of items.entries()) {
      assert.ok(n === 0 || items.slice(0, n).some((cause) => cause.id === causation), `${id} because of ${causation}`);
    }
  });

  await t.test('a request keeps its id and its trace', async () => {
    const traceId = 'a'.repeat(32);
    const headers = { 'x-request-id': 'my-request-1', traceparent: `00-${traceId}-${'b'.repeat(16)}-01` };
    const reply = await shop.get('/v1/orders/nothing', headers);
    assert.deepEqual([reply.headers.get('x-request-id'), reply.body.traceId], ['my-request-1', traceId]);
  });

  await t.test('the house tells about itself', async () => {
    const description = await shop.get<{ openapi: string; paths: object }>('/openapi.json');
    assert.match(description.body.openapi, /^3\.1\./);
    assert.ok(Object.keys(description.body.paths).includes('/v1/orders/{orderId}/cancel'));
    for (const path of ['/docs', '/livez', '/readyz', '/metrics', '/problems']) {
      assert.equal((await shop.get(path)).status, 200, path);
    }
    for (const [code, { status, title }] of Object.entries(problems)) {
      const page = await shop.get<{ code: string; status: number; title: string }>(`/problems/${code}`);
      assert.deepEqual([page.status, page.body.code, page.body.status, page.body.title], [200, code, status, title]);
    }
  });

  await untilAtRest(databaseUrls);
  assert.deepEqual(await checkInvariants(databaseUrls, providerUrl), []);
});

type HistoryOf = { items: { id: string; type: string; causation: string }[] };

test('a key is one request and one answer', async (t) => {
  const { shop, databaseUrls, providerUrl } = await startTestSystem(t, { settings: { paymentTimeoutMs } });
  const { sku, customerId } = await shop.furnish(50);
  const orderId = await shop.place({ customerId, sku, method: 'pm_down' });
  const adjustments = `/v1/products/${sku}/stock-adjustments`;
  const requests = [
    ['a product', 'PUT', `/v1/products/${newId('sku')}`, { name: 'A', price }, { name: 'B', price }],
    ['an adjustment', 'POST', adjustments, { quantity: 1, reason: 'a' }, { quantity: 2, reason: 'a' }],
    ['a customer', 'PUT', `/v1/customers/${newId('customer')}`, { name: 'A' }, { name: 'B' }],
    ['an order', 'POST', '/v1/orders', orderOf(customerId, sku, 1), orderOf(customerId, sku, 2)],
    ['a cancellation', 'POST', `/v1/orders/${orderId}/cancel`, { reason: 'a' }, { reason: 'b' }],
  ] as const;
  for (const [what, method, path, json, other] of requests) {
    await t.test(`${what}, sent again under its key`, async () => {
      const headers = { 'idempotency-key': newId('key') };
      const first = await shop.request<object>(method, path, { json, headers });
      assert.ok([200, 201].includes(first.status), JSON.stringify(first.body));
      assert.equal(first.headers.get('idempotent-replayed'), null);
      for (let n = 0; n < 3; n += 1) {
        const again = await shop.request<object>(method, path, { json, headers });
        assert.deepEqual([again.status, again.body], [first.status, first.body]);
        assert.equal(again.headers.get('idempotent-replayed'), 'true');
        for (const name of ['etag', 'location']) assert.equal(again.headers.get(name), first.headers.get(name));
        assert.ok(again.headers.get('consistency-token'));
      }
      for (const [where, body] of [
        [path, other],
        [`/v1/customers/${newId('customer')}`, { name: 'C' }],
      ] as const) {
        const reused = await shop.request(where === path ? method : 'PUT', where, { json: body, headers });
        // A key counts within the service that keeps it; the process that has seen it knows of all.
        assert.deepEqual([reused.status, reused.body.code], [422, 'idempotency-key-reused']);
      }
    });
  }

  await t.test('the order of the fields does not make another request', async () => {
    const headers = { 'idempotency-key': newId('key') };
    const { customerId: id, lines, payment } = orderOf(customerId, sku, 1);
    const first = await shop.request('POST', '/v1/orders', { json: { customerId: id, lines, payment }, headers });
    const again = await shop.request('POST', '/v1/orders', { json: { payment, lines, customerId: id }, headers });
    assert.deepEqual([again.status, again.body], [201, first.body]);
  });

  await t.test('what the rules refuse is answered the same again, even when it would be taken by now', async () => {
    const headers = { 'idempotency-key': newId('key') };
    const newcomer = newId('customer');
    const send = () => shop.request('POST', '/v1/orders', { json: orderOf(newcomer, sku, 1), headers });
    const first = await send();
    assert.deepEqual([first.status, first.body.code], [422, 'unknown-customer']);
    await shop.putCustomer(newcomer);
    const elsewhere = await shop.request('PUT', `/v1/products/${newId('sku')}`, {
      json: { name: 'A', price },
      headers,
    });
    assert.deepEqual([elsewhere.status, elsewhere.body.code], [422, 'idempotency-key-reused']);
    const again = await send();
    assert.deepEqual([again.status, again.body], [422, first.body]);
    assert.equal(again.headers.get('idempotent-replayed'), 'true');
  });

  await t.test('what was not valid is not kept: mended, it is taken under the same key', async () => {
    const headers = { 'idempotency-key': newId('key') };
    const wrong = { ...orderOf(customerId, sku, 1), surprise: true };
    assert.equal((await shop.request('POST', '/v1/orders', { json: wrong, headers })).status, 400);
    const mended = await shop.request('POST', '/v1/orders', { json: orderOf(customerId, sku, 1), headers });
    assert.deepEqual([mended.status, mended.headers.get('idempotent-replayed')], [201, null]);
  });

  await t.test('what was stale is not kept: with the version of now it is taken under the same key', async () => {
    const key = newId('key');
    const put = (version: string) =>
      shop.request('PUT', `/v1/customers/${customerId}`, {
        json: { name: 'Another name' },
        headers: { 'idempotency-key': key, 'if-match': version },
      });
    assert.equal((await put('"7"')).status, 412);
    const mended = await put('"1"');
    assert.deepEqual([mended.status, mended.headers.get('idempotent-replayed')], [200, null]);
  });

  await untilAtRest(databaseUrls);
  assert.deepEqual(await checkInvariants(databaseUrls, providerUrl), []);
});

test('what a client has written it sees and may build on, under its token', async (t) => {
  const { shop, databaseUrls, providerUrl } = await startTestSystem(t);
  const { customerId } = await shop.furnish(0);

  await t.test('100 times in a row: a new product, an order for it, and the order read back', async () => {
    for (let n = 0; n < 100; n += 1) {
      const sku = newId('sku');
      const put = await shop.putProduct(sku);
      const placed = await shop.send({ customerId, sku }, tokenOf(put));
      assert.equal(placed.status, 201, JSON.stringify(placed.body));
      const { orderId } = placed.body;
      const read = await shop.get<OrderView>(`/v1/orders/${orderId}`, tokenOf(placed));
      assert.deepEqual([read.status, read.body.orderId], [200, orderId]);
      const product = await shop.get<ProductView>(`/v1/products/${sku}`, tokenOf(placed));
      assert.deepEqual([product.status, product.body.sku], [200, sku]);
    }
  });

  await t.test('100 times in a row: a change, and the read of just that version', async () => {
    for (let n = 1; n <= 100; n += 1) {
      const put = await shop.request<Static<typeof CustomerVersion>>('PUT', `/v1/customers/${customerId}`, {
        json: { name: `Name ${n}` },
      });
      const read = await shop.get<CustomerView>(`/v1/customers/${customerId}`, tokenOf(put));
      assert.deepEqual([read.body.name, read.body.version], [`Name ${n}`, put.body.version]);
    }
  });

  await t.test('a read under the token of a read never goes back', async () => {
    const { sku } = await shop.furnish(5);
    const orderId = await shop.place({ customerId, sku });
    let token: Record<string, string> = {};
    let seen = 0;
    for (let status = ''; status !== 'completed';) {
      const reply = await shop.get<OrderView>(`/v1/orders/${orderId}`, token);
      if (seen === 0 && reply.status === 404) continue;
      assert.equal(reply.status, 200);
      assert.ok(reply.body.version >= seen);
      ({ status, version: seen } = reply.body);
      token = tokenOf(reply);
    }
  });

  await t.test('a token of the future is answered 503 after the wait that was preferred', async () => {
    const sources = ['catalog.0', 'ordering.0', 'inventory.0', 'payments.0'];
    const future = encodeToken(Object.fromEntries(sources.map((source) => [source, 1_000_000_000])));
    const ask = async (method: string, path: string, prefer: string | null, json?: unknown): Promise<number> => {
      const headers = { 'consistency-token': future, ...(prefer === null ? {} : { prefer }) };
      const from = performance.now();
      const {
        status,
        body,
        headers: answered,
      } = await shop.request(method, path, {
        headers,
        ...(json === undefined ? {} : { json }),
      });
      assert.deepEqual([status, body.code], [503, 'read-model-behind']);
      assert.match(answered.get('retry-after') ?? '', /^[1-9]\d*$/);
      return (performance.now() - from) / 1_000;
    };
    const [instant, half, usual, most, written] = await Promise.all([
      ask('GET', '/v1/orders', 'wait=0'),
      ask('GET', `/v1/customers/${customerId}`, 'respond-async, wait=0.5'),
      ask('GET', '/v1/products', null),
      ask('GET', '/v1/reports/sales', 'wait=3600'),
      ask('PUT', `/v1/customers/${customerId}`, 'wait=0', { name: 'Never' }),
    ]);
    const took = `${instant} s, ${half} s, ${usual} s, ${most} s, ${written} s`;
    // The machine may be busy: above, these are generous.
    assert.ok(instant < 3 && written < 3, took);
    assert.ok(half >= 0.49 && half < 4, took);
    assert.ok(usual >= 0.99 && usual < 4.5, took);
    assert.ok(most >= 4.99 && most < 10, took);
    const { body } = await shop.get<CustomerView>(`/v1/customers/${customerId}`);
    assert.equal(body.name, 'Name 100');
  });

  await untilAtRest(databaseUrls);
  assert.deepEqual(await checkInvariants(databaseUrls, providerUrl), []);
});

const orderOf = (customerId: string, sku: string, quantity: number) => ({
  customerId,
  lines: [{ sku, quantity }],
  payment: { method: 'pm_ok' },
});

const tokenOf = ({ headers }: Reply<unknown>): { 'consistency-token': string } => ({
  'consistency-token': headers.get('consistency-token')!,
});

function assertWritten(
  reply: Reply<unknown>,
  status: number,
  schema: TSchema,
  body: { readonly version: number; readonly [field: string]: unknown },
): void {
  assert.deepEqual([reply.status, reply.body], [status, body]);
  assertFits(schema, reply.body);
  assert.equal(reply.headers.get('etag'), `"${body.version}"`);
  assert.ok(reply.headers.get('consistency-token'));
  assert.equal(reply.headers.get('content-type'), 'application/json; charset=utf-8');
  assert.ok(reply.headers.get('x-request-id'));
  assert.equal(reply.headers.get('idempotent-replayed'), null);
}

function assertStale({ status, body }: Reply<unknown>, currentVersion: number): void {
  const problem = body as Problem;
  assert.deepEqual([status, problem.code, problem['currentVersion']], [412, 'version-mismatch', currentVersion]);
}

/** Times have their format checked elsewhere: here it counts that they are texts. */
function assertFits(schema: TSchema, body: unknown): void {
  const [error] = Value.Errors(Type.Unsafe(JSON.parse(JSON.stringify(schema)) as TSchema), body);
  assert.equal(error, undefined);
}
