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
  await t.test('rows that lack what waits as a dead letter are no divergence', async () => {
    const { queries, payments } = world.databases;
    const text = 'select position, stream from events order by position desc limit 1';
    const [event] = await payments.query<{ position: number; stream: string }>('', text);
    const moveBy = (by: number): Promise<unknown> =>
      queries.query('', `update checkpoints set position = position + $1 where source = 'payments.0'`, [by]);
    await queries.query('', `insert into consumer_pauses values ('projections-of-payments.0', true, 'test', now())`);
    // The rows as they were before the last event, which is parked then.
    await moveBy(-1);
    const ahead = (await world.fullPass()).filter(({ repairs }) => repairs.length > 0);
    assert.equal(ahead.length, 2, 'a payment and its history');
    for (const finding of ahead) await world.repair(finding);
    await moveBy(1);
    await queries.query(
      '',
      `insert into parked_messages (consumer, position, stream, event_id, type, cause, detail, attempts, parked_at, state)
       values ('projections-of-payments.0', $1, $2, '', '', 'planted', '', 5, now(), 'parked')`,
      [event!.position, event!.stream],
    );
    assert.deepEqual(await world.fullPass(), []);
  });
});

async function afterDamage(world: Awaited<ReturnType<typeof openWorld>>, statement: string) {
  await world.databases.queries.query('', statement);
  return world.fullPass();
}
