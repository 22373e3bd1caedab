import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import type { CommandRequest } from '#contracts/routes.ts';
import { gatewayFor, jwt } from './gateway.fixture.ts';

type Claims = { readonly [claim: string]: unknown };
const secret = new TextEncoder().encode(jwt.secret);
const soon = () => Math.floor(Date.now() / 1_000) + 60;

function tokenWith(
  claims: Claims,
  { key = secret as never, alg = 'HS256', kid }: { key?: never; alg?: string; kid?: string } = {},
): Promise<string> {
  return new SignJWT({ iss: jwt.issuer, aud: jwt.audience, exp: soon(), ...claims })
    .setProtectedHeader(kid === undefined ? { alg } : { alg, kid })
    .sign(key);
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const customer = { role: 'customer', sub: 'c1' };

test('with a key, callers are who their tokens say', async (t) => {
  const { things, call } = await gatewayFor(t, { jwt });
  assert.equal((await call('GET', '/v1/things', bearer(await tokenWith(customer)))).status, 200);
  assert.deepEqual(things.reached.at(-1)!.caller, { role: 'customer', customerId: 'c1' });
  assert.equal(
    (await call('GET', '/v1/things', { authorization: `bearer  ${await tokenWith({ role: 'operator' })}` })).status,
    200,
  );
  assert.deepEqual(things.reached.at(-1)!.caller, { role: 'operator' });
  await call('POST', '/v1/things/t1/close', bearer(await tokenWith(customer)));
  assert.equal((things.reached.at(-1) as CommandRequest).origin.actor, 'customer:c1');
});

test('a token that was let in before is not when it has ended, also where memory has the answer', async (t) => {
  const { things, call } = await gatewayFor(t, { jwt, customerRequestsPerMinute: 0 });
  things.stored.set('t1', { name: 'a', version: 1 });
  things.isKept = true;
  const headers = bearer(await tokenWith(customer));
  const ask = async (): Promise<number> => (await call('GET', '/v1/things/t1', headers)).status;
  assert.deepEqual([await ask(), await ask()], [200, 200]);
  assert.equal(things.reached.length, 1, 'the second time it is known');
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() + 24 * 3_600_000 });
  assert.equal(await ask(), 401);
});

test('without a usable token nobody gets in', async (t) => {
  const { things, call } = await gatewayFor(t, { jwt });
  const { privateKey } = await generateKeyPair('RS256');
  const none = (text: object) => Buffer.from(JSON.stringify(text)).toString('base64url');
  const valid = await tokenWith(customer);
  const cases: readonly (readonly [string, Record<string, string>, RegExp])[] = [
    ['no header', {}, /no Authorization header/],
    ['another scheme', { authorization: 'Basic YTpi' }, /not `Bearer <JWT>`/],
    ['no token', { authorization: 'Bearer ' }, /not `Bearer <JWT>`/],
    ['no JWT', { authorization: 'Bearer abc' }, /not `Bearer <JWT>`/],
    ['garbage of the right shape', bearer('a.b.c'), /not valid/],
    ['an expired one', bearer(await tokenWith({ ...customer, exp: soon() - 61 })), /expired/],
    ['one that never expires', bearer(await tokenWith({ ...customer, exp: undefined })), /`exp` is missing/],
    ['one that is not valid yet', bearer(await tokenWith({ ...customer, nbf: soon() })), /`nbf`/],
    ['another issuer', bearer(await tokenWith({ ...customer, iss: 'https://evil.test' })), /`iss`/],
    ['another audience', bearer(await tokenWith({ ...customer, aud: 'else' })), /`aud`/],
    [
      'another secret',
      bearer(await tokenWith(customer, { key: new TextEncoder().encode('x'.repeat(40)) as never })),
      /signature/,
    ],
    ['a changed signature', bearer(`${valid.slice(0, -4)}${valid.endsWith('AAAA') ? 'BBBB' : 'AAAA'}`), /signature/],
    [
      'an algorithm of the other kind',
      bearer(await tokenWith(customer, { key: privateKey as never, alg: 'RS256' })),
      /algorithm/,
    ],
    [
      'no signature at all',
      bearer(`${none({ alg: 'none' })}.${none({ ...customer, iss: jwt.issuer, aud: jwt.audience, exp: soon() })}.AA`),
      /algorithm/,
    ],
    ['a customer without id', bearer(await tokenWith({ role: 'customer' })), /`sub`/],
    ['a customer whose id is a number', bearer(await tokenWith({ role: 'customer', sub: 123 })), /`sub`/],
    ['a customer whose id is a list', bearer(await tokenWith({ role: 'customer', sub: ['c1'] as never })), /`sub`/],
    ['an operator with U+0000', bearer(await tokenWith({ role: 'operator', sub: 'a\0b' })), /`sub`/],
    ['a customer with an id that is none', bearer(await tokenWith({ role: 'customer', sub: 'a b\n"' })), /`sub`/],
  ];
  for (const [name, headers, detail] of cases) {
    const answer = await call('GET', '/v1/things', headers);
    assert.deepEqual([answer.status, answer.json.code], [401, 'unauthenticated'], name);
    assert.match(answer.json.detail, detail, name);
    assert.match(answer.headers.get('www-authenticate')!, /^Bearer realm="twofold"/, name);
  }
  assert.deepEqual(things.reached, []);
});

test('roles bound what may be done', async (t) => {
  const { things, call } = await gatewayFor(t, { jwt });
  for (const path of ['/v1/secrets', '/metrics']) {
    const answer = await call('GET', path, bearer(await tokenWith(customer)));
    assert.deepEqual([answer.status, answer.json.code], [403, 'forbidden'], path);
    assert.equal((await call('GET', path)).status, 401, path);
    assert.equal((await call('GET', path, bearer(await tokenWith({ role: 'operator' })))).status, 200, path);
  }
  assert.equal((await call('GET', '/v1/things', bearer(await tokenWith({ role: 'admin', sub: 'x' })))).status, 403);
  assert.equal((await call('GET', '/v1/things', bearer(await tokenWith({ sub: 'x' })))).status, 403);
  assert.equal(things.reached.length, 1);
  for (const path of ['/livez', '/readyz', '/openapi.json', '/docs', '/problems', '/problems/internal'])
    assert.equal((await call('GET', path)).status, 200, path);
});

test('a token that was good is refused once it has expired', async (t) => {
  const { call } = await gatewayFor(t, { jwt });
  const headers = bearer(await tokenWith({ role: 'operator', exp: Math.floor(Date.now() / 1_000) + 2 }));
  assert.equal((await call('GET', '/v1/things', headers)).status, 200);
  let answer = await call('GET', '/v1/things', headers);
  while (answer.status === 200) answer = await call('GET', '/v1/things', headers);
  assert.match(answer.json.detail, /expired/);
});

test('keys of one caller are not those of another', async (t) => {
  const { things, call } = await gatewayFor(t, { jwt });
  const seen: string[] = [];
  for (const claims of [
    customer,
    { role: 'customer', sub: 'c2' },
    { role: 'operator' },
    { role: 'operator', sub: 'ops' },
  ]) {
    const headers = { ...bearer(await tokenWith(claims)), 'idempotency-key': 'k' };
    assert.equal((await call('PUT', `/v1/things/t${seen.length}`, headers, '{"name":"a"}')).status, 201);
    seen.push((things.reached.at(-1) as CommandRequest).idempotency!.caller);
  }
  assert.deepEqual(seen, ['customer:c1', 'customer:c2', 'operator', 'operator:ops']);
});

test('without a key every caller is operator, whatever it sends', async (t) => {
  const { things, call } = await gatewayFor(t);
  assert.equal((await call('GET', '/v1/secrets', { authorization: 'Bearer nonsense' })).status, 200);
  assert.deepEqual(things.reached.at(-1)!.caller, { role: 'operator' });
});

async function keyServer(t: TestContext) {
  const pairs = { RS256: await generateKeyPair('RS256'), ES256: await generateKeyPair('ES256') };
  const keys = await Promise.all(
    Object.entries(pairs).map(async ([alg, { publicKey }]) => ({ ...(await exportJWK(publicKey)), alg, kid: alg })),
  );
  const server = createServer((_request, response) => response.end(JSON.stringify({ keys }))).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return { pairs, jwksUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys` };
}

test('published keys are accepted, beside a secret or alone', async (t) => {
  const { pairs, jwksUrl } = await keyServer(t);
  const signed = (alg: 'RS256' | 'ES256', kid: string = alg) =>
    tokenWith(customer, { key: pairs[alg].privateKey as never, alg, kid });
  const alone = await gatewayFor(t, { jwt: { jwksUrl, issuer: jwt.issuer, audience: jwt.audience } });
  assert.equal((await alone.call('GET', '/v1/things', bearer(await signed('RS256')))).status, 200);
  assert.equal((await alone.call('GET', '/v1/things', bearer(await signed('ES256')))).status, 200);
  const unknown = await alone.call('GET', '/v1/things', bearer(await signed('ES256', 'other')));
  assert.deepEqual([unknown.status, unknown.json.code], [401, 'unauthenticated']);
  assert.equal((await alone.call('GET', '/v1/things', bearer(await tokenWith(customer)))).status, 401);
  const both = await gatewayFor(t, { jwt: { ...jwt, jwksUrl } });
  assert.equal((await both.call('GET', '/v1/things', bearer(await signed('RS256')))).status, 200);
  assert.equal((await both.call('GET', '/v1/things', bearer(await tokenWith(customer)))).status, 200);
});

test('when the published keys cannot be fetched that is said, and nobody gets in', async (t) => {
  const { pairs, jwksUrl } = await keyServer(t);
  const { call, things } = await gatewayFor(t, {
    jwt: { jwksUrl: jwksUrl.replace(/:\d+/, ':1'), issuer: jwt.issuer, audience: jwt.audience },
  });
  const answer = await call(
    'GET',
    '/v1/things',
    bearer(await tokenWith(customer, { key: pairs.RS256.privateKey as never, alg: 'RS256', kid: 'RS256' })),
  );
  assert.deepEqual(
    [answer.status, answer.json.code, answer.headers.get('retry-after')],
    [503, 'token-keys-unavailable', '5'],
  );
  assert.deepEqual(things.reached, []);
});

test('a customer has so many requests a minute, and is told with every answer', async (t) => {
  const { call, things } = await gatewayFor(t, { jwt, customerRequestsPerMinute: 3 });
  const headers = bearer(await tokenWith(customer));
  for (const [path, status, left] of [
    ['/v1/things', 200, 2],
    ['/v1/things/none', 404, 1],
    ['/v1/secrets', 403, 0],
  ] as const) {
    const answer = await call('GET', path, headers);
    assert.equal(answer.status, status);
    assert.equal(answer.headers.get('ratelimit-policy'), '"customer";q=3;w=60');
    assert.match(answer.headers.get('ratelimit')!, new RegExp(`^"customer";r=${left};t=\\d+$`));
  }
  const over = await call('GET', '/v1/things', headers);
  assert.deepEqual([over.status, over.json.code], [429, 'rate-limited']);
  assert.match(over.headers.get('retry-after')!, /^[1-9]\d?$/);
  assert.match(over.headers.get('ratelimit')!, /^"customer";r=0;t=\d+$/);
  assert.equal(things.reached.length, 2);
  const other = await call('GET', '/v1/things', bearer(await tokenWith({ role: 'customer', sub: 'c2' })));
  assert.equal(other.status, 200);
  const operator = await call('GET', '/v1/things', bearer(await tokenWith({ role: 'operator' })));
  assert.deepEqual([operator.status, operator.headers.get('ratelimit')], [200, null]);
});

test('operators may be limited too', async (t) => {
  const { call } = await gatewayFor(t, { operatorRequestsPerMinute: 1 });
  assert.equal((await call('GET', '/v1/things')).headers.get('ratelimit-policy'), '"operator";q=1;w=60');
  assert.equal((await call('GET', '/v1/things')).status, 429);
});
