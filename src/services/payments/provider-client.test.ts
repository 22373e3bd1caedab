import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { createProviderClient, type ProviderClient } from './provider-client.ts';
import { startSandboxProvider } from './sandbox-provider.ts';

const euros = (amount: number) => ({ amount, currency: 'EUR' });
const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

function clientFor(t: TestContext, url: string, more: object = {}): ProviderClient {
  const client = createProviderClient({ url, timeoutMs: 5_000, concurrencyMax: 16, ...more });
  t.after(() => client.close());
  return client;
}

async function sandboxFor(t: TestContext, more: { timeoutMs?: number; slowMs?: number } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'provider-client-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const { timeoutMs = 5_000, slowMs = 100 } = more;
  const sandbox = { host: '127.0.0.1', port: 0, ledgerFile: join(folder, 'ledger.db'), slowMs };
  const provider = await startSandboxProvider(sandbox);
  t.after(() => provider.stop());
  const client = clientFor(t, provider.url, { timeoutMs });
  const charge = (key: string, method = 'pm_ok', amount = 1_999) =>
    client.charge({ key, orderId: 'o1', amount: euros(amount), method });
  return {
    client,
    charge,
    provider,
    restart: () => startSandboxProvider({ ...sandbox, port: Number(new URL(provider.url).port) }),
  };
}

/** A server that answers as a provider should not. */
async function serverFor(t: TestContext, listener: RequestListener): Promise<{ url: string; server: Server }> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

const detailOf = (answer: { outcome: string }): string => {
  assert.equal(answer.outcome, 'unknown');
  return (answer as unknown as { detail: string }).detail;
};

const timersRunning = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;

test('a charge is captured, and again under the same reference', async (t) => {
  const { client, charge } = await sandboxFor(t);
  const first = await charge('p1');
  assert.equal(first.outcome, 'captured');
  assert.match((first as { reference: string }).reference, /^ch_/);
  assert.deepEqual(await charge('p1'), first);
  assert.deepEqual(await client.lookup('p1'), first);
  assert.deepEqual(await client.void('p1'), first);
});

test('a declined charge says why, whoever asks', async (t) => {
  const { client, charge } = await sandboxFor(t);
  const declined = { outcome: 'declined', reason: 'the payment method was declined' };
  assert.deepEqual(await charge('p1', 'pm_declined'), declined);
  assert.deepEqual(await client.lookup('p1'), declined);
  assert.deepEqual(await client.void('p1'), { outcome: 'declined', reason: 'the provider declined' });
});

test('what was never charged is absent, and once voided stays voided', async (t) => {
  const { client, charge } = await sandboxFor(t);
  assert.deepEqual(await client.lookup('p1'), { outcome: 'absent' });
  assert.deepEqual(await client.void('p1'), { outcome: 'voided' });
  assert.deepEqual(await client.void('p1'), { outcome: 'voided' });
  assert.deepEqual(await client.lookup('p1'), { outcome: 'voided' });
  assert.deepEqual(await charge('p1'), { outcome: 'voided' });
});

test('a slow charge is waited for within the time-out', async (t) => {
  const { charge } = await sandboxFor(t);
  assert.equal((await charge('p1', 'pm_slow')).outcome, 'captured');
});

test('a charge that takes longer than the time-out is unknown, and a lookup settles it', async (t) => {
  const { client, charge } = await sandboxFor(t, { timeoutMs: 300, slowMs: 60_000 });
  for (const method of ['pm_slow', 'pm_reply_lost']) {
    assert.deepEqual(await charge(method, method), { outcome: 'unknown', detail: 'no answer within 300 ms' });
    assert.equal((await client.lookup(method)).outcome, 'captured');
  }
  assert.deepEqual(await charge('p1', 'pm_down'), { outcome: 'unknown', detail: 'no answer within 300 ms' });
  assert.deepEqual(await client.lookup('p1'), { outcome: 'absent' });
  assert.deepEqual(await client.void('p1'), { outcome: 'voided' });
});

test('a provider that fails leaves the outcome unknown until it works again', async (t) => {
  const { client, charge } = await sandboxFor(t);
  const failed = 'the provider failed with 500: {"key":"p1","error":"scripted failure"}';
  assert.equal(detailOf(await charge('p1', 'pm_flaky')), failed);
  assert.equal(detailOf(await charge('p1', 'pm_flaky')), failed);
  assert.deepEqual(await client.lookup('p1'), { outcome: 'absent' });
  assert.equal((await charge('p1', 'pm_flaky')).outcome, 'captured');
});

test('a refund is paid once; its charge still counts as captured', async (t) => {
  const { client, charge } = await sandboxFor(t);
  const captured = await charge('p1');
  const refund = { key: 'r1', charge: 'p1', amount: euros(1_999) };
  const first = await client.refund(refund);
  assert.equal(first.outcome, 'refunded');
  assert.match((first as { reference: string }).reference, /^re_/);
  assert.deepEqual(await client.refund(refund), first);
  assert.deepEqual(await client.lookup('p1'), captured);
  assert.deepEqual(await client.void('p1'), captured);
});

test('a refund that the provider fails is unknown until it works again', async (t) => {
  const { client, charge } = await sandboxFor(t);
  await charge('p1', 'pm_refund_flaky');
  const refund = { key: 'r1', charge: 'p1', amount: euros(1_999) };
  for (let n = 0; n < 3; n += 1) assert.match(detailOf(await client.refund(refund)), /^the provider failed with 500/);
  assert.equal((await client.refund(refund)).outcome, 'refunded');
});

test('a refusal that points to a bug is unknown and says so', async (t) => {
  const { client, charge } = await sandboxFor(t);
  await charge('p1');
  const another =
    'the provider refused the request as wrong with 422: {"key":"p1","error":"the key was used for another charge"}';
  assert.equal(detailOf(await charge('p1', 'pm_ok', 2_000)), another);
  assert.match(detailOf(await charge('p2', 'pm_nonsense')), /wrong with 422/);
  assert.match(detailOf(await charge('p 2')), /wrong with 404/);
  assert.match(detailOf(await client.lookup('../ledger')), /wrong with 404/);
  assert.match(
    detailOf(await client.refund({ key: 'r1', charge: 'p1', amount: { amount: 1, currency: 'USD' } })),
    /not in USD/,
  );
  assert.match(
    detailOf(await client.refund({ key: 'r1', charge: 'p1', amount: euros(2_000) })),
    /wrong with 422.*1999/,
  );
  assert.match(detailOf(await client.refund({ key: 'r1', charge: 'nowhere', amount: euros(1) })), /wrong with 404/);
});

test('a provider that is gone leaves every outcome unknown, and after its restart calls go on', async (t) => {
  const { client, charge, provider, restart } = await sandboxFor(t);
  const captured = await charge('p1');
  await provider.stop();
  assert.match(detailOf(await charge('p2')), /^the connection failed: ECONN(REFUSED|RESET)$/);
  assert.match(detailOf(await client.lookup('p1')), /ECONNREFUSED/);
  assert.match(detailOf(await client.void('p1')), /ECONNREFUSED/);
  assert.match(detailOf(await client.refund({ key: 'r1', charge: 'p1', amount: euros(1) })), /ECONNREFUSED/);
  const again = await restart();
  t.after(() => again.stop());
  assert.deepEqual(await charge('p1'), captured);
});

test('the traceparent is passed down with every call', async (t) => {
  const seen: unknown[] = [];
  const { url } = await serverFor(t, (request, response) => {
    seen.push([request.method, request.url, request.headers.traceparent]);
    response.end('{}');
  });
  const client = clientFor(t, `${url}/sandbox/`);
  await client.charge({ key: 'p1', orderId: 'o1', amount: euros(1), method: 'pm_ok', traceparent });
  await client.lookup('p1', traceparent);
  await client.void('p1', traceparent);
  await client.refund({ key: 'r1', charge: 'p1', amount: euros(1), traceparent });
  await client.lookup('p2');
  assert.deepEqual(seen, [
    ['PUT', '/sandbox/charges/p1', traceparent],
    ['GET', '/sandbox/charges/p1', traceparent],
    ['POST', '/sandbox/charges/p1/void', traceparent],
    ['PUT', '/sandbox/refunds/r1', traceparent],
    ['GET', '/sandbox/charges/p2', undefined],
  ]);
});

test('an answer that is not certain is unknown', async (t) => {
  let status = 200;
  let text = '';
  const { url } = await serverFor(t, (_request, response) => response.writeHead(status).end(text));
  const client = clientFor(t, url);
  const charge = { key: 'p1', orderId: 'o1', amount: euros(1), method: 'pm_ok' };
  const uncertain: [number, string, RegExp][] = [
    [200, '', /cannot be understood with 200, which is not JSON: $/],
    [200, 'null', /not JSON/],
    [200, '{"key":"p1","status":"captured"}', /cannot be understood with 200/],
    [200, '{"key":"p2","status":"captured","reference":"ch_1"}', /cannot be understood with 200/],
    [200, '{"key":"p1","status":"authorised","reference":"ch_1"}', /cannot be understood with 200/],
    [302, '{"key":"p1","status":"captured","reference":"ch_1"}', /cannot be understood with 302/],
    [404, '{"message":"no such route"}', /wrong with 404/],
    [500, '{"key":"p1","status":"captured","reference":"ch_1"}', /failed with 500/],
    [500, '{"key":"p1","status":"voided"}', /failed with 500/],
    [502, `<html>${'x'.repeat(1_000)}</html>`, /failed with 502, which is not JSON: <html>x{100,}$/],
    [200, `"${'x'.repeat(70_000)}"`, /longer than 65536 characters/],
  ];
  for (const [is, says, expected] of uncertain) {
    [status, text] = [is, says];
    const refund = { key: 'p1', charge: 'p1', amount: euros(1) };
    for (const call of [client.charge(charge), client.lookup('p1'), client.void('p1'), client.refund(refund)]) {
      const detail = detailOf(await call);
      assert.match(detail, expected);
      assert.ok(detail.length <= 300);
    }
  }
});

test('a reply that breaks off or stalls in its body is unknown, and its connection is given up', async (t) => {
  const { url, server } = await serverFor(t, (request, response) => {
    response.on('close', () => server.emit('given up'));
    response.writeHead(200, { 'content-length': 100 }).write('{"key":');
    if (request.url === '/charges/broken') setImmediate(() => response.destroy());
  });
  const client = clientFor(t, url, { timeoutMs: 300 });
  assert.equal(detailOf(await client.lookup('broken')), 'the connection failed: ECONNRESET');
  const givenUp = once(server, 'given up', { signal: AbortSignal.timeout(10_000) });
  assert.equal(detailOf(await client.lookup('stalled')), 'no answer within 300 ms');
  await givenUp;
});

test('calls beyond the limit wait their turn, in order, over as many connections as allowed', async (t) => {
  const arrived: string[] = [];
  const answers: (() => void)[] = [];
  const { url, server } = await serverFor(t, (request, response) => {
    arrived.push(request.url ?? '');
    answers.push(() => response.end(JSON.stringify({ key: request.url?.slice('/charges/'.length), status: 'voided' })));
    server.emit('arrived');
  });
  let connections = 0;
  server.on('connection', () => {
    connections += 1;
  });
  const client = clientFor(t, url, { concurrencyMax: 2 });
  assert.deepEqual(client.statistics(), { calls: 0, open: 0, oldestMs: 0 });
  const calls = Array.from({ length: 6 }, (_, n) => client.lookup(`p${n}`));
  for (let answered = 0; answered < 6; answered += 1) {
    while (arrived.length < Math.min(answered + 2, 6)) await once(server, 'arrived');
    assert.equal(arrived.length, Math.min(answered + 2, 6));
    const { oldestMs, ...counts } = client.statistics();
    assert.deepEqual(counts, { calls: 6, open: 6 - answered });
    assert.ok(oldestMs > 0);
    answers[answered]!();
    await calls[answered];
  }
  assert.deepEqual(
    (await Promise.all(calls)).map(({ outcome }) => outcome),
    Array<string>(6).fill('voided'),
  );
  assert.deepEqual(arrived.slice(2), ['/charges/p2', '/charges/p3', '/charges/p4', '/charges/p5']);
  assert.equal(connections, 2);
});

test('calls that wait too long, or for which there is no place to wait, were not sent', async (t) => {
  let arrived = 0;
  const { url } = await serverFor(t, () => {
    arrived += 1;
  });
  const client = clientFor(t, url, { timeoutMs: 300, concurrencyMax: 1, queueMax: 2 });
  const details = await Promise.all(Array.from({ length: 4 }, async (_, n) => detailOf(await client.void(`p${n}`))));
  const waited = 'not sent: no connection was free within 300 ms';
  assert.deepEqual(details, ['no answer within 300 ms', waited, waited, 'not sent: too many calls waiting']);
  assert.equal(arrived, 1);
});

test('close settles what is under way, what waits and what comes later', async (t) => {
  const { url, server } = await serverFor(t, () => server.emit('arrived'));
  const timers = timersRunning();
  const client = createProviderClient({ url, timeoutMs: 60_000, concurrencyMax: 1 });
  const calls = [client.lookup('p1'), client.lookup('p2')];
  await once(server, 'arrived');
  client.close();
  assert.deepEqual((await Promise.all(calls)).map(detailOf), [
    'no answer before the client was closed',
    'not sent: the client was closed',
  ]);
  assert.equal(detailOf(await client.lookup('p3')), 'not sent: the client is closed');
  assert.equal(timersRunning(), timers);
});

test('a call that cannot be put into words is unknown, and the next one goes through', async (t) => {
  const { client } = await sandboxFor(t);
  assert.match(detailOf(await client.lookup('p1', 'no\nheader')), /^not sent: Invalid character in header/);
  assert.deepEqual(await client.lookup('p1'), { outcome: 'absent' });
});

test('a url that is not http is refused at once', () => {
  const options = { timeoutMs: 1, concurrencyMax: 1 };
  assert.throws(() => createProviderClient({ ...options, url: 'ftp://127.0.0.1' }), /not http/);
  assert.throws(() => createProviderClient({ ...options, url: 'nowhere' }), /Invalid URL/);
});
