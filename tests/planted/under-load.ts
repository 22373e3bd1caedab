/** The walks of the audit raise no alarm while a sound system works as fast as it can. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Finding } from '../../src/audit/check.ts';
import { openWorld } from './world.ts';
import { newId, type Shop } from '../shop-client.ts';

const passes = 4;
const atOnce = 6;

test('pass after pass finds nothing while orders are placed, cancelled and shown, and read models are rebuilt', async (t) => {
  const world = await openWorld(t);
  const { findings, placed } = await world.running(async (shop) => {
    const { sku, customerId } = await shop.furnish(200);
    const enough = new AbortController();
    const buying = buy(shop, customerId, sku, enough.signal);
    const found: Finding[] = [];
    try {
      for (let pass = 1; pass <= passes; pass += 1) {
        if (pass === passes / 2) await rebuildAll(shop);
        found.push(...(await world.fullPass()));
      }
    } finally {
      enough.abort();
    }
    return { findings: found, placed: await buying };
  });
  assert.deepEqual(findings, []);
  assert.ok(placed > 100, `${placed} orders`);
  await world.comeToRest();
  assert.deepEqual(await world.fullPass(), []);
});

/** Orders of every kind, several at once; more than there is. Resolves to how many. */
async function buy(shop: Shop, customerId: string, sku: string, enough: AbortSignal): Promise<number> {
  const methods = ['pm_ok', 'pm_ok', 'pm_declined', 'pm_slow', 'pm_ok', 'pm_flaky'] as const;
  let next = 0;
  const buyer = async (): Promise<void> => {
    while (!enough.aborted) {
      const n = (next += 1);
      const orderId = await shop.place({
        orderId: newId('load'),
        customerId,
        sku,
        method: methods[n % methods.length]!,
      });
      if (n % 5 === 0) await shop.cancel(orderId);
      if (n % 50 === 0) await shop.putProduct(sku, { amount: n, currency: 'EUR' });
      if (n % 20 === 0) await shop.adjustStock(sku, 7);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, buyer));
  return next;
}

async function rebuildAll(shop: Shop): Promise<void> {
  const { status } = await shop.request('POST', '/v1/ops/projections/all/rebuild', { json: {} });
  assert.equal(status, 202);
}
