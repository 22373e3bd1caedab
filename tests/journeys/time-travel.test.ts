/** Orders as they were: every answer that was ever given about an order is given again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { OrderView } from '#contracts/http.ts';
import type { Settings } from '#platform/settings.ts';
import { untilAtRest } from '../invariants.ts';
import type { TestSystem } from '../running-program.ts';
import { bearer, jwt, startTestSystem } from '../running-system.ts';
import { openShop, type Problem } from '../shop-client.ts';

/** What was answered about one order: the text by entity tag. */
type Answers = { readonly orderId: string; readonly customerId: string; readonly texts: Map<string, string> };
type Answer = { readonly status: number; readonly etag: string | null; readonly text: string };

const lookEveryMs = 3;

async function ask(system: TestSystem, path: string, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
  const answer = await fetch(`${system.address}${path}`, {
    headers: { ...(await bearer('operator', 'tests')), ...headers },
  });
  return { status: answer.status, etag: answer.headers.get('etag'), text: await answer.text() };
}

/** Places an order and keeps every answer about it until it is final, and nothing about its payment is open. */
async function watch(
  system: TestSystem,
  wish: Partial<Parameters<TestSystem['shop']['place']>[0]>,
  cancelOnce?: (order: OrderView) => boolean,
): Promise<Answers & { readonly last: OrderView }> {
  const { shop } = system;
  const { sku, customerId } = await shop.furnish(5);
  const orderId = await shop.place({ customerId, sku, ...wish });
  const texts = new Map<string, string>();
  const final = shop.waitFinal(orderId);
  let over = false;
  const ended = final.finally(() => {
    over = true;
  });
  let cancelling = cancelOnce;
  while (!over) {
    const { status, etag, text } = await ask(system, `/v1/orders/${orderId}`);
    if (status !== 200) continue;
    assert.equal(texts.get(etag!) ?? text, text, 'one version has one answer');
    texts.set(etag!, text);
    if (cancelling?.(JSON.parse(text) as OrderView)) {
      cancelling = undefined;
      assert.equal((await shop.cancel(orderId)).status, 200);
    }
    await delay(lookEveryMs);
  }
  await ended;
  const { etag, text } = await ask(system, `/v1/orders/${orderId}`);
  texts.set(etag!, text);
  return { orderId, customerId, texts, last: JSON.parse(text) as OrderView };
}

const ends = (order: OrderView): readonly (string | undefined)[] => [
  order.status,
  order.failure?.code,
  order.payment.status,
];

/** All that was answered about an order, by version and by time; and what never was. */
async function asksAgain(system: TestSystem, { orderId, texts }: Answers): Promise<void> {
  const path = `/v1/orders/${orderId}`;
  const [latestTag, latest] = [...texts].at(-1)!;
  const current = Number(latestTag.slice(1, -1));
  const versions: OrderView[] = [];
  for (let version = 1; version <= current; version += 1) {
    const then = await ask(system, `${path}?version=${version}`);
    assert.deepEqual([then.status, then.etag], [200, `"${version}"`], then.text);
    assert.equal(then.text, texts.get(`"${version}"`) ?? then.text);
    versions.push(JSON.parse(then.text) as OrderView);
    const known = await ask(system, `${path}?version=${version}`, { 'if-none-match': `"${version}"` });
    assert.deepEqual([known.status, known.text], [304, '']);
  }
  assert.deepEqual(
    versions.map(({ version }) => version),
    versions.map((_, index) => index + 1),
  );

  for (const { updatedAt } of versions) {
    const expected = versions.findLast((one) => one.updatedAt <= updatedAt)!;
    for (const asOf of [updatedAt, updatedAt.replace('Z', '999Z'), shifted(updatedAt)]) {
      const then = await ask(system, `${path}?asOf=${encodeURIComponent(asOf)}`);
      assert.deepEqual([then.status, then.etag], [200, `"${expected.version}"`], `${asOf}: ${then.text}`);
      assert.equal(then.text, texts.get(then.etag!) ?? then.text);
    }
    const before = new Date(Date.parse(updatedAt) - 1).toISOString();
    const earlier = versions.findLast((one) => one.updatedAt <= before);
    const then = await ask(system, `${path}?asOf=${before}`);
    assert.equal(then.etag, earlier === undefined ? null : `"${earlier.version}"`);
    if (earlier === undefined) assertNoVersion(then, current);
  }
  assert.equal((await ask(system, `${path}?asOf=9999-01-01T00:00:00Z`)).text, latest);
  assertNoVersion(await ask(system, `${path}?version=${current + 1}`), current);
  assertNoVersion(await ask(system, `${path}?version=2147483647`), current);
}

/** The same moment on a clock two hours ahead. */
const shifted = (time: string): string => new Date(Date.parse(time) + 7_200_000).toISOString().replace('Z', '+02:00');

function assertNoVersion({ status, text }: Answer, current: number): void {
  const problem = JSON.parse(text) as Problem;
  assert.deepEqual([status, problem.code, problem['currentVersion']], [404, 'version-not-found', current]);
}

const settings: Partial<Settings> = { jwt, paymentTimeoutMs: 400, paymentAttemptsMax: 3 };

test('an order is shown as it was at each version and at each time, whatever its end', async (t) => {
  const system = await startTestSystem(t, { settings, slowMs: 150 });
  const reserved = ({ status }: OrderView): boolean => status === 'reserved';
  const watched = await Promise.all([
    watch(system, { method: 'pm_slow' }),
    watch(system, { method: 'pm_reply_lost', quantity: 2 }),
    watch(system, { method: 'pm_flaky' }),
    watch(system, { method: 'pm_ok', quantity: 6 }),
    watch(system, { method: 'pm_declined' }),
    watch(system, { method: 'pm_down' }),
    watch(system, { method: 'pm_slow', quantity: 3 }, () => true),
    watch(system, { method: 'pm_down' }, reserved),
    watch(system, { method: 'pm_reply_lost' }, ({ payment }) => payment.status === 'unknown'),
  ]);
  const seen = watched.map(({ last }) => ends(last));
  const [cancelledEarly] = seen.splice(6, 1);
  assert.equal(cancelledEarly![0], 'cancelled');
  assert.deepEqual(seen, [
    ['completed', undefined, 'captured'],
    ['completed', undefined, 'captured'],
    ['completed', undefined, 'captured'],
    ['failed', 'out-of-stock', 'none'],
    ['failed', 'payment-declined', 'declined'],
    ['failed', 'timed-out', 'none'],
    ['cancelled', undefined, 'none'],
    ['cancelled', undefined, 'refunded'],
  ]);
  const answers = watched.reduce((sum, { texts }) => sum + texts.size, 0);
  assert.ok(answers >= 2 * watched.length, `only ${answers} answers were caught`);

  await untilAtRest(system.databaseUrls);
  for (const one of watched) await asksAgain(system, one);

  // Who has nothing in memory says the same.
  const beside = await startTestSystem(t, { settings, services: ['queries'], beside: system });
  for (const one of watched) await asksAgain(beside, one);

  const { orderId, customerId, last } = watched[0];
  const owner = openShop(system.address, await bearer('customer', customerId));
  const stranger = openShop(system.address, await bearer('customer', 'a-stranger'));
  const wishes = {
    'version=1': 200,
    [`asOf=${last.updatedAt}`]: 200,
    'version=99': 404,
    'asOf=2000-01-01T00:00:00Z': 404,
  };
  for (const [then, status] of Object.entries(wishes)) {
    assert.equal((await owner.get(`/v1/orders/${orderId}?${then}`)).status, status);
    const refused = await stranger.get(`/v1/orders/${orderId}?${then}`);
    assert.deepEqual([refused.status, refused.body.code], [404, 'order-not-found'], then);
    assert.equal(refused.body['currentVersion'], undefined);
    const nothing = await system.shop.get(`/v1/orders/nothing?${then}`);
    assert.deepEqual([nothing.status, nothing.body.code], [404, 'order-not-found'], then);
  }
});

test('an order whose reservation expired is shown as it was, and one that was placed long ago since it is here', async (t) => {
  const system = await startTestSystem(t, {
    settings: { jwt, reservationTtlSeconds: 0.3, paymentTimeoutMs: 2_000 },
  });
  const watched = await Promise.all([
    watch(system, { method: 'pm_down' }),
    watch(system, { method: 'pm_reply_lost' }),
    watch(system, { method: 'pm_ok', placedAt: '2011-02-01T08:23:00Z' }),
  ]);
  assert.deepEqual(
    watched.map(({ last }) => ends(last)),
    [
      ['failed', 'timed-out', 'none'],
      ['failed', 'timed-out', 'refunded'],
      ['completed', undefined, 'captured'],
    ],
  );
  await untilAtRest(system.databaseUrls);
  for (const one of watched) await asksAgain(system, one);
  const { orderId } = watched[2];
  const early = await ask(system, `/v1/orders/${orderId}?asOf=2011-02-01T08:23:00Z`);
  assert.equal((JSON.parse(early.text) as Problem).code, 'version-not-found');
});

test('a version that a Consistency-Token names is waited for', async (t) => {
  const { shop } = await startTestSystem(t);
  const { sku, customerId } = await shop.furnish(1);
  const placed = await shop.send({ customerId, sku, method: 'pm_down' });
  const cancelled = await shop.cancel(placed.body.orderId);
  const headers = { 'consistency-token': cancelled.headers.get('consistency-token')! };
  const { version } = cancelled.body;
  const then = await shop.get<OrderView>(`/v1/orders/${placed.body.orderId}?version=${version}`, headers);
  assert.deepEqual([then.status, then.body.status, then.body.version], [200, 'cancelled', version]);
});
