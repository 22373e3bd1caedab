import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeToken, encodeToken } from '#cqrs/consistency-token.ts';
import type { CommandRequest } from '#contracts/routes.ts';
import { gatewayFor } from './gateway.fixture.ts';

const lastCommand = (reached: readonly unknown[]) => reached.at(-1) as CommandRequest;

test('a command answers with its status, location, entity tag and token', async (t) => {
  const { call } = await gatewayFor(t);
  const answer = await call('PUT', '/v1/things/t1', {}, '{"name":"a"}');
  assert.deepEqual([answer.status, answer.json], [201, { thingId: 't1', version: 1 }]);
  assert.equal(answer.headers.get('location'), '/v1/things/t1');
  assert.equal(answer.headers.get('etag'), '"1"');
  assert.deepEqual(decodeToken(answer.headers.get('consistency-token')!), { 'things.0': 1 });
  assert.equal(answer.headers.get('cache-control'), 'private, no-cache');
  assert.equal(answer.headers.get('idempotent-replayed'), null);
});

test('the same key with the same request gets the first answer again, status and body', async (t) => {
  const { things, call } = await gatewayFor(t);
  const key = { 'idempotency-key': ' order 66~' };
  const first = await call('PUT', '/v1/things/t1', key, '{"name":"a","size":5}');
  const again = await call('PUT', '/v1/things/t1', key, '{ "size": 5, "name": "a" }');
  assert.deepEqual([again.status, again.text], [first.status, first.text]);
  assert.equal(again.headers.get('idempotent-replayed'), 'true');
  assert.equal(again.headers.get('etag'), '"1"');
  assert.equal(again.headers.get('location'), '/v1/things/t1');
  assert.equal(things.stored.get('t1')!.version, 1);
});

test('a refusal under a key comes again as it was, trace included', async (t) => {
  const { call } = await gatewayFor(t);
  const key = { 'idempotency-key': 'k' };
  const first = await call('PUT', '/v1/things/t1', key, '{"name":"forbidden"}');
  const again = await call('PUT', '/v1/things/t1', key, '{"name":"forbidden"}');
  assert.deepEqual([again.status, again.text], [422, first.text]);
  assert.equal(first.headers.get('idempotent-replayed'), null);
  assert.equal(again.headers.get('idempotent-replayed'), 'true');
});

test('a used key is refused for any other request', async (t) => {
  const { things, call } = await gatewayFor(t);
  const key = { 'idempotency-key': 'k' };
  await call('PUT', '/v1/things/t1', key, '{"name":"a"}');
  for (const [method, path, body] of [
    ['PUT', '/v1/things/t1', '{"name":"b"}'],
    ['PUT', '/v1/things/t2', '{"name":"a"}'],
    ['DELETE', '/v1/things/t1', undefined],
  ] as const) {
    const answer = await call(method, path, key, body);
    assert.deepEqual([answer.status, answer.json.code], [422, 'idempotency-key-reused']);
  }
  assert.equal(things.reached.length, 1);
});

test('while the first request with a key is under way, a second is told so', async (t) => {
  const { things, call } = await gatewayFor(t);
  const key = { 'idempotency-key': 'k' };
  const first = call('POST', '/v1/slow', key, '{"a":1}');
  await things.waited;
  const same = await call('POST', '/v1/slow', key, '{"a":1}');
  assert.deepEqual(
    [same.status, same.json.code, same.headers.get('retry-after')],
    [409, 'idempotency-key-in-flight', '1'],
  );
  const other = await call('POST', '/v1/slow', key, '{"a":2}');
  assert.deepEqual([other.status, other.json.code], [422, 'idempotency-key-reused']);
  assert.equal(things.reached.length, 1);
  things.open();
  assert.equal((await first).status, 200);
  assert.equal((await call('POST', '/v1/slow', key, '{"a":1}')).status, 200);
});

test('of many requests at once with one key exactly one gets through', async (t) => {
  const { things, call } = await gatewayFor(t);
  const requests = Array.from({ length: 20 }, () => call('POST', '/v1/slow', { 'idempotency-key': 'k' }, '{}'));
  await things.waited;
  const refusedFirst = await Promise.race(requests);
  assert.equal(refusedFirst.status, 409);
  things.open();
  await Promise.all(requests);
  // The others came while it waited, or after it had been answered; never beside it.
  const statuses = (await Promise.all(requests)).map(({ status }) => status);
  assert.equal(statuses.filter((status) => status === 200).length, things.reached.length);
});

test('what failed validation or went wrong does not use up its key', async (t) => {
  const { call } = await gatewayFor(t);
  const key = { 'idempotency-key': 'k' };
  assert.equal((await call('PUT', '/v1/things/t1', key, '{"nome":"a"}')).status, 400);
  assert.equal((await call('POST', '/v1/fails', key, '{"how":"throws"}')).status, 500);
  assert.equal((await call('PUT', '/v1/things/t1', { ...key, 'if-match': '"9"' }, '{"name":"a"}')).status, 412);
  assert.equal((await call('PUT', '/v1/things/t1', key, '{"name":"a"}')).status, 201);
});

test('a key on a GET means nothing', async (t) => {
  const { call } = await gatewayFor(t);
  assert.equal((await call('GET', '/v1/things', { 'idempotency-key': 'k'.repeat(300) })).status, 200);
});

test('If-Match lets through what is current and refuses the rest', async (t) => {
  const { things, call } = await gatewayFor(t);
  await call('PUT', '/v1/things/t1', {}, '{"name":"a"}');
  for (const header of ['"2"', '"2.1"', 'W/"1"', '"one"', '"01"', '""', '"1.x"', '"7.1"']) {
    const answer = await call('PUT', '/v1/things/t1', { 'if-match': header }, '{"name":"b"}');
    assert.deepEqual(
      [answer.status, answer.json.code, answer.json.currentVersion],
      [412, 'version-mismatch', 1],
      header,
    );
  }
  assert.equal((await call('PUT', '/v1/things/t1', { 'if-match': '"9", "1.4"' }, '{"name":"b"}')).status, 200);
  assert.equal((await call('PUT', '/v1/things/t1', { 'if-match': '*' }, '{"name":"c"}')).status, 200);
  assert.equal(lastCommand(things.reached).ifMatch, 'any');
  const absent = await call('PUT', '/v1/things/t2', { 'if-match': '*' }, '{"name":"a"}');
  assert.deepEqual([absent.status, absent.json.currentVersion], [412, 0]);
});

test('a route may compare the second number of a tag', async (t) => {
  const { things, call } = await gatewayFor(t);
  await call('POST', '/v1/things/t1/stock', { 'if-match': '"3.17", "5"' }, '{}');
  assert.deepEqual(lastCommand(things.reached).ifMatch, [17, 5]);
});

test('a command waits for its token, and its answer includes it', async (t) => {
  const { things, call } = await gatewayFor(t);
  const token = encodeToken({ 'things.0': 1, 'other.0': 9 });
  const waiting = call('POST', '/v1/things/t1/close', { 'consistency-token': token, prefer: 'wait=5' });
  const behind = await call('POST', '/v1/things/t1/close', { 'consistency-token': token, prefer: 'wait=0' });
  assert.deepEqual(
    [behind.status, behind.json.code, behind.headers.get('retry-after')],
    [503, 'read-model-behind', '1'],
  );
  assert.equal(things.reached.length, 0);
  things.advance();
  const answer = await waiting;
  assert.equal(answer.status, 200);
  assert.deepEqual(decodeToken(answer.headers.get('consistency-token')!), { 'things.0': 1, 'other.0': 9 });
});

test('a command that was behind gives its key back', async (t) => {
  const { things, call } = await gatewayFor(t);
  const headers = { 'idempotency-key': 'k', 'consistency-token': encodeToken({ 'things.0': 1 }), prefer: 'wait=0' };
  assert.equal((await call('PUT', '/v1/things/t1', headers, '{"name":"a"}')).status, 503);
  things.advance();
  assert.equal((await call('PUT', '/v1/things/t1', headers, '{"name":"a"}')).status, 201);
});
