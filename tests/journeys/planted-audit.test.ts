/** Some of the kinds of damage that `npm run audit:planted` plants, of every walk and every way of settling them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemPorts } from '#platform/ports.ts';
import type { Finding } from '../../src/audit/check.ts';
import { createWalks } from '../../src/audit/walks.ts';
import { sourceOf } from '../../src/service-map.ts';
import { type Kind, kinds } from '../planted/kinds.ts';
import { plant } from '../planted/plant.ts';
import { openWorld, type World } from '../planted/world.ts';

const chosen = [
  'an order is shown in another status',
  'a history has an event that never was',
  'a customer seems to have spent something else',
  'a product is shown at another price',
  'a stored state is another',
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
  await t.test('rows that another version of the program has made are left alone, and said to be', async () => {
    const { queries } = world.databases;
    const before = await world.dump();
    const damages = {
      orders: `update orders set total = 1 where order_id = '${world.orders.completed}'`,
      order_payments: `update order_payments set version = version + 1 where order_id = '${world.orders.completed}'`,
      order_events: `delete from order_events where order_id = '${world.orders.completed}' and type = 'OrderPlaced'`,
      customers: `update customers set orders = orders + 1 where customer_id = '${world.customerId}'`,
      sales_hours: 'update sales_hours set units = units + 1 where id = (select min(id) from sales_hours)',
      products: `update products set on_hand = on_hand + 1 where sku = '${world.sku}'`,
    };
    for (const statement of Object.values(damages)) await queries.query('', statement);
    const findings = await world.fullPass();
    assert.deepEqual(tablesOf(findings), new Set(Object.keys(damages)));
    const moveVersion = (name: string, by: number): Promise<unknown> =>
      queries.query('', 'update read_models set version = version + $2 where name = $1', [name, by]);
    for (const [name, left] of [
      ['orders', ['orders', 'customers', 'sales_hours']],
      ['payments', ['order_payments']],
      ['history', ['order_events']],
      ['customers', ['customers']],
      ['sales', ['sales_hours']],
      ['products', ['products']],
    ] as const) {
      await moveVersion(name, 1);
      const found = await world.fullPass();
      assert.deepEqual(tablesOf(findings).difference(tablesOf(found)), new Set(left), name);
      for (const finding of findings.filter(({ entity }) => left.some((table) => entity.split('/')[1] === table))) {
        const again = await world.lookAt(finding);
        assert.ok(!again.some(({ entity }) => entity === finding.entity), finding.entity);
        await assert.rejects(world.repair(finding), /no longer as it was found/, finding.entity);
      }
      await moveVersion(name, -1);
    }
    for (const finding of findings) await world.repair(finding);
    assert.deepEqual([await world.fullPass(), await world.dump()], [[], before]);

    await moveVersion('orders', 1);
    const leftOut = 'orders is of version 2, this program makes version 1: it was left out';
    await assert.rejects(
      world.goRound(() => false),
      ({ errors }: AggregateError) => errors.length === 2 && errors.every((error) => error === leftOut),
    );
    await moveVersion('orders', -1);
  });
  await t.test('sums of more orders than are looked up are left alone, what else their rows show is not', async () => {
    const { queries } = world.databases;
    const before = await world.dump();
    const { customerId, orders } = world;
    for (const table of ['orders', 'placed_orders']) {
      const columns = (await queries.query<{ name: string }>('', columnsSql, [table])).map(({ name }) => name).join();
      await queries.query(
        '',
        `insert into ${table} (order_id, ${columns}) select 'invented-' || n, ${columns} from ${table}, generate_series(1, 20001) n
         where order_id = $1`,
        [orders.completed],
      );
    }
    assert.deepEqual(await sumsOf(world), []);
    await queries.query('', `update customers set profile = '{"name":"Nobody"}' where customer_id = $1`, [customerId]);
    await queries.query('', 'update customers set orders = orders + 1 where customer_id <> $1', [customerId]);
    const found = await sumsOf(world);
    assert.equal(found.length, 2, JSON.stringify(found));
    for (const finding of found) await world.repair(finding);
    for (const table of ['orders', 'placed_orders'])
      await queries.query('', `delete from ${table} where order_id like 'invented-%'`);
    assert.deepEqual(await world.dump(), before);
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

const tablesOf = (findings: readonly Finding[]): Set<string> =>
  new Set(findings.map(({ entity }) => entity.split('/')[1]!));

const columnsSql = `select attname as name from pg_attribute
  where attrelid = $1::regclass and attnum > 0 and not attisdropped and attname <> 'order_id'`;

/** What one pass says of the rows that add up orders. */
async function sumsOf({ databases, providerUrl }: World): Promise<Finding[]> {
  const parts = { databases, sourceOf, providerUrl, ports: systemPorts, idempotencyRetentionHours: 48 };
  const walk = createWalks(parts).find(({ name }) => name === 'read-sums')!;
  const findings: Finding[] = [];
  for (let after: string | null = null; ;) {
    const piece = await walk.look(after, 500);
    findings.push(...piece.findings);
    if (piece.next === null) return findings;
    after = piece.next;
  }
}

async function afterDamage(world: World, statement: string) {
  await world.databases.queries.query('', statement);
  return world.fullPass();
}
