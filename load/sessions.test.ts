import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createRawServer } from 'node:net';
import { test, type TestContext } from 'node:test';
import { until } from '../tests/shop-client.ts';
import { createSessions, type Job } from './sessions.ts';
import type { Sent, User } from './traffic.ts';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** Sessions of `connections` users at a server that answers as `handle` says; what became of each request, in order. */
async function startSessions(
  t: TestContext,
  handle: Handler,
  { connections = 1, thinkMs = 0, restMsMax = 60_000, closesEach = false, takesNo = false } = {},
) {
  let greetings = 0;
  const server = createServer((asked, response) => {
    // How connections are kept alive.
    if (asked.url === '/livez') {
      greetings += 1;
      response.writeHead(200, closesEach ? { Connection: 'close' } : {}).end();
    } else handle(asked, response);
  });
  server.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  const told: string[] = [];
  const latencies: number[] = [];
  const sessions = createSessions({
    target: { host: '127.0.0.1', port },
    localAddresses: [],
    thinkMs,
    answerTimeoutMs: 300,
    restMsMax,
    now: () => performance.now(),
    sending: () => {},
    answered(_user, { sent, dueAtMs }, answer, wrong) {
      latencies.push(performance.now() - dueAtMs);
      told.push(`${sent.bytes.split(' ')[1]} ${answer.status} ${wrong ?? 'ok'}`);
      const next = sent.bytes.startsWith('GET /with-two-more') ? ['/second', '/third'] : [];
      return next.map((path) => ({ sent: request(path), dueAtMs: performance.now(), counted: true }));
    },
    ...(takesNo && { turnedAway: ({ sent }: Job) => void told.push(`${sent.bytes.split(' ')[1]} turned away`) }),
    repeated: ({ sent }, why) => void told.push(`${sent.bytes.split(' ')[1]} again: ${why}`),
    givenUp: ({ sent }, why) => void told.push(`${sent.bytes.split(' ')[1]} given up: ${why}`),
  });
  t.after(async () => {
    sessions.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const user = (n: number): User => ({ customerId: `c${n}`, headers: 'Host: x\r\n', orders: [], versions: new Map() });
  await sessions.open(
    Array.from({ length: connections }, (_, n) => user(n)),
    'customers',
  );
  const ticking = setInterval(() => {
    sessions.tick();
    sessions.sweep();
  }, 5);
  t.after(() => clearInterval(ticking));
  const send = (path: string, dueAtMs = performance.now()): void =>
    sessions.due('customers', dueAtMs, true, () => request(path));
  const allTold = (count: number): Promise<unknown> =>
    until(`${count} are told of: ${told.join(', ')}`, async () => (told.length >= count ? true : null), 10_000);
  return { greetings: () => greetings, sessions, told, latencies, send, allTold, server };
}

function request(path: string): Sent {
  const isCommand = path.startsWith('/order');
  const bytes = isCommand
    ? `POST ${path} HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n`
    : `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
  return {
    kind: isCommand ? 'place' : 'product',
    isCommand,
    bytes,
    check: ({ body }) => (body.toString() === 'ok' ? null : 'not ok'),
  };
}

test('latency counts from when a request was due, not from when a connection was free for it', async (t) => {
  const answers: ServerResponse[] = [];
  const { send, sessions, told, latencies, allTold } = await startSessions(
    t,
    (_request, response) => void answers.push(response),
  );
  const dueAtMs = performance.now() - 1_000;
  send('/a', dueAtMs);
  send('/b', dueAtMs);
  await until('the first is there', async () => answers[0] ?? null);
  assert.deepEqual([sessions.figures().waiting, sessions.figures().underWay], [1, 1]);
  answers[0]!.end('ok');
  await until('the second is there', async () => answers[1] ?? null);
  answers[1]!.end('ok');
  await allTold(2);
  assert.deepEqual(told, ['/a 200 ok', '/b 200 ok']);
  assert.ok(
    latencies.every((ms) => ms >= 1_000),
    latencies.join(),
  );
});

test('users who take a no for an answer do not come back, and one who failed otherwise does', async (t) => {
  let asked = 0;
  const { send, told, allTold } = await startSessions(
    t,
    (_request, response) => {
      asked += 1;
      if (asked === 4) response.end('ok');
      else
        response
          .writeHead(503, { 'Retry-After': '0' })
          .end(`{"code":"${asked === 3 ? 'log-unavailable' : 'overloaded'}"}`);
    },
    { takesNo: true },
  );
  send('/order-1');
  send('/a');
  send('/order-2');
  await allTold(4);
  assert.deepEqual(told, ['/order-1 turned away', '/a turned away', '/order-2 again: 503', '/order-2 200 ok']);
});

test('a command that got no answer is sent again under its key, and counted apart', async (t) => {
  const keys: (string | string[] | undefined)[] = [];
  const { send, told, allTold, sessions } = await startSessions(t, (asked, response) => {
    keys.push(asked.headers['idempotency-key']);
    if (keys.length === 1) asked.socket.destroy();
    else response.end('ok');
  });
  send('/order');
  await allTold(2);
  assert.deepEqual([told[0]!.split(':')[0], told[1]], ['/order again', '/order 200 ok']);
  assert.deepEqual(keys, ['k', 'k']);
  assert.equal(sessions.figures().reopened, 1);
});

test('a command that was turned away is sent again; a read is not', async (t) => {
  let asked = 0;
  const { send, told, allTold } = await startSessions(t, (_request, response) => {
    asked += 1;
    if (asked <= 2) response.writeHead(503, { 'Retry-After': '0' }).end('busy');
    else response.end('ok');
  });
  send('/read');
  await allTold(1);
  send('/order');
  await allTold(3);
  assert.deepEqual(told, ['/read 503 not ok', '/order again: 503', '/order 200 ok']);
});

test('what meets a connection that is being closed is sent again', async (t) => {
  let asked = 0;
  const { send, told, allTold } = await startSessions(t, (_request, response) => {
    asked += 1;
    if (asked === 1) response.writeHead(408, { Connection: 'close' }).end();
    else response.end('ok');
  });
  send('/read');
  await allTold(2);
  assert.deepEqual(told, ['/read again: 408', '/read 200 ok']);
});

test('a command whose first request is still under way elsewhere is asked for again', async (t) => {
  let asked = 0;
  const { send, told, allTold } = await startSessions(t, (_request, response) => {
    asked += 1;
    const code = asked === 1 ? 'idempotency-key-in-flight' : 'order-exists';
    response.writeHead(409, { 'Retry-After': '0' }).end(`{"code":"${code}"}`);
  });
  send('/order');
  await allTold(2);
  assert.deepEqual(told, ['/order again: 409', '/order 409 not ok']);
});

test('what is never answered is given up, and told as such', async (t) => {
  const { send, told, allTold } = await startSessions(t, () => {});
  send('/read');
  await allTold(6);
  assert.deepEqual(
    told.slice(0, 5),
    Array.from({ length: 5 }, () => '/read again: no answer within 0.3 s'),
  );
  assert.equal(told[5], '/read given up: no answer within 0.3 s');
});

test('what follows from an answer goes out over the same connection, before anything else', async (t) => {
  const { send, told, allTold } = await startSessions(t, (_request, response) => void response.end('ok'));
  send('/with-two-more');
  send('/other');
  await allTold(4);
  assert.deepEqual(told, ['/with-two-more 200 ok', '/second 200 ok', '/third 200 ok', '/other 200 ok']);
});

test('what would have followed from what is given up is given up with it', async (t) => {
  const { send, told, allTold, sessions } = await startSessions(t, (asked, response) => {
    if (asked.url === '/with-two-more') response.end('ok');
  });
  send('/with-two-more');
  await allTold(1);
  sessions.close();
  assert.deepEqual(
    told.slice(1),
    ['/second', '/third'].map((path) => `${path} given up: no answer until the end`),
  );
});

test('what is open at the end is given up', async (t) => {
  const { send, told, sessions } = await startSessions(t, () => {});
  send('/under-way');
  send('/waiting');
  sessions.close();
  assert.deepEqual(told, ['/waiting given up: no connection was free', '/under-way given up: no answer until the end']);
});

test('a connection that the server closes is opened again, before and after an answer', async (t) => {
  const { send, told, allTold, sessions, server } = await startSessions(
    t,
    (_request, response) => void response.writeHead(200, { Connection: 'close' }).end('ok'),
    { closesEach: true },
  );
  const reopened = (times: number): Promise<unknown> =>
    until(`${times} times`, async () => (sessions.figures().reopened === times ? true : null), 5_000);
  await reopened(1);
  send('/a');
  await allTold(1);
  send('/b');
  await allTold(2);
  await reopened(3);
  server.closeAllConnections();
  await reopened(4);
  send('/c');
  await allTold(3);
  assert.deepEqual(told, ['/a 200 ok', '/b 200 ok', '/c 200 ok']);
});

test('while a connection cannot be opened again, what is due waits for it', async (t) => {
  const { send, told, allTold, sessions, server } = await startSessions(
    t,
    (_request, response) => void response.end('ok'),
  );
  const { port } = server.address() as AddressInfo;
  const closed = new Promise((resolve) => server.close(resolve));
  server.closeAllConnections();
  await closed;
  let refused = 0;
  const nobody = createRawServer((socket) => {
    refused += 1;
    socket.destroy();
  });
  nobody.listen(port, '127.0.0.1');
  await until('it has tried in vain', async () => (refused > 0 ? true : null));
  await new Promise((resolve) => nobody.close(resolve));
  await until('it has heard of that', async () => (sessions.figures().reopened > 0 ? true : null));
  send('/a');
  assert.equal(sessions.figures().waiting, 1);
  server.listen(port, '127.0.0.1');
  await allTold(1);
  assert.deepEqual(told, ['/a 200 ok']);
});

test('the connection that has rested longest is next, and none before it has rested enough', async (t) => {
  const seen: { readonly port: number; readonly at: number }[] = [];
  const thinkMs = 150;
  const { send, allTold } = await startSessions(
    t,
    ({ socket }, response) => {
      seen.push({ port: socket.remotePort!, at: performance.now() });
      response.end('ok');
    },
    { connections: 3, thinkMs },
  );
  for (let n = 0; n < 6; n += 1) send(`/${n}`);
  await allTold(6);
  const ports = seen.map(({ port }) => port);
  assert.equal(new Set(ports).size, 3);
  assert.deepEqual(new Set(ports.slice(3)), new Set(ports.slice(0, 3)));
  for (const { port, at } of seen.slice(3)) {
    const before = seen.find((one) => one.port === port)!;
    assert.ok(at - before.at >= thinkMs - 1, `${at - before.at} ms of rest`);
  }
});

test('a connection that rests for long is kept alive, and can be used then', async (t) => {
  const { greetings, send, told, allTold, sessions } = await startSessions(
    t,
    (_request, response) => void response.end('ok'),
    { connections: 2, restMsMax: 50 },
  );
  assert.equal(greetings(), 2);
  await until('both are kept alive twice', async () => (greetings() >= 6 ? true : null), 5_000);
  send('/a');
  await allTold(1);
  assert.deepEqual([told, sessions.figures().reopened], [['/a 200 ok'], 0]);
});

test('connections that cannot be opened are told of', async () => {
  const refused = createSessions({
    target: { host: '127.0.0.1', port: 1 },
    localAddresses: [],
    thinkMs: 0,
    now: () => performance.now(),
    sending: () => {},
    answered: (): readonly Job[] => [],
    repeated: () => {},
    givenUp: () => {},
  });
  const user: User = { customerId: 'c', headers: '', orders: [], versions: new Map() };
  await assert.rejects(
    refused.open([user], 'customers'),
    /connection 1 to 127\.0\.0\.1:1 could not be opened: ECONNREFUSED/,
  );
  refused.close();
});
