import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isAsItOughtToBe, openAudit } from './audit.fixture.ts';
import { divergenceIdOf } from './finding.ts';

type Audit = Awaited<ReturnType<typeof openAudit>>;

const ask = { policies: { 'thing-is-right': 'ask' } } as const;
const check = isAsItOughtToBe.name;
const mandate = { strategy: 're-project', by: 'operator', reason: 'ticket 1' } as const;
const origin = { actor: 'operator', correlationId: 'trace', causationId: 'request' };
const idOf = (entity: string): string => divergenceIdOf({ check, entity });
const repair = (audit: Audit, entity: string) => audit.recording.repair(idOf(entity), mandate, origin);

/** Looks at these things, and has what is found recorded. */
async function confirm(audit: Audit, ...entities: string[]): Promise<readonly string[]> {
  return audit.recording.confirmed((await Promise.all(entities.map((entity) => audit.walk.lookAt(entity)))).flat());
}

test('what is confirmed is recorded once, and each later look only says when', async (t) => {
  const audit = await openAudit(t, ask);
  await audit.put(2);
  await audit.change('t0002', 0);
  await confirm(audit, 't0001', 't0002');
  const seen = async (): Promise<string> =>
    (await audit.database.query<{ at: string }>('', 'select last_seen::text as at from divergences'))[0]!.at;
  const before = await seen();
  await confirm(audit, 't0002');
  assert.deepEqual(await audit.events(), ['DivergenceFound']);
  assert.ok((await seen()) > before);
  assert.deepEqual(await audit.recording.open([check, 'another']), [{ check, entity: 't0002' }]);
  assert.deepEqual(await audit.recording.open(['another']), []);
});

test('what may be repaired without asking is, by the first of its repairs, and that is recorded', async (t) => {
  const audit = await openAudit(t);
  await audit.put(2);
  await audit.change('t0002', 0);
  await confirm(audit, 't0002');
  assert.deepEqual(await audit.walk.lookAt('t0002'), []);
  const [, repaired] = await audit.log.read(0, 10);
  assert.deepEqual(repaired!.data, {
    divergenceId: idOf('t0002'),
    strategy: 're-project',
    by: 'audit',
    reason: 'policy of thing-is-right: automatic',
    before: 0,
    after: 2,
    at: (repaired!.data as { at: string }).at,
  });
  assert.equal(repaired!.origin.actor, 'audit');
});

test('a repair that does not hold is recorded, tried three times, and then left to an operator', async (t) => {
  const audit = await openAudit(t);
  await audit.put(1);
  await audit.database.query('', 'update things set is_now = 0, stubborn = true');
  for (let look = 0; look < 5; look += 1) await confirm(audit, 't0001');
  assert.deepEqual(await audit.events(), ['DivergenceFound', 'RepairFailed', 'RepairFailed', 'RepairFailed']);
  assert.deepEqual(await audit.statuses(), { t0001: 'open' });
  const settled = await repair(audit, 't0001');
  assert.ok('refused' in settled);
  assert.deepEqual(
    [settled.refused.code, settled.refused.detail],
    ['repair-failed', 'it is there again after the repair. The divergence stays open.'],
  );
  await audit.database.query('', 'update things set stubborn = false');
  assert.deepEqual(await repair(audit, 't0001'), { done: true });
  assert.deepEqual(await audit.statuses(), { t0001: 'repaired' });
});

test('a repair that rejects is recorded with what it said', async (t) => {
  const audit = await openAudit(t);
  await audit.put(1);
  await audit.change('t0001', 7);
  const found = await audit.walk.lookAt('t0001');
  await audit.change('t0001', 8);
  await audit.recording.confirmed(found);
  const [, failed] = await audit.log.read(0, 10);
  assert.deepEqual(
    [failed!.type, (failed!.data as { trouble: string }).trouble],
    ['RepairFailed', 'it is not as it was found'],
  );
});

test('an operator repairs what is as it was recorded, and nothing else', async (t) => {
  const audit = await openAudit(t, ask);
  await audit.put(3);
  for (const id of ['t0001', 't0002', 't0003']) await audit.change(id, 0);
  await confirm(audit, 't0001', 't0002', 't0003');

  assert.deepEqual(await repair(audit, 't0001'), { done: true });
  const again = await repair(audit, 't0001');
  assert.ok('refused' in again && again.refused.code === 'divergence-settled');
  const unknown = await repair(audit, 't0009');
  assert.ok('refused' in unknown && unknown.refused.code === 'divergence-settled');

  await audit.change('t0002', 2);
  const gone = await repair(audit, 't0002');
  assert.ok('refused' in gone && gone.refused.code === 'divergence-changed');
  await audit.change('t0003', 9);
  const other = await repair(audit, 't0003');
  assert.ok('refused' in other && other.refused.code === 'divergence-changed');
  assert.equal((await audit.walk.lookAt('t0003')).length, 1, 'nothing was changed');
  assert.deepEqual(await audit.statuses(), { t0001: 'repaired', t0002: 'gone', t0003: 'open' });

  const impossible = await audit.recording.repair(idOf('t0003'), { ...mandate, strategy: 'correct' }, origin);
  assert.ok('refused' in impossible);
  assert.deepEqual(
    [impossible.refused.code, impossible.refused['strategies']],
    ['strategy-not-possible', ['re-project', 'accept']],
  );
});

test('of very many divergences of one check only the first are recorded', async (t) => {
  const audit = await openAudit(t, ask);
  await audit.put(1_002);
  await audit.database.query('', 'update things set is_now = 0');
  const { findings } = await audit.walk.look(null, 1_100);
  assert.deepEqual(await audit.recording.confirmed(findings.slice(0, 1_000)), []);
  assert.deepEqual(await audit.recording.confirmed(findings.slice(999)), [check]);
  const [{ count } = { count: 0 }] = await audit.database.query<{ count: number }>(
    '',
    'select count(*) from divergences',
  );
  assert.equal(count, 1_000);
});
