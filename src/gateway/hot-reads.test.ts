import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { test, type TestContext } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { SignJWT } from 'jose';
import { encodeToken } from '#cqrs/consistency-token.ts';
import { gatewayFor, jwt } from './gateway.fixture.ts';
import { createRequestFigures } from './request-figures.ts';

const bearer = async (role: string, sub: string): Promise<string> =>
  `Bearer ${await new SignJWT({ role, sub })
    .setProtectedHeader({ alg: 'HS256' })
    .setIssuer(jwt.issuer)
    .setAudience(jwt.audience)
    .setExpirationTime('5m')
    .sign(new TextEncoder().encode(jwt.secret))}`;

/** A gateway with one thing, and what differs from answer to answer taken out of them. */
async function oneThing(t: TestContext, overrides: Parameters<typeof gatewayFor>[1] = {}) {
  const parts = await gatewayFor(t, { customerRequestsPerMinute: 0, ...overrides });
  const { things, exchange } = parts;
  things.stored.set('t1', { name: 'Tür', version: 1 });
  const ask = async (target: string, headers: readonly string[], method = 'GET'): Promise<string> => {
    const answer = await exchange(
      `${[`${method} ${target} HTTP/1.1`, 'Connection: close', ...headers].join('\r\n')}\r\n\r\n`,
    );
    return answer
      .replace(/\r\nDate: .*/, '')
      .replace(/\r\nX-Request-Id: [0-9a-f-]{36}/, '\r\nX-Request-Id: new')
      .replace(/"traceId":"\w+"/, '"traceId":"new"')
      .replace(/(;r=)\d+/, '$1some');
  };
  return { ...parts, ask };
}

test('what is in memory is answered byte for byte as the framework answers it, and no handler is asked', async (t) => {
  const { things, ask } = await oneThing(t, { jwt });
  const host = ['Host: x', `Authorization: ${await bearer('customer', 'c1')}`];
  await ask('/v1/things/t1', host);
  for (const headers of [
    [],
    ['X-Request-Id: mine'],
    ['X-Request-Id: not one;'],
    ['If-None-Match: "1.7"'],
    ['If-None-Match: W/"1.7", "x"'],
    ['If-None-Match: *'],
    ['If-None-Match: "0"'],
    ['Prefer: wait=1', 'traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'],
    ['Content-Length: 2', '', '{}'],
  ]) {
    things.isKept = false;
    const asked = things.reached.length;
    const byHandler = await ask('/v1/things/t1', [...host, ...headers]);
    assert.equal(things.reached.length, asked + 1);
    things.isKept = true;
    const fromMemory = await ask('/v1/things/t1', [...host, ...headers]);
    assert.equal(things.reached.length, asked + 1, 'a handler was asked');
    assert.match(fromMemory, /^HTTP\/1.1 (200|304) /);
    assert.equal(fromMemory, byHandler);
  }
});

test('where there is something to decide, it is decided as if nothing were in memory', async (t) => {
  const { things, ask } = await oneThing(t, { jwt });
  const known = `Authorization: ${await bearer('customer', 'c1')}`;
  const host = ['Host: x', known];
  await ask('/v1/things/t1', host);
  const token = (position: number) => `Consistency-Token: ${encodeToken({ 'things.0': position })}`;
  const never = ['Host: x', `Authorization: ${(await bearer('operator', 'o1')).slice(0, -3)}abc`];
  const cases: readonly (readonly [string, number, readonly string[], string?])[] = [
    ['/v1/things/t1', 200, host, 'HEAD'],
    ['/v1/things/t1?', 200, host],
    ['/v1/things/t%31', 200, host],
    ['/v1/things/t1', 200, [...host, token(0)]],
    ['/v1/things/t1', 503, [...host, token(9), 'Prefer: wait=0.01']],
    ['/v1/things/t1', 400, [...host, 'Consistency-Token: none']],
    ['/v1/things/t1', 400, [...host, 'If-None-Match: 1.7']],
    ['/v1/things/t1', 400, [known]],
    ['/v1/things/t1', 401, ['Host: x']],
    ['/v1/things/t1', 401, never],
    ['/v1/things/t1?a=1', 400, host],
    ['/v1/things/t1?a=%ff', 400, host],
    ['/v1/things/t1/', 404, host],
    ['/v1/things/t2', 404, host],
    ['/v1/things/t1', 405, host, 'PATCH'],
    ['/v1/ops/things', 403, host],
  ];
  for (const [target, status, headers, method] of cases) {
    things.isKept = false;
    const without = await ask(target, headers, method);
    things.isKept = true;
    const answer = await ask(target, headers, method);
    assert.match(answer, new RegExp(`^HTTP/1.1 ${status} `), `${method} ${target} ${headers.join()}`);
    assert.equal(answer, without);
  }
});

test('whose requests are limited has each counted, also those that memory could answer', async (t) => {
  const { things, ask } = await oneThing(t, { jwt, customerRequestsPerMinute: 3 });
  things.isKept = true;
  const host = ['Host: x', `Authorization: ${await bearer('customer', 'c1')}`];
  const statuses: string[] = [];
  for (let n = 0; n < 4; n += 1) statuses.push((await ask('/v1/things/t1', host)).slice(9, 12));
  assert.deepEqual(statuses, ['200', '200', '200', '429']);
});

test('when too many requests are under way, memory has no door of its own', async (t) => {
  const { things, ask, call } = await oneThing(t, { queuedRequestsMax: 1 });
  things.isKept = true;
  const first = call('POST', '/v1/slow', {}, '{}');
  await things.waited;
  assert.match(await ask('/v1/things/t1', ['Host: x']), /^HTTP\/1.1 503 [\s\S]*"code":"overloaded"/);
  things.open();
  await first;
  assert.match(await ask('/v1/things/t1', ['Host: x']), /^HTTP\/1.1 200 /);
});

test('what is in memory is answered however long the line is, for turning it away would cost as much', async (t) => {
  const figures = createRequestFigures();
  const { things, ask } = await oneThing(t, { figures, overload: { tooLong: () => 'turn', sinceMs: () => 0 } });
  assert.match(await ask('/v1/things/t1', ['Host: x']), /^HTTP\/1.1 503 /);
  things.isKept = true;
  assert.match(await ask('/v1/things/t1', ['Host: x']), /^HTTP\/1.1 200 /);
  assert.match(await ask('/v1/things/t1', ['Host: x', 'If-None-Match: "1.7"']), /^HTTP\/1.1 304 /);
  assert.match(await ask('/v1/things', ['Host: x']), /^HTTP\/1.1 503 /);
  assert.deepEqual(figures.shed.turn, { reads: 2, commands: 0 });
});

test('while the server closes, who reads from memory is told that the connection ends', async (t) => {
  const { gateway, things } = await oneThing(t);
  things.isKept = true;
  const { hostname, port } = new URL(gateway.address);
  const socket = connect(Number(port), hostname);
  socket.write('POST /v1/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
  await things.waited;
  const stopped = gateway.stop();
  socket.write('GET /v1/things/t1 HTTP/1.1\r\nHost: x\r\n\r\n');
  while (things.reached.length < 2) await setImmediate();
  things.open();
  assert.match(await text(socket), /^HTTP\/1.1 200 [\s\S]*HTTP\/1.1 200 [\s\S]*\r\nConnection: close\r\n/i);
  await stopped;
});

test('what memory answers is counted with its route', async (t) => {
  const figures = createRequestFigures();
  const { things, ask } = await oneThing(t, { figures });
  things.isKept = true;
  await ask('/v1/things/t1', ['Host: x']);
  await ask('/v1/things/t1', ['Host: x', 'If-None-Match: "1.7"']);
  assert.deepEqual(
    figures
      .answered()
      .map(({ route, status, durations }) => [route, status, durations.counts.reduce((sum, count) => sum + count)]),
    [
      ['/v1/things/:thingId', '2xx', 1],
      ['/v1/things/:thingId', '3xx', 1],
    ],
  );
  assert.equal(figures.underWay, 0);
});
