/** More than a system can take: it says so to some, serves the others, and is as before soon after. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'node:test';
import { auditAfter } from '../../load/audit-after.ts';
import { programDataDir, startTestProgram } from '../running-program.ts';
import { type Problem, type Reply, until } from '../shop-client.ts';

const clients = 1_000;
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

  const turnedAway: Reply<Problem>[] = [];
  const ordered: string[] = [];
  const others: Reply<unknown>[] = [];
  const flood = new AbortController();
  const client = async (user: number): Promise<void> => {
    for (let n = 0; !flood.signal.aborted; n += 1) {
      const orderId = `o-${user}-${n}`;
      const reply = n % 2 === 0 ? await shop.get('/v1/products/A') : await order(orderId);
      if (reply.status === 503) turnedAway.push(reply);
      else if (reply.status === 201) ordered.push(orderId);
      else if (reply.status !== 200) others.push(reply);
    }
  };
  const order = (orderId: string): Promise<Reply<Problem>> =>
    shop.request('POST', '/v1/orders', {
      json: { orderId, customerId: 'ada', lines: [{ sku: 'A', quantity: 1 }], payment: { method: 'pm_ok' } },
    });
  const flooding = Promise.all(Array.from({ length: clients }, (_, n) => client(n)));
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
  for (const { headers, body } of turnedAway) {
    assert.equal(body.code, 'overloaded');
    assert.match(headers.get('retry-after')!, /^\d+$/);
    assert.match(headers.get('x-request-id')!, /./);
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
  await until('an order is taken', async () => ((await order('last')).status === 201 ? true : null), floodTimeoutMs);
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

const memoryMb = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1_024;
