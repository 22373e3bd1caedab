/** The services in several processes on the same databases, as when they run on several machines. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OrderPlacedAnswer, OrderView, ProductView } from '#contracts/http.ts';
import { checkInvariants, untilAtRest } from '../invariants.ts';
import { startTestSystem } from '../running-system.ts';
import { newId, type Reply, type Shop } from '../shop-client.ts';

const tokenOf = ({ headers }: Reply<unknown>): { 'consistency-token': string } => ({
  'consistency-token': headers.get('consistency-token')!,
});

test('what is written in one process is read in another, under its token', async (t) => {
  const commands = await startTestSystem(t, { services: ['catalog', 'ordering', 'inventory', 'payments', 'audit'] });
  const queries = await startTestSystem(t, { services: ['queries'], beside: commands });
  const ordering = await startTestSystem(t, { services: ['ordering'], beside: commands });
  const moreQueries = await startTestSystem(t, { services: ['queries'], beside: commands });
  const readers = [queries.shop, moreQueries.shop];
  const writers = [commands.shop, ordering.shop];
  const wait = { prefer: 'wait=5' };
  const customerId = newId('customer');
  await commands.shop.putCustomer(customerId);

  await t.test('a product that was put in one process can be ordered in another at once', async () => {
    for (let n = 0; n < 20; n += 1) {
      const sku = newId('sku');
      const put = await commands.shop.putProduct(sku);
      const placed = await ordering.shop.send({ customerId, sku }, { ...tokenOf(put), ...wait });
      assert.equal(placed.status, 201, JSON.stringify(placed.body));
    }
  });

  await t.test('an order is there in every reading process as soon as it was placed in any writing one', async () => {
    const { sku } = await commands.shop.furnish(1_000);
    for (let n = 0; n < 40; n += 1) {
      const placed = await writers[n % 2]!.send({ customerId, sku }, wait);
      assert.equal(placed.status, 201, JSON.stringify(placed.body));
      const reads = await Promise.all(
        readers.map((reader) =>
          reader.get<OrderView>(`/v1/orders/${placed.body.orderId}`, { ...tokenOf(placed), ...wait }),
        ),
      );
      for (const read of reads) assert.deepEqual([read.status, read.body.orderId], [200, placed.body.orderId]);
    }
  });

  await t.test('a session that reads here and there never goes back', async () => {
    const { sku } = await commands.shop.furnish(10);
    let seen = await commands.shop.send({ customerId, sku }, wait);
    let token = tokenOf(seen);
    let version = 1;
    for (let n = 0, status = ''; status !== 'completed'; n += 1) {
      const path = `/v1/orders/${seen.body.orderId}`;
      const read: Reply<OrderView> = await readers[n % 2]!.get<OrderView>(path, { ...token, ...wait });
      assert.equal(read.status, 200, JSON.stringify(read.body));
      assert.ok(read.body.version >= version, `version ${read.body.version} after ${version}`);
      ({ version, status } = read.body);
      token = tokenOf(read);
    }
  });

  await t.test('one key in two processes at once is one order', async () => {
    const { sku } = await commands.shop.furnish(100);
    for (let n = 0; n < 20; n += 1) {
      const headers = { 'idempotency-key': newId('key') };
      const answers = await Promise.all(writers.map((writer) => untilAnswered(writer, { customerId, sku }, headers)));
      assert.deepEqual(answers[0], answers[1]);
    }
  });

  await t.test('300 orders of 100 pieces, placed in two processes, sell each piece once', async () => {
    const { sku } = await commands.shop.furnish(100);
    const replies = await Promise.all(
      Array.from({ length: 300 }, (_, n) => writers[n % 2]!.send({ customerId, sku }, wait)),
    );
    assert.deepEqual([...new Set(replies.map(({ status }) => status))], [201]);
    await untilAtRest(commands.databaseUrls);
    const statuses = await Promise.all(
      replies.map(
        async ({ body }, n) => (await readers[n % 2]!.get<OrderView>(`/v1/orders/${body.orderId}`)).body.status,
      ),
    );
    assert.deepEqual(
      ['completed', 'failed'].map((status) => statuses.filter((one) => one === status).length),
      [100, 200],
    );
    for (const reader of readers) {
      const { body } = await reader.get<ProductView>(`/v1/products/${sku}`);
      assert.deepEqual(body.availability, { onHand: 0, reserved: 0, available: 0 });
    }
    const journal = { placed: replies.map(({ body }) => body.orderId), refused: [] };
    assert.deepEqual(await checkInvariants(commands.databaseUrls, commands.providerUrl, journal), []);
  });

  await t.test('what one process does not carry it does not offer', async () => {
    assert.equal((await queries.shop.send({ customerId, sku: 'a' })).status, 405);
    assert.equal((await ordering.shop.get('/v1/orders')).status, 405);
    assert.equal((await ordering.shop.get('/v1/products')).status, 404);
  });
});

async function untilAnswered(
  shop: Shop,
  wish: { customerId: string; sku: string },
  headers: object,
): Promise<OrderPlacedAnswer> {
  for (;;) {
    const reply = await shop.send(wish, { ...headers, prefer: 'wait=5' });
    if (reply.status === 201) return reply.body;
    assert.equal(reply.status, 409, JSON.stringify(reply.body));
  }
}
