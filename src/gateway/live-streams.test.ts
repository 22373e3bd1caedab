import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { pino } from 'pino';
import { SignJWT } from 'jose';
import Type from 'typebox';
import { eventFrame } from '#contracts/event-stream.ts';
import type { EventSink, LiveStream, StreamRequest, StreamRoute } from '#contracts/routes.ts';
import { Closed } from '#contracts/values.ts';
import { encodeToken } from '#cqrs/consistency-token.ts';
import { openEventStream } from '../../tests/event-stream-client.ts';
import { until } from '../../tests/shop-client.ts';
import { describeApi } from './api-description.ts';
import { gatewayFor, jwt } from './gateway.fixture.ts';
import { createLiveStreams, type LiveStreamOptions } from './live-streams.ts';

const calm = { streamsMax: 100, streamsPerCustomerMax: 2, heartbeatMs: 15_000, waitingBytesMax: 65_536 };

/** A gateway with one stream, whose events the test sends. */
async function streamsFor(t: TestContext, limits: Partial<LiveStreamOptions> = {}, locked = false) {
  const sinks: EventSink[] = [];
  const asked: StreamRequest[] = [];
  let closed = 0;
  let resumeId: string | null = null;
  const stream: LiveStream = {
    start: (sink) => void sinks.push(sink),
    resumeId: () => resumeId,
    close: () => void (closed += 1),
  };
  const route: StreamRoute = {
    method: 'GET',
    url: '/v1/ticks',
    summary: 'Ticks',
    tag: 'ticks',
    audience: 'customer',
    query: Closed({ lastEventId: Type.Optional(Type.String()), kind: Type.Optional(Type.Integer()) }),
    answers: { 200: Closed({ n: Type.Integer() }) },
    async open(request: StreamRequest) {
      asked.push(request);
      if (request.query['kind'] === 404) return { refused: { code: 'order-not-found', detail: 'Not that one.' } };
      if (request.query['kind'] === 500) throw new Error('the password is hunter2');
      return stream;
    },
    caughtUp: async () => false,
  };
  const liveStreams = createLiveStreams({ ...calm, logger: pino({ level: 'silent' }), ...limits });
  const fixture = await gatewayFor(t, {
    routes: [route],
    liveStreams,
    ...(locked ? { jwt } : {}),
  });
  return {
    ...fixture,
    route,
    liveStreams,
    sinks,
    asked,
    closed: () => closed,
    resumeFrom: (id: string) => (resumeId = id),
    open: (path = '/v1/ticks', headers: Record<string, string> = {}) =>
      openEventStream(fixture.gateway.address + path, headers),
  };
}

const tick = (n: number): Buffer => eventFrame(String(n), null, JSON.stringify({ n }));

const tokenOf = async (sub: string, expiresInSeconds = 60): Promise<{ authorization: string }> => {
  const token = await new SignJWT({ role: 'customer' })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(sub)
    .setIssuer(jwt.issuer)
    .setAudience(jwt.audience)
    .setExpirationTime(Math.floor(Date.now() / 1_000) + expiresInSeconds)
    .sign(new TextEncoder().encode(jwt.secret));
  return { authorization: `Bearer ${token}` };
};

test('a stream begins with how soon to come back, is kept from caches and proxies, and shows what is written', async (t) => {
  const { open, sinks, liveStreams, closed } = await streamsFor(t);
  const stream = await open();
  sinks[0]!.write(Buffer.concat([tick(1), tick(2)]));
  sinks[0]!.write(tick(3));
  await stream.until(() => stream.events.length === 3);
  assert.deepEqual(
    stream.events.map(({ id, event, data }) => [id, event, data.n]),
    [
      ['1', 'message', 1],
      ['2', 'message', 2],
      ['3', 'message', 3],
    ],
  );
  const { headers } = stream;
  assert.deepEqual(
    [stream.status, headers['content-type'], headers['cache-control'], headers['x-accel-buffering'], stream.retryMs],
    [200, 'text/event-stream', 'no-store', 'no', 2_000],
  );
  assert.match(headers['x-request-id'] as string, /\w/);
  assert.deepEqual(liveStreams.statistics(), { open: 1, opened: 1, cutOff: 0 });
  stream.close();
  await until('the stream is closed here too', async () => (closed() === 1 ? true : null));
  assert.deepEqual(liveStreams.statistics(), { open: 0, opened: 1, cutOff: 0 });
  // Nobody is there any more: nothing happens.
  sinks[0]!.write(tick(4));
  sinks[0]!.fail(new Error('too late'));
  await sinks[0]!.drained();
});

test('the id to resume from comes in the header, or in the address; the header is the newer', async (t) => {
  const { open, asked } = await streamsFor(t);
  for (const [path, headers] of [
    ['/v1/ticks', {}],
    ['/v1/ticks?lastEventId=a', {}],
    ['/v1/ticks?lastEventId=a', { 'last-event-id': 'b' }],
    ['/v1/ticks?lastEventId=a', { 'last-event-id': '' }],
  ] as const) {
    (await open(path, headers)).close();
  }
  assert.deepEqual(
    asked.map(({ lastEventId }) => lastEventId),
    [undefined, 'a', 'b', 'a'],
  );
});

test('what is wrong before the stream begins is answered like any request', async (t) => {
  const { open, call, liveStreams } = await streamsFor(t);
  for (const [path, headers, status, code] of [
    ['/v1/ticks?kind=404', {}, 404, 'order-not-found'],
    ['/v1/ticks?kind=500', {}, 500, 'internal'],
    ['/v1/ticks?kind=x', {}, 400, 'invalid-request'],
    ['/v1/ticks?other=1', {}, 400, 'invalid-request'],
    ['/v1/ticks', { 'consistency-token': '!' }, 400, 'malformed-consistency-token'],
    ['/v1/ticks', { 'consistency-token': encodeToken({ 'a.0': 1 }), prefer: 'wait=0' }, 503, 'read-model-behind'],
  ] as const) {
    const stream = await open(path, headers);
    const problem = JSON.parse(stream.body) as { code: string; detail: string };
    assert.deepEqual([stream.status, problem.code], [status, code], path);
    assert.ok(!stream.body.includes('hunter2'));
  }
  assert.equal((await call('HEAD', '/v1/ticks')).status, 405);
  assert.equal((await call('POST', '/v1/ticks')).status, 405);
  await until('every place is free again', async () => (liveStreams.statistics().open === 0 ? true : null));
});

test('what fails after the beginning is the last event', async (t) => {
  const { open, sinks } = await streamsFor(t);
  for (const [error, code, status] of [
    [new Error('the password is hunter2'), 'internal', 500],
    [Object.assign(new Error('down'), { code: 'database-unavailable' }), 'database-unavailable', 503],
  ] as const) {
    const stream = await open();
    sinks.at(-1)!.write(tick(7));
    sinks.at(-1)!.fail(error);
    sinks.at(-1)!.write(tick(8));
    await stream.until(() => stream.ended);
    const { event, data } = stream.events.at(-1)!;
    assert.deepEqual([event, data.code, data.status, data.instance], ['error', code, status, '/v1/ticks']);
    assert.match(data.traceId, /^[0-9a-f]{32}$/);
    assert.ok(!JSON.stringify(data).includes('hunter2'));
    // From there the client resumes.
    assert.equal(stream.lastEventId, '7');
  }
});

test('a stream on which nothing happens shows that it is alive, and from where to resume', async (t) => {
  const { open, resumeFrom } = await streamsFor(t, { heartbeatMs: 20 });
  const stream = await open();
  await stream.until(() => stream.comments >= 3);
  assert.equal(stream.lastEventId, '');
  resumeFrom('42');
  await stream.until(() => stream.lastEventId === '42');
  assert.deepEqual(stream.events, []);
});

test('a customer has so many streams and no more, and nobody else notices', async (t) => {
  const { open, liveStreams } = await streamsFor(t, {}, true);
  const [ada, emmy] = [await tokenOf('ada'), await tokenOf('emmy')];
  const [first] = [await open('/v1/ticks', ada), await open('/v1/ticks', ada)];
  const third = await open('/v1/ticks', ada);
  assert.deepEqual([third.status, JSON.parse(third.body).code], [429, 'too-many-streams']);
  assert.match(third.headers['retry-after'] ?? '', /^\d+$/);
  assert.equal((await open('/v1/ticks', emmy)).status, 200);
  first.close();
  await until('the place is free again', async () => (liveStreams.statistics().open === 2 ? true : null));
  assert.equal((await open('/v1/ticks', ada)).status, 200);
  assert.equal((await open()).status, 401);
});

test('the house has so many streams and no more', async (t) => {
  const { open } = await streamsFor(t, { streamsMax: 1 });
  assert.equal((await open()).status, 200);
  const second = await open();
  assert.deepEqual([second.status, JSON.parse(second.body).code], [503, 'overloaded']);
  assert.match(second.headers['retry-after'] ?? '', /^\d+$/);
});

test('a stream ends with the token of its caller', async (t) => {
  const { open } = await streamsFor(t, {}, true);
  const stream = await open('/v1/ticks', await tokenOf('ada', 2));
  await stream.until(() => stream.ended);
  const { event, data } = stream.events.at(-1)!;
  assert.deepEqual([event, data.code], ['error', 'unauthenticated']);
});

/** Asks for the stream and reads no more than is sent at once. */
async function openSlowly(t: TestContext, address: string): Promise<Socket> {
  const { hostname, port } = new URL(address);
  const socket = connect(Number(port), hostname);
  t.after(() => socket.destroy());
  socket.write('GET /v1/ticks HTTP/1.1\r\nHost: a\r\n\r\n');
  await once(socket, 'readable');
  socket.on('error', () => {});
  return socket;
}

test('a reader for whom too much waits is cut off, and the others go on', async (t) => {
  const { open, sinks, liveStreams, gateway } = await streamsFor(t);
  await openSlowly(t, gateway.address);
  const reader = await open();
  await until('both have begun', async () => (sinks.length === 2 ? true : null));
  const large = eventFrame('1', null, JSON.stringify({ text: 'x'.repeat(50_000) }));
  let sent = 0;
  await until('the slow one is cut off', async () => {
    for (const sink of sinks) sink.write(large);
    sent += 1;
    await sinks[1]!.drained();
    return sinks[0]!.closed ? true : null;
  });
  assert.ok(!sinks[1]!.closed);
  await reader.until(() => reader.events.length === sent);
  await until('its place is free again', async () => (liveStreams.statistics().open === 1 ? true : null));
  assert.equal(liveStreams.statistics().cutOff, 1);
});

test('a reader that takes nothing for the time between two heartbeats is cut off', async (t) => {
  const { sinks, liveStreams, gateway } = await streamsFor(t, { heartbeatMs: 50, waitingBytesMax: 50_000_000 });
  await openSlowly(t, gateway.address);
  await until('it has begun', async () => (sinks.length === 1 ? true : null));
  const large = Buffer.alloc(10_000_000, ': \n');
  sinks[0]!.write(large);
  // Who waits for the reader is let go, too.
  await sinks[0]!.drained();
  assert.ok(sinks[0]!.closed);
  assert.equal(liveStreams.statistics().cutOff, 1);
});

test('a server that stops ends its streams at once, also those that nobody reads', async (t) => {
  const { open, sinks, gateway, closed } = await streamsFor(t);
  await openSlowly(t, gateway.address);
  const stream = await open();
  await until('both have begun', async () => (sinks.length === 2 ? true : null));
  sinks[0]!.write(Buffer.alloc(20_000_000, ': \n'));
  const began = performance.now();
  await gateway.stop();
  assert.ok(performance.now() - began < 4_000);
  await stream.until(() => stream.ended);
  assert.equal(stream.events.length, 0);
  assert.equal(closed(), 2);
});

test('a stream is described as what it is', async (t) => {
  const { route } = await streamsFor(t);
  const { get } = (describeApi([route]) as any).paths['/v1/ticks'];
  assert.deepEqual(Object.keys(get.responses), ['200', '400', '401', '403', '429', '500', '503']);
  assert.match(get.responses[200].content['text/event-stream'].example, /^id: 1\ndata: \{"n":\d+\}\n\n$/);
  assert.ok(get.parameters.some(({ $ref }: { $ref?: string }) => $ref === '#/components/parameters/LastEventId'));
});
