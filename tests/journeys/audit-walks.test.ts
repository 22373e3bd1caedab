import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemPorts } from '#platform/ports.ts';
import { openDatabase } from '#platform/postgres.ts';
import { databaseOwners } from '#platform/settings.ts';
import { createWalks } from '../../src/audit/walks.ts';
import { sourceOf } from '../../src/service-map.ts';
import { untilAtRest } from '../invariants.ts';
import { fullPass } from '../planted/full-pass.ts';
import { startTestSystem } from '../running-system.ts';

test('a sound system has no finding', async (t) => {
  const { shop, databaseUrls, providerUrl } = await startTestSystem(t);
  const { sku, customerId } = await shop.furnish(5);
  await shop.place({ customerId, sku, quantity: 2 });
  await shop.place({ customerId, sku, quantity: 9 });
  await shop.place({ customerId, sku, method: 'pm_declined' });
  await shop.cancel(await shop.place({ customerId, sku, method: 'pm_slow' }));
  await untilAtRest(databaseUrls);
  const databases = Object.fromEntries(
    databaseOwners.map((owner) => [owner, openDatabase(databaseUrls[owner], { applicationName: 'audit' })]),
  ) as never as Parameters<typeof createWalks>[0]['databases'];
  t.after(() => Promise.all(Object.values(databases).map((database) => database.end())));
  const walks = createWalks({ databases, sourceOf, providerUrl, ports: systemPorts, idempotencyRetentionHours: 24 });
  for (const walk of walks) console.log(walk.name, await walk.size(), JSON.stringify(await walk.look(null, 2)));
  assert.deepEqual(await fullPass(walks, 2), []);
  assert.deepEqual(await fullPass(walks), []);
});
