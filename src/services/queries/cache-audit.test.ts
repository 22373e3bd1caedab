import assert from 'node:assert/strict';
import { test } from 'node:test';
import { customerRegistered, orderPlaced, productAdded, readSideForTests, story } from './story-for-tests.ts';

test('answers that are not what their rows come to are named', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  await side.given(tell(productAdded('S1')), tell(customerRegistered('alice')));
  for (const orderId of ['o1', 'o2', 'o3']) await side.given(tell(orderPlaced(orderId)));
  await side.see('/v1/products/:sku', { params: { sku: 'S1' } });
  await side.see('/v1/customers/:customerId', { params: { customerId: 'alice' } });
  assert.equal(side.models.cacheStats().entries, 5);
  assert.deepEqual(await side.models.auditCache(100), []);

  const damage = (text: string) => side.database.query(text.slice(0, 60), text);
  await damage(`update orders set country = 'X', total = 1 where order_id = 'o1'`);
  await damage(`delete from orders where order_id = 'o2'`);
  await damage(`update products set version = 0 where sku = 'S1'`);
  await damage(`update customers set revision = revision + 1, orders = 7`);
  const found = await side.models.auditCache(100);
  assert.deepEqual(
    found.sort((a, b) => (a.key < b.key ? -1 : 1)),
    [
      { key: 'order/o1', difference: 'other-bytes', kept: '1', row: '1' },
      { key: 'order/o2', difference: 'no-row', kept: '1', row: null },
      { key: 'product/S1', difference: 'newer-than-its-row', kept: '1', row: '0' },
    ],
    'the customer is only behind its row',
  );
  for (let n = 0; n < 20; n += 1) assert.ok((await side.models.auditCache(1)).length <= 1);
});
