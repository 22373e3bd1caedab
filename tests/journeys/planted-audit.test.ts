/** Some of the kinds of damage that `npm run audit:planted` plants, of every walk and every way of settling them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Kind, kinds } from '../planted/kinds.ts';
import { plant } from '../planted/plant.ts';
import { openWorld } from '../planted/world.ts';

const chosen = [
  'an order is shown in another status',
  'an order is not shown',
  'a history has an event that never was',
  'a customer seems to have spent something else',
  'an hour of sales is missing',
  'stock is shown that is not there',
  'a product is shown at another price',
  'a stored state is another',
  'a stored state is missing',
  'an order line has another quantity',
  'a state of stock is off by one',
  "an event's payload is edited",
  'an order is charged twice at the provider',
  'a product is offered at another price than the catalogue says',
  'a key is kept for too long',
];

test('planted damage is found by one pass, as what it is and as nothing else, and settled', async (t) => {
  const world = await openWorld(t);
  await t.test('a sound system has no finding', async () => {
    assert.deepEqual(await world.fullPass(), []);
    assert.deepEqual(await world.lookAtFreshest(100), []);
  });
  for (const name of chosen) {
    await t.test(name, async () => {
      const kind: Kind | undefined = Object.values(kinds)
        .flat()
        .find((one) => one.name === name);
      assert.ok(kind !== undefined, 'there is no such kind');
      assert.deepEqual((await plant(world, kind)).problems, []);
    });
  }
  await t.test('what is no longer wrong is not repaired', async () => {
    const [finding] = await afterDamage(
      world,
      `update orders set total = 1 where order_id = '${world.orders.completed}'`,
    );
    assert.ok(finding !== undefined);
    await world.repair(finding);
    await assert.rejects(world.repair(finding), /no longer as it was found/);
  });
});

async function afterDamage(world: Awaited<ReturnType<typeof openWorld>>, statement: string) {
  await world.databases.queries.query('', statement);
  return world.fullPass();
}
