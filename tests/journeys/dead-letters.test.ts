/** Messages that cannot be applied: what an operator sees of them, and what becomes of them. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import Value from 'typebox/value';
import { DeadLetterList, type DeadLetterView, DeadLetterView as DeadLetterSchema } from '#contracts/http.ts';
import { encodeToken } from '#cqrs/consistency-token.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import type { DatabaseOwner } from '#platform/settings.ts';
import { checkInvariants, untilAtRest } from '../invariants.ts';
import type { DatabaseUrls } from '../running-program.ts';
import { bearer, jwt, startTestSystem } from '../running-system.ts';
import { newId, openShop, type Problem, type Reply, type Shop, until } from '../shop-client.ts';

const ofOrdering = 'inventory-of-ordering';
const refusal = (constraint: string): string =>
  `new row for relation "reservations" violates check constraint "${constraint}"`;

type Group = DeadLetterList['groups'][number];

async function groupsOf(shop: Shop, query = ''): Promise<readonly Group[]> {
  const { status, body } = await shop.get<DeadLetterList>(`/v1/ops/dead-letters${query}`);
  assert.equal(status, 200, JSON.stringify(body));
  assert.ok(Value.Check(DeadLetterList, body), JSON.stringify(body));
  return body.groups;
}

/** The groups once they are as `awaited` says. */
const untilGroups = (
  shop: Shop,
  what: string,
  awaited: (groups: readonly Group[]) => boolean,
): Promise<readonly Group[]> =>
  until(what, async () => {
    const groups = await groupsOf(shop);
    return awaited(groups) ? groups : null;
  });

const post = <Body>(shop: Shop, path: string, json: object = {}): Promise<Reply<Body>> =>
  shop.request<Body>('POST', path, { json });

const isReady = async (shop: Shop): Promise<{ status: number; reasons: string[] }> => {
  const { status, body } = await shop.get<{ reasons: string[] }>('/readyz');
  return { status, reasons: body.reasons };
};

async function metric(shop: Shop, name: string, consumer: string): Promise<number> {
  const { body } = await shop.get<string>('/metrics');
  return Number(
    body
      .split('\n')
      .find((line) => line.startsWith(`${name}{consumer="${consumer}"}`))
      ?.split(' ')[1],
  );
}

/** The database of a service, beside the system; it is closed before the system stops. */
function beside(t: TestContext, urls: DatabaseUrls, owner: DatabaseOwner): Database {
  const database = openDatabase(urls[owner], { applicationName: 'damage', poolMax: 1 });
  t.after(() => database.end());
  return database;
}

/** Writes an event into a log past all rules, as a newer version of the program might have. */
async function plant(log: Database, stream: string, type: string, data: object, version = 1): Promise<number> {
  const [row] = await log.query<{ position: number }>(
    'plant',
    `with head as (update log_head set position = position + 1 returning position)
     insert into events (position, at, version, slot, stream, type, data, origin)
     select position, now(), $4, 0, $1, $2, $3, '{"actor":"operator","correlationId":"c","causationId":"r"}'
     from head returning position`,
    [stream, type, JSON.stringify(data), version],
  );
  return row!.position;
}

test('a message that a service cannot take holds up its own order only, and is replayed when that is mended', async (t) => {
  const system = await startTestSystem(t);
  const { shop, databaseUrls, providerUrl } = system;
  const inventory = beside(t, databaseUrls, 'inventory');
  const { sku, customerId } = await shop.furnish(10);
  const poison = newId('poison');
  await inventory.query(
    'break',
    `alter table reservations add constraint no_poison check (order_id not like 'poison-%')`,
  );

  await shop.place({ orderId: poison, customerId, sku, quantity: 2 });
  await shop.cancel(poison);
  const others = await Promise.all([1, 2, 3].map(() => shop.place({ customerId, sku })));
  for (const order of others) assert.equal((await shop.waitFinal(order)).status, 'completed');

  const groups = await untilGroups(
    shop,
    'its attempts are used up',
    (found) => found.length === 2 && found.every(({ items }) => items.every(({ state }) => state === 'parked')),
  );
  const [failed, queued] = [groups[0]!, groups[1]!];
  assert.deepEqual(
    [failed.cause, failed.consumer, failed.messages, failed.streams],
    [refusal('no_poison'), ofOrdering, 1, 1],
  );
  const [letter] = failed.items;
  assert.deepEqual(
    [letter!.stream, letter!.type, letter!.attempts, letter!.eventId],
    [`order-${poison}`, 'OrderPlaced', 5, `ordering-0-${letter!.position}`],
  );
  assert.equal(letter!.id, `${ofOrdering}-${letter!.position}`);
  assert.deepEqual([queued.cause, queued.items[0]!.type], ['queued-behind', 'OrderCancelled']);
  assert.deepEqual(await isReady(shop), { status: 200, reasons: [] });
  assert.equal(await metric(shop, 'twofold_parked_messages', ofOrdering), 2);
  assert.equal(await metric(shop, 'twofold_consumer_paused', ofOrdering), 0);

  // Not mended yet: it stays, and says that it was tried again.
  const early = await post<{ messages: number }>(shop, `/v1/ops/dead-letters/${letter!.id}/retry`);
  assert.deepEqual([early.status, early.body], [202, { messages: 2 }]);
  await untilGroups(shop, 'it was tried', ([group]) => group!.items[0]!.attempts === 6);

  await inventory.query('mend', 'alter table reservations drop constraint no_poison');
  const again = await post<{ messages: number }>(shop, '/v1/ops/dead-letters/retry', { cause: refusal('no_poison') });
  assert.deepEqual([again.status, again.body], [202, { messages: 2 }]);
  await untilGroups(shop, 'nothing is parked', (found) => found.length === 0);
  await untilAtRest(databaseUrls);
  assert.deepEqual(await checkInvariants(databaseUrls, providerUrl), []);
});

test('an event that this version does not know waits in every service that listens, until it is discarded', async (t) => {
  const system = await startTestSystem(t, { settings: { jwt, customerRequestsPerMinute: 0 } });
  const { shop, address, databaseUrls } = system;
  const ordering = beside(t, databaseUrls, 'ordering');
  const { customerId, sku } = await shop.furnish(2);
  const [order, other] = [newId('order'), newId('order')];
  for (const orderId of [order, other]) await shop.place({ orderId, customerId, sku });
  await untilAtRest(databaseUrls);
  const position = await plant(ordering, `order-${order}`, 'OrderGiftWrapped', { orderId: order }, 4);
  // The projections park it, too.
  await untilGroups(shop, 'it is parked', (found) => found.length >= 3);

  const groups = (await groupsOf(shop)).filter(({ consumer }) => !consumer.includes('.'));
  assert.deepEqual(
    groups.map(({ consumer, cause, messages }) => [consumer, cause, messages]),
    [
      [ofOrdering, 'unknown-type', 1],
      ['payments-of-ordering', 'unknown-type', 1],
    ],
  );
  const id = `${ofOrdering}-${position}`;
  assert.match(groups[0]!.items[0]!.detail, /OrderGiftWrapped/);

  await t.test('what it keeps from being shown is not passed off as shown', async () => {
    const headers = { 'consistency-token': encodeToken({ 'ordering.0': position }), prefer: 'wait=5' };
    for (const path of ['', '/history', '/payments']) {
      const { status, body } = await shop.request('GET', `/v1/orders/${order}${path}`, { headers });
      assert.deepEqual([status, body.code], [503, 'read-model-behind'], path);
      assert.match(body.detail, new RegExp(`projections-of-ordering\\.0-${position}`));
      assert.equal((await shop.get(`/v1/orders/${order}${path}`)).status, 200, 'without a token');
      assert.equal((await shop.request('GET', `/v1/orders/${other}${path}`, { headers })).status, 200);
    }
    const earlier = { 'consistency-token': encodeToken({ 'ordering.0': position - 1 }) };
    assert.equal((await shop.request('GET', `/v1/orders/${order}`, { headers: earlier })).status, 200);
  });

  await t.test('page by page', async () => {
    const pages: string[] = [];
    let cursor = '';
    do {
      const { body } = await shop.get<DeadLetterList>(`/v1/ops/dead-letters?limit=1${cursor}`);
      pages.push(...body.groups.map(({ consumer }) => consumer));
      cursor = body.nextCursor === null ? '' : `&cursor=${body.nextCursor}`;
    } while (cursor !== '');
    assert.deepEqual(pages, [...new Set(pages)].sort());
    assert.ok(pages.includes(ofOrdering) && pages.includes('payments-of-ordering'));
    const wrong = await shop.get('/v1/ops/dead-letters?cursor=abc');
    assert.deepEqual([wrong.status, wrong.body.code], [400, 'malformed-cursor']);
    assert.deepEqual(
      (await groupsOf(shop, `?consumer=${ofOrdering}&cause=unknown-type`)).map(({ consumer }) => consumer),
      [ofOrdering],
    );
    assert.deepEqual(await groupsOf(shop, '?cause=nothing'), []);
  });

  await t.test('what is still not known stays', async () => {
    assert.equal((await post<unknown>(shop, '/v1/ops/dead-letters/retry', { consumer: ofOrdering })).status, 202);
    await untilGroups(shop, 'it was tried', (found) => found[0]!.items[0]!.attempts === 2);
  });

  await t.test('for operators only', async () => {
    const customer = openShop(address, await bearer('customer', customerId));
    for (const [method, path] of [
      ['GET', '/v1/ops/dead-letters'],
      ['POST', `/v1/ops/dead-letters/${id}/retry`],
      ['POST', '/v1/ops/dead-letters/retry'],
      ['POST', `/v1/ops/dead-letters/${id}/discard`],
      ['POST', `/v1/ops/consumers/${ofOrdering}/pause`],
      ['POST', `/v1/ops/consumers/${ofOrdering}/resume`],
    ] as const) {
      const json = method === 'GET' ? {} : { json: { reason: 'none of my business' } };
      const { status, body } = await customer.request(method, path, json);
      assert.deepEqual([status, body.code], [403, 'forbidden'], path);
    }
  });

  await t.test('a reason is required, recorded and shown', async () => {
    assert.equal((await post(shop, `/v1/ops/dead-letters/${id}/discard`)).status, 400);
    const reason = 'gifts are wrapped by hand';
    const given = await post<DeadLetterView>(shop, `/v1/ops/dead-letters/${id}/discard`, { reason });
    assert.equal(given.status, 200, JSON.stringify(given.body));
    assert.ok(Value.Check(DeadLetterSchema, given.body), JSON.stringify(given.body));
    assert.deepEqual([given.body.state, given.body.reason, given.body.decidedBy], ['discarded', reason, 'operator']);
    const later = await post<DeadLetterView>(shop, `/v1/ops/dead-letters/${id}/discard`, { reason: 'another' });
    assert.deepEqual([later.status, later.body.reason], [200, reason]);
    const [record] = await groupsOf(shop, '?state=discarded');
    assert.deepEqual(record!.items, [given.body]);
    assert.ok((await groupsOf(shop)).every(({ consumer }) => consumer !== ofOrdering));
    const gone = await post<{ code: string }>(shop, `/v1/ops/dead-letters/${id}/retry`);
    assert.deepEqual([gone.status, gone.body.code], [404, 'dead-letter-not-found']);
    const never = await post<{ code: string }>(shop, '/v1/ops/dead-letters/nobody-1/discard', { reason });
    assert.deepEqual([never.status, never.body.code], [404, 'dead-letter-not-found']);
  });
});

test('no command is decided as if it knew what a dead letter keeps from its service', async (t) => {
  const { shop, databaseUrls } = await startTestSystem(t);
  const catalog = beside(t, databaseUrls, 'catalog');
  const { customerId, sku } = await shop.furnish(5);
  const other = (await shop.furnish(5)).sku;
  const [listed, unheard] = [await plant(catalog, `product-${sku}`, 'ProductRecalled', { sku }, 2), newId('UNHEARD')];
  const added = await plant(catalog, `product-${unheard}`, 'ProductInvented', { sku: unheard });
  await untilGroups(
    shop,
    'all who listen have parked both',
    (found) => found.length === 3 && found.every(({ messages }) => messages === 2),
  );

  const order = (of: string, headers: object) =>
    shop.request('POST', '/v1/orders', {
      json: { customerId, lines: [{ sku: of, quantity: 1 }], payment: { method: 'pm_ok' } },
      headers: { prefer: 'wait=5', ...headers },
    });
  const adjust = (of: string, headers: object) =>
    shop.request('POST', `/v1/products/${of}/stock-adjustments`, {
      json: { quantity: 1, reason: 'found' },
      headers: { prefer: 'wait=5', ...headers },
    });
  const token = { 'consistency-token': encodeToken({ 'catalog.0': listed }) };
  const earlier = { 'consistency-token': encodeToken({ 'catalog.0': listed - 1 }) };
  const key = { 'idempotency-key': newId('key') };
  for (const [send, consumer] of [
    [order, 'ordering-of-catalog'],
    [adjust, 'inventory-of-catalog'],
  ] as const) {
    const held = await send(sku, { ...token, ...key });
    assert.deepEqual([held.status, held.body.code], [503, 'read-model-behind'], JSON.stringify(held.body));
    assert.match(held.body.detail, new RegExp(`${consumer}-${listed} waits for an operator`));
    for (const [of, headers] of [
      [sku, earlier],
      [sku, {}],
      [other, token],
    ] as const) {
      assert.equal((await send(of, headers)).status, 201, 'of what the token does not name');
    }
    const unknown = await send(unheard, {});
    assert.deepEqual([unknown.status, unknown.body.code], [503, 'read-model-behind'], 'it may be there');
    assert.match(unknown.body.detail, new RegExp(`${consumer}-${added} waits for an operator`));
  }
  assert.equal((await order(sku, key)).status, 201, 'the key is free: nothing was kept under it');
});

test('lists, sums and reports do not pass off what a dead letter keeps from being shown', async (t) => {
  const { shop, address, databaseUrls } = await startTestSystem(t, { settings: { jwt, customerRequestsPerMinute: 0 } });
  const [ordering, inventory] = [beside(t, databaseUrls, 'ordering'), beside(t, databaseUrls, 'inventory')];
  const [{ customerId, sku }, stranger] = [await shop.furnish(5), await shop.furnish(5)];
  const orderId = await shop.place({ customerId, sku });
  await shop.place(stranger);
  await untilAtRest(databaseUrls);
  const own = openShop(address, await bearer('customer', customerId));
  const others = openShop(address, await bearer('customer', stranger.customerId));

  /** Every list and sum, and those of single resources that count what else has happened. */
  const reads: readonly [name: string, caller: Shop, path: string][] = [
    ['orders', shop, '/v1/orders'],
    ['orders found', shop, `/v1/orders?q=${sku}&sort=total`],
    ['sales', shop, '/v1/reports/sales?bucket=month'],
    ['products', shop, '/v1/products'],
    ['its orders', shop, `/v1/customers/${customerId}/orders`],
    ['its orders, filtered', shop, `/v1/orders?customerId=${customerId}`],
    ['its own orders', own, '/v1/orders'],
    ['its customer', shop, `/v1/customers/${customerId}`],
    ['its product', shop, `/v1/products/${sku}`],
    ["another customer's orders", shop, `/v1/customers/${stranger.customerId}/orders`],
    ["another customer's orders, filtered", shop, `/v1/orders?customerId=${stranger.customerId}`],
    ["another customer's own orders", others, '/v1/orders'],
    ['another customer', shop, `/v1/customers/${stranger.customerId}`],
    ['another product', shop, `/v1/products/${stranger.sku}`],
  ];
  const namesWithout = (...left: string[]): string[] =>
    reads.map(([name]) => name).filter((name) => !left.includes(name));

  /** Parks an event that no version knows. Resolves to its dead letter, and to the reads that are held back for it. */
  async function heldBy(service: 'ordering' | 'inventory', log: Database, stream: string, version: number) {
    const position = await plant(log, stream, 'Unheard', {}, version);
    const deadLetter = `projections-of-${service}.0-${position}`;
    const held: string[] = [];
    for (const [name, caller, path] of reads) {
      const token = { 'consistency-token': encodeToken({ [`${service}.0`]: position }), prefer: 'wait=5' };
      const reply = await caller.get(path, token);
      if (reply.status === 200) continue;
      held.push(name);
      assert.deepEqual([reply.status, reply.body.code], [503, 'read-model-behind'], name);
      assert.ok(reply.body.detail.includes(deadLetter), `${name}: ${reply.body.detail}`);
      assert.equal((await caller.get(path)).status, 200, `${name} without a token`);
    }
    const discarded = await post(shop, `/v1/ops/dead-letters/${deadLetter}/discard`, { reason: 'a test' });
    assert.equal(discarded.status, 200, JSON.stringify(discarded.body));
    const token = { 'consistency-token': encodeToken({ [`${service}.0`]: position }) };
    for (const [name, caller, path] of reads)
      await caller.waitFor(`${name} is shown`, async () => (await caller.get(path, token)).status === 200);
    return held;
  }

  await t.test("an order's: all that may show an order of its customer", async () => {
    const unconcerned = reads.map(([name]) => name).filter((name) => name.startsWith('another'));
    assert.deepEqual(
      await heldBy('ordering', ordering, `order-${orderId}`, 4),
      namesWithout('products', 'its product', ...unconcerned),
    );
  });
  await t.test("an order's that nothing is known of: all that may show an order", async () => {
    assert.deepEqual(
      await heldBy('ordering', ordering, `order-${newId('order')}`, 1),
      namesWithout('products', 'its product', 'another product'),
    );
  });
  await t.test("a customer's: what tells whether the customer is there", async () => {
    assert.deepEqual(await heldBy('ordering', ordering, `customer-${customerId}`, 2), ['its orders', 'its customer']);
  });
  await t.test("a reservation's: all that may show its products", async () => {
    assert.deepEqual(await heldBy('inventory', inventory, `reservation-${orderId}`, 3), ['products', 'its product']);
  });
  await t.test("a stock's: all that may show its product", async () => {
    assert.deepEqual(await heldBy('inventory', inventory, `stock-${sku}`, 9), ['products', 'its product']);
  });
});

test('a service that can take no message at all pauses, says so, and goes on by itself', async (t) => {
  const system = await startTestSystem(t);
  const { shop, databaseUrls, providerUrl } = system;
  const inventory = beside(t, databaseUrls, 'inventory');
  const { sku, customerId } = await shop.furnish(20);
  await inventory.query('break', 'alter table reservations add constraint broken check (false) not valid');
  const orders = await Promise.all(Array.from({ length: 8 }, () => shop.place({ customerId, sku })));

  const { reasons } = await until('it is not ready', async () => {
    const ready = await isReady(shop);
    return ready.status === 503 && ready.reasons.some((reason) => reason.includes('paused')) ? ready : null;
  });
  assert.match(
    reasons.join(),
    /inventory-of-ordering has been failing since .*: paused: 5 streams in a row .*"broken"/,
  );
  assert.equal(await metric(shop, 'twofold_consumer_paused', ofOrdering), 1);
  assert.equal(await metric(shop, 'twofold_parked_messages', ofOrdering), 0);
  assert.deepEqual(await groupsOf(shop), []);

  await inventory.query('mend', 'alter table reservations drop constraint broken');
  for (const order of orders) assert.equal((await shop.waitFinal(order)).status, 'completed');
  assert.deepEqual(await isReady(shop), { status: 200, reasons: [] });
  assert.deepEqual(await groupsOf(shop), []);
  await untilAtRest(databaseUrls);
  assert.deepEqual(await checkInvariants(databaseUrls, providerUrl), []);
});

test('an operator pauses a consumer and has it go on, also from another process', async (t) => {
  const commands = await startTestSystem(t, { services: ['catalog', 'ordering', 'inventory', 'payments', 'audit'] });
  const queries = await startTestSystem(t, { services: ['queries'], beside: commands });
  const [near, far] = [commands.shop, queries.shop];
  const inventory = beside(t, commands.databaseUrls, 'inventory');
  const { sku, customerId } = await near.furnish(10);
  const waitFinal = (order: string) => far.waitFinal(order);
  assert.equal((await waitFinal(await near.place({ customerId, sku }))).status, 'completed');

  const paused = await post<object>(near, `/v1/ops/consumers/${ofOrdering}/pause`);
  assert.deepEqual([paused.status, paused.body], [200, { consumer: ofOrdering, paused: true }]);
  await until('it is paused', async () =>
    (await metric(near, 'twofold_consumer_paused', ofOrdering)) === 1 ? true : null,
  );
  assert.deepEqual(await isReady(near), { status: 200, reasons: [] });
  const order = await near.place({ customerId, sku });
  const [held] = await inventory.query<{ count: number }>('held', 'select count(*) from reservations');
  assert.equal(held!.count, 1);
  const resumed = await post<object>(far, `/v1/ops/consumers/${ofOrdering}/resume`);
  assert.deepEqual([resumed.status, resumed.body], [200, { consumer: ofOrdering, paused: false }]);
  assert.equal((await waitFinal(order)).status, 'completed');

  const unknown = await post<{ code: string }>(near, '/v1/ops/consumers/nobody/pause');
  assert.deepEqual([unknown.status, unknown.body.code], [404, 'consumer-not-found']);

  await t.test('a message is retried from another process', async () => {
    await inventory.query(
      'break',
      `alter table reservations add constraint no_poison check (order_id not like 'poison-%')`,
    );
    const poison = newId('poison');
    await near.place({ orderId: poison, customerId, sku });
    await untilGroups(far, 'it is parked', ([group]) => group?.items[0]?.state === 'parked');
    await inventory.query('mend', 'alter table reservations drop constraint no_poison');
    assert.equal((await post<unknown>(far, '/v1/ops/dead-letters/retry')).status, 202);
    assert.equal((await waitFinal(poison)).status, 'completed');
  });
});

test('what an operator decides under a key is decided once, and answered as it was, in whichever process', async (t) => {
  const system = await startTestSystem(t);
  const other = await startTestSystem(t, { beside: system });
  const { shop, databaseUrls } = system;
  const ordering = beside(t, databaseUrls, 'ordering');
  const inventory = beside(t, databaseUrls, 'inventory');
  const [first, second] = [
    await plant(ordering, 'order-a', 'Unheard', {}),
    await plant(ordering, 'order-b', 'Unheard', {}),
  ];
  await untilGroups(shop, 'they are parked', ([group]) => group?.consumer === ofOrdering && group.messages === 2);
  const letters = '/v1/ops/dead-letters';
  const consumers = `/v1/ops/consumers/${ofOrdering}`;
  const [one, two] = [`${letters}/${ofOrdering}-${first}`, `${letters}/${ofOrdering}-${second}`];

  type Wish = readonly [path: string, json: object];
  /** Sends the request, then another and the same one again under its key, where the process has not seen it. */
  async function once(wish: Wish, another: Wish): Promise<() => Promise<void>> {
    const headers = { 'idempotency-key': newId('key') };
    const send = (of: Shop, [path, json]: Wish) => of.request('POST', path, { json, headers });
    const kept = await send(shop, wish);
    assert.equal(kept.headers.get('idempotent-replayed'), null, wish[0]);
    const reused = await send(other.shop, another);
    assert.deepEqual([reused.status, reused.body.code], [422, 'idempotency-key-reused'], wish[0]);
    const replay = async (): Promise<void> => {
      for (const asked of [other.shop, shop]) {
        const again = await send(asked, wish);
        assert.deepEqual([again.status, again.body], [kept.status, kept.body], wish[0]);
        assert.equal(again.headers.get('idempotent-replayed'), 'true', wish[0]);
      }
    };
    await replay();
    return replay;
  }
  const isPaused = async (): Promise<boolean> =>
    (await inventory.query<{ paused: boolean }>('', 'select paused from consumer_pauses'))[0]!.paused;

  const pausedOnce = await once([`${consumers}/pause`, {}], [`${consumers}/resume`, {}]);
  assert.equal(await isPaused(), true);
  const resumedOnce = await once([`${consumers}/resume`, {}], [`${consumers}/pause`, {}]);
  await pausedOnce();
  assert.equal(await isPaused(), false, 'it goes on');
  await post(shop, `${consumers}/pause`);
  await resumedOnce();
  assert.equal(await isPaused(), true);

  const retriedOnce = [
    await once([`${one}/retry`, {}], [`${two}/retry`, {}]),
    await once([`${letters}/retry`, { consumer: ofOrdering }], [`${letters}/retry`, {}]),
  ];
  const discardedOnce = await once([`${one}/discard`, { reason: 'a test' }], [`${one}/discard`, { reason: 'no test' }]);
  const refusedOnce = await once([`${one}/retry`, {}], [`${two}/retry`, {}]);
  for (const replay of [...retriedOnce, discardedOnce, refusedOnce]) await replay();

  const [kept] = await beside(t, databaseUrls, 'queries').query<{ count: number }>(
    'kept',
    `select count(*) from kept_answers where caller = 'operator'`,
  );
  assert.equal(kept!.count, 6);
});

test('all messages of a group are listed, page by page', async (t) => {
  const { shop, databaseUrls } = await startTestSystem(t);
  const inventory = beside(t, databaseUrls, 'inventory');
  await inventory.query(
    'park',
    `insert into parked_messages (consumer, position, stream, event_id, type, cause, detail, attempts, parked_at, state)
     select 'nobody', n, 'order-' || n, 'ordering-0-' || n, 'Unheard', c, 'it is not known', 1, now(), 'parked'
     from generate_series(1, 45) as n, (values ('unknown-type'), ('another')) as c(c)
     where (n <= 3) = (c = 'another')`,
  );
  const all = await groupsOf(shop, '?consumer=nobody');
  assert.deepEqual(
    all.map(({ cause, messages, items }) => [cause, messages, items.length]),
    [
      ['another', 3, 3],
      ['unknown-type', 42, 20],
    ],
  );
  const pages: number[][] = [];
  const named = '/v1/ops/dead-letters?consumer=nobody&cause=unknown-type';
  let cursor: string | null = '';
  while (cursor !== null) {
    const { status, body }: Reply<DeadLetterList> = await shop.get(
      `${named}&limit=15${cursor === '' ? '' : `&cursor=${cursor}`}`,
    );
    assert.equal(status, 200, JSON.stringify(body));
    assert.ok(Value.Check(DeadLetterList, body), JSON.stringify(body));
    assert.deepEqual(
      body.groups.map(({ cause, messages, streams }) => [cause, messages, streams]),
      [['unknown-type', 42, 42]],
    );
    pages.push(body.groups[0]!.items.map(({ position }) => position));
    cursor = body.nextCursor;
  }
  const positions = Array.from({ length: 42 }, (_, n) => n + 4);
  assert.deepEqual(pages, [positions.slice(0, 15), positions.slice(15, 30), positions.slice(30)]);

  await t.test('as many as are asked for, and a page whose messages were applied meanwhile is empty', async () => {
    const [group] = await groupsOf(shop, '?consumer=nobody&cause=unknown-type&limit=100');
    assert.equal(group!.items.length, 42);
    const { body } = await shop.get<DeadLetterList>(`${named}&limit=40`);
    await inventory.query('applied', 'delete from parked_messages where position > 40');
    const last = await shop.get<DeadLetterList>(`${named}&cursor=${body.nextCursor}`);
    const { groups, nextCursor } = last.body;
    assert.deepEqual([groups.map(({ messages, items }) => [messages, items.length]), nextCursor], [[[37, 0]], null]);
  });

  await t.test('a cursor that was altered, or belongs to other filters, is malformed', async () => {
    const cursorOf = async (query: string): Promise<string> =>
      (await shop.get<DeadLetterList>(`/v1/ops/dead-letters?${query}`)).body.nextCursor!;
    const groups = await cursorOf('limit=1');
    const messages = await cursorOf('consumer=nobody&cause=unknown-type&limit=1');
    const altered = (given: string, end: unknown): string => {
      const parts = JSON.parse(Buffer.from(given, 'base64url').toString()) as unknown[];
      return Buffer.from(JSON.stringify([...parts.slice(0, -1), end])).toString('base64url');
    };
    for (const query of [
      `cursor=${altered(groups, 'a\0b')}`,
      `cursor=${altered(groups, 7)}`,
      `consumer=nobody&cause=unknown-type&cursor=${altered(messages, 'a')}`,
      `consumer=nobody&cause=unknown-type&cursor=${altered(messages, 1e300)}`,
      `consumer=nobody&cause=unknown-type&cursor=${altered(messages, -1)}`,
      `consumer=nobody&cause=unknown-type&cursor=${altered(messages, 1.5)}`,
      `consumer=nobody&cause=another&cursor=${messages}`,
      `cursor=${messages}`,
      `consumer=nobody&cursor=${groups}`,
      `state=discarded&cursor=${groups}`,
    ]) {
      const { status, body } = await shop.get(`/v1/ops/dead-letters?${query}`);
      assert.deepEqual([status, body.code], [400, 'malformed-cursor'], query);
    }
    assert.equal((await shop.get(`/v1/ops/dead-letters?state=waiting&cursor=${groups}`)).status, 200);
  });
});

test('a parked message with an id that is none of ours is not found', async (t) => {
  const { shop } = await startTestSystem(t);
  for (const id of [
    'nope',
    'a-0',
    'a-01',
    'a-1e3',
    'a--1',
    '-1',
    `a-${'9'.repeat(16)}`,
    `a-${'9'.repeat(60)}`,
    'x'.repeat(200),
  ])
    for (const [act, json] of [
      ['retry', {}],
      ['discard', { reason: 'a test' }],
    ] as const) {
      const { status, body } = await post<Problem>(shop, `/v1/ops/dead-letters/${id}/${act}`, json);
      assert.deepEqual([status, body.code], [404, 'dead-letter-not-found'], `${act} of ${id}`);
    }
  const odd = await post<Problem>(shop, '/v1/ops/dead-letters/a%20b-1/retry');
  assert.deepEqual([odd.status, odd.body.code], [400, 'invalid-request']);
});
