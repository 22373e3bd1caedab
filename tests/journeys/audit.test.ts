/** What diverges is found, recorded, repaired and settled: by the API, by the command line, by itself. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import Value from 'typebox/value';
import { AnchorsView, type AuditOutcome, AuditsView, DivergenceList, DivergenceView } from '#contracts/audit-http.ts';
import { HistoryView, JobView, type OrderView } from '#contracts/http.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import type { DatabaseOwner, Settings } from '#platform/settings.ts';
import { untilAtRest } from '../invariants.ts';
import type { TestSystem } from '../running-program.ts';
import { startTestSystem } from '../running-system.ts';
import { type Problem, type Reply, type Shop, until } from '../shop-client.ts';

/** A shop at rest with one order, whose answer is in memory. */
async function furnished(t: TestContext, settings: Partial<Settings> = {}) {
  const system = await startTestSystem(t, { settings });
  const { shop, databaseUrls } = system;
  const { sku, customerId } = await shop.furnish(10);
  const orderId = await shop.place({ customerId, sku });
  await untilAtRest(databaseUrls);
  const { body: order } = await shop.get<OrderView>(`/v1/orders/${orderId}`);
  return { system, shop, orderId, order };
}

function databaseOf(t: TestContext, { databaseUrls }: TestSystem, owner: DatabaseOwner): Database {
  const database = openDatabase(databaseUrls[owner], { applicationName: 'damage', poolMax: 1 });
  t.after(() => database.end());
  return database;
}

async function audited(shop: Shop, checks: readonly string[] = []): Promise<AuditOutcome> {
  const json = checks.length === 0 ? {} : { checks };
  const begun = await shop.request<JobView>('POST', '/v1/ops/audits', { json });
  assert.equal(begun.status, 202, JSON.stringify(begun.body));
  assert.equal(begun.headers.get('location'), `/v1/ops/jobs/${begun.body.id}`);
  const job = await until('the audit has ended', async () => {
    const { body } = await shop.get<JobView>(`/v1/ops/jobs/${begun.body.id}`);
    assert.ok(Value.Check(JobView, body), JSON.stringify(body));
    return body.state === 'running' ? null : body;
  });
  assert.equal(job.state, 'done', JSON.stringify(job));
  return job.outcome as AuditOutcome;
}

async function divergences(shop: Shop, query = ''): Promise<DivergenceView[]> {
  const { status, body } = await shop.get<DivergenceList>(`/v1/ops/divergences${query}`);
  assert.equal(status, 200, JSON.stringify(body));
  assert.ok(Value.Check(DivergenceList, body), JSON.stringify(body));
  return body.items;
}

const resolve = (shop: Shop, id: string, json: object, headers = {}) =>
  shop.request<DivergenceView & Problem>('POST', `/v1/ops/divergences/${id}/resolve`, { json, headers });

/** What the audit has to say in the history of an order. */
async function told(shop: Shop, orderId: string): Promise<string[]> {
  const { body } = await shop.get<{ items: { service: string; type: string; actor: string }[] }>(
    `/v1/orders/${orderId}/history`,
  );
  assert.ok(Value.Check(HistoryView, body));
  return body.items.filter(({ service }) => service === 'audit').map(({ type, actor }) => `${type} by ${actor}`);
}

/** `twofold <args>`, as a user types it. */
async function twofold(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const child = spawn(process.execPath, ['src/main.ts', ...args], { cwd: `${import.meta.dirname}/../..` });
  let [out, err] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
  const [code] = (await once(child, 'close')) as [number];
  return { code, out, err };
}

test('a full audit of a sound shop finds nothing, and says what was looked at', async (t) => {
  const { shop } = await furnished(t);
  const { walks, open } = await audited(shop);
  assert.deepEqual(open, {});
  for (const name of ['logs', 'cache'])
    assert.ok(walks.find((walk) => walk.name === name)!.looked > 0, `${name}: ${JSON.stringify(walks)}`);
  assert.deepEqual(await divergences(shop), []);
  const { status, body } = await shop.get<AuditsView>('/v1/ops/audits');
  assert.equal(status, 200);
  assert.ok(Value.Check(AuditsView, body), JSON.stringify(body));
  assert.equal(body.rolling.state, 'off');
  assert.deepEqual(
    body.checks.filter(({ name }) => name === 'cache-is-row').map(({ policy, invariants }) => [policy, invariants]),
    [['automatic', ['I16']]],
  );
  const anchors = await shop.get<AnchorsView>('/v1/ops/anchors');
  assert.ok(Value.Check(AnchorsView, anchors.body), JSON.stringify(anchors.body));
  assert.equal(anchors.body.kept.length, 1, 'a full audit takes the anchors of the logs');
  assert.deepEqual(
    anchors.body.now.filter(({ source }) => source !== 'audit.0'),
    anchors.body.kept[0]!.anchors.filter(({ source }) => source !== 'audit.0'),
  );
  await audited(shop);
  assert.equal((await shop.get<AnchorsView>('/v1/ops/anchors')).body.kept.length, 1, 'and not again of logs at rest');
});

test('an answer in memory that is not its row is found, repaired by itself, and told of in the history of the order', async (t) => {
  const { system, shop, orderId, order } = await furnished(t);
  const queries = databaseOf(t, system, 'queries');
  await queries.query('', 'update orders set total = 1 where order_id = $1', [orderId]);
  assert.deepEqual((await shop.get(`/v1/orders/${orderId}`)).body, order, 'it is answered from memory');

  const { walks, open } = await audited(shop, ['cache-is-row']);
  assert.deepEqual([walks.map(({ name, found }) => [name, found]), open], [[['cache', 1]], {}]);
  const [one] = await divergences(shop, '?check=cache-is-row');
  assert.deepEqual(
    [one!.state, one!.orderId, one!.acts.map(({ what, by, strategy }) => `${what} by ${by}: ${strategy}`)],
    ['repaired', orderId, ['repaired by audit: re-project']],
  );
  const { body } = await shop.get<OrderView>(`/v1/orders/${orderId}`);
  assert.deepEqual(body.total.amount, 1, 'it is answered from its row');
  await untilAtRest(system.databaseUrls);
  assert.deepEqual(await told(shop, orderId), ['DivergenceFound by audit', 'DivergenceRepaired by audit']);
});

test('a row of a read model that was changed by hand is made anew of its events, by itself, and answers again', async (t) => {
  const { system, shop, orderId, order } = await furnished(t);
  const queries = databaseOf(t, system, 'queries');
  await queries.query('', 'update orders set total = 1 where order_id = $1', [orderId]);
  await queries.query('', 'delete from order_events where order_id = $1', [orderId]);
  const { open } = await audited(shop);
  assert.deepEqual(open, {});
  const repaired = await divergences(shop, '?state=repaired&check=read-row-is-projection');
  assert.ok(repaired.length > 1, JSON.stringify(repaired));
  assert.ok(repaired.every(({ acts }) => acts[0]!.by === 'audit' && acts[0]!.strategy === 're-project'));
  const row = repaired.find(({ entity }) => entity === `queries/orders/${orderId}`)!;
  assert.ok(
    row.diff.some((line) => line.startsWith('/total: ')),
    row.diff.join(),
  );
  await untilAtRest(system.databaseUrls);
  assert.deepEqual((await shop.get(`/v1/orders/${orderId}`)).body, order);
  assert.ok((await told(shop, orderId)).includes('DivergenceRepaired by audit'));
  assert.deepEqual(
    (await audited(shop)).walks.filter(({ found }) => found > 0),
    [],
  );
});

test('what asks waits for an operator, who repairs it in a way that is possible', async (t) => {
  const { system, shop, orderId } = await furnished(t, { auditPolicies: { 'cache-is-row': 'ask' } });
  const queries = databaseOf(t, system, 'queries');
  await queries.query('', 'update orders set total = 1 where order_id = $1', [orderId]);
  assert.deepEqual((await audited(shop, ['cache-is-row'])).open, { 'cache-is-row': 1 });
  const [one] = await divergences(shop, '?state=open&check=cache-is-row');
  assert.deepEqual([one!.state, one!.repairs, one!.acts], ['open', ['re-project', 'accept'], []]);
  assert.ok(one!.diff.length > 0);

  const wrong = await resolve(shop, one!.id, { strategy: 'last-write-wins', reason: 'why not' });
  assert.deepEqual([wrong.status, wrong.body.code], [422, 'strategy-not-possible']);
  const unreasoned = await resolve(shop, one!.id, { strategy: 're-project', reason: ' ' });
  assert.deepEqual([unreasoned.status, unreasoned.body.code], [400, 'invalid-request']);
  const nobody = await resolve(shop, '0'.repeat(32), { strategy: 'accept', reason: 'none' });
  assert.deepEqual([nobody.status, nobody.body.code], [404, 'divergence-not-found']);
  assert.equal((await shop.get(`/v1/ops/divergences/${'0'.repeat(32)}`)).status, 404);

  const key = { 'idempotency-key': 'repairing' };
  const settled = await resolve(shop, one!.id, { strategy: 're-project', reason: 'changed by hand' }, key);
  assert.equal(settled.status, 200, JSON.stringify(settled.body));
  assert.ok(Value.Check(DivergenceView, settled.body), JSON.stringify(settled.body));
  const { state, acts, repairs } = settled.body;
  assert.deepEqual(
    [state, acts.map(({ by, reason }) => [by, reason]), repairs],
    ['repaired', [['operator', 'changed by hand']], []],
  );
  const again = await resolve(shop, one!.id, { strategy: 're-project', reason: 'changed by hand' });
  assert.deepEqual(
    [again.status, again.body.code, again.body['divergenceState']],
    [409, 'divergence-settled', 'repaired'],
  );
});

test('what an operator settles under a key is settled once, and answered as it was, in whichever process', async (t) => {
  const settings = { auditPolicies: { 'cache-is-row': 'ask' } } as const;
  const { system, shop, orderId } = await furnished(t, settings);
  const queries = databaseOf(t, system, 'queries');
  const other = await startTestSystem(t, { beside: system, settings });
  const damage = async (total: number): Promise<DivergenceView> => {
    await shop.get(`/v1/orders/${orderId}`);
    await queries.query('', 'update orders set total = $2 where order_id = $1', [orderId, total]);
    await audited(shop, ['cache-is-row']);
    const [one] = await divergences(shop, '?state=open&check=cache-is-row');
    return one!;
  };
  const { id } = await damage(1);
  const path = `/v1/ops/divergences/${id}`;
  const repair = { strategy: 're-project', reason: 'changed by hand' };
  const key = { 'idempotency-key': 'repairing' };
  let settled: Reply<DivergenceView & Problem>;

  await t.test('a refusal, too', async () => {
    const refusing = { 'idempotency-key': 'refusing' };
    const first = await resolve(shop, id, { strategy: 'correct', reason: 'r' }, refusing);
    assert.deepEqual([first.status, first.body.code], [422, 'strategy-not-possible']);
    const again = await resolve(other.shop, id, { strategy: 'correct', reason: 'r' }, refusing);
    assert.deepEqual([again.status, again.body], [first.status, first.body]);
    assert.equal(again.headers.get('idempotent-replayed'), 'true');
    const reused = await resolve(other.shop, id, repair, refusing);
    assert.deepEqual([reused.status, reused.body.code], [422, 'idempotency-key-reused']);
    assert.equal((await shop.get<DivergenceView>(path)).body.state, 'open', 'nothing was repaired');
  });

  await t.test('a stale If-Match is refused, and the right one may come under the same key', async () => {
    const { body, headers } = await shop.get<DivergenceView>(path);
    const stale = await resolve(shop, id, repair, { ...key, 'if-match': `"${body.version + 1}"` });
    assert.deepEqual([stale.status, stale.body.code], [412, 'version-mismatch']);
    assert.equal(stale.body['currentVersion'], body.version);
    const accepting = { strategy: 'accept', reason: 'r' };
    assert.equal((await resolve(shop, id, accepting, { 'if-match': '"0"' })).status, 412);
    assert.equal((await shop.get<DivergenceView>(path)).body.state, 'open');
    settled = await resolve(shop, id, repair, { ...key, 'if-match': headers.get('etag')! });
    assert.deepEqual([settled.status, settled.body.state], [200, 'repaired'], JSON.stringify(settled.body));
  });

  await t.test('one that is found again is answered as it was repaired, and stays as it is', async () => {
    await damage(2);
    const open = await shop.get<DivergenceView>(path);
    assert.equal(open.body.state, 'open');
    for (const asked of [other.shop, shop]) {
      const { status, body, headers } = await resolve(asked, id, repair, key);
      assert.deepEqual([status, headers.get('idempotent-replayed')], [200, 'true']);
      assert.deepEqual([body, headers.get('etag')], [settled.body, settled.headers.get('etag')]);
    }
    const reused = await resolve(other.shop, id, { strategy: 'accept', reason: 'r' }, key);
    assert.deepEqual([reused.status, reused.body.code], [422, 'idempotency-key-reused']);
    assert.deepEqual((await shop.get<DivergenceView>(path)).body, open.body);
  });

  await t.test('a full audit is begun once', async () => {
    const headers = { 'idempotency-key': 'auditing' };
    const ask = (of: Shop, checks: string[]) =>
      of.request<JobView & Problem>('POST', '/v1/ops/audits', { json: { checks }, headers });
    const first = await ask(shop, ['log-slots']);
    assert.equal(first.status, 202, JSON.stringify(first.body));
    const reused = await ask(other.shop, ['log-positions']);
    assert.deepEqual([reused.status, reused.body.code], [422, 'idempotency-key-reused']);
    for (const asked of [other.shop, shop]) {
      const again = await ask(asked, ['log-slots']);
      assert.deepEqual([again.status, again.body], [202, first.body]);
      assert.equal(again.headers.get('location'), `/v1/ops/jobs/${first.body.id}`);
      assert.equal(again.headers.get('idempotent-replayed'), 'true');
    }
    const resolved = await resolve(other.shop, id, repair, headers);
    assert.deepEqual([resolved.status, resolved.body.code], [422, 'idempotency-key-reused']);
  });
});

test('a divergence that is seen again has another tag, and ids and cursors that are none of ours are told so', async (t) => {
  const { system, shop, orderId } = await furnished(t);
  const ordering = databaseOf(t, system, 'ordering');
  const second = await shop.place(await shop.furnish(1));
  await untilAtRest(system.databaseUrls);
  const damaged = [orderId, second].map((order) => `order-${order}`);
  await ordering.query('', 'update streams set version = version + 1 where stream = any($1)', [damaged]);
  await audited(shop, ['state-is-fold']);
  const [one] = await divergences(shop, '?state=open&check=state-is-fold');
  const path = `/v1/ops/divergences/${one!.id}`;
  const before = await shop.get<DivergenceView>(path);
  const tag = { 'if-none-match': before.headers.get('etag')! };
  assert.equal((await shop.get(path, tag)).status, 304);
  await audited(shop, ['state-is-fold']);
  const after = await shop.get<DivergenceView>(path, tag);
  assert.equal(after.status, 200, 'it was seen again');
  assert.ok(after.body.lastSeen > before.body.lastSeen);
  assert.deepEqual({ ...after.body, lastSeen: before.body.lastSeen }, before.body);

  for (const id of ['nope', 'A.b', '0'.repeat(31), 'f'.repeat(200)]) {
    const read = await shop.get(`/v1/ops/divergences/${id}`);
    const settled = await resolve(shop, id, { strategy: 'accept', reason: 'r' });
    for (const { status, body } of [read, settled])
      assert.deepEqual([status, body.code], [404, 'divergence-not-found'], id);
  }

  const list = await shop.get<DivergenceList>('/v1/ops/divergences?check=state-is-fold&limit=1');
  const cursor = list.body.nextCursor!;
  const next = await shop.get<DivergenceList>(`/v1/ops/divergences?check=state-is-fold&limit=1&cursor=${cursor}`);
  assert.deepEqual([next.status, next.body.items.length, next.body.nextCursor], [200, 1, null]);
  assert.notEqual(next.body.items[0]!.id, list.body.items[0]!.id);
  const altered = (time: string): string =>
    Buffer.from(
      Buffer.from(cursor, 'base64url')
        .toString()
        .replace(/\d{4}-\d\d-\d\dT/, `${time}T`),
    ).toString('base64url');
  for (const query of [
    `check=state-is-fold&cursor=${altered('0000-01-01')}`,
    `check=state-is-fold&cursor=${altered('2026-02-30')}`,
    `check=state-is-fold&cursor=${altered('2026-13-01')}`,
    `check=log-slots&cursor=${cursor}`,
    `check=state-is-fold&state=open&cursor=${cursor}`,
    `cursor=${cursor}`,
  ]) {
    const { status, body } = await shop.get(`/v1/ops/divergences?${query}`);
    assert.deepEqual([status, body.code], [400, 'malformed-cursor'], query);
  }
});

test('a divergence that is not what is recorded any more is not repaired, and one that is gone is called gone', async (t) => {
  const { system, shop, orderId, order } = await furnished(t, { auditPolicies: { 'cache-is-row': 'ask' } });
  const queries = databaseOf(t, system, 'queries');
  await queries.query('', 'update orders set total = 1 where order_id = $1', [orderId]);
  await audited(shop, ['cache-is-row']);
  const [one] = await divergences(shop);
  await queries.query('', 'delete from orders where order_id = $1', [orderId]);
  const changed = await resolve(shop, one!.id, { strategy: 're-project', reason: 'as found' });
  assert.deepEqual([changed.status, changed.body.code], [409, 'divergence-changed']);
  assert.deepEqual((await shop.get(`/v1/orders/${orderId}`)).body, order, 'nothing was changed');
});

test('damage to a log is found, and can only be accepted; what is accepted stays so for as long as it is the same', async (t) => {
  const checks = ['log-hash-chain', 'state-is-fold'];
  const { system, shop, orderId } = await furnished(t);
  const ordering = databaseOf(t, system, 'ordering');
  await ordering.query(
    '',
    `update events set data = replace(data::text, ':1000', ':1001')::json where type = 'OrderPlaced'`,
  );
  await ordering.query('', `update streams set version = version + 1 where stream = $1`, [`order-${orderId}`]);
  await audited(shop, checks);
  const found = await divergences(shop, '?state=open');
  assert.deepEqual(found.map(({ check, repairs }) => `${check}: ${repairs.join()}`).sort(), [
    'log-hash-chain: accept',
    'state-is-fold: re-project,accept',
  ]);
  const ofOrder = found.find(({ check }) => check === 'state-is-fold')!;
  assert.deepEqual([ofOrder.entity, ofOrder.orderId], [`ordering.0/order-${orderId}`, orderId]);

  const key = { 'idempotency-key': 'accepting' };
  for (const replayed of [null, 'true']) {
    const accepted = await resolve(shop, ofOrder.id, { strategy: 'accept', reason: 'planted' }, key);
    assert.equal(accepted.status, 200, JSON.stringify(accepted.body));
    assert.equal(accepted.headers.get('idempotent-replayed'), replayed);
    assert.deepEqual([accepted.body.state, accepted.body.acts.length], ['accepted', 1]);
  }
  await audited(shop, checks);
  const states = async (): Promise<Record<string, string>> =>
    Object.fromEntries((await divergences(shop)).map(({ check, state }) => [check, state]));
  assert.deepEqual(await states(), { 'log-hash-chain': 'open', 'state-is-fold': 'accepted' });

  await ordering.query('', `update streams set version = version + 1 where stream = $1`, [`order-${orderId}`]);
  await ordering.query(
    '',
    `update events set data = replace(data::text, ':1001', ':1000')::json where type = 'OrderPlaced'`,
  );
  await audited(shop, checks);
  assert.deepEqual(await states(), { 'log-hash-chain': 'gone', 'state-is-fold': 'open' });
  await untilAtRest(system.databaseUrls);
  assert.deepEqual(await told(shop, orderId), [
    'DivergenceFound by audit',
    'DivergenceAccepted by operator',
    'DivergenceReopened by audit',
  ]);
});

test('what cannot be audited is refused, and one full audit runs at a time, whichever process is asked', async (t) => {
  const { system, shop } = await furnished(t);
  const other = await startTestSystem(t, { beside: system });
  const unknown = await shop.request('POST', '/v1/ops/audits', { json: { checks: ['nothing'] } });
  assert.deepEqual([unknown.status, unknown.body.code], [422, 'unknown-check']);
  assert.match(unknown.body.detail, /there are log-positions, /);
  const ask = (of: Shop) => of.request<JobView & Problem>('POST', '/v1/ops/audits', { json: {} });
  const [one, two] = await Promise.all([ask(shop), ask(other.shop)]);
  assert.deepEqual(new Set([one.status, two.status]), new Set([202, 409]));
  const [begun, refused] = one.status === 202 ? [one, two] : [two, one];
  assert.equal(refused.body.code, 'audit-running');
  await until('the job has ended, as the other process tells', async () => {
    const { body } = await other.shop.get<JobView>(`/v1/ops/jobs/${begun.body.id}`);
    return body.state === 'done' ? true : null;
  });
  const cursor = await shop.get('/v1/ops/divergences?cursor=nonsense');
  assert.deepEqual([cursor.status, cursor.body.code], [400, 'malformed-cursor']);
});

test('a policy for a check that there is not stops the start, and says which there are', async (t) => {
  await assert.rejects(
    startTestSystem(t, { settings: { auditPolicies: { 'no-such-check': 'ask' } } }),
    /TWOFOLD_AUDIT_POLICY names no-such-check; right would be some of log-positions, .*cache-is-row/,
  );
});

test('the commands of an operator look, list and settle, and their exit codes tell what came of it', async (t) => {
  const { system, shop, orderId } = await furnished(t);
  const at = ['--url', system.address];
  const sound = await twofold('audit', ...at);
  assert.equal(sound.code, 0, sound.err);
  assert.match(sound.out, /^walk +looked at +took +found\n/);
  assert.match(sound.out, /\nlogs +\d+/);
  assert.match(sound.out, /Nothing diverges\.\n$/);
  assert.deepEqual(await twofold('divergences', ...at), { code: 0, out: 'None is open.\n', err: '' });

  const ordering = databaseOf(t, system, 'ordering');
  await ordering.query('', `update streams set version = version + 1 where stream = $1`, [`order-${orderId}`]);
  const damaged = await twofold('audit', '--check', 'state-is-fold', 'log-slots', ...at);
  assert.equal(damaged.code, 1, damaged.err);
  assert.match(damaged.out, new RegExp(`state-is-fold +1\n[^]*open +state-is-fold +ordering.0/order-${orderId}`));
  const asJson = await twofold('audit', '--check', 'state-is-fold', '--json', ...at);
  assert.deepEqual([asJson.code, (JSON.parse(asJson.out) as AuditOutcome).open], [1, { 'state-is-fold': 1 }]);
  const listed = await twofold('divergences', '--check', 'state-is-fold', '--json', ...at);
  const [one] = JSON.parse(listed.out) as DivergenceView[];
  assert.deepEqual([listed.code, one!.check], [1, 'state-is-fold']);

  const impossible = await twofold('resolve', one!.id, '--strategy', 'correct', '--reason', 'no', ...at);
  assert.equal(impossible.code, 1);
  assert.match(impossible.err, /^twofold resolve: correct is not possible here; there is re-project, accept\./);
  const settled = await twofold('resolve', one!.id, '--strategy', 'accept', '--reason', 'planted', ...at);
  assert.equal(settled.code, 0, settled.err);
  assert.match(settled.out, /accepted by operator at \S+: planted/);
  const accepted = await twofold('divergences', '--state', 'accepted', '--json', ...at);
  assert.equal((JSON.parse(accepted.out) as DivergenceView[])[0]!.state, 'accepted');
  const unknown = await twofold('audit', '--check', 'nothing', ...at);
  assert.equal(unknown.code, 2);
  assert.match(unknown.err, /^twofold audit: There is no check nothing;/);
  assert.equal((await shop.get('/v1/ops/audits')).status, 200);
});

test('the rolling audit finds damage by itself, in one of two processes, and says how far it has come', async (t) => {
  const settings = { auditSharePercent: 50 };
  const { system, shop, orderId } = await furnished(t, settings);
  const other = await startTestSystem(t, { beside: system, settings });
  const ordering = databaseOf(t, system, 'ordering');
  await ordering.query('', `update streams set version = version + 1 where stream = $1`, [`order-${orderId}`]);
  const [one] = await until('it is found', async () => {
    const found = await divergences(other.shop, '?state=open&check=state-is-fold');
    return found.length === 0 ? null : found;
  });
  assert.deepEqual([one!.check, one!.orderId], ['state-is-fold', orderId]);
  const rolling = await until('a round has ended', async () => {
    const { body } = await other.shop.get<AuditsView>('/v1/ops/audits');
    assert.ok(Value.Check(AuditsView, body), JSON.stringify(body));
    return body.rolling.lastRound === null ? null : body.rolling;
  });
  assert.deepEqual([rolling.periodKept, rolling.progress, rolling.sharePercent], [true, 1, 50]);
  const audit = databaseOf(t, system, 'audit');
  const [locks] = await audit.query<{ held: number }>(
    '',
    `select count(*) as held from pg_locks l join pg_database d on d.oid = l.database
     where locktype = 'advisory' and datname = current_database()`,
  );
  assert.equal(locks!.held, 1);
  const { body: metrics } = await shop.get<string>('/metrics');
  assert.match(metrics, /twofold_audit_divergences_open\{check="state-is-fold"\} 1\n/);
  assert.match(metrics, /twofold_audit_period_kept 1\n/);
  assert.match(metrics, /twofold_audit_seconds_since_round \d/);
  assert.match(metrics, /twofold_audit_worked_seconds_total \d*\.?\d*[1-9]/);
  assert.match(metrics, /twofold_audit_looked_entities\{walk="logs"\} \d\d/);
});
