import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeToken, encodeToken } from '#cqrs/consistency-token.ts';
import { gatewayFor } from './gateway.fixture.ts';

test('a read answers the bytes as they are, with tag, token and how to keep them', async (t) => {
  const { call } = await gatewayFor(t);
  await call('PUT', '/v1/things/t1', {}, '{"name":"Tür"}');
  const answer = await call('GET', '/v1/things/t1');
  assert.deepEqual([answer.status, answer.text], [200, '{"name":"Tür","version":1}']);
  assert.equal(answer.headers.get('content-type'), 'application/json; charset=utf-8');
  assert.equal(answer.headers.get('etag'), '"1.7"');
  assert.equal(answer.headers.get('cache-control'), 'private, no-cache');
  assert.deepEqual(decodeToken(answer.headers.get('consistency-token')!), { 'things.0': 1 });
});

test('bytes beyond ASCII arrive as they are, in a short answer and in a long one', async (t) => {
  const { things, call } = await gatewayFor(t);
  for (const name of ['Tür 門 🚪', 'ü門🚪'.repeat(3_000)]) {
    things.stored.set('t1', { name, version: 1 });
    assert.equal((await call('GET', '/v1/things/t1')).json.name, name);
  }
});

test('what the client has is not sent again', async (t) => {
  const { call } = await gatewayFor(t);
  await call('PUT', '/v1/things/t1', {}, '{"name":"a"}');
  for (const header of ['"1.7"', 'W/"1.7"', '"x", "1.7"', '*', ' "1.7" ,', ', "1.7"', ' ,, "x",, "1.7"']) {
    const answer = await call('GET', '/v1/things/t1', { 'if-none-match': header });
    assert.deepEqual([answer.status, answer.text, answer.headers.get('etag')], [304, '', '"1.7"'], header);
    assert.match(answer.headers.get('consistency-token')!, /./);
    assert.equal(answer.headers.get('content-type'), null);
  }
  for (const header of ['"1"', '"1.8", W/"2.7"', '""'])
    assert.equal((await call('GET', '/v1/things/t1', { 'if-none-match': header })).status, 200, header);
  assert.equal((await call('GET', '/v1/things', { 'if-none-match': '"1.7"' })).status, 200);
  assert.equal((await call('GET', '/v1/things/none', { 'if-none-match': '*' })).status, 404);
});

test('a read with a token waits until it can show that much', async (t) => {
  const { things, call } = await gatewayFor(t);
  const waiting = call('GET', '/v1/things', {
    'consistency-token': encodeToken({ 'things.0': 2 }),
    prefer: 'respond-async, WAIT="5"; x=1',
  });
  assert.equal(
    (await call('GET', '/v1/things', { 'consistency-token': encodeToken({ 'things.0': 2 }), prefer: 'wait=0.01' }))
      .status,
    503,
  );
  things.advance();
  things.advance();
  const answer = await waiting;
  assert.deepEqual([answer.status, decodeToken(answer.headers.get('consistency-token')!)], [200, { 'things.0': 2 }]);
});

test('a read that stays behind says so, and shows nothing', async (t) => {
  const { things, call } = await gatewayFor(t);
  const began = performance.now();
  const answer = await call('GET', '/v1/things', {
    'consistency-token': encodeToken({ 'things.0': 1 }),
    prefer: 'wait=soon',
  });
  assert.deepEqual(
    [answer.status, answer.json.code, answer.headers.get('retry-after')],
    [503, 'read-model-behind', '1'],
  );
  assert.ok(performance.now() - began >= 990, 'waits for a second when nothing else is preferred');
  assert.deepEqual(things.reached, []);
});

test('an answer that may be behind gives the token of what it shows, and under a token it is not behind', async (t) => {
  const { things, call } = await gatewayFor(t);
  for (let n = 0; n < 3; n += 1) things.advance();
  const tokenOf = ({ headers }: { headers: Headers }) => headers.get('consistency-token')!;
  const behind = await call('GET', '/v1/shared');
  assert.deepEqual(decodeToken(tokenOf(behind)), { 'things.0': 1 });
  const reached = await call('GET', '/v1/shared', { 'consistency-token': tokenOf(behind) });
  assert.deepEqual(decodeToken(tokenOf(reached)), { 'things.0': 3 });
});

test('a 404 tells as of when', async (t) => {
  const { things, call } = await gatewayFor(t);
  things.advance();
  const answer = await call('GET', '/v1/things/none');
  assert.deepEqual([answer.status, decodeToken(answer.headers.get('consistency-token')!)], [404, { 'things.0': 1 }]);
});

test('a read that would wait too long for the database is turned away, and others are not', async (t) => {
  const { call } = await gatewayFor(t, { searches: { run: () => null } });
  const answer = await call('GET', '/v1/things');
  assert.deepEqual([answer.status, answer.json.code], [503, 'overloaded']);
  assert.equal(answer.json.detail, 'Too many such reads are waiting for the database already.');
  assert.equal(answer.headers.get('retry-after'), '1');
  assert.equal((await call('GET', '/v1/shared')).status, 200);
});
