/** What an operator sees of the running system: what flows where, how far behind it is, and how long answers take. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Value from 'typebox/value';
import { TopologyView } from '#contracts/http.ts';
import { openDatabase } from '#platform/postgres.ts';
import { bearer, jwt, startTestSystem } from '../running-system.ts';
import { newId, openShop, type Shop, until } from '../shop-client.ts';

type Edge = TopologyView['edges'][number];

async function topologyOf(shop: Shop): Promise<TopologyView> {
  const { status, body } = await shop.get<TopologyView>('/v1/ops/topology');
  assert.equal(status, 200, JSON.stringify(body));
  assert.ok(Value.Check(TopologyView, body), JSON.stringify(body));
  return body;
}

const edge = ({ edges }: TopologyView, from: string, to: string, name?: string): Edge => {
  const found = edges.filter((one) => one.from === from && one.to === to && (name === undefined || one.name === name));
  assert.equal(found.length, 1, `${found.length} edges from ${from} to ${to}`);
  return found[0]!;
};

async function metrics(shop: Shop): Promise<ReadonlyMap<string, number>> {
  const { status, body } = await shop.get<string>('/metrics');
  assert.equal(status, 200);
  return new Map(
    body
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  );
}

const position = 'twofold_consumer_position{consumer="projections-of-ordering.0",source="ordering.0"}';
const freshnessOf = (figure: 'count' | 'bucket'): string => `twofold_freshness_seconds_${figure}{source="ordering.0"}`;

test('the topology shows what flows, and who is paused, failing and behind', async (t) => {
  const { shop, databaseUrls } = await startTestSystem(t);
  const { sku, customerId } = await shop.furnish(100);
  const before = await topologyOf(shop);
  assert.deepEqual(
    before.nodes.map(({ id, kind, status }) => [id, kind, status]),
    [
      ['gateway', 'gateway', 'up'],
      ['catalog', 'command-service', 'up'],
      ['ordering', 'command-service', 'up'],
      ['inventory', 'command-service', 'up'],
      ['payments', 'command-service', 'up'],
      ['audit', 'command-service', 'up'],
      ['queries', 'query-service', 'up'],
      ['payment-provider', 'payment-provider', 'elsewhere'],
    ],
  );
  assert.deepEqual(before.nodes.find(({ id }) => id === 'queries')?.readModels?.includes('orders'), true);
  const known = new Set(before.nodes.map(({ id }) => id));
  for (const { from, to } of before.edges) assert.ok(known.has(from) && known.has(to), `${from} → ${to}`);

  const asked = await until('commands are counted', async () => {
    const view = await topologyOf(shop);
    return edge(view, 'gateway', 'catalog').ratePerSecond > 0 ? view : null;
  });
  assert.equal(edge(asked, 'gateway', 'queries').ratePerSecond, 0, 'what an operator asks is no read');

  const orderIds = await Promise.all(Array.from({ length: 10 }, () => shop.place({ customerId, sku, quantity: 1 })));
  for (const orderId of orderIds) await shop.waitFinal(orderId);
  const busy = await until('everything has been applied', async () => {
    const view = await topologyOf(shop);
    return view.edges.every(({ lagEvents, name }) => lagEvents === 0 || name === 'queries') ? view : null;
  });
  for (const [from, to] of [
    ['ordering', 'queries'],
    ['ordering', 'inventory'],
    ['gateway', 'ordering'],
    ['gateway', 'queries'],
    ['payments', 'payment-provider'],
  ] as const)
    assert.ok(edge(busy, from, to).ratePerSecond > 0, `${from} → ${to}: ${JSON.stringify(edge(busy, from, to))}`);
  const { freshness, lagSeconds, parked } = edge(busy, 'ordering', 'queries');
  assert.equal(freshness?.events, (await metrics(shop)).get(position));
  assert.ok(freshness!.p50Ms > 0 && freshness!.p50Ms <= freshness!.p99Ms && freshness!.p99Ms < 5_000);
  assert.deepEqual([lagSeconds, parked], [0, 0]);
  assert.equal(edge(busy, 'payments', 'queries').freshness?.events !== undefined, true);

  await t.test('a paused consumer falls behind, in events and in seconds', async () => {
    const pause = await shop.request('POST', '/v1/ops/consumers/projections-of-ordering.0/pause', { json: {} });
    assert.equal(pause.status, 200, JSON.stringify(pause.body));
    await shop.place({ customerId, sku, quantity: 1 });
    const paused = await until('it has been behind for half a second', async () => {
      const view = await topologyOf(shop);
      return (edge(view, 'ordering', 'queries').lagSeconds ?? 0) > 0.5 ? view : null;
    });
    const behind = edge(paused, 'ordering', 'queries');
    assert.ok(behind.lagEvents >= 1 && behind.lagSeconds! < 30, JSON.stringify(behind));
    assert.match(behind.paused!, /./);
    assert.equal(paused.nodes.find(({ id }) => id === 'queries')?.status, 'paused');
    await shop.request('POST', '/v1/ops/consumers/projections-of-ordering.0/resume', { json: {} });
    await until('it has caught up', async () => {
      const now = edge(await topologyOf(shop), 'ordering', 'queries');
      return now.lagEvents === 0 && now.lagSeconds === 0 && now.paused === undefined ? now : null;
    });
  });

  await t.test('a consumer that keeps failing is told with what it fails on', async () => {
    const damage = openDatabase(databaseUrls.queries, { applicationName: 'damage', poolMax: 1 });
    t.after(() => damage.end());
    await damage.query('damage', 'alter table products rename to products_away');
    await shop.putProduct(newId('sku'));
    const failing = await until('the read side fails', async () => {
      const queries = (await topologyOf(shop)).nodes.find(({ id }) => id === 'queries')!;
      return queries.status === 'failing' ? queries : null;
    });
    assert.match(failing.detail!, /projections-of-catalog\.0 since .*products/);
    await damage.query('mend', 'alter table products_away rename to products');
    await until('it goes on', async () =>
      (await topologyOf(shop)).nodes.every(({ status }) => status === 'up' || status === 'elsewhere') ? true : null,
    );
  });
});

test('a process shows what it knows of services elsewhere', async (t) => {
  const commands = await startTestSystem(t, { services: ['catalog', 'ordering', 'inventory', 'payments', 'audit'] });
  const queries = await startTestSystem(t, { services: ['queries'], beside: commands });
  await commands.shop.putProduct(newId('sku'));
  const view = await until('the product was heard of', async () => {
    const seen = await topologyOf(queries.shop);
    return (edge(seen, 'catalog', 'queries').freshness?.events ?? 0) === 0 ? null : seen;
  });
  assert.deepEqual(
    view.nodes.map(({ id, status }) => [id, status]),
    [
      ['gateway', 'up'],
      ['queries', 'up'],
      ['catalog', 'elsewhere'],
      ['ordering', 'elsewhere'],
      ['inventory', 'elsewhere'],
      ['payments', 'elsewhere'],
      ['audit', 'elsewhere'],
    ],
  );
  const here = await topologyOf(commands.shop);
  assert.ok(here.nodes.every(({ id }) => id !== 'queries'));
});

test('the topology is for operators only', async (t) => {
  const { address } = await startTestSystem(t, { settings: { jwt } });
  const customer = openShop(address, await bearer('customer', 'ada'));
  assert.equal((await customer.get('/v1/ops/topology')).status, 403);
  assert.equal((await openShop(address).get('/v1/ops/topology')).status, 401);
});

test('metrics have the freshness of every event, and how long answers took by route and status', async (t) => {
  const { shop } = await startTestSystem(t);
  const { sku, customerId } = await shop.furnish(100);
  const orderId = await shop.place({ customerId, sku, quantity: 1 });
  await shop.waitFinal(orderId);
  const before = await until('all events are shown', async () => {
    const now = await metrics(shop);
    return now.get(position)! >= 3 && now.get(position) === now.get(freshnessOf('count')) ? now : null;
  });
  for (let n = 0; n < 5; n += 1) await shop.get(`/v1/orders/${orderId}`);
  assert.equal((await shop.get('/v1/orders/nothing-of-this-name')).status, 404);
  const after = await metrics(shop);
  const counted = (name: string, labels: string): number =>
    (after.get(`${name}{${labels}}`) ?? 0) - (before.get(`${name}{${labels}}`) ?? 0);
  const name = 'twofold_http_request_duration_seconds';
  const ok = 'method="GET",route="/v1/orders/:orderId",status="2xx"';
  assert.equal(counted(`${name}_count`, ok), 5);
  assert.equal(counted(`${name}_bucket`, `${ok},le="+Inf"`), 5);
  assert.ok(counted(`${name}_sum`, ok) > 0 && counted(`${name}_sum`, ok) < 5);
  assert.equal(counted(`${name}_count`, ok.replace('2xx', '4xx')), 1);
  assert.equal(after.get('twofold_http_requests_under_way'), 0);
  assert.equal(after.get('twofold_http_requests_waiting'), 0);
  const buckets = [...after].filter(([key]) => key.startsWith(freshnessOf('bucket').slice(0, -1)));
  const counts = buckets.map(([, count]) => count);
  assert.deepEqual(
    counts,
    counts.toSorted((a, b) => a - b),
  );
  assert.equal(counts.at(-1), after.get(position));
});
