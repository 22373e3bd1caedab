import assert from 'node:assert/strict';
import { afterEach, beforeEach, suite, test } from 'node:test';
import { ImportError, Interrupted } from './import-error.ts';
import { MemoryShop, type ShopFault } from './shop.fixture.ts';
import { ShopClient, type ShopRequest } from './shop-client.ts';

suite('a request to the shop', () => {
  let server: MemoryShop;
  let client: ShopClient;
  let stop: AbortController;
  let troubles: (string | null)[];

  beforeEach(async () => {
    server = new MemoryShop();
    await server.listen();
    stop = new AbortController();
    troubles = [];
    client = clientWith({});
  });
  afterEach(async () => {
    client.close();
    await server.close();
  });

  const clientWith = (changed: { url?: string; patienceMs?: number; bearer?: string }): ShopClient =>
    new ShopClient({
      url: new URL(changed.url ?? server.address),
      bearer: changed.bearer,
      connectionsMax: 4,
      patienceMs: changed.patienceMs ?? 20_000,
      stop: stop.signal,
      onTrouble: (trouble) => troubles.push(trouble),
    });
  const customer: ShopRequest = { method: 'PUT', path: '/v1/customers/1', body: { name: 'One' }, idempotencyKey: 'k1' };
  const failing = (...faults: ShopFault[]): void => {
    server.fault = () => faults.shift();
  };

  test('carries key, token and bearer, and returns status and token', async () => {
    client.close();
    client = clientWith({ bearer: 'a.b.c' });
    const answer = await client.send({ ...customer, consistencyToken: 'seen-7' });
    assert.deepEqual([answer.status, answer.consistencyToken], [201, 'seen-1']);
    const { headers } = server.requests[0]!;
    assert.equal(headers['idempotency-key'], 'k1');
    assert.equal(headers['consistency-token'], 'seen-7');
    assert.equal(headers.authorization, 'Bearer a.b.c');
    assert.equal(headers['content-type'], 'application/json');
  });

  for (const fault of [
    'cut-before',
    'cut-after',
    { status: 503, code: 'overloaded', retryAfter: 0 },
    { status: 429, code: 'rate-limited' },
    { status: 500 },
    { status: 502, html: '<h1>Bad gateway</h1>' },
    { status: 409, code: 'idempotency-key-in-flight' },
  ] satisfies ShopFault[]) {
    test(`is repeated under its key after ${JSON.stringify(fault)}, and takes effect once`, async () => {
      failing(fault, fault);
      const answer = await client.send(customer);
      assert.equal(answer.status, 201);
      assert.equal(server.customers.size, 1);
      assert.deepEqual(
        server.requests.map(({ headers }) => headers['idempotency-key']),
        ['k1', 'k1', 'k1'],
      );
      assert.equal(troubles.at(-1), null);
    });
  }

  test('waits as long as Retry-After says', async () => {
    failing({ status: 503, code: 'overloaded', retryAfter: 1 });
    const beganMs = performance.now();
    await client.send(customer);
    assert.ok(performance.now() - beganMs >= 990);
  });

  test('returns a refusal with its code and does not repeat it', async () => {
    failing({ status: 409, code: 'order-exists' });
    const answer = await client.send(customer);
    assert.deepEqual([answer.status, answer.code, answer.detail], [409, 'order-exists', 'because of order-exists']);
    assert.equal(server.requests.length, 1);
  });

  test('repeats a refusal that may pass, for as long as it was told', async () => {
    failing({ status: 422, code: 'unknown-product' }, { status: 422, code: 'unknown-product' });
    assert.equal((await client.send({ ...customer, mayArrive: ['unknown-product'] })).status, 201);
    assert.deepEqual(
      server.requests.map(({ headers }) => headers['idempotency-key']),
      ['k1', 'k1.2', 'k1.3'],
      'the server may keep the refusal under the key that it had',
    );
    failing({ status: 422, code: 'unknown-product' });
    const refused = await client.send({ ...customer, mayArrive: ['unknown-product'], arrivalMsMax: 0 });
    assert.equal(refused.code, 'unknown-product');
  });

  test('gives up after its patience and says how to go on', async () => {
    client.close();
    client = clientWith({ patienceMs: 150 });
    server.fault = () => 'cut-before';
    await assert.rejects(client.send(customer), (error) => {
      assert.ok(error instanceof ImportError);
      assert.match(error.message, /^no success from http:.* \(ECONNRESET\); the same command resumes the import$/);
      return true;
    });
  });

  test('says that nothing listens there while it waits', async () => {
    const { address } = server;
    await server.close();
    client.close();
    client = clientWith({ url: address, patienceMs: 1_500 });
    await assert.rejects(client.send(customer), /ECONNREFUSED/);
    assert.match(troubles[0] ?? '', /^waiting for http:.*: ECONNREFUSED$/);
    await server.listen();
  });

  for (const [what, fault, message] of [
    ['401', { status: 401, code: 'unauthenticated' }, /: not let in: 401 unauthenticated .*--token$/],
    ['403', { status: 403, code: 'forbidden' }, /: not let in: 403 forbidden/],
    [
      'an error page',
      { status: 404, html: '<h1>Not found</h1>' },
      /does not speak the HTTP contract: it answered 404$/,
    ],
    ['a redirect', { status: 302, html: '' }, /does not speak the HTTP contract: it answered 302$/],
  ] satisfies [string, ShopFault, RegExp][]) {
    test(`${what} ends the import at once`, async () => {
      failing(fault);
      await assert.rejects(client.send(customer), message);
      assert.equal(server.requests.length, 1);
    });
  }

  test('a page where JSON was asked for ends the import at once', async () => {
    failing({ status: 200, html: '<h1>Welcome</h1>' });
    await assert.rejects(client.send({ method: 'GET', path: '/v1/orders' }), /does not speak the HTTP contract/);
  });

  test('stops between two tries when asked to', async () => {
    server.fault = () => {
      stop.abort();
      return { status: 503, code: 'overloaded', retryAfter: 5 };
    };
    await assert.rejects(client.send(customer), Interrupted);
    assert.equal(server.requests.length, 1);
  });

  test('a path in the address stays in front', async () => {
    client.close();
    client = clientWith({ url: `${server.address}/shop/` });
    await client.send(customer);
    assert.equal(server.requests[0]!.url.pathname, '/shop/v1/customers/1');
  });
});
