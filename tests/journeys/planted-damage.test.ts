/** The auditor of the journeys is audited: each kind of damage is planted once and seen, and a sound system raises no alarm. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openDatabase } from '#platform/postgres.ts';
import { databaseOwners, type DatabaseOwner } from '#platform/settings.ts';
import { checkInvariants, type Journal, readEvidence, untilAtRest, violations } from '../invariants.ts';
import type { DatabaseUrls } from '../running-program.ts';
import { startTestSystem } from '../running-system.ts';
import { newId } from '../shop-client.ts';

/** What is done to the rows of one service, and which invariant that breaks. */
const damages: readonly (readonly [invariant: string, what: string, owner: DatabaseOwner, statement: string])[] = [
  ['I2', 'an event is lost', 'ordering', 'delete from events where position = (select max(position) from events)'],
  ['I2', 'a version is missing', 'ordering', `update events set version = 9 where type = 'OrderCompleted'`],
  ['I2', 'the head is ahead of the events', 'payments', 'update log_head set position = position + 1'],
  ['I3', 'a checkpoint is ahead of its log', 'inventory', 'update checkpoints set position = position + 10000'],
  ['I3', 'a read model is behind', 'queries', `update checkpoints set position = 1 where consumer like 'orders-%'`],
  [
    'I4',
    'stock is shipped twice for one message',
    'inventory',
    `insert into events (position, at, version, slot, stream, type, data, origin)
     select (select max(position) + 1 from events), at, version + 1, slot, stream, type, data, origin
     from events where type = 'StockShipped' limit 1`,
  ],
  ['I5', 'a piece appears', 'inventory', 'update stock set on_hand = on_hand + 1'],
  [
    'I6',
    'more is sold than ever came in',
    'inventory',
    `update events set data = json_build_object('sku', data ->> 'sku', 'quantity', 1, 'reason', '') where type = 'StockAdjusted'`,
  ],
  ['I7', 'a capture is forgotten', 'payments', `update payments set captured = 0 where status = 'captured'`],
  [
    'I9',
    'a paid order is called cancelled',
    'ordering',
    `update events set type = 'OrderCancelled', data = json_build_object('orderId', data ->> 'orderId', 'was', 'reserved')
     where type = 'OrderCompleted'`,
  ],
  [
    'I9',
    'an unpaid order is called complete',
    'ordering',
    `update events set type = 'OrderCompleted', data = json_build_object('orderId', data ->> 'orderId', 'paymentId', 'x')
     where type = 'OrderFailed'`,
  ],
  ['I10', 'an order is shown in another status', 'queries', `update orders set status = 'cancelled'`],
  ['I10', 'an order is not shown', 'queries', `delete from orders where status = 'failed'`],
  ['I10', 'stock is shown that is not there', 'queries', 'update products set reserved = reserved + 1'],
  ['I10', 'a customer seems to have spent more', 'queries', `update customers set spent = '{"EUR":"1"}'`],
  [
    'I10',
    'an order that has ended is listed as open',
    'queries',
    'insert into open_orders select order_id from orders',
  ],
  ['I10', 'a failed order is not listed', 'queries', 'delete from unfulfilled_orders'],
  ['I10', 'a customer seems to have ordered more', 'queries', 'update customers set orders = orders + 1'],
  ['I10', 'sales are reported that never were', 'queries', 'update sales_hours set revenue = revenue + 1'],
  ['I10', 'a payment is shown at an older version', 'queries', 'update order_payments set version = version - 1'],
  ['I10', 'the history lacks an event', 'queries', `delete from order_events where type = 'StockReserved'`],
  [
    'I13',
    'a key was answered with an order that is not there',
    'ordering',
    `update idempotency_keys set answer = replace(answer::text, '"orderId":"', '"orderId":"x')::json`,
  ],
  ['I14', 'an order was delivered and left no trace', 'inventory', `delete from events where type = 'StockRejected'`],
  [
    'I14',
    'a message had its effect twice',
    'payments',
    `insert into events (position, at, version, slot, stream, type, data, origin)
     select (select max(position) + 1 from events), at, 9, slot, stream, type, data, origin
     from events where type = 'PaymentRequested' limit 1`,
  ],
  [
    'I14',
    'a message is parked that had its effect',
    'inventory',
    `insert into parked_messages
       (consumer, position, stream, event_id, type, cause, detail, attempts, parked_at, state)
     select e.origin ->> 'actor', substr(e.origin ->> 'causationId', 12)::bigint, 'order-' || substr(e.stream, 13),
       e.origin ->> 'causationId', 'OrderPlaced', 'planted', '', 1, now(), 'parked'
     from events e where e.type = 'StockReserved' limit 1`,
  ],
  [
    'I14',
    'a message is parked that was never delivered',
    'payments',
    `insert into parked_messages
       (consumer, position, stream, event_id, type, cause, detail, attempts, parked_at, state)
     select consumer, position + 1000, 'order-x', 'ordering-0-' || (position + 1000), 'OrderReserved', 'planted', '', 1,
       now(), 'parked'
     from checkpoints limit 1`,
  ],
  [
    'I15',
    'an order completes that never held its stock',
    'ordering',
    `update events set type = 'OrderPaymentInDoubt' where type = 'OrderReserved'`,
  ],
  [
    'I15',
    'a payment is refunded that nobody asked to refund',
    'payments',
    `update events set type = 'PaymentRefunded' where type = 'PaymentCaptured'`,
  ],
  ['I17', 'an event is in another slot', 'catalog', 'update events set slot = (slot + 1) % 1024'],
  ['I20', 'a timer never fired', 'ordering', `update streams set due_at = now() where stream like 'order-%'`],
  ['I20', 'an order never ends', 'ordering', `delete from events where type in ('OrderCompleted', 'OrderFailed')`],
  ['I21', 'a stored state is another', 'payments', `update streams set state = '{"status":"declined"}'`],
  ['I21', 'a stored state is missing', 'inventory', `delete from streams where stream like 'stock-%'`],
  ['I21', 'an order row has another total', 'ordering', 'update orders set total = total + 1'],
  ['I21', 'an order line has another quantity', 'ordering', 'update order_lines set quantity = quantity + 1'],
  ['I21', 'a product row has another price', 'catalog', 'update products set price = price + 1'],
];

test('damage of every kind is seen, and a sound system raises no alarm', async (t) => {
  const system = await startTestSystem(t);
  const { shop, databaseUrls, providerUrl } = system;
  const { sku, customerId } = await shop.furnish(5);
  const refused = newId('refused');
  const completed = await shop.place({ customerId, sku, quantity: 2 }, { 'idempotency-key': 'a-key' });
  const failed = await shop.place({ customerId, sku, quantity: 9 });
  const declined = await shop.place({ customerId, sku, method: 'pm_declined' });
  const cancelled = await shop.place({ customerId, sku, method: 'pm_slow' });
  const cancelling = await shop.cancel(cancelled, { 'idempotency-key': 'cancel-key' });
  assert.equal(cancelling.status, 200, JSON.stringify(cancelling.body));
  assert.equal((await shop.send({ orderId: refused, customerId: 'nobody', sku })).status, 422);
  await untilAtRest(databaseUrls);
  // Nothing else writes from here on.
  await system.stop();
  const journal = {
    placed: [completed, failed, declined, cancelled],
    refused: [refused],
    unknown: [newId('lost')],
    cancelled: [cancelled],
    notCancelled: [completed],
    answers: [{ key: 'cancel-key', status: cancelling.status, body: cancelling.body }],
  };
  assert.deepEqual(await checkInvariants(databaseUrls, providerUrl, journal), []);

  for (const [invariant, what, owner, statement] of damages) {
    await t.test(`${invariant}: ${what}`, async () => {
      const found = await violationsAfter(databaseUrls, providerUrl, owner, statement);
      assert.ok(found.includes(invariant), `found: ${found.join(', ') || 'nothing'}`);
    });
  }

  const foundIn = async (claimed: Journal): Promise<string[]> =>
    (await checkInvariants(databaseUrls, providerUrl, claimed)).map(({ invariant }) => invariant);
  await t.test('I1: an order that was confirmed is not there', async () => {
    assert.deepEqual(await foundIn({ placed: [refused], refused: [] }), ['I1']);
  });
  await t.test('I1: an order that was refused is there', async () => {
    assert.deepEqual(await foundIn({ placed: [], refused: [failed] }), ['I1']);
  });
  await t.test('I1: an order that was confirmed cancelled is not', async () => {
    assert.deepEqual(await foundIn({ placed: [], refused: [], cancelled: [completed] }), ['I1']);
  });
  await t.test('I1: an order that could not be cancelled is', async () => {
    assert.deepEqual(await foundIn({ placed: [], refused: [], notCancelled: [cancelled] }), ['I1']);
  });
  await t.test('I1: an answer is not the one that is kept under its key', async () => {
    const answers = [{ key: 'a-key', status: 201, body: { orderId: failed } }];
    assert.deepEqual(await foundIn({ placed: [], refused: [], answers }), ['I1']);
  });
  await t.test('I1: an answer was given under a key that is not there', async () => {
    const answers = [{ key: 'another-key', status: 201, body: {} }];
    assert.deepEqual(await foundIn({ placed: [], refused: [], answers }), ['I1']);
  });
  await t.test('I8: an order is charged twice', async () => {
    const charge = { amount: 2_000, currency: 'EUR', method: 'pm_ok', orderId: completed };
    const answer = await fetch(`${providerUrl}/charges/another-key`, { method: 'PUT', body: JSON.stringify(charge) });
    assert.equal(answer.status, 201);
    assert.ok((await foundIn(journal)).includes('I8'));
  });
});

/** The invariants that do not hold after `statement`, which is taken back. */
async function violationsAfter(
  urls: DatabaseUrls,
  providerUrl: string,
  owner: DatabaseOwner,
  statement: string,
): Promise<string[]> {
  const entries = databaseOwners.map((one) => [
    one,
    openDatabase(urls[one], { applicationName: 'damage', poolMax: 1 }),
  ]);
  const databases = Object.fromEntries(entries) as Record<DatabaseOwner, ReturnType<typeof openDatabase>>;
  const takenBack = new Error('taken back');
  let found: string[] = [];
  try {
    await databases[owner].transaction(async (sql) => {
      await sql.query('damage', statement);
      found = violations(await readEvidence({ ...databases, [owner]: sql }, providerUrl)).map((one) => one.invariant);
      throw takenBack;
    });
  } catch (error) {
    if (error !== takenBack) throw error;
  } finally {
    await Promise.all(databaseOwners.map((one) => databases[one].end()));
  }
  return found;
}
