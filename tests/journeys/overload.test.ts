/** More than a system can take: it says so to some, serves the others, and is as before soon after. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'node:test';
import { auditAfter } from '../../load/audit-after.ts';
import { programDataDir, startTestProgram } from '../running-program.ts';
import { type OrderWish, until } from '../shop-client.ts';

/** Each sends a burst before it reads an answer: many at once, from a client that costs the machine little. */
const connections = 40;
const burst = 100;
const floodTimeoutMs = 30_000;
const turnedAwayWanted = 200;
const orderedWanted = 20;
const memoryGrowthMaxMb = 250;

test('a system that is flooded turns some away, serves the others, and recovers', { timeout: 120_000 }, async (t) => {
  const program = await startTestProgram(t, await programDataDir(t), { TWOFOLD_WAIT_MS: '1' });
  const { shop } = program;
  await shop.putProduct('A');
  await shop.adjustStock('A', 1_000_000);
  await shop.request('PUT', '/v1/customers/ada', { json: { name: 'Ada' } });
  const memoryBefore = memoryMb(program.pids().node);

  const wish = (orderId: string): OrderWish => ({
    orderId,
    customerId: 'ada',
    lines: [{ sku: 'A', quantity: 1 }],
    payment: { method: 'pm_ok' },
  });
  const turnedAway: string[] = [];
  const ordered: string[] = [];
  const others: string[] = [];
  const flood = new AbortController();
  const client = async (user: number): Promise<void> => {
    for (let n = 0; !flood.signal.aborted; n += 1) {
      const orderIds = Array.from({ length: burst / 2 }, (_, m) => `o-${user}-${n}-${m}`);
      const answers = await exchange(
        shop.address,
        orderIds.flatMap((orderId) => [
          httpText('GET', '/v1/products/A'),
          httpText('POST', '/v1/orders', wish(orderId)),
        ]),
      );
      assert.equal(answers.length, burst);
      for (const [m, answer] of answers.entries()) {
        const status = answer.slice(0, 3);
        if (status === '503') turnedAway.push(answer);
        else if (status === '201') ordered.push(orderIds[(m - 1) / 2]!);
        else if (status !== '200') others.push(answer);
      }
    }
  };
  const flooding = Promise.all(Array.from({ length: connections }, (_, n) => client(n)));
  await until(
    'many have been turned away',
    async () => (turnedAway.length >= turnedAwayWanted && ordered.length >= orderedWanted ? true : null),
    floodTimeoutMs,
  );
  assert.equal((await shop.get('/v1/ops/topology')).status, 200, 'operators are let in');
  assert.equal((await shop.get('/livez')).status, 200);
  flood.abort();
  await flooding;

  assert.deepEqual(others, []);
  for (const answer of turnedAway) {
    assert.match(answer, /"code":"overloaded"/);
    assert.match(answer, /^retry-after: \d+\r$/im);
    assert.match(answer, /^x-request-id: ./im);
  }
  const metrics = (await shop.get<string>('/metrics')).body;
  const counted = [...metrics.matchAll(/^twofold_http_requests_shed_total\{[^}]*\} (\d+)$/gm)].map(([, count]) =>
    Number(count),
  );
  assert.equal(
    counted.reduce((sum, count) => sum + count, 0),
    turnedAway.length,
  );
  assert.ok(memoryMb(program.pids().node) < memoryBefore + memoryGrowthMaxMb);

  // Nobody who comes alone is turned away any more; and all that was taken is done.
  await until(
    'an order is taken',
    async () => ((await shop.send(wish('last'))).status === 201 ? true : null),
    floodTimeoutMs,
  );
  for (let n = 0; n < 20; n += 1) {
    assert.equal((await shop.get('/v1/products/A')).status, 200);
    await delay(1);
  }
  for (const orderId of [...ordered, 'last'])
    await until(
      `${orderId} is completed`,
      async () =>
        (await shop.get<{ status?: string }>(`/v1/orders/${orderId}`)).body.status === 'completed' ? true : null,
      floodTimeoutMs,
    );
  const audit = await auditAfter(shop);
  assert.deepEqual(audit.kind === 'ended' ? audit.divergences : audit, []);
});

function httpText(method: string, path: string, json?: unknown): string {
  const body = json === undefined ? '' : JSON.stringify(json);
  const type = json === undefined ? '' : `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n`;
  return `${method} ${path} HTTP/1.1\r\nHost: shop\r\n${type}\r\n${body}`;
}

/** Sends all the requests at once, on a connection of their own; resolves to the answers, each from its status on. */
async function exchange(address: string, requests: readonly string[]): Promise<string[]> {
  const last = 'GET /livez HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n';
  const { hostname, port } = new URL(address);
  const socket = connect(Number(port), hostname);
  socket.write(requests.join('') + last);
  return (await text(socket)).split('HTTP/1.1 ').slice(1, -1);
}

const memoryMb = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1_024;
