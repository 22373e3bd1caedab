import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { problems, type ProblemCode } from '#contracts/problems.ts';
import { type Answer, type Body, gatewayFor } from './gateway.fixture.ts';

function isProblem(answer: Answer, status: number, code: ProblemCode): void {
  assert.equal(answer.status, status, answer.text);
  assert.equal(answer.headers.get('content-type'), 'application/problem+json');
  assert.equal(answer.json.code, code);
  assert.equal(answer.json.status, status);
  assert.equal(answer.json.type, `/problems/${code}`);
  assert.equal(answer.json.title, problems[code].title);
  assert.match(answer.json.detail, /\w/);
  assert.match(answer.json.traceId, /^[0-9a-f]{32}$/);
  assert.match(answer.headers.get('x-request-id')!, /./);
}

const mebibyte = 1_048_576;
const padded = (bytes: number): string => {
  const body = JSON.stringify({ name: 'big' });
  return body + ' '.repeat(bytes - body.length);
};

type Refused = {
  readonly name: string;
  readonly request: readonly [method: string, path: string, headers?: Record<string, string>, body?: Body];
  readonly status: number;
  readonly code: ProblemCode;
  /** Of `errors`, in any order. */
  readonly pointers?: readonly string[];
};

const put = ['PUT', '/v1/things/t1'] as const;
const refused: readonly Refused[] = [
  { name: 'an unknown address', request: ['GET', '/v1/nothing'], status: 404, code: 'not-found' },
  {
    name: 'an unknown address with a body that is not JSON',
    request: ['POST', '/v1/nothing', {}, '{'],
    status: 404,
    code: 'not-found',
  },
  { name: 'another method', request: ['PATCH', '/v1/things/t1', {}, '{}'], status: 405, code: 'method-not-allowed' },
  {
    name: 'a method that the framework does not know',
    request: ['PROPFIND', '/v1/things/t1'],
    status: 405,
    code: 'method-not-allowed',
  },
  { name: 'OPTIONS', request: ['OPTIONS', '/v1/things'], status: 405, code: 'method-not-allowed' },
  {
    name: 'a path with bad percent-encoding',
    request: ['GET', '/v1/things/%ZZ'],
    status: 400,
    code: 'malformed-request',
  },
  { name: 'a path that is not UTF-8', request: ['GET', '/v1/things/%FF'], status: 400, code: 'malformed-request' },
  {
    name: 'a query with bad percent-encoding',
    request: ['GET', '/v1/things?name=%E0%A4%A'],
    status: 400,
    code: 'malformed-request',
    pointers: ['/name'],
  },
  {
    name: 'a query with U+0000',
    request: ['GET', '/v1/things?limit=1&name=%00'],
    status: 400,
    code: 'malformed-request',
    pointers: ['/name'],
  },
  {
    name: 'an id with other characters',
    request: ['GET', '/v1/things/a%2Fb'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/thingId'],
  },
  {
    name: 'an id of 65 characters',
    request: ['GET', `/v1/things/${'a'.repeat(65)}`],
    status: 400,
    code: 'invalid-request',
    pointers: ['/thingId'],
  },
  {
    name: 'an id of 5,000 characters',
    request: ['GET', `/v1/things/${'a'.repeat(5_000)}`],
    status: 400,
    code: 'invalid-request',
    pointers: ['/thingId'],
  },
  {
    name: 'an unknown query parameter',
    request: ['GET', '/v1/things?colour=red'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/colour'],
  },
  {
    name: 'a query parameter where none is known',
    request: ['GET', '/v1/things/t1?colour=red'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/colour'],
  },
  {
    name: 'a query parameter of a command',
    request: ['PUT', '/v1/things/t1?force=true', {}, '{"name":"a"}'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/force'],
  },
  {
    name: 'a limit of 0',
    request: ['GET', '/v1/things?limit=0'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/limit'],
  },
  {
    name: 'a limit of 101',
    request: ['GET', '/v1/things?limit=101'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/limit'],
  },
  {
    name: 'a limit that is no number',
    request: ['GET', '/v1/things?limit=ten'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/limit'],
  },
  {
    name: 'a limit in hexadecimal',
    request: ['GET', '/v1/things?limit=0x10'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/limit'],
  },
  {
    name: 'an empty limit',
    request: ['GET', '/v1/things?limit='],
    status: 400,
    code: 'invalid-request',
    pointers: ['/limit'],
  },
  {
    name: 'a limit sent twice',
    request: ['GET', '/v1/things?limit=1&limit=2'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/limit'],
  },
  {
    name: 'a truth that is neither true nor false',
    request: ['GET', '/v1/things?inStock=1'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/inStock'],
  },
  {
    name: 'a day that does not exist',
    request: ['GET', '/v1/things?since=2026-02-30T00:00:00Z'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/since'],
  },
  {
    name: 'a + that the query made a space',
    request: ['GET', '/v1/things?since=2026-02-01T00:00:00+01:00'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/since'],
  },
  {
    name: 'several faults in a query',
    request: ['GET', '/v1/things?limit=0&x=1&inStock=no'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/limit', '/x', '/inStock'],
  },
  { name: 'a missing field', request: [...put, {}, '{}'], status: 400, code: 'invalid-request', pointers: ['/name'] },
  {
    name: 'an unknown field',
    request: [...put, {}, '{"name":"a","x/y~z":1}'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/x~1y~0z'],
  },
  {
    name: 'a number as text',
    request: [...put, {}, '{"name":"a","size":"5"}'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/size'],
  },
  {
    name: 'text as a number',
    request: [...put, {}, '{"name":5}'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/name'],
  },
  {
    name: 'null for an optional field',
    request: [...put, {}, '{"name":"a","size":null}'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/size'],
  },
  {
    name: 'a fraction for an integer',
    request: [...put, {}, '{"name":"a","size":1.5}'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/size'],
  },
  {
    name: 'a number beyond every number',
    request: [...put, {}, '{"name":"a","size":1e999}'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/size'],
  },
  {
    name: 'a word that is not on the list',
    request: [...put, {}, '{"name":"a","kind":"huge"}'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/kind'],
  },
  {
    name: 'a time without zone',
    request: [...put, {}, '{"name":"a","at":"2026-01-01T00:00:00"}'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/at'],
  },
  {
    name: 'an address without domain',
    request: [...put, {}, '{"name":"a","email":"ada@"}'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/email'],
  },
  {
    name: 'a fault deep inside',
    request: [...put, {}, '{"name":"a","parts":[{"a/b":1},{"a/b":"x"}]}'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/parts/1/a~1b'],
  },
  {
    name: 'several faults at once',
    request: [...put, {}, '{"size":0,"x":1}'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/name', '/size', '/x'],
  },
  {
    name: 'a body that is an array',
    request: [...put, {}, '[]'],
    status: 400,
    code: 'invalid-request',
    pointers: [''],
  },
  { name: 'a body that is null', request: [...put, {}, 'null'], status: 400, code: 'invalid-request', pointers: [''] },
  {
    name: 'a body that is text',
    request: [...put, {}, '"name"'],
    status: 400,
    code: 'invalid-request',
    pointers: [''],
  },
  {
    name: 'no body where fields are required',
    request: [...put],
    status: 400,
    code: 'invalid-request',
    pointers: ['/name'],
  },
  {
    name: 'text with U+0000',
    request: [...put, {}, '{"name":"a\\u0000b"}'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/name'],
  },
  {
    name: 'half a surrogate pair',
    request: [...put, {}, '{"name":"a\\uD83D"}'],
    status: 400,
    code: 'invalid-request',
    pointers: ['/name'],
  },
  { name: 'a body that breaks off', request: [...put, {}, '{"name":'], status: 400, code: 'malformed-json' },
  { name: 'a body of blanks', request: [...put, {}, '   '], status: 400, code: 'malformed-json' },
  {
    name: 'a body that is not UTF-8',
    request: [...put, {}, new Uint8Array(Buffer.from('{"name":"\xff"}', 'latin1'))],
    status: 400,
    code: 'malformed-json',
  },
  {
    name: '__proto__ in a body',
    request: [...put, {}, '{"name":"a","__proto__":{"x":1}}'],
    status: 400,
    code: 'malformed-json',
  },
  {
    name: 'constructor.prototype in a body',
    request: [...put, {}, '{"name":"a","constructor":{"prototype":{}}}'],
    status: 400,
    code: 'malformed-json',
  },
  {
    name: 'a body 10,000 arrays deep',
    request: [...put, {}, '['.repeat(10_000) + ']'.repeat(10_000)],
    status: 400,
    code: 'invalid-request',
    pointers: [''],
  },
  {
    name: 'a field 10,000 objects deep',
    request: [...put, {}, `{"name":${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}}`],
    status: 400,
    code: 'invalid-request',
    pointers: ['/name'],
  },
  {
    name: 'half a MiB of open brackets',
    request: [...put, {}, '['.repeat(mebibyte / 2)],
    status: 400,
    code: 'malformed-json',
  },
  {
    name: 'a body of 1 MiB and one byte',
    request: [...put, {}, padded(mebibyte + 1)],
    status: 413,
    code: 'body-too-large',
  },
  { name: 'a body of 6 MiB', request: [...put, {}, padded(6 * mebibyte)], status: 413, code: 'body-too-large' },
  {
    name: 'text',
    request: [...put, { 'content-type': 'text/plain' }, '{"name":"a"}'],
    status: 415,
    code: 'unsupported-media-type',
  },
  {
    name: 'a form',
    request: [...put, { 'content-type': 'application/x-www-form-urlencoded' }, 'name=a'],
    status: 415,
    code: 'unsupported-media-type',
  },
  {
    name: 'another kind of JSON',
    request: [...put, { 'content-type': 'application/merge-patch+json' }, '{"name":"a"}'],
    status: 415,
    code: 'unsupported-media-type',
  },
  {
    name: 'JSON in another character set',
    request: [...put, { 'content-type': 'application/json; charset=latin1' }, '{"name":"a"}'],
    status: 415,
    code: 'unsupported-media-type',
  },
  {
    name: 'JSON in another character set, said last',
    request: [...put, { 'content-type': 'application/json; v=1; charset="utf-16"' }, '{"name":"a"}'],
    status: 415,
    code: 'unsupported-media-type',
  },
  {
    name: 'a content type that is none',
    request: [...put, { 'content-type': 'json' }, '{"name":"a"}'],
    status: 415,
    code: 'unsupported-media-type',
  },
  {
    name: 'a blank before a tab trick in the content type',
    request: [...put, { 'content-type': 'application/json x' }, '{"name":"a"}'],
    status: 415,
    code: 'unsupported-media-type',
  },
  {
    name: 'a compressed body',
    request: [...put, { 'content-encoding': 'gzip' }, '{"name":"a"}'],
    status: 415,
    code: 'unsupported-media-type',
  },
  {
    name: 'a body without content type',
    request: [...put, { 'content-type': '' }, '{"name":"a"}'],
    status: 415,
    code: 'unsupported-media-type',
  },
  {
    name: 'an empty Idempotency-Key',
    request: [...put, { 'idempotency-key': '' }, '{"name":"a"}'],
    status: 400,
    code: 'malformed-idempotency-key',
  },
  {
    name: 'an Idempotency-Key of 256 characters',
    request: [...put, { 'idempotency-key': 'k'.repeat(256) }, '{"name":"a"}'],
    status: 400,
    code: 'malformed-idempotency-key',
  },
  {
    name: 'an Idempotency-Key that is not ASCII',
    request: [...put, { 'idempotency-key': 'schlüssel' }, '{"name":"a"}'],
    status: 400,
    code: 'malformed-idempotency-key',
  },
  {
    name: 'an If-Match without quotes',
    request: [...put, { 'if-match': '3' }, '{"name":"a"}'],
    status: 400,
    code: 'malformed-etag',
  },
  {
    name: 'an If-Match with half a list',
    request: [...put, { 'if-match': '"1" "2"' }, '{"name":"a"}'],
    status: 400,
    code: 'malformed-etag',
  },
  {
    name: 'an empty If-Match',
    request: [...put, { 'if-match': '' }, '{"name":"a"}'],
    status: 400,
    code: 'malformed-etag',
  },
  {
    name: 'an If-None-Match without quotes',
    request: ['GET', '/v1/things/t1', { 'if-none-match': '3' }],
    status: 400,
    code: 'malformed-etag',
  },
  {
    name: 'a Consistency-Token of ours that was changed',
    request: ['GET', '/v1/things/t1', { 'consistency-token': 'MTtvcmRlcmluZy4wPTUx!' }],
    status: 400,
    code: 'malformed-consistency-token',
  },
  {
    name: 'an empty Consistency-Token',
    request: ['GET', '/v1/things/t1', { 'consistency-token': '' }],
    status: 400,
    code: 'malformed-consistency-token',
  },
  {
    name: 'a Consistency-Token of a command that is none',
    request: [...put, { 'consistency-token': 'latest' }, '{"name":"a"}'],
    status: 400,
    code: 'malformed-consistency-token',
  },
];

test('what is refused is refused with a problem, before any handler', async (t) => {
  const { things, call } = await gatewayFor(t);
  for (const { name, request, status, code, pointers } of refused) {
    await t.test(name, async () => {
      const answer = await call(...request);
      isProblem(answer, status, code);
      assert.equal(answer.json.instance, request[1].split('?')[0]);
      assert.deepEqual(
        answer.json.errors?.map((error: { pointer: string }) => error.pointer).sort(),
        pointers?.toSorted(),
      );
      for (const error of answer.json.errors ?? []) assert.match(error.detail, /\w/);
    });
  }
  assert.deepEqual(things.reached, []);
});

test('what is right comes through as it was sent', async (t) => {
  const { things, call } = await gatewayFor(t);
  const body = JSON.stringify({
    name: 'Grüße 👋 \u2028',
    size: 5,
    at: '2024-02-29T23:59:59.5+05:30',
    email: 'ada@example.com',
  });
  for (const type of [
    'application/json',
    'application/json; charset=utf-8',
    'Application/JSON;charset="UTF-8"',
    'application/json; charset=utf8; v=1; profile="a; charset=latin1"',
  ]) {
    assert.ok((await call('PUT', '/v1/things/t1', { 'content-type': type }, body)).status < 300, type);
    assert.deepEqual((things.reached.at(-1) as { body: unknown }).body, JSON.parse(body));
  }
  assert.equal((await call('PUT', '/v1/things/t2', {}, padded(mebibyte))).status, 201);
  assert.equal(
    (await call('GET', '/v1/things?inStock=true&limit=7&since=2026-01-01T00:00:00%2B01:00')).text,
    '{"inStock":true,"limit":7,"since":"2026-01-01T00:00:00+01:00"}',
  );
  assert.equal((await call('GET', '/v1/things')).text, '{"limit":20}');
});

test('a command whose fields are all optional needs no body', async (t) => {
  const { things, call, exchange } = await gatewayFor(t);
  assert.equal((await call('POST', '/v1/things/t1/close')).status, 200);
  assert.equal((await call('POST', '/v1/things/t1/close', { 'content-type': 'application/json' })).status, 200);
  assert.equal((await call('DELETE', '/v1/things/t1')).status, 200);
  assert.match(
    await exchange('POST /v1/things/t1/close HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'),
    /^HTTP\/1.1 200 /,
  );
  for (const request of things.reached) assert.deepEqual((request as { body: unknown }).body, {});
  assert.equal(things.reached.length, 4);
});

test('of a large body only the first fault is looked for, and never more than 20 are told', async (t) => {
  const { call } = await gatewayFor(t);
  const bodyWith = (parts: number) =>
    JSON.stringify({ name: 'a', parts: Array.from({ length: parts }, () => ({ 'a/b': 'x' })) });
  assert.equal((await call('PUT', '/v1/things/t1', {}, bodyWith(100))).json.errors.length, 20);
  assert.equal((await call('PUT', '/v1/things/t1', {}, bodyWith(9_000))).json.errors.length, 1);
});

test('405 says what is allowed', async (t) => {
  const { call } = await gatewayFor(t);
  assert.equal((await call('PATCH', '/v1/things/t1')).headers.get('allow'), 'DELETE, GET, HEAD, PUT');
  assert.equal((await call('POST', '/livez')).headers.get('allow'), 'GET, HEAD');
});

test('HEAD answers like GET, without the body', async (t) => {
  const { call } = await gatewayFor(t);
  await call('PUT', '/v1/things/t1', {}, '{"name":"a"}');
  const get = await call('GET', '/v1/things/t1');
  const head = await call('HEAD', '/v1/things/t1');
  assert.deepEqual([head.status, head.text], [200, '']);
  for (const name of ['etag', 'content-length', 'content-type', 'consistency-token'])
    assert.equal(head.headers.get(name), get.headers.get(name));
  assert.equal((await call('HEAD', '/v1/things/unknown')).status, 404);
});

test('a refusal of a service is a problem with its members', async (t) => {
  const { call } = await gatewayFor(t);
  const answer = await call('PUT', '/v1/things/t1', {}, '{"name":"forbidden"}');
  isProblem(answer, 422, 'unknown-product');
  assert.deepEqual([answer.json.detail, answer.json.skus], ['Not that one.', ['A']]);
  isProblem(await call('GET', '/v1/things/none'), 404, 'product-not-found');
});

test('a failure tells the client nothing but where to look, and the log everything', async (t) => {
  const { call, logged } = await gatewayFor(t);
  for (const [path, body] of [
    ['/v1/broken', undefined],
    ['/v1/fails', '{"how":"throws"}'],
    ['/v1/fails', '{"how":"unregistered"}'],
  ] as const) {
    logged.length = 0;
    const answer = await call(body === undefined ? 'GET' : 'POST', path, {}, body);
    isProblem(answer, 500, 'internal');
    assert.doesNotMatch(answer.text, /hunter2|no-such-code|\.ts:/);
    assert.match(logged.join(''), new RegExp(`"traceId":"${answer.json.traceId}"`));
  }
  const unavailable = await call('POST', '/v1/fails', {}, '{"how":"log-unavailable"}');
  isProblem(unavailable, 503, 'log-unavailable');
  assert.equal(unavailable.headers.get('retry-after'), '1');
  assert.doesNotMatch(unavailable.text, /secret/);
});

test('what the HTTP parser cannot read is answered with a problem too', async (t) => {
  const { exchange, things } = await gatewayFor(t);
  const cases = [
    ['nonsense', 'HELLO\r\n\r\n', 400, 'malformed-request'],
    ['a bad header', 'GET /v1/things HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n', 400, 'malformed-request'],
    ['no Host', 'GET /v1/things HTTP/1.1\r\nConnection: close\r\n\r\n', 400, 'malformed-request'],
    [
      'two lengths',
      'POST /v1/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}',
      400,
      'malformed-request',
    ],
    [
      'headers of 20 KiB',
      `GET /v1/things HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_480)}\r\n\r\n`,
      431,
      'headers-too-large',
    ],
  ] as const;
  for (const [name, bytes, status, code] of cases) {
    const [head = '', body = ''] = (await exchange(bytes)).split('\r\n\r\n');
    assert.match(head, new RegExp(`^HTTP/1.1 ${status} `), name);
    assert.match(head, /content-type: application\/problem\+json/i, name);
    assert.equal(JSON.parse(body).code, code, name);
  }
  assert.deepEqual(things.reached, []);
});

test('a request that does not arrive in time is answered with 408', async (t) => {
  const { exchange, things } = await gatewayFor(t, { requestTimeoutMs: 100 });
  const answer = await exchange(
    'PUT /v1/things/t1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{"name"',
  );
  assert.match(answer, /^HTTP\/1.1 408 /);
  assert.equal(JSON.parse(answer.split('\r\n\r\n')[1]!).code, 'request-timeout');
  assert.deepEqual(things.reached, []);
});

test('after a body that is too large the connection is good for the next request', async (t) => {
  const { exchange } = await gatewayFor(t);
  const large = `PUT /v1/things/t1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${2 * mebibyte}\r\n\r\n`;
  const next = 'GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
  const answers = await exchange(large + ' '.repeat(2 * mebibyte) + next);
  assert.match(answers, /^HTTP\/1.1 413 [\s\S]*HTTP\/1.1 200 /);
});

test('beyond so many requests under way the next is turned away at once', async (t) => {
  const { things, call } = await gatewayFor(t, { queuedRequestsMax: 1 });
  const first = call('POST', '/v1/slow', {}, '{}');
  await things.waited;
  const second = await call('GET', '/v1/things');
  isProblem(second, 503, 'overloaded');
  assert.equal(second.headers.get('retry-after'), '1');
  assert.equal((await call('GET', '/livez')).status, 200);
  assert.equal((await call('GET', '/metrics')).status, 200);
  assert.equal(things.reached.length, 1);
  assert.equal((await call('GET', '/v1/ops/things')).status, 200, 'operators look after the house');
  things.open();
  assert.equal((await first).status, 200);
  assert.equal((await call('GET', '/v1/things')).status, 200);
});

test('a client that goes away leaves room for the next', async (t) => {
  const { gateway, things, call } = await gatewayFor(t, { queuedRequestsMax: 1 });
  const gone = new AbortController();
  const first = fetch(`${gateway.address}/v1/slow`, { method: 'POST', signal: gone.signal });
  await things.waited;
  assert.equal((await call('GET', '/v1/things')).status, 503);
  gone.abort();
  await assert.rejects(first);
  while ((await call('GET', '/v1/things')).status === 503);
  things.open();
});

test('stop lets requests under way finish and closes kept connections', async (t) => {
  const { gateway, things, call } = await gatewayFor(t);
  const underWay = call('POST', '/v1/slow', {}, '{}');
  await things.waited;
  const stopped = gateway.stop();
  things.open();
  assert.equal((await underWay).status, 200);
  await stopped;
  await assert.rejects(call('GET', '/livez'));
});

test('a request on a busy connection is still served while the server closes', async (t) => {
  const { gateway, things } = await gatewayFor(t);
  const { hostname, port } = new URL(gateway.address);
  const socket = connect(Number(port), hostname);
  socket.write('POST /v1/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
  await things.waited;
  const stopped = gateway.stop();
  socket.write(
    'PUT /v1/things/late HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"name":"a"}',
  );
  while (!things.stored.has('late')) await setImmediate();
  things.open();
  assert.match(await text(socket), /^HTTP\/1.1 200 [\s\S]*HTTP\/1.1 201 /);
  await stopped;
});

test('stop does not wait for ever', async (t) => {
  const { gateway, things, call } = await gatewayFor(t, { stopTimeoutMs: 50 });
  const underWay = assert.rejects(call('POST', '/v1/slow', {}, '{}'));
  await things.waited;
  await gateway.stop();
  await underWay;
  things.open();
});

test('health is there for everybody, with reasons', async (t) => {
  const { call } = await gatewayFor(t, {
    readiness: async () => ({ ready: false, reasons: ['the read model is being built'], details: { lag: 7 } }),
  });
  assert.deepEqual((await call('GET', '/livez')).json, { status: 'alive' });
  const ready = await call('GET', '/readyz');
  assert.deepEqual(
    [ready.status, ready.json],
    [503, { ready: false, reasons: ['the read model is being built'], details: { lag: 7 } }],
  );
  const metrics = await call('GET', '/metrics');
  assert.deepEqual(
    [metrics.text, metrics.headers.get('content-type')],
    ['things_total 1\n', 'text/plain; version=0.0.4; charset=utf-8'],
  );
});

test('a readiness that cannot be told is a failure, not ready', async (t) => {
  const { call } = await gatewayFor(t, { readiness: () => Promise.reject(new Error('down')) });
  isProblem(await call('GET', '/readyz'), 500, 'internal');
});

test('every problem has a page for people and one for programs', async (t) => {
  const { call } = await gatewayFor(t);
  const all = await call('GET', '/problems');
  assert.equal(all.json.items.length, Object.keys(problems).length);
  for (const code of Object.keys(problems)) {
    assert.equal((await call('GET', `/problems/${code}`)).json.code, code);
    const page = await call('GET', `/problems/${code}`, { accept: 'text/html,*/*;q=0.8' });
    assert.match(page.headers.get('content-type')!, /^text\/html/);
    assert.match(page.text, new RegExp(`<code>${code}</code>`));
  }
  isProblem(await call('GET', '/problems/no-such'), 404, 'not-found');
});

test('the documentation is served with what its policy lets it load', async (t) => {
  const { call } = await gatewayFor(t);
  const page = await call('GET', '/docs');
  assert.equal(page.status, 200);
  const policy = page.headers.get('content-security-policy')!;
  assert.match(policy, /default-src 'self'/);
  assert.doesNotMatch(policy, /upgrade-insecure-requests/);
  for (const match of page.text.matchAll(/(?:src|href)="([^"]+)"/g))
    assert.equal((await call('GET', String(match[1]))).status, 200);
  assert.doesNotMatch(page.text, /<script(?![^>]* src=)/);
  isProblem(await call('GET', '/docs/static/none.js'), 404, 'not-found');
});

test('X-Request-Id comes back, or is made', async (t) => {
  const { call, things } = await gatewayFor(t);
  assert.equal((await call('GET', '/v1/things', { 'x-request-id': 'abc-123' })).headers.get('x-request-id'), 'abc-123');
  for (const bad of ['a b', '<script>', 'x'.repeat(129)]) {
    assert.match(
      (await call('GET', '/v1/things', { 'x-request-id': bad })).headers.get('x-request-id')!,
      /^[0-9a-f]{8}-[0-9a-f]{4}-7/,
    );
  }
  await call('POST', '/v1/things/t1/close', { 'x-request-id': 'cause-1' });
  assert.equal((things.reached.at(-1) as unknown as { origin: { causationId: string } }).origin.causationId, 'cause-1');
});

test('a trace goes on through the command and into its problems', async (t) => {
  const { call, things } = await gatewayFor(t);
  const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
  await call('POST', '/v1/things/t1/close', { traceparent: `00-${traceId}-00f067aa0ba902b7-01` });
  const { origin } = things.reached.at(-1) as unknown as {
    origin: { correlationId: string; traceparent: string; actor: string };
  };
  assert.equal(origin.correlationId, traceId);
  assert.match(origin.traceparent, new RegExp(`^00-${traceId}-(?!00f067aa0ba902b7)[0-9a-f]{16}-01$`));
  assert.equal(origin.actor, 'operator');
  assert.equal(
    (await call('GET', '/v1/nothing', { traceparent: `00-${traceId}-00f067aa0ba902b7-01` })).json.traceId,
    traceId,
  );
  for (const bad of [
    `00-${'0'.repeat(32)}-00f067aa0ba902b7-01`,
    `00-${traceId}-${'0'.repeat(16)}-01`,
    `ff-${traceId}-00f067aa0ba902b7-01`,
    `00-${traceId}-00f067aa0ba902b7-01-x`,
    'x',
  ]) {
    assert.notEqual((await call('GET', '/v1/nothing', { traceparent: bad })).json.traceId, traceId, bad);
  }
});

test('answers carry what keeps browsers from guessing', async (t) => {
  const { call } = await gatewayFor(t);
  for (const path of ['/v1/things', '/v1/nothing', '/livez', '/docs', '/problems']) {
    const { headers } = await call('GET', path);
    assert.equal(headers.get('x-content-type-options'), 'nosniff', path);
    assert.match(headers.get('content-security-policy')!, /frame-ancestors 'none'/, path);
  }
});
