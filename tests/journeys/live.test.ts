/** Live streams, over real sockets: nothing is lost and nothing doubled, whatever is cut in between. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { encodeToken } from '#cqrs/consistency-token.ts';
import { type EventStream, openEventStream, type Received } from '../event-stream-client.ts';
import { bearer, jwt, startTestSystem } from '../running-system.ts';
import { newId, openShop, type Shop, until } from '../shop-client.ts';

const fromTheBeginning = encodeToken({});

async function open(
  t: TestContext,
  shop: { readonly address: string },
  path: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<EventStream> {
  const stream = await openEventStream(`${shop.address}${path}`, headers);
  t.after(() => stream.close());
  return stream;
}

/** `ordering-0-17` of a service: its positions, in the order in which they came. */
function positionsOf(events: readonly Received[], service: string): number[] {
  return events
    .filter(({ data }) => data.service === service)
    .map(({ data }) => Number(data.id.slice(data.id.lastIndexOf('-') + 1)));
}

const consecutive = (from: number, length: number): number[] => Array.from({ length }, (_, n) => from + n);
const versionsOf = ({ events }: { readonly events: readonly Received[] }): number[] =>
  events.map(({ data }) => data.version);

/** Every log from its first event, with no hole and nothing twice; resolves to all that was said of orders. */
function assertWhole(events: readonly Received[]): void {
  for (const service of ['catalog', 'ordering', 'inventory', 'payments']) {
    const positions = positionsOf(events, service);
    assert.deepEqual(positions, consecutive(1, positions.length), service);
  }
}

test('one order, live', async (t) => {
  const { shop } = await startTestSystem(t, { slowMs: 300 });
  const { sku, customerId } = await shop.furnish(100);

  await t.test('it is shown as it is, then in each of its versions, each one as a GET shows it', async () => {
    const { body, headers } = await shop.send({ customerId, sku, method: 'pm_slow' });
    const stream = await open(t, shop, `/v1/orders/${body.orderId}/live`, {
      'consistency-token': headers.get('consistency-token')!,
    });
    const seen: Promise<void>[] = [];
    stream.onEvent = ({ data }) => {
      seen.push(
        shop.get<{ version: number }>(`/v1/orders/${body.orderId}`).then((reply) => {
          assert.ok(reply.body.version >= data.version, 'whoever hears of it and asks, sees it');
        }),
      );
    };
    await stream.until(() => stream.events.at(-1)?.data.status === 'completed');
    const versions = versionsOf(stream);
    assert.deepEqual(versions, consecutive(versions[0]!, versions.length));
    assert.ok(stream.events.every(({ event, id, data }) => event === 'order' && id === String(data.version)));
    assert.deepEqual(stream.events.at(-1)!.data, (await shop.get(`/v1/orders/${body.orderId}`)).body);
    await Promise.all(seen);
    assert.ok(!stream.ended, 'a completed order may still change');
  });

  await t.test('whoever resumes gets every version after the one it has seen, as it was', async () => {
    const orderId = await shop.place({ customerId, sku, method: 'pm_slow' });
    await shop.waitOrder(orderId, ({ status }) => status === 'reserved');
    await shop.cancel(orderId);
    const { version: last } = await shop.waitFinal(orderId);
    const history = (await shop.get<{ items: any[] }>(`/v1/orders/${orderId}/history`)).body.items;
    const ofOrder = history.filter(({ service }) => service === 'ordering');
    assert.ok(last >= 4);
    for (let seen = 1; seen < last; seen += 1) {
      const stream = await open(t, shop, `/v1/orders/${orderId}/live?lastEventId=${seen}`);
      await stream.until(() => stream.lastEventId === String(last));
      assert.deepEqual(versionsOf(stream), consecutive(seen + 1, last - seen));
      for (const { data } of stream.events) assert.equal(data.updatedAt, ofOrder[data.version - 1].at);
      stream.close();
    }
    const statuses = (await open(t, shop, `/v1/orders/${orderId}/live`, { 'last-event-id': '1' })).events;
    await until('all are there', async () => (statuses.length === last - 1 ? true : null));
    assert.deepEqual(
      statuses.map(({ data }) => data.status),
      ['reserved', ...consecutive(3, last - 2).map(() => 'cancelled')],
    );
  });

  await t.test('many see the same order, and each sees every version', async () => {
    const { body, headers } = await shop.send({ customerId, sku, method: 'pm_slow' });
    const token = { 'consistency-token': headers.get('consistency-token')! };
    const streams = await Promise.all(
      Array.from({ length: 20 }, () => open(t, shop, `/v1/orders/${body.orderId}/live`, token)),
    );
    for (const stream of streams) {
      await stream.until(() => stream.events.at(-1)?.data.status === 'completed');
      const versions = versionsOf(stream);
      assert.deepEqual(versions, consecutive(versions[0]!, versions.length));
    }
  });

  await t.test('what cannot be resumed from is refused', async () => {
    const orderId = await shop.place({ customerId, sku });
    await shop.waitFinal(orderId);
    for (const [path, status, code] of [
      [`/v1/orders/${orderId}/live?lastEventId=x`, 400, 'malformed-event-id'],
      [`/v1/orders/${orderId}/live?lastEventId=0`, 400, 'malformed-event-id'],
      [`/v1/orders/${orderId}/live?lastEventId=${fromTheBeginning}`, 400, 'malformed-event-id'],
      [`/v1/orders/${orderId}/live?lastEventId=99`, 503, 'read-model-behind'],
      [`/v1/orders/${orderId}/live?since=1`, 400, 'invalid-request'],
      [`/v1/orders/${newId('none')}/live`, 404, 'order-not-found'],
      [`/v1/orders/a.b/live`, 400, 'invalid-request'],
    ] as const) {
      const { status: answered, body } = await open(t, shop, path);
      assert.deepEqual([answered, JSON.parse(body).code], [status, code], path);
    }
  });
});

test('everything that happens, live', async (t) => {
  const { shop } = await startTestSystem(t);
  const { sku, customerId } = await shop.furnish(100);
  const other = (await shop.furnish(0)).customerId;
  const all = await open(t, shop, '/v1/live');
  const first = await shop.place({ customerId, sku });
  const second = await shop.place({ customerId: other, sku });
  await shop.waitFinal(first);
  await shop.waitFinal(second);

  await t.test('an event says what happened, where, when, to what, and why', async () => {
    const ofFirst = () => all.events.filter(({ data }) => data.stream.endsWith(first));
    // Some of it happens when the order is complete already.
    const items = await until('all of it is shown and streamed', async () => {
      const { body } = await shop.get<{ items: any[] }>(`/v1/orders/${first}/history`);
      const types = body.items.map(({ type }) => type);
      return types.includes('StockShipped') && types.includes('PaymentCaptured') && ofFirst().length === types.length
        ? body.items
        : null;
    });
    for (const item of items) {
      const shown = ofFirst().find(({ data }) => data.id === item.id)!;
      const { stream, ...said } = shown.data;
      assert.deepEqual({ ...said, at: item.at }, item);
      assert.equal(stream.slice(stream.indexOf('-') + 1), first);
      assert.equal(shown.event, 'message');
    }
  });

  await t.test('the id of an event is a Consistency-Token', async () => {
    const { id, data } = all.events.findLast((one) => one.data.type === 'OrderCompleted')!;
    const orderId = data.stream.slice('order-'.length);
    const { status, body } = await shop.get<{ status: string }>(`/v1/orders/${orderId}`, {
      'consistency-token': id,
      prefer: 'wait=5',
    });
    assert.deepEqual([status, body.status], [200, 'completed']);
  });

  await t.test('filters let through what is asked for, live and resumed', async () => {
    const [byType, byCustomer, byBoth] = await Promise.all(
      ['type=OrderPlaced', `customerId=${customerId}`, `type=StockReserved&customerId=${customerId}`].map((query) =>
        open(t, shop, `/v1/live?${query}`, { 'last-event-id': fromTheBeginning }),
      ),
    );
    const mine = await shop.place({ customerId, sku });
    const others = await shop.place({ customerId: other, sku });
    await shop.waitFinal(mine);
    await shop.waitFinal(others);
    await byType!.until(() => byType!.events.length === 4);
    assert.deepEqual(
      byType!.events.map(({ data }) => data.data.orderId),
      [first, second, mine, others],
    );
    await byBoth!.until(() => byBoth!.events.length === 2);
    assert.deepEqual(
      byBoth!.events.map(({ data }) => data.data.orderId),
      [first, mine],
    );
    await byCustomer!.until(() =>
      byCustomer!.events.some(({ data }) => data.type === 'StockShipped' && data.data.orderId === mine),
    );
    const entities = byCustomer!.events.map(({ data }) => data.stream.slice(data.stream.indexOf('-') + 1));
    assert.deepEqual(new Set(entities), new Set([customerId, first, mine]));
  });

  await t.test('what cannot be asked for is refused, with a pointer', async () => {
    for (const [query, code, pointer] of [
      ['type=OrderLost', 'invalid-request', '/type'],
      ['type=', 'invalid-request', '/type'],
      ['customerId=a.b', 'invalid-request', '/customerId'],
      ['customerId=', 'invalid-request', '/customerId'],
      ['order=1', 'invalid-request', '/order'],
      ['lastEventId=', 'invalid-request', '/lastEventId'],
      ['lastEventId=17', 'malformed-event-id', '/lastEventId'],
      [`lastEventId=${encodeToken({ 'shipping.0': 1 })}`, 'malformed-event-id', '/lastEventId'],
      [`lastEventId=${encodeToken({ 'ordering.0': 999_999 })}`, 'malformed-event-id', '/lastEventId'],
    ] as const) {
      const { status, body } = await open(t, shop, `/v1/live?${query}`);
      const problem = JSON.parse(body) as { code: string; errors?: { pointer: string }[] };
      assert.deepEqual([status, problem.code, problem.errors?.[0]?.pointer], [400, code, pointer], query);
    }
  });
});

test('a customer follows its own orders, an operator everything', async (t) => {
  const { address, shop } = await startTestSystem(t, { settings: { jwt, liveStreamsPerCustomerMax: 2 } });
  const [ada, emmy] = [newId('ada'), newId('emmy')];
  const { sku } = await shop.furnish(10);
  const headersOf = (customerId: string) => bearer('customer', customerId);
  await openShop(address, await headersOf(ada)).putCustomer(ada);
  const orderId = await openShop(address, await headersOf(ada)).place({ customerId: ada, sku });
  await shop.waitFinal(orderId);
  const mine = await open(t, { address }, `/v1/orders/${orderId}/live`, await headersOf(ada));
  await mine.until(() => mine.events.length === 1);
  for (const [path, headers, status] of [
    [`/v1/orders/${orderId}/live`, await headersOf(emmy), 404],
    [`/v1/orders/${orderId}/live`, await bearer('operator', 'o'), 200],
    [`/v1/orders/${orderId}/live`, {}, 401],
    ['/v1/live', await headersOf(ada), 403],
    ['/v1/live', {}, 401],
    ['/v1/live', await bearer('operator', 'o'), 200],
    [`/v1/orders/${orderId}/live`, await headersOf(ada), 200],
    [`/v1/orders/${orderId}/live`, await headersOf(ada), 429],
  ] as const) {
    assert.equal((await open(t, { address }, path, headers)).status, status, path);
  }
  const metrics = await shop.request<string>('GET', '/metrics');
  assert.match(metrics.body, /^twofold_live_streams 4$/m);
  assert.match(metrics.body, /^twofold_live_streams_cut_off_total 0$/m);
});

/** Reads `path` and is cut again and again, in the middle of whatever; resolves to what it saw once `isDone`. */
async function readWithCuts(
  shop: Shop,
  path: string,
  begin: string,
  isDone: (events: readonly Received[]) => boolean,
): Promise<{ events: Received[]; cuts: number }> {
  const events: Received[] = [];
  let [lastEventId, cuts] = [begin, -1];
  while (!isDone(events)) {
    cuts += 1;
    const stream = await openEventStream(`${shop.address}${path}`, { 'last-event-id': lastEventId });
    assert.equal(stream.status, 200, stream.body);
    stream.onEvent = (event) => events.push(event);
    // So many bytes, and the line is dead: within an event as well as between two.
    let bytes = 200 + Math.floor(Math.random() * 6_000);
    const { promise: cut, resolve } = Promise.withResolvers<void>();
    stream.response.on('data', (chunk: string) => {
      bytes -= chunk.length;
      if (bytes < 0 || isDone(events)) resolve();
    });
    await cut;
    stream.close();
    ({ lastEventId } = stream);
  }
  return { events, cuts };
}

test('whoever is cut off again and again loses nothing, and sees nothing twice', async (t) => {
  const { shop } = await startTestSystem(t);
  const { sku, customerId } = await shop.furnish(1_000);
  const placed: string[] = [];
  const orders = 60;
  const completed = (events: readonly Received[]): boolean =>
    events.filter(({ data }) => data.type === 'StockShipped').length === orders;
  const readers = [1, 2, 3].map(() => readWithCuts(shop, '/v1/live', fromTheBeginning, completed));
  const mine = readWithCuts(
    shop,
    `/v1/live?customerId=${customerId}&type=OrderCompleted`,
    fromTheBeginning,
    (events) => events.length === orders,
  );
  const ofOrders: Promise<{ events: Received[] }>[] = [];
  for (let n = 0; n < orders; n += 1) {
    const orderId = await shop.place({ customerId, sku });
    placed.push(orderId);
    await shop.waitOrder(orderId, () => true);
    if (n % 10 === 0) {
      ofOrders.push(
        readWithCuts(shop, `/v1/orders/${orderId}/live`, '1', (events) => events.at(-1)?.data.status === 'completed'),
      );
    }
  }
  for (const reader of await Promise.all(readers)) {
    assertWhole(reader.events);
    assert.ok(reader.cuts > 5, `${reader.cuts} cuts`);
  }
  assert.deepEqual(new Set((await mine).events.map(({ data }) => data.data.orderId)), new Set(placed));
  for (const { events } of await Promise.all(ofOrders)) assert.deepEqual(versionsOf({ events }), [2, 3]);
});

test('a stream goes on after the server has been stopped and started', async (t) => {
  const before = await startTestSystem(t);
  const { sku, customerId } = await before.shop.furnish(100);
  const stream = await open(t, before.shop, `/v1/live?lastEventId=${fromTheBeginning}`);
  const idle = await open(t, before.shop, '/v1/live?type=OrderPlaced');
  await before.shop.waitFinal(await before.shop.place({ customerId, sku }));
  await idle.until(() => idle.events.length === 1);
  const cut = await open(t, before.shop, `/v1/live`, { 'last-event-id': stream.events[3]!.id });
  await before.shop.place({ customerId, sku });
  const began = performance.now();
  await before.stop();
  assert.ok(performance.now() - began < 5_000, 'open streams hold up no stop');
  await stream.until(() => stream.ended);
  await cut.until(() => cut.ended);
  const { shop } = await startTestSystem(t, { beside: before });
  await shop.waitFinal(await shop.place({ customerId, sku }));
  for (const [earlier, seen] of [
    [stream, stream.events],
    [cut, [...stream.events.slice(0, 4), ...cut.events]],
  ] as const) {
    const later = await open(t, shop, '/v1/live', { 'last-event-id': earlier.lastEventId });
    const events = (): Received[] => [...seen, ...later.events];
    await later.until(() => events().filter(({ data }) => data.type === 'StockShipped').length === 3);
    assertWhole(events());
  }
  const resumed = await open(t, shop, '/v1/live?type=OrderPlaced', { 'last-event-id': idle.lastEventId });
  await resumed.until(() => idle.events.length + resumed.events.length === 3);
});

test('a process that only answers queries streams what others write', async (t) => {
  const writing = await startTestSystem(t, { services: ['catalog', 'ordering', 'inventory', 'payments', 'audit'] });
  const reading = await startTestSystem(t, { services: ['queries'], beside: writing });
  const all = await open(t, reading.shop, `/v1/live?lastEventId=${fromTheBeginning}`);
  const { sku, customerId } = await writing.shop.furnish(10);
  const { body, headers } = await writing.shop.send({ customerId, sku });
  const order = await open(t, reading.shop, `/v1/orders/${body.orderId}/live`, {
    'consistency-token': headers.get('consistency-token')!,
    prefer: 'wait=5',
  });
  await order.until(() => order.events.at(-1)?.data.status === 'completed');
  await all.until(() => all.events.some(({ data }) => data.type === 'StockShipped'));
  assertWhole(all.events);
});
