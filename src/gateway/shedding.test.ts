import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { until } from '../../tests/shop-client.ts';
import { gatewayFor } from './gateway.fixture.ts';
import type { Line, Overload } from './overload.ts';
import { createRequestFigures } from './request-figures.ts';

/** There is no room for anybody, for so long already. */
const noRoom = (line: Line = 'turn', sinceMs = 0): Overload => ({ tooLong: () => line, sinceMs: () => sinceMs });

test('whoever is turned away is told so as of any other problem, and nothing was done', async (t) => {
  const { call, things } = await gatewayFor(t, { overload: noRoom('commands') });
  const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
  const headers = { 'x-request-id': 'mine-1', traceparent: `00-${traceId}-00f067aa0ba902b7-01` };
  const answer = await call('PUT', '/v1/things/a%22b?x=%C3%A4', headers, '{"name":"n"}');
  assert.equal(answer.status, 503);
  assert.deepEqual(answer.json, {
    type: '/problems/overloaded',
    title: 'The system has more work than it can take',
    status: 503,
    detail: 'Too many commands are waiting already.',
    instance: '/v1/things/a%22b',
    code: 'overloaded',
    traceId,
  });
  assert.equal(answer.headers.get('content-type'), 'application/problem+json');
  assert.equal(answer.headers.get('cache-control'), 'no-store');
  assert.equal(answer.headers.get('x-request-id'), 'mine-1');
  assert.match(answer.headers.get('retry-after')!, /^[12]$/);
  assert.equal(things.reached.length, 0);
  const other = await call('GET', '/v1/things');
  assert.match(other.json.traceId, /^[0-9a-f]{32}$/);
  assert.match(other.headers.get('x-request-id')!, /^[0-9a-f-]{36}$/);
});

test('it has the headers that every other problem has', async (t) => {
  const turnedAway = (await (await gatewayFor(t, { overload: noRoom() })).call('GET', '/v1/nothing')).headers;
  const { headers } = await (await gatewayFor(t)).call('GET', '/v1/nothing');
  for (const name of headers.keys()) assert.ok(turnedAway.has(name), name);
});

test('a connection on which somebody was turned away is good for the next request', async (t) => {
  let isFull = true;
  const { exchange } = await gatewayFor(t, { overload: { tooLong: () => (isFull ? 'turn' : null), sinceMs: () => 0 } });
  const body = ' '.repeat(100_000);
  const post = `POST /v1/things/a/close HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const last = 'GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
  const read = await exchange(`${post}HEAD /v1/things HTTP/1.1\r\nHost: x\r\n\r\n${last}`);
  assert.match(read, /^HTTP\/1\.1 503 [^]*\}HTTP\/1\.1 503 [^]*\r\n\r\nHTTP\/1\.1 200 /);
  isFull = false;
  assert.match(await exchange(last), /^HTTP\/1\.1 200 /);
});

test('those who look after the house are let in, and nobody else', async (t) => {
  const { call } = await gatewayFor(t, { overload: noRoom() });
  for (const path of ['/livez', '/readyz', '/metrics', '/readyz?x=1'])
    assert.equal((await call('GET', path)).status, 200, path);
  assert.equal((await call('GET', '/v1/ops/topology')).status, 404);
  for (const path of ['/v1/things', '/v1/opsx', '/docs', '/v1/nothing'])
    assert.equal((await call('GET', path)).status, 503, path);
});

test('the longer it has lasted, the later and the more spread they are asked back', async (t) => {
  const { call } = await gatewayFor(t, { overload: noRoom('turn', 3_600_000) });
  const asked = new Set<number>();
  for (let n = 0; n < 100; n += 1) asked.add(Number((await call('GET', '/v1/things')).headers.get('retry-after')));
  assert.ok(Math.min(...asked) >= 1 && Math.max(...asked) <= 30, [...asked].join());
  assert.ok(asked.size >= 10, [...asked].join());
});

test('those who were turned away are counted, by what was too long for them', async (t) => {
  const figures = createRequestFigures();
  const { call } = await gatewayFor(t, { figures, overload: noRoom('consumers') });
  await call('GET', '/v1/things');
  await call('HEAD', '/v1/things');
  await call('DELETE', '/v1/things/a');
  assert.deepEqual(figures.shed, {
    turn: { reads: 0, commands: 0 },
    commands: { reads: 0, commands: 0 },
    consumers: { reads: 2, commands: 1 },
    searches: { reads: 0, commands: 0 },
    bodies: { reads: 0, commands: 0 },
  });
});

test('so many may wait for their turn, and each of those beyond is told so', async (t) => {
  const figures = createRequestFigures();
  const { exchange } = await gatewayFor(t, { figures });
  const each = 2_500;
  const last = 'GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
  const read = await Promise.all(
    Array.from({ length: 12 }, () => exchange('GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(each) + last)),
  );
  const count = (what: string): number => read.reduce((sum, text) => sum + text.split(what).length - 1, 0);
  assert.ok(figures.shed.turn.reads > 0, 'all were taken up');
  assert.equal(count('HTTP/1.1 503 '), figures.shed.turn.reads);
  assert.equal(count('HTTP/1.1 404 ') + figures.shed.turn.reads, 12 * each);
  assert.ok(count('Too many requests have come at once.') === figures.shed.turn.reads);
});

test('whoever has gone before it is their turn is answered no more', async (t) => {
  const { exchange, gateway, things } = await gatewayFor(t);
  const last = 'Host: x\r\nConnection: close\r\n\r\n';
  const crowd = 'GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(2_000) + `GET /livez HTTP/1.1\r\n${last}`;
  const before = Array.from({ length: 5 }, () => exchange(crowd));
  const { hostname, port } = new URL(gateway.address);
  const gone = connect(Number(port), hostname);
  gone.write(`GET /v1/things/gone HTTP/1.1\r\n${last}`);
  const stays = exchange(`GET /v1/things/stays HTTP/1.1\r\n${last}`);
  // Until it has been sent: the crowd before it takes hundreds of milliseconds.
  await delay(20);
  gone.resetAndDestroy();
  await Promise.all([...before, stays]);
  assert.deepEqual(
    things.reached.map(({ params }) => params['thingId']),
    ['stays'],
  );
});

test('large bodies that are on their way are bounded, all of them together', async (t) => {
  const figures = createRequestFigures();
  const { gateway, call } = await gatewayFor(t, { figures, bodyBytesUnderWayMax: 1_500_000 });
  const { hostname, port } = new URL(gateway.address);
  const slow = connect(Number(port), hostname);
  t.after(() => slow.destroy());
  slow.write(
    'PUT /v1/things/a HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{',
  );
  await until('the first is on its way', async () => (figures.bodyBytes > 0 ? true : null));
  const put = (bytes: number) => call('PUT', '/v1/things/b', {}, `{"name":"n"}${' '.repeat(bytes)}`);
  const second = await put(600_000);
  assert.deepEqual([second.status, second.json.code], [503, 'overloaded']);
  assert.equal(second.json.detail, 'Too many large bodies are on their way already.');
  assert.equal((await put(400_000)).status, 201, 'there is room for this one');
  assert.equal((await put(100)).status, 200);
  assert.equal(figures.shed.bodies.commands, 1);
  slow.destroy();
  await until('the first is gone', async () => (figures.bodyBytes === 0 ? true : null));
  assert.equal((await put(600_000)).status, 200);
});
