import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Database } from '#platform/postgres.ts';
import { testDatabase } from '../../tests/database.ts';
import { until } from '../../tests/shop-client.ts';
import { checkpointSchemaFolder } from './postgres-log.ts';
import { postgresParkedMessages } from './postgres-parked-messages.ts';

const consumer = 'stock-of-orders';
const at = '2026-01-02T04:00:00.000Z';

test('a message that is parked anew while somebody decides about it is decided about all the same', async (t) => {
  const database = await testDatabase(t, [checkpointSchemaFolder]);
  const parked = postgresParkedMessages(database);
  await database.query(
    'park',
    `insert into parked_messages (consumer, position, stream, event_id, type, cause, detail, attempts, parked_at, state)
     values ($1, 1, 'order-a', 'orders-0-1', 'OrderPlaced', 'broken', 'broken', 1, $2, 'parked')`,
    [consumer, at],
  );
  const retried = await whileParkedAnew(t, database, () => parked.retry({ consumer, position: 1 }, { by: 'ada', at }));
  assert.equal(retried.messages, 1);
  assert.deepEqual(
    (await parked.waiting(consumer)).map(({ state, attempts }) => [state, attempts]),
    [['retry', 2]],
  );
  const discarded = await whileParkedAnew(t, database, () =>
    parked.discard({ consumer, position: 1 }, { by: 'ada', at, reason: 'a test order' }),
  );
  assert.deepEqual([discarded?.state, discarded?.attempts], ['discarded', 3]);
  assert.deepEqual(await parked.waiting(consumer), []);
});

/** `decide` begins while an append that parks the message anew has it locked. */
async function whileParkedAnew<T>(t: TestContext, database: Database, decide: () => Promise<T>): Promise<T> {
  const append = await database.pin();
  t.after(() => append.release());
  await append.query('', 'begin');
  await append.query('', 'select from parked_messages for update');
  const decided = decide();
  await until('the decision waits for the row', async () => {
    const [row] = await database.query<{ waiting: number }>(
      '',
      `select count(*) as waiting from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
    );
    return row!.waiting > 0 ? true : null;
  });
  await append.query('', 'create temporary table old on commit drop as select * from parked_messages');
  await append.query('', 'delete from parked_messages');
  await append.query(
    '',
    `insert into parked_messages (consumer, position, stream, event_id, type, cause, detail, attempts, parked_at, state)
     select consumer, position, stream, event_id, type, cause, detail, attempts + 1, parked_at, 'parked' from old`,
  );
  await append.query('', 'commit');
  return decided;
}
