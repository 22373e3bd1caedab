import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CustomerView } from '#contracts/http.ts';
import {
  customerRegistered,
  orderEvent,
  orderPlaced,
  type ReadSide,
  readSideForTests,
  readSideOn,
  story,
} from './story-for-tests.ts';

const url = '/v1/customers/:customerId';
const alice = { params: { customerId: 'alice' } };
const etagOf = async (side: ReadSide): Promise<string | undefined> => {
  const answer = await side.ask(url, alice);
  return 'bytes' in answer ? answer.etag : undefined;
};

test('a customer is shown with what the orders come to', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  await side.given(tell(customerRegistered('alice', { name: 'Alice', email: 'a@example.org', country: 'France' })));
  assert.deepEqual(await side.see(url, alice), {
    customerId: 'alice',
    name: 'Alice',
    email: 'a@example.org',
    country: 'France',
    orders: 0,
    spent: [],
    version: 1,
  });
  assert.equal(await etagOf(side), '1');

  const lines = [{ sku: 'A', name: 'A', quantity: 2, unitPrice: 50 }];
  await side.given(
    tell(orderPlaced('o1', { placedAt: '2011-03-01T00:00:00Z' })),
    tell(orderPlaced('o2', { placedAt: '2011-02-01T00:00:00Z', currency: 'EUR', lines })),
    tell(orderPlaced('o3', { lines })),
    tell(orderEvent.reserved('o1')),
    tell(orderEvent.completed('o1')),
    tell(orderEvent.cancelled('o3', 'pending')),
  );
  assert.equal(await etagOf(side), '1.4');
  await side.given(tell(orderEvent.reserved('o2')), tell(orderEvent.completed('o2')));
  await side.given(tell({ type: 'CustomerChanged', data: { customerId: 'alice', name: 'Alice B.' } }));
  const expected: CustomerView = {
    customerId: 'alice',
    name: 'Alice B.',
    orders: 3,
    spent: [
      { amount: 100, currency: 'EUR' },
      { amount: 1_530, currency: 'GBP' },
    ],
    lastOrderAt: '2011-03-01T00:00:00.000Z',
    version: 2,
  };
  assert.deepEqual(await side.see(url, alice), expected);
  assert.equal(await etagOf(side), '2.5');
  assert.deepEqual(await readSideOn(side.database).see(url, alice), expected);
});

test('a customer sees itself only, and an unknown one is not found', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  await side.given(
    tell(customerRegistered('alice')),
    tell(customerRegistered('bob')),
    tell(orderPlaced('o1', { customerId: 'carol' })),
  );
  const caller = { role: 'customer', customerId: 'bob' } as const;
  assert.ok('bytes' in (await side.ask(url, alice)));
  for (const request of [
    { ...alice, caller },
    { params: { customerId: 'carol' } },
    { params: { customerId: 'nobody' } },
  ]) {
    const answer = await side.ask(url, request);
    assert.equal('refused' in answer && answer.refused.code, 'customer-not-found');
  }
  assert.equal((await side.see<CustomerView>(url, { params: { customerId: 'bob' }, caller })).customerId, 'bob');
});

test('the orders of a customer come newest first, page by page', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  await side.given(
    tell(customerRegistered('alice')),
    ...['a', 'b', 'c'].map((orderId, day) => tell(orderPlaced(orderId, { placedAt: `2011-01-0${day + 1}T00:00:00Z` }))),
    tell(orderPlaced('other', { customerId: 'bob' })),
  );
  type Page = { items: { orderId: string }[]; nextCursor: string | null };
  const first = await side.see<Page>(`${url}/orders`, { ...alice, query: { limit: 2 } });
  const second = await side.see<Page>(`${url}/orders`, { ...alice, query: { limit: 2, cursor: first.nextCursor } });
  assert.deepEqual(
    [...first.items, ...second.items].map(({ orderId }) => orderId),
    ['c', 'b', 'a'],
  );
  assert.equal(second.nextCursor, null);
  const unknown = await side.ask(`${url}/orders`, { params: { customerId: 'nobody' } });
  assert.equal('refused' in unknown && unknown.refused.code, 'customer-not-found');
});

test('a customer who is new or has ordered is answered from memory, the same bytes as the row', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  for (const happened of [
    [tell(customerRegistered('alice', { name: 'Alice' }))],
    [tell(orderPlaced('o1'))],
    [tell(orderEvent.reserved('o1')), tell(orderEvent.completed('o1'))],
  ]) {
    side.models.forgetAnswers();
    await side.given(...happened);
    const { hits, misses } = side.models.cacheStats();
    const first = await side.ask(url, alice);
    assert.deepEqual([side.models.cacheStats().hits, side.models.cacheStats().misses], [hits + 1, misses]);
    assert.deepEqual(await readSideOn(side.database, { cacheMb: 0 }).ask(url, alice), first);
  }
});
