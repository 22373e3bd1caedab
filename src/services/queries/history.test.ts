import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Caller } from '#contracts/routes.ts';
import { type EventRow, inCausalOrder } from './history.ts';
import { orderEvent, orderPlaced, readSideForTests, story } from './story-for-tests.ts';

const historyUrl = '/v1/orders/:orderId/history';
type History = {
  items: {
    id: string;
    type: string;
    service: string;
    actor: string;
    causation: string;
    at: string;
    version: number;
    data: object;
  }[];
};

test('an order tells what happened in all services, causes before effects, whatever the clocks say', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  const money = { amount: 1_530, currency: 'GBP' };
  const payment = { paymentId: 'p1', orderId: 'o1' };
  // The clock of inventory is ten minutes behind, that of payments ahead.
  const placed = tell(orderPlaced('o1'), { at: '2011-01-01T12:00:00Z', cause: 'request-7', actor: 'customer:alice' });
  const held = tell(
    {
      type: 'StockReserved',
      data: { orderId: 'o1', lines: [{ sku: 'A', quantity: 6 }], expiresAt: '2011-01-02T00:00:00Z' },
    },
    { at: '2011-01-01T11:50:01Z', cause: placed.event.id, actor: 'inventory' },
  );
  const reserved = tell(orderEvent.reserved('o1'), { at: '2011-01-01T12:00:02Z', cause: held.event.id });
  const requested = tell(
    {
      type: 'PaymentRequested',
      data: { ...payment, amount: money, method: 'pm_ok', settleBy: '2011-01-02T00:00:00Z' },
    },
    { at: '2011-01-01T12:10:03Z', cause: reserved.event.id },
  );
  const captured = tell(
    { type: 'PaymentCaptured', data: { ...payment, amount: money, providerReference: 'r' } },
    { at: '2011-01-01T12:10:04Z', cause: 'timer' },
  );
  const completed = tell(orderEvent.completed('o1'), { at: '2011-01-01T12:00:05Z', cause: captured.event.id });
  const shipped = tell(
    { type: 'StockShipped', data: { orderId: 'o1', lines: [{ sku: 'A', quantity: 6 }] } },
    { at: '2011-01-01T11:50:06Z', cause: completed.event.id },
  );
  const other = tell(orderPlaced('o2'));

  await side.given(requested, captured, held, shipped, placed, reserved, completed, other);
  const { items } = await side.see<History>(historyUrl, { params: { orderId: 'o1' } });
  assert.deepEqual(
    items.map(({ id }) => id),
    [placed, held, reserved, requested, captured, completed, shipped].map(({ event }) => event.id),
  );
  assert.deepEqual(items[0], {
    version: 1,
    type: 'OrderPlaced',
    at: '2011-01-01T12:00:00.000Z',
    data: placed.event.data,
    actor: 'customer:alice',
    causation: 'request-7',
    service: 'ordering',
    id: 'ordering-0-1',
  });
  const answer = await side.ask(historyUrl, { params: { orderId: 'o1' } });
  assert.equal('bytes' in answer && answer.etag, '7');
});

test('an order that only inventory knows has no history yet', async (t) => {
  const side = await readSideForTests(t);
  await side.given(story().tell({ type: 'ReservationBarred', data: { orderId: 'o1' } }));
  const answer = await side.ask(historyUrl, { params: { orderId: 'o1' } });
  assert.equal('refused' in answer && answer.refused.code, 'order-not-found');
});

test('what the audit found of an order is for operators', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  const placed = tell(orderPlaced('o1', { customerId: 'alice' }));
  const found = { ...placed.event, id: 'audit-0-1', stream: 'divergence-d1', type: 'DivergenceFound' };
  const data = { divergenceId: 'd1', orderId: 'o1', found: { total: 1 } };
  await side.given(placed, { service: 'audit', event: { ...found, data } });
  const typesFor = async (caller: Caller): Promise<string[]> => {
    const { items } = await side.see<History>(historyUrl, { params: { orderId: 'o1' }, caller });
    return items.map(({ type }) => type).sort();
  };
  assert.deepEqual(await typesFor({ role: 'operator' }), ['DivergenceFound', 'OrderPlaced']);
  assert.deepEqual(await typesFor({ role: 'customer', customerId: 'alice' }), ['OrderPlaced']);
});

const rows = fc
  .array(
    fc.record({ service: fc.constantFrom('a', 'b', 'c'), second: fc.integer({ min: 10, max: 20 }), cause: fc.nat() }),
    { minLength: 1, maxLength: 12 },
  )
  .map((drawn) =>
    drawn.map(({ service, second, cause }, n): EventRow => {
      const before = drawn.slice(0, n);
      const version = before.filter((one) => one.service === service).length + 1;
      const named = before[cause % (n + 1)];
      const nth = cause % (n + 1);
      const causation = named
        ? `${named.service}-0-${before.slice(0, nth).filter((one) => one.service === named.service).length + 1}`
        : 'request';
      return {
        id: `${service}-0-${version}`,
        service,
        position: version,
        stream: service,
        version,
        type: 'T',
        at: `2011-01-01T00:00:${second}.000Z`,
        actor: '',
        causation,
        data: '{}',
      };
    }),
  );

test('whatever order the rows come in, each cause and each earlier version comes first, and the answer is the same', () => {
  fc.assert(
    fc.property(rows, fc.infiniteStream(fc.nat()), (told, random) => {
      const ordered = inCausalOrder(told);
      assert.equal(ordered.length, told.length);
      const place = new Map(ordered.map((row, n) => [row.id, n]));
      for (const [n, row] of ordered.entries()) {
        assert.ok((place.get(row.causation) ?? -1) < n);
        assert.ok(row.version === 1 || place.get(`${row.service}-0-${row.version - 1}`)! < n);
      }
      const shuffled = [...told].map((row) => ({ row, key: random.next().value! })).sort((a, b) => a.key - b.key);
      assert.deepEqual(inCausalOrder(shuffled.map(({ row }) => row)), ordered);
    }),
  );
});

test('events that name each other as causes are still all told', () => {
  const row = { service: 'a', type: 'T', at: '2011-01-01T00:00:00.000Z', actor: '', data: '{}', version: 1 };
  const ring = inCausalOrder([
    { ...row, id: 'a-0-1', stream: 'x', position: 1, causation: 'a-0-2' },
    { ...row, id: 'a-0-2', stream: 'y', position: 2, causation: 'a-0-1' },
  ]);
  assert.deepEqual(
    ring.map(({ id }) => id),
    ['a-0-1', 'a-0-2'],
  );
});
