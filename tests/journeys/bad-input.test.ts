/** Whatever is wrong with a request, it is told so in the words of the contract, and nothing has changed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openDatabase } from '#platform/postgres.ts';
import { untilAtRest } from '../invariants.ts';
import type { DatabaseUrls } from '../running-program.ts';
import { bearer, jwt, startTestSystem } from '../running-system.ts';
import { newId, openShop, type Problem, type RequestOptions } from '../shop-client.ts';

type Case = RequestOptions & {
  readonly what: string;
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly code: string;
  /** Where `errors` point to. */
  readonly pointers?: readonly string[];
  /** Instead of the operator's. */
  readonly authorization?: string | null;
};

const price = { amount: 100, currency: 'EUR' };
const mebibyte = 1_048_576;

test('a request that is wrong is told what is wrong, and changes nothing', async (t) => {
  const system = await startTestSystem(t, { settings: { jwt } });
  const { shop } = system;
  const anonymous = openShop(system.address);
  const { sku, customerId } = await shop.furnish(5);
  const dollars = newId('dollars');
  await shop.putProduct(dollars, { amount: 100, currency: 'USD' });
  const orderId = await shop.place({ customerId, sku });
  await shop.waitFinal(orderId);
  const [first, second] = [await shop.place({ customerId, sku }), await shop.place({ customerId, sku })];
  await Promise.all([shop.waitFinal(first), shop.waitFinal(second)]);
  const page = await shop.get<{ nextCursor: string }>('/v1/orders?limit=1');

  const order = { customerId, lines: [{ sku, quantity: 1 }], payment: { method: 'pm_ok' } };
  const commands: readonly Command[] = [
    {
      method: 'PUT',
      path: `/v1/products/${sku}`,
      body: { name: 'A name', price },
      wrong: [
        ['a name that is a number', { name: 5, price }, '/name'],
        ['an empty name', { name: '', price }, '/name'],
        ['a name of 301 characters', { name: 'x'.repeat(301), price }, '/name'],
        ['a name with U+0000', { name: 'a\0b', price }, '/name'],
        ['a name with half a character', { name: 'a\ud800b', price }, '/name'],
        ['a description of 10,001 characters', { name: 'A', price, description: 'x'.repeat(10_001) }, '/description'],
        ['a price below 0', { name: 'A', price: { ...price, amount: -1 } }, '/price/amount'],
        ['a price that is no integer', { name: 'A', price: { ...price, amount: 1.5 } }, '/price/amount'],
        ['a price that is text', { name: 'A', price: { ...price, amount: '100' } }, '/price/amount'],
        ['a price beyond all bounds', { name: 'A', price: { ...price, amount: 1e300 } }, '/price/amount'],
        ['a currency in small letters', { name: 'A', price: { ...price, currency: 'eur' } }, '/price/currency'],
        ['a price without a currency', { name: 'A', price: { amount: 1 } }, '/price/currency'],
        ['a price with one field more', { name: 'A', price: { ...price, tax: 1 } }, '/price/tax'],
      ],
    },
    {
      method: 'POST',
      path: `/v1/products/${sku}/stock-adjustments`,
      body: { quantity: 1, reason: 'delivery' },
      wrong: [
        ['no pieces', { quantity: 0, reason: 'r' }, '/quantity'],
        ['half a piece', { quantity: 0.5, reason: 'r' }, '/quantity'],
        ['too many pieces', { quantity: 1_000_000_001, reason: 'r' }, '/quantity'],
        ['pieces as text', { quantity: '1', reason: 'r' }, '/quantity'],
        ['an empty reason', { quantity: 1, reason: '' }, '/reason'],
      ],
    },
    {
      method: 'PUT',
      path: `/v1/customers/${customerId}`,
      body: { name: 'A name' },
      wrong: [
        ['an e-mail address that is none', { name: 'A', email: 'nobody' }, '/email'],
        ['a country that is null', { name: 'A', country: null }, '/country'],
      ],
    },
    {
      method: 'POST',
      path: '/v1/orders',
      body: order,
      wrong: [
        ['no line', { ...order, lines: [] }, '/lines'],
        ['2,001 lines', { ...order, lines: Array.from({ length: 2_001 }, () => ({ sku, quantity: 1 })) }, '/lines'],
        ['lines that are none', { ...order, lines: {} }, '/lines'],
        ['a quantity of 0', { ...order, lines: [{ sku, quantity: 0 }] }, '/lines/0/quantity'],
        ['a quantity below 0', { ...order, lines: [{ sku, quantity: -1 }] }, '/lines/0/quantity'],
        ['a quantity of 1,000,001', { ...order, lines: [{ sku, quantity: 1_000_001 }] }, '/lines/0/quantity'],
        ['a quantity as text', { ...order, lines: [{ sku, quantity: '1' }] }, '/lines/0/quantity'],
        ['a SKU with a blank', { ...order, lines: [{ sku: 'a b', quantity: 1 }] }, '/lines/0/sku'],
        ['a SKU of 65 characters', { ...order, lines: [{ sku: 'x'.repeat(65), quantity: 1 }] }, '/lines/0/sku'],
        ['a price below 0', withPrice(order, { ...price, amount: -1 }), '/lines/0/unitPrice/amount'],
        ['an order id with a dot', { ...order, orderId: 'a.b' }, '/orderId'],
        ['an empty order id', { ...order, orderId: '' }, '/orderId'],
        ['a customer id with a slash', { ...order, customerId: 'a/b' }, '/customerId'],
        ['a method of payment that is not there', { ...order, payment: { method: 'cash' } }, '/payment/method'],
        ['a time without a zone', { ...order, placedAt: '2026-01-01T00:00:00' }, '/placedAt'],
        ['a day that does not exist', { ...order, placedAt: '2026-02-30T00:00:00Z' }, '/placedAt'],
      ],
    },
    {
      method: 'POST',
      path: `/v1/orders/${orderId}/cancel`,
      body: {},
      wrong: [
        ['an empty reason', { reason: '' }, '/reason'],
        ['a reason that is an object', { reason: {} }, '/reason'],
      ],
    },
  ];
  const customer = await bearer('customer', customerId);
  const stranger = await bearer('customer', 'a-stranger');

  const cases: Case[] = [
    ...commands.flatMap(wrongInAnyCommand),
    ...[
      ...commands,
      { method: 'GET', path: `/v1/orders/${orderId}` },
      { method: 'GET', path: `/v1/orders/${orderId}/history` },
      { method: 'GET', path: `/v1/orders/${orderId}/payments` },
      { method: 'GET', path: '/v1/orders' },
      { method: 'GET', path: `/v1/customers/${customerId}` },
      { method: 'GET', path: `/v1/customers/${customerId}/orders` },
      { method: 'GET', path: '/v1/products' },
      { method: 'GET', path: `/v1/products/${sku}` },
      { method: 'GET', path: '/v1/reports/sales' },
    ].flatMap(wrongInAnyRequest),
    ...(await wrongCallers(commands)),
    ...wrongIds(order),
    ...wrongLists('/v1/orders', [
      'status=shipped',
      'placedFrom=yesterday',
      'placedTo=2026-01-01',
      'minTotal=-1',
      'minTotal=1.5',
      'sort=name',
      'q=',
      'customerId=a%20b',
      'sku=',
      'status=pending&status=failed',
    ]),
    ...wrongLists(`/v1/customers/${customerId}/orders`, ['status=pending']),
    ...wrongLists('/v1/products', ['inStock=maybe', 'sort=price', 'q=']),
    ...['bucket=week', 'by=city', 'from=yesterday', 'to=2026-13-01T00:00:00Z'].map((query) => ({
      what: `report with ${query}`,
      method: 'GET',
      path: `/v1/reports/sales?${query}`,
      status: 400,
      code: 'invalid-request',
    })),
    {
      what: 'the cursor of a list with other filters',
      method: 'GET',
      path: `/v1/orders?limit=1&status=completed&cursor=${page.body.nextCursor}`,
      status: 400,
      code: 'malformed-cursor',
    },
    ...[
      ['an unknown customer', { ...order, customerId: 'nobody' }, 'unknown-customer'],
      ['an unknown product', { ...order, lines: [...order.lines, { sku: 'nothing', quantity: 1 }] }, 'unknown-product'],
      ['two currencies', { ...order, lines: [...order.lines, { sku: dollars, quantity: 1 }] }, 'mixed-currencies'],
      ['a negotiated price in another currency', twoPrices(order, 'USD'), 'mixed-currencies'],
      ['a total beyond 2^53', tooMuch(order), 'total-too-large'],
    ].map(([what, json, code]): Case => ({
      what: `order with ${what as string}`,
      method: 'POST',
      path: '/v1/orders',
      json,
      status: 422,
      code: code as string,
    })),
    {
      what: 'more written off than there is',
      method: 'POST',
      path: `/v1/products/${sku}/stock-adjustments`,
      json: { quantity: -6, reason: 'lost' },
      status: 409,
      code: 'insufficient-stock',
    },
    {
      what: 'a final order cancelled',
      method: 'POST',
      path: `/v1/orders/${orderId}/cancel`,
      json: {},
      status: 409,
      code: 'order-not-cancellable',
    },
    {
      what: 'an order id that is taken',
      method: 'POST',
      path: '/v1/orders',
      json: { ...order, orderId, payment: { method: 'pm_slow' } },
      status: 409,
      code: 'order-exists',
    },
    ...['', '/history', '/payments'].map((part) => ({
      what: `order${part} of another customer`,
      method: 'GET',
      path: `/v1/orders/${orderId}${part}`,
      ...stranger,
      status: 404,
      code: 'order-not-found',
    })),
    {
      what: 'cancelling the order of another customer',
      method: 'POST',
      path: `/v1/orders/${orderId}/cancel`,
      json: {},
      ...stranger,
      status: 404,
      code: 'order-not-found',
    },
    {
      what: 'another customer',
      method: 'GET',
      path: `/v1/customers/${customerId}`,
      ...stranger,
      status: 404,
      code: 'customer-not-found',
    },
    {
      what: 'the orders of another customer',
      method: 'GET',
      path: `/v1/customers/${customerId}/orders`,
      ...stranger,
      status: 404,
      code: 'customer-not-found',
    },
    ...[
      ['an order for another customer', 'POST', '/v1/orders', order, stranger],
      ['a change of another customer', 'PUT', `/v1/customers/${customerId}`, { name: 'Mine' }, stranger],
      ['a time of its own', 'POST', '/v1/orders', { ...order, placedAt: '2020-01-01T00:00:00Z' }, customer],
      ['a price of its own', 'POST', '/v1/orders', withPrice(order, { ...price, amount: 1 }), customer],
    ].map(([what, method, path, json, caller]): Case => ({
      what: `customer with ${what as string}`,
      method: method as string,
      path: path as string,
      json,
      ...(caller as typeof stranger),
      status: 403,
      code: 'forbidden',
    })),
    ...commands.slice(0, 2).map(({ method, path, body }) => ({
      what: `${method} ${path} by a customer`,
      method,
      path,
      json: body,
      ...customer,
      status: 403,
      code: 'forbidden',
    })),
    {
      what: 'a report for a customer',
      method: 'GET',
      path: '/v1/reports/sales',
      ...customer,
      status: 403,
      code: 'forbidden',
    },
    { what: 'an address that is none', method: 'GET', path: '/v1/nothing', status: 404, code: 'not-found' },
    { what: 'a method that is none', method: 'DELETE', path: '/v1/orders', status: 405, code: 'method-not-allowed' },
    { what: 'a path that is not UTF-8', method: 'GET', path: '/v1/orders/%ff', status: 400, code: 'malformed-request' },
  ];

  await untilAtRest(system.databaseUrls);
  const before = await headsOf(system.databaseUrls);
  for (const { what, status, code, pointers, authorization, ...request } of cases) {
    await t.test(`${what}: ${status} ${code}`, async () => {
      const caller = authorization === null ? anonymous : shop;
      const headers = { ...request.headers, ...(authorization ? { authorization } : {}) };
      const reply = await caller.request(request.method, request.path, { ...request, headers });
      assert.deepEqual([reply.status, reply.body.code], [status, code], JSON.stringify(reply.body).slice(0, 500));
      assertProblem(reply.body, reply.headers, request.path);
      if (pointers !== undefined) {
        const errors = reply.body['errors'] as { pointer: string; detail: string }[];
        assert.deepEqual(
          errors.map(({ pointer }) => pointer),
          pointers,
        );
        assert.ok(errors.every(({ detail }) => detail.length > 0));
      }
    });
  }
  assert.deepEqual(await headsOf(system.databaseUrls), before);
});

type Command = {
  readonly method: string;
  readonly path: string;
  readonly body: Readonly<Record<string, unknown>>;
  /** What it is, the body, and where the error points to. */
  readonly wrong: readonly (readonly [what: string, body: unknown, pointer: string])[];
};

function wrongInAnyCommand({ method, path, body, wrong }: Command): Case[] {
  const fail = (what: string, status: number, code: string, options: Partial<Case>): Case => ({
    what: `${method} ${path} with ${what}`,
    method,
    path,
    status,
    code,
    ...options,
  });
  const text = JSON.stringify(body);
  const notJson = [
    ['broken JSON', '{"name":'],
    ['two values', '{} {}'],
    ['a comment', `${text.slice(0, -1)} /* */}`],
    ['a trailing comma', '{"name":"A",}'],
    ['NaN', '{"name":NaN}'],
    ['a prototype', `{"__proto__":{"admin":true},${text.slice(1)}`],
  ] as const;
  const required = Object.keys(body);
  return [
    ...wrong.map(([what, json, pointer]) => fail(what, 400, 'invalid-request', { json, pointers: [pointer] })),
    ...notJson.map(([what, sent]) => fail(what, 400, 'malformed-json', { body: sent })),
    fail('bytes that are not UTF-8', 400, 'malformed-json', { body: Uint8Array.from([0x7b, 0xff, 0xfe, 0x7d]) }),
    ...[null, [], 'text', 5, true].map((json) =>
      fail(`${JSON.stringify(json)} for a body`, 400, 'invalid-request', { json }),
    ),
    fail('a field that is not known', 400, 'invalid-request', {
      json: { ...body, surprise: 1 },
      pointers: ['/surprise'],
    }),
    ...required.map((field) =>
      fail(`no ${field}`, 400, 'invalid-request', { json: { ...body, [field]: undefined }, pointers: [`/${field}`] }),
    ),
    fail('a body of 1 MiB and 1 byte', 413, 'body-too-large', { body: text.padEnd(mebibyte + 1, ' ') }),
    fail('a form', 415, 'unsupported-media-type', {
      body: 'name=A',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    }),
    fail('text', 415, 'unsupported-media-type', { body: text, headers: { 'content-type': 'text/plain' } }),
    ...['', 'x'.repeat(256), 'schlüssel'].map((key) =>
      fail(`the key ${JSON.stringify(key).slice(0, 20)}`, 400, 'malformed-idempotency-key', {
        json: body,
        headers: { 'idempotency-key': key },
      }),
    ),
    ...['1', '"1', 'W/1', '"1" "2"', ''].map((tag) =>
      fail(`If-Match: ${tag}`, 400, 'malformed-etag', { json: body, headers: { 'if-match': tag } }),
    ),
    ...['"99"', 'W/"1"', '"other"'].map((tag) =>
      fail(`If-Match: ${tag}`, 412, 'version-mismatch', { json: body, headers: { 'if-match': tag } }),
    ),
  ];
}

function wrongInAnyRequest({ method, path, body }: { method: string; path: string; body?: unknown }): Case[] {
  const sent = body === undefined ? {} : { json: body };
  const tokens = ['', '-', 'nonsense', 'MTt4', Buffer.from('1;ordering.0=-1').toString('base64url'), 'x'.repeat(3_000)];
  const tags = body === undefined ? ['1', '"1', ''] : [];
  return [
    ...tokens.map((token) => ({
      what: `${method} ${path} with the token ${JSON.stringify(token).slice(0, 20)}`,
      method,
      path,
      ...sent,
      headers: { 'consistency-token': token },
      status: 400,
      code: 'malformed-consistency-token',
    })),
    ...tags.map((tag) => ({
      what: `${method} ${path} with If-None-Match: ${tag}`,
      method,
      path,
      headers: { 'if-none-match': tag },
      status: 400,
      code: 'malformed-etag',
    })),
    {
      what: `${method} ${path} with a parameter that is not known`,
      method,
      path: `${path}?surprise=1`,
      ...sent,
      status: 400,
      code: 'invalid-request',
      pointers: ['/surprise'],
    },
  ];
}

async function wrongCallers(commands: readonly Command[]): Promise<Case[]> {
  const valid = await bearer('operator', 'tests');
  const [head = '', claims = '', signature = ''] = valid.authorization.slice('Bearer '.length).split('.');
  const unsigned = Buffer.from('{"alg":"none"}').toString('base64url');
  const callers: readonly (readonly [what: string, authorization: string | null])[] = [
    ['no token', null],
    ['another scheme', 'Basic dXNlcjpwYXNzd29yZA=='],
    ['no token after Bearer', 'Bearer '],
    ['nonsense', 'Bearer nonsense'],
    [
      'a forged signature',
      `Bearer ${head}.${claims}.${signature.replace(/^./, (letter) => (letter === 'A' ? 'B' : 'A'))}`,
    ],
    ['another secret', (await bearer('operator', 'x', { secret: 'another-secret-that-is-long-enough' })).authorization],
    ['no signature', `Bearer ${unsigned}.${claims}.`],
    ['an expired token', (await bearer('operator', 'x', { expiresInSeconds: -1 })).authorization],
    ['the token of another issuer', (await bearer('operator', 'x', { issuer: 'other' })).authorization],
    ['the token of another audience', (await bearer('operator', 'x', { audience: 'other' })).authorization],
    ['a customer that is none', (await bearer('customer', 'a b')).authorization],
  ];
  const requests = [
    ...commands.map(({ method, path, body }) => ({ method, path, json: body })),
    { method: 'GET', path: '/v1/orders' },
  ];
  return [
    ...requests.flatMap((request) =>
      callers.map(([what, authorization]) => ({
        what: `${request.method} ${request.path} with ${what}`,
        ...request,
        authorization,
        status: 401,
        code: 'unauthenticated',
      })),
    ),
    {
      what: 'a role that is none',
      method: 'GET',
      path: '/v1/orders',
      ...(await bearer('admin', 'x')),
      status: 403,
      code: 'forbidden',
    },
  ];
}

function wrongIds(order: object): Case[] {
  const odd = ['a%20b', 'a%2Fb', '%C3%A4', 'x'.repeat(65), 'a%00b', "a'b", 'a;b', '%E2%80%AE'];
  const of = (method: string, pathOf: (id: string) => string, json?: unknown): Case[] =>
    odd.map((id) => ({
      what: `${method} ${pathOf(id).slice(0, 40)}`,
      method,
      path: pathOf(id),
      ...(json === undefined ? {} : { json }),
      status: 400,
      code: 'invalid-request',
    }));
  const unknown = (method: string, path: string, code: string, json?: unknown): Case => ({
    what: `${method} ${path}, which is not there`,
    method,
    path,
    status: 404,
    code,
    ...(json === undefined ? {} : { json }),
  });
  return [
    ...of('GET', (id) => `/v1/orders/${id}`),
    ...of('GET', (id) => `/v1/customers/${id}/orders`),
    ...of('GET', (id) => `/v1/products/${id}`),
    ...of('PUT', (id) => `/v1/products/${id}`, { name: 'A', price }),
    ...of('PUT', (id) => `/v1/customers/${id}`, { name: 'A' }),
    ...of('POST', (id) => `/v1/orders/${id}/cancel`, {}),
    ...of('POST', (id) => `/v1/products/${id}/stock-adjustments`, { quantity: 1, reason: 'r' }),
    ...odd.map((id) => ({
      what: `an order with the id ${id}`.slice(0, 60),
      method: 'POST',
      path: '/v1/orders',
      json: {
        ...order,
        orderId: decodeURIComponent(id),
      },
      status: 400,
      code: 'invalid-request',
      pointers: ['/orderId'],
    })),
    unknown('GET', '/v1/orders/nothing', 'order-not-found'),
    unknown('GET', '/v1/orders/nothing/history', 'order-not-found'),
    unknown('GET', '/v1/orders/nothing/payments', 'order-not-found'),
    unknown('GET', '/v1/customers/nobody', 'customer-not-found'),
    unknown('GET', '/v1/customers/nobody/orders', 'customer-not-found'),
    unknown('GET', '/v1/products/nothing', 'product-not-found'),
    unknown('POST', '/v1/orders/nothing/cancel', 'order-not-found', {}),
    unknown('POST', '/v1/products/nothing/stock-adjustments', 'product-not-found', { quantity: 1, reason: 'r' }),
  ];
}

function wrongLists(path: string, queries: readonly string[]): Case[] {
  const limits = [
    'limit=0',
    'limit=101',
    'limit=-1',
    'limit=1.5',
    'limit=many',
    'limit=',
    'limit=1&limit=2',
    'cursor=',
  ];
  const cursors = ['x', 'bm90LWEtY3Vyc29y', Buffer.from('["a","b","c"]').toString('base64url'), '%00'];
  return [
    ...[...limits, ...queries].map((query) => ({
      what: `list ${path} with ${query}`,
      method: 'GET',
      path: `${path}?${query}`,
      status: 400,
      code: 'invalid-request',
    })),
    ...cursors.map((cursor) => ({
      what: `list ${path} with the cursor ${cursor}`,
      method: 'GET',
      path: `${path}?cursor=${cursor}`,
      status: 400,
      code: cursor === '%00' ? 'malformed-request' : 'malformed-cursor',
    })),
  ];
}

type Order = { readonly lines: readonly { readonly sku: string; readonly quantity: number }[] };

const withPrice = (order: Order, unitPrice: object) => ({
  ...order,
  lines: order.lines.map((line) => ({ ...line, unitPrice })),
});
const twoPrices = (order: Order, currency: string) => ({
  ...order,
  lines: [...order.lines, { ...order.lines[0], unitPrice: { ...price, currency } }],
});
const tooMuch = (order: Order) => ({
  ...order,
  lines: order.lines.map((line) => ({
    ...line,
    quantity: 1_000_000,
    unitPrice: { ...price, amount: 1_000_000_000_000 },
  })),
});

function assertProblem(body: Problem, headers: Headers, path: string): void {
  assert.equal(headers.get('content-type'), 'application/problem+json');
  assert.equal(body.type, `/problems/${body.code}`);
  assert.equal(body.instance, path.split('?')[0]);
  assert.match(body.traceId, /^[0-9a-f]{32}$/);
  assert.ok(body.title.length > 0 && body.detail.length > 0);
  assert.ok(headers.has('x-request-id'));
}

/** How many events each log has. */
async function headsOf(urls: DatabaseUrls): Promise<Record<string, number>> {
  const heads: Record<string, number> = {};
  for (const owner of ['catalog', 'ordering', 'inventory', 'payments'] as const) {
    const database = openDatabase(urls[owner], { applicationName: 'test', poolMax: 1 });
    const [row] = await database.query<{ position: number }>('head', 'select position from log_head');
    heads[owner] = row?.position ?? 0;
    await database.end();
  }
  return heads;
}
