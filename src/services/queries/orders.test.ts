import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OrderView } from '#contracts/http.ts';
import type { Database } from '#platform/postgres.ts';
import {
  type Happened,
  orderEvent,
  orderPlaced,
  customerRegistered,
  readSideForTests,
  readSideOn,
  story,
  type Told,
} from './story-for-tests.ts';

type Page = { items: OrderView[]; nextCursor: string | null };
const orderUrl = '/v1/orders/:orderId';
const listUrl = '/v1/orders';
const ids = (page: Page): string[] => page.items.map(({ orderId }) => orderId);

test('a placed order is shown with its lines, total and times in UTC', async (t) => {
  const side = await readSideForTests(t);
  await side.given(
    story().tell(orderPlaced('o1', { placedAt: '2010-12-01T09:26:00+01:00' }), { at: '2010-12-01T08:26:01Z' }),
  );
  const answer = await side.ask(orderUrl, { params: { orderId: 'o1' } });
  assert.ok('bytes' in answer);
  assert.equal(answer.etag, '1');
  assert.deepEqual(JSON.parse(answer.bytes.toString()), {
    orderId: 'o1',
    customerId: 'alice',
    status: 'pending',
    lines: [{ sku: '85123A', name: 'White hanging heart', quantity: 6, unitPrice: { amount: 255, currency: 'GBP' } }],
    total: { amount: 1_530, currency: 'GBP' },
    payment: { status: 'none', method: 'pm_ok' },
    placedAt: '2010-12-01T08:26:00.000Z',
    updatedAt: '2010-12-01T08:26:01.000Z',
    version: 1,
  });
});

const fates: Record<string, { events: ((orderId: string) => Told)[]; status: string; payment: string }> = {
  'is reserved': { events: [orderEvent.reserved], status: 'reserved', payment: 'pending' },
  'is completed': { events: [orderEvent.reserved, orderEvent.completed], status: 'completed', payment: 'captured' },
  'is in doubt': { events: [orderEvent.reserved, orderEvent.inDoubt], status: 'reserved', payment: 'unknown' },
  'is out of stock': {
    events: [(id) => orderEvent.failed(id, 'pending', 'out-of-stock')],
    status: 'failed',
    payment: 'none',
  },
  'is declined': {
    events: [orderEvent.reserved, (id) => orderEvent.failed(id, 'reserved', 'payment-declined')],
    status: 'failed',
    payment: 'declined',
  },
  'times out while pending': {
    events: [(id) => orderEvent.failed(id, 'pending', 'timed-out')],
    status: 'failed',
    payment: 'none',
  },
  'times out while charged': {
    events: [orderEvent.reserved, (id) => orderEvent.failed(id, 'reserved', 'timed-out')],
    status: 'failed',
    payment: 'pending',
  },
  'times out in doubt': {
    events: [orderEvent.reserved, orderEvent.inDoubt, (id) => orderEvent.failed(id, 'reserved', 'timed-out')],
    status: 'failed',
    payment: 'unknown',
  },
  'is cancelled while pending': {
    events: [(id) => orderEvent.cancelled(id, 'pending')],
    status: 'cancelled',
    payment: 'none',
  },
  'is cancelled while reserved': {
    events: [orderEvent.reserved, (id) => orderEvent.cancelled(id, 'reserved')],
    status: 'cancelled',
    payment: 'pending',
  },
  'is cancelled and refunded': {
    events: [orderEvent.reserved, (id) => orderEvent.cancelled(id, 'reserved'), orderEvent.refunded],
    status: 'cancelled',
    payment: 'refunded',
  },
  'is cancelled and voided': {
    events: [orderEvent.reserved, (id) => orderEvent.cancelled(id, 'reserved'), orderEvent.voided],
    status: 'cancelled',
    payment: 'none',
  },
};

test('an order shows its fate, and that of its payment', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  for (const [name, { events, status, payment }] of Object.entries(fates)) {
    const orderId = name.replaceAll(' ', '-');
    await side.given(tell(orderPlaced(orderId)), ...events.map((event) => tell(event(orderId))));
    const order = await side.see<OrderView>(orderUrl, { params: { orderId } });
    assert.deepEqual([order.status, order.payment.status, order.version], [status, payment, 1 + events.length], name);
    assert.equal(order.failure !== undefined, status === 'failed', name);
  }
});

test('an order is answered from memory, the same bytes as its row, and never older', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  await side.given(tell(orderPlaced('o1')));
  await side.given(tell(orderEvent.reserved('o1')));
  const first = await side.ask(orderUrl, { params: { orderId: 'o1' } });
  assert.deepEqual([side.models.cacheStats().hits, side.models.cacheStats().misses], [1, 0]);
  const fromRow = await readSideOn(side.database, { cacheMb: 0 }).ask(orderUrl, { params: { orderId: 'o1' } });
  assert.deepEqual(fromRow, first);
});

test('events that a row already includes change neither row nor memory', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  const placed = tell(orderPlaced('o1'));
  const reserved = tell(orderEvent.reserved('o1'));
  await side.given(placed, reserved);
  for (const again of [[placed], [placed, reserved], [reserved]]) {
    side.models.forgetAnswers();
    await side.given(...again);
    assert.equal((await side.see<OrderView>(orderUrl, { params: { orderId: 'o1' } })).version, 2);
  }
});

test('an order that another worker has moved on meanwhile is folded from its row', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  await side.given(tell(orderPlaced('o1')));
  const reserved = tell(orderEvent.reserved('o1'));
  await readSideOn(side.database).given(reserved);
  await side.given(reserved, tell(orderEvent.completed('o1')));
  const order = await side.see<OrderView>(orderUrl, { params: { orderId: 'o1' } });
  assert.deepEqual([order.status, order.version], ['completed', 3]);
});

test('a gap in an order stops the batch, and nothing of the batch is kept', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  await side.given(tell(orderPlaced('o1')));
  tell(orderEvent.reserved('o1'));
  await assert.rejects(
    side.given(tell(orderPlaced('o2')), tell(orderEvent.completed('o1'))),
    /version 3 of order-o1, but its row is at 1/,
  );
  assert.ok('refused' in (await side.ask(orderUrl, { params: { orderId: 'o2' } })));
});

test('a customer sees its own orders only', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  await side.given(
    tell(customerRegistered('alice')),
    tell(orderPlaced('mine')),
    tell(orderPlaced('theirs', { customerId: 'bob' })),
  );
  const caller = { role: 'customer', customerId: 'alice' } as const;
  const codeOf = async (url: string, params: object) => {
    const answer = await side.ask(url, { params, caller });
    return 'refused' in answer ? answer.refused.code : 'seen';
  };
  for (const suffix of ['', '/history', '/payments']) {
    assert.equal(await codeOf(`${orderUrl}${suffix}`, { orderId: 'mine' }), 'seen');
    assert.equal(await codeOf(`${orderUrl}${suffix}`, { orderId: 'theirs' }), 'order-not-found');
    assert.equal(await codeOf(`${orderUrl}${suffix}`, { orderId: 'nobodys' }), 'order-not-found');
  }
  assert.deepEqual(ids(await side.see(listUrl, { caller })), ['mine']);
  assert.deepEqual(ids(await side.see(listUrl, { caller, query: { customerId: 'bob' } })), []);
  assert.equal(await codeOf('/v1/customers/:customerId/orders', { customerId: 'alice' }), 'seen');
  assert.equal(await codeOf('/v1/customers/:customerId/orders', { customerId: 'bob' }), 'customer-not-found');
});

/** 30 orders, two at each time, in three statuses and with three products. */
function manyOrders(): Happened[] {
  const { tell } = story();
  return Array.from({ length: 30 }, (_, i) => {
    const orderId = `o${String(i).padStart(2, '0')}`;
    const lines = [
      {
        sku: `SKU-${i % 3}`,
        name: ['Red heart', 'Blue HEART-holder', 'Café “au lait”'][i % 3]!,
        quantity: 1 + (i % 7),
        unitPrice: 100,
      },
    ];
    const placed = tell(
      orderPlaced(orderId, {
        customerId: `c${i % 5}`,
        lines,
        placedAt: new Date(Date.UTC(2011, 0, 1, i >> 1)).toISOString(),
      }),
    );
    return i % 2 === 0 ? [placed] : [placed, tell(orderEvent.reserved(orderId))];
  }).flat();
}

test('a list follows any mix of filters', async (t) => {
  const side = await readSideForTests(t);
  await side.given(...manyOrders());
  const list = async (query: object): Promise<string[]> =>
    ids(await side.see(listUrl, { query: { limit: 100, ...query } }));
  const all = await list({});
  assert.equal(all.length, 30);
  assert.deepEqual(all.slice(0, 3), ['o29', 'o28', 'o27']);
  assert.deepEqual((await list({ sort: 'placedAt' })).toReversed(), all);
  assert.deepEqual(await list({ customerId: 'c3', status: 'reserved' }), ['o23', 'o13', 'o03']);
  assert.deepEqual(await list({ sku: 'SKU-1', minTotal: 700 }), ['o13']);
  assert.deepEqual(await list({ sku: 'sku-1' }), []);
  assert.deepEqual(await list({ placedFrom: '2011-01-01T02:00:00Z', placedTo: '2011-01-01T04:00:00+01:00' }), [
    'o05',
    'o04',
  ]);
  assert.deepEqual((await list({ sort: '-total' })).slice(0, 5), ['o27', 'o20', 'o13', 'o06', 'o26']);
  assert.deepEqual((await list({ sort: 'total' })).slice(0, 2), ['o00', 'o07']);
});

test('words are found in ids, SKUs and product names, by their beginning and in any case', async (t) => {
  const side = await readSideForTests(t);
  await side.given(...manyOrders());
  const found = async (q: string, more: object = {}): Promise<number> =>
    (await side.see<Page>(listUrl, { query: { limit: 100, q, ...more } })).items.length;
  assert.equal(await found('heart'), 20);
  assert.equal(await found('HEA red'), 10);
  assert.equal(await found('heart-holder'), 10);
  assert.equal(await found('cafe'), 0);
  assert.equal(await found('CAFÉ au'), 10);
  assert.equal(await found('sku-2'), 10);
  assert.equal(await found('o17'), 1);
  assert.equal(await found('c3 blue'), 2);
  assert.equal(await found('blue', { sku: 'SKU-2' }), 0);
  assert.equal(await found('blue', { sku: 'SKU-1', status: 'reserved' }), 5);
});

test('an order is found by the name that its customer had when it was placed', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  await side.given(
    tell(customerRegistered('c1', { name: 'Ada Byron' })),
    tell(orderPlaced('before', { customerId: 'c1', customerName: 'Ada Byron' })),
    tell({ type: 'CustomerChanged', data: { customerId: 'c1', name: 'Ada Lovelace-King' } }),
    tell(orderPlaced('after', { customerId: 'c1', customerName: 'Ada Lovelace-King' })),
    tell(orderPlaced('nameless', { customerId: 'c1' })),
  );
  const found = async (q: string): Promise<string[]> => ids(await side.see(listUrl, { query: { q } })).sort();
  assert.deepEqual(await found('ada'), ['after', 'before']);
  assert.deepEqual(await found('BYR'), ['before']);
  assert.deepEqual(await found('king heart'), ['after']);
  assert.deepEqual(await found('c1'), ['after', 'before', 'nameless']);
});

test('no text breaks the search', async (t) => {
  const side = await readSideForTests(t);
  await side.given(...manyOrders());
  const odd = [
    `'`,
    `''`,
    `\\`,
    `a'b`,
    `:*`,
    `a & | !`,
    `(a`,
    `<->`,
    `\0`,
    `\ud800`,
    `%_`,
    `a:*b`,
    `=SKU-1`,
    `"x"`,
    '😀',
    '-',
    '._-',
    `'; drop table orders; --`,
  ];
  for (const q of odd) await side.see(listUrl, { query: { q } });
  assert.equal((await side.see<Page>(listUrl, { query: { q: '& hea !' } })).items.length, 20);
});

test('names that no tsvector could hold do not stop an order', async (t) => {
  const side = await readSideForTests(t);
  const lines = Array.from({ length: 2_000 }, (_, i) => ({
    sku: `SKU-${i}`,
    name: Array.from({ length: 60 }, (__, j) => `w${i}x${j}é\0`).join(' ') + '\ud800',
    quantity: 1,
    unitPrice: 1,
  }));
  await side.given(story().tell(orderPlaced('huge', { lines })));
  assert.deepEqual(ids(await side.see(listUrl, { query: { q: 'huge sku-1999' } })), ['huge']);
  assert.equal((await side.see<OrderView>(orderUrl, { params: { orderId: 'huge' } })).lines.length, 2_000);
});

test('pages neither repeat nor miss an order while others are placed', async (t) => {
  for (const sort of ['placedAt', '-placedAt', 'total', '-total']) {
    const side = await readSideForTests(t);
    const happened = manyOrders();
    await side.given(...happened);
    const expected = ids(await side.see(listUrl, { query: { sort, limit: 100 } }));
    const { tell } = story();
    const seen: string[] = [];
    let cursor: string | null = null;
    for (let page = 0; cursor !== null || page === 0; page += 1) {
      const answer: Page = await side.see(listUrl, {
        query: { sort, limit: 7, ...(cursor === null ? {} : { cursor }) },
      });
      seen.push(...ids(answer));
      cursor = answer.nextCursor;
      await side.given(
        tell(orderPlaced(`new-${page}`, { placedAt: new Date(Date.UTC(2011, 0, 1, page)).toISOString() })),
      );
    }
    assert.deepEqual(
      seen.filter((orderId) => !orderId.startsWith('new-')),
      expected,
      sort,
    );
    assert.equal(new Set(seen).size, seen.length);
  }
});

test('a list has the same bytes from memory as from rows', async (t) => {
  const side = await readSideForTests(t);
  await side.given(...manyOrders());
  const fromRows = readSideOn(side.database, { cacheMb: 0 });
  for (const query of [{}, { q: 'heart', limit: 5 }, { status: 'reserved' }, { customerId: 'c3', sort: 'total' }]) {
    assert.deepEqual(await side.ask(listUrl, { query }), await fromRows.ask(listUrl, { query }), JSON.stringify(query));
  }
  assert.deepEqual(side.models.cacheStats().misses, 0);
});

test('an order that leaves a status while its list is made is left out', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  await side.given(tell(orderPlaced('leaves')), tell(orderPlaced('stays')));
  const moves: Database = {
    ...side.database,
    async query(name, text, values) {
      if (name === 'read orders') await side.given(tell(orderEvent.failed('leaves', 'pending', 'timed-out')));
      return side.database.query(name, text, values);
    },
  };
  const list = readSideOn(moves, { cacheMb: 0 });
  assert.deepEqual(ids(await list.see(listUrl, { query: { status: 'pending' } })), ['stays']);
});

test('a last page that is just full has no next', async (t) => {
  const side = await readSideForTests(t);
  await side.given(...manyOrders());
  assert.equal((await side.see<Page>(listUrl, { query: { limit: 30 } })).nextCursor, null);
  assert.notEqual((await side.see<Page>(listUrl, { query: { limit: 29 } })).nextCursor, null);
});

test('a cursor of another list, or none at all, is refused', async (t) => {
  const side = await readSideForTests(t);
  await side.given(...manyOrders());
  const { nextCursor } = await side.see<Page>(listUrl, { query: { q: 'heart', limit: 3 } });
  assert.ok(nextCursor);
  const [binding] = JSON.parse(Buffer.from(nextCursor, 'base64url').toString()) as [string];
  const forged = (...parts: unknown[]): string => Buffer.from(JSON.stringify(parts)).toString('base64url');
  const refused = [
    { q: 'heart', sort: 'placedAt', cursor: nextCursor },
    { q: 'red', cursor: nextCursor },
    { q: 'heart', status: 'reserved', cursor: nextCursor },
    { cursor: nextCursor },
    ...[
      'garbage',
      '!',
      'e30',
      'bnVsbA',
      `${nextCursor}A`,
      nextCursor.slice(1),
      forged(binding, 'yesterday', 'o1'),
      forged(binding, 7, 'o1'),
      forged(binding, '2011-99-99T00:00:00.000Z', 'o1'),
      forged(binding, '2011-02-30T00:00:00.000Z', 'o1'),
      forged(binding, '0000-01-01T00:00:00.000Z', 'o1'),
      forged(binding, '2011-01-01T00:00:00.000Z', `o'1\0`),
    ].map((cursor) => ({ q: 'heart', cursor })),
  ];
  for (const query of refused) {
    const answer = await side.ask(listUrl, { query });
    assert.equal('refused' in answer && answer.refused.code, 'malformed-cursor', JSON.stringify(query));
  }
  const page = await side.see<Page>(listUrl, { query: { q: 'heart', limit: 50, cursor: nextCursor } });
  assert.equal(page.items.length, 17);
  const customer = await side.ask(listUrl, {
    query: { q: 'heart', cursor: nextCursor },
    caller: { role: 'customer', customerId: 'c1' },
  });
  assert.equal('refused' in customer && customer.refused.code, 'malformed-cursor');
});
