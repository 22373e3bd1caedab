/** Whatever is wrong with a request, it is told so in the words of the contract, and nothing has changed. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
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

const times = [
  'yesterday',
  '1767225600',
  '2026-01-01',
  '2026-01-01T00:00:00',
  '2026-13-01T00:00:00Z',
  '2026-02-29T00:00:00Z',
  '2026-01-01T24:00:00Z',
  '2026-06-30T23:59:60Z',
  '0000-01-01T00:00:00Z',
  '2026-01-01T00:00:00+02:00',
  '2026-01-01%2000:00:00Z',
];
const integers = ['many', '1.5', '1e1', '0x10', '%2B5', '%205', '-1', '99999999999999999999', 'NaN', 'null'];
const ids = ['a%20b', 'a%2Fb', 'a.b', '%C3%A4', "'", '%E2%80%AE', '*'];
/** By parameter, as it stands in an address. */
const wrongValues: { readonly [parameter: string]: readonly string[] } = {
  limit: [...integers, '0', '101'],
  version: [...integers, '0', '2147483648'],
  minTotal: [...integers, '9007199254740992'],
  asOf: times,
  placedFrom: times,
  placedTo: times,
  from: times,
  to: times,
  customerId: ids,
  sku: ids.filter((id) => id !== 'a.b'),
  consumer: ids.filter((id) => id !== 'a.b'),
  check: [...ids, 'Orders', '-a', '1a'],
  status: ['shipped', 'Pending', 'pending,failed', '%20pending'],
  state: ['parked', 'Waiting'],
  sort: ['sideways', 'placedat', '--total', 'sku,name'],
  inStock: ['maybe', '1', 'TRUE', 'no'],
  bucket: ['week', 'Day', 'hour,day'],
  by: ['city', 'Country'],
  q: ['%20', '%09%0A%0D', '+', '%C2%A0%E3%80%80'],
};
/** Anything goes that is neither empty nor too long. */
const texts = ['cursor', 'cause', 'type', 'lastEventId'];

type ApiDescription = {
  readonly paths: {
    readonly [path: string]: {
      readonly get?: { readonly parameters?: readonly { readonly name: string; readonly in: string }[] };
    };
  };
};

/** Which parameters there are is asked of the server: one that is new has to be wrong in here too. */
function wrongQueries({ paths }: ApiDescription, pathOf: (template: string) => string): Case[] {
  return Object.entries(paths).flatMap(([template, { get }]) => {
    if (get === undefined || !template.startsWith('/v1/')) return [];
    const path = pathOf(template);
    const wrong = (query: string, pointer: string, code = 'invalid-request'): Case => ({
      what: `GET ${template}?${query.slice(0, 60)}`,
      method: 'GET',
      path: `${path}?${query}`,
      status: 400,
      code,
      pointers: [pointer],
    });
    const names = (get.parameters ?? []).filter((one) => one.in === 'query').map(({ name }) => name);
    return [
      wrong('surprise=1', '/surprise'),
      wrong('surprise', '/surprise'),
      wrong('__proto__=1', '/__proto__'),
      wrong('constructor=1', '/constructor'),
      wrong('=1', '/'),
      wrong('a%2Fb~=1', '/a~1b~0'),
      wrong('surprise=%ff', '/surprise', 'malformed-request'),
      ...names.flatMap((name) => [
        ...(wrongValues[name] ?? []).map((value) => wrong(`${name}=${value}`, `/${name}`)),
        wrong(`${name}=`, `/${name}`),
        wrong(name, `/${name}`),
        wrong(`${name}=1&${name}=1`, `/${name}`),
        wrong(`${name}=${'x'.repeat(5_000)}`, `/${name}`),
        wrong(`${name}[]=1`, `/${name}[]`),
        wrong(`${name.toUpperCase()}=1`, `/${name.toUpperCase()}`),
        ...['a%00b', '%ED%A0%80', '%E4', '%zz', '%'].map((value) =>
          wrong(`${name}=${value}`, `/${name}`, 'malformed-request'),
        ),
      ]),
      ...(names.includes('cursor')
        ? cursors.map((value) => wrong(`cursor=${value}`, '/cursor', 'malformed-cursor'))
        : []),
      ...(names.includes('lastEventId') ? [wrong('lastEventId=nonsense', '/lastEventId', 'malformed-event-id')] : []),
    ];
  });
}

const encoded = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
const cursors = ['x', '!', 'bm90LWEtY3Vyc29y', encoded(['a', 'b', 'c']), encoded({}), encoded(null), encoded([1, 2])];

test('each parameter of each query is checked, and what is wrong with it is pointed at', async (t) => {
  const system = await startTestSystem(t, { settings: { jwt } });
  const { shop } = system;
  const { sku, customerId } = await shop.furnish(5);
  const orderId = await shop.place({ customerId, sku });
  await shop.waitFinal(orderId);
  await shop.waitFinal(await shop.place({ customerId, sku }));
  await shop.putProduct(newId('another'));

  const { body: description } = await shop.get<ApiDescription>('/openapi.json');
  const cases = wrongQueries(description, (template) => {
    const id = template.includes('/divergences/') ? '0'.repeat(32) : `rebuild-${randomUUID()}`;
    const parameters: Record<string, string> = { orderId, customerId, sku, name: 'orders', id };
    return template.replaceAll(
      /\{(\w+)\}/g,
      (_, name: string) => parameters[name] ?? assert.fail(`${template}: no ${name}`),
    );
  });
  const asked = new Set(cases.map(({ path }) => /\?(\w+)=/.exec(path)?.[1]));
  for (const name of [...Object.keys(wrongValues), ...texts]) assert.ok(asked.has(name), `no query takes ${name}`);
  for (const { get } of Object.values(description.paths)) {
    const queries = (get?.parameters ?? []).filter((one) => one.in === 'query');
    for (const { name } of queries)
      assert.ok(name in wrongValues || texts.includes(name), `what is wrong for ${name}?`);
  }

  const early = '2026-01-01T00:00:00Z';
  const late = '2026-01-01T02:00:00%2B01:00';
  const apart = (path: string, pointer: string): Case => ({
    what: `GET ${path}`,
    method: 'GET',
    path,
    status: 400,
    code: 'invalid-request',
    pointers: [pointer],
  });
  const [ofOrders, ofProducts] = await Promise.all(
    ['/v1/orders', '/v1/products'].map(async (path) => {
      const { body } = await shop.get<{ nextCursor: string }>(`${path}?limit=1`);
      assert.ok(body.nextCursor);
      return body.nextCursor;
    }),
  );
  const elsewhere = [
    `/v1/orders?cursor=${ofProducts}`,
    `/v1/products?cursor=${ofOrders}`,
    `/v1/customers/${customerId}/orders?cursor=${ofOrders}`,
    `/v1/ops/dead-letters?cursor=${ofOrders}`,
    `/v1/orders?cursor=${ofOrders}&sort=total`,
    `/v1/orders?cursor=${ofOrders}&status=completed`,
    `/v1/orders?cursor=${ofOrders}&minTotal=0`,
    `/v1/orders?cursor=${ofOrders}&q=sku`,
    `/v1/products?cursor=${ofProducts}&inStock=false`,
    `/v1/products?cursor=${ofProducts}&sort=-sku`,
    `/v1/orders?cursor=${ofOrders}A`,
  ].map((path): Case => ({ ...apart(path, '/cursor'), code: 'malformed-cursor' }));

  for (const { what, status, code, pointers, path } of [
    ...cases,
    ...elsewhere,
    apart(`/v1/orders?placedFrom=${late}&placedTo=${early}`, '/placedFrom'),
    apart(`/v1/orders?placedFrom=${early}&placedTo=${early}`, '/placedFrom'),
    apart(`/v1/reports/sales?from=${late}&to=${early}`, '/from'),
    apart(`/v1/reports/sales?from=${early}&to=${early}`, '/from'),
    apart(`/v1/orders/${orderId}?version=1&asOf=${early}`, '/asOf'),
  ]) {
    const reply = await shop.get(path);
    const said = `${what}: ${JSON.stringify(reply.body).slice(0, 300)}`;
    assert.deepEqual([reply.status, reply.body.code], [status, code], said);
    assertProblem(reply.body, reply.headers, path);
    const errors = reply.body['errors'] as { pointer: string; detail: string }[];
    assert.deepEqual([...new Set(errors.map(({ pointer }) => pointer))], pointers, said);
    assert.ok(
      errors.every(({ detail }) => detail.length > 0),
      said,
    );
  }
});

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
