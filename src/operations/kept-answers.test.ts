import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { ClientAnswer } from '#cqrs/command-request.ts';
import { checkpointSchemaFolder } from '#cqrs/postgres-log.ts';
import { systemPorts } from '#platform/ports.ts';
import { testDatabase } from '../../tests/database.ts';
import { forgetAnswers, keptAnswers } from './kept-answers.ts';

const answer = { status: 202, body: { b: 1, a: [null, '\0 ä'] }, version: 3, location: '/v1/ops/jobs/1' };
const done: ClientAnswer = { kept: answer, replayed: false, positions: {} };
const refusedIn = (traceId: string, isKept = true): ClientAnswer => ({
  refused: { code: 'job-not-found', detail: 'None.', more: [1] },
  isKept,
  replayed: false,
  traceId,
});

async function open(t: TestContext) {
  const database = await testDatabase(t, [checkpointSchemaFolder]);
  let now = Date.parse('2026-01-01T00:00:00Z');
  const answeredOnce = keptAnswers(database, { ...systemPorts, now: () => now });
  let [asked, worked] = [0, 0];
  return {
    database,
    forget: (before: string) => forgetAnswers(database, before),
    worked: () => worked,
    pass: (ms: number) => (now += ms),
    ask(
      key: string | undefined,
      outcome: (traceId: string) => ClientAnswer,
      more: object = {},
      meanwhile?: () => unknown,
    ) {
      asked += 1;
      const traceId = `trace-${asked}`;
      const request = {
        origin: { actor: 'operator', correlationId: traceId, causationId: `request-${asked}` },
        idempotency: key === undefined ? undefined : { caller: 'operator', key, fingerprint: 'f', ...more },
      };
      return answeredOnce(request, async () => {
        worked += 1;
        await meanwhile?.();
        return outcome(traceId);
      });
    },
  };
}

test('the same key again gets the first answer, and nothing is done a second time', async (t) => {
  const { ask, worked } = await open(t);
  assert.deepEqual(await ask('k', () => done), done);
  assert.deepEqual(await ask('k', refusedIn), { ...done, replayed: true });
  assert.equal(worked(), 1);
  await ask(undefined, () => done);
  assert.deepEqual(await ask(undefined, refusedIn), refusedIn('trace-4'));
});

test('a refusal that is kept is given again, in the trace of the first request', async (t) => {
  const { ask, worked } = await open(t);
  assert.deepEqual(await ask('k', refusedIn), refusedIn('trace-1'));
  assert.deepEqual(await ask('k', () => done), { ...refusedIn('trace-1'), replayed: true });
  assert.equal(worked(), 1);
});

test('what is not kept, or failed, is tried anew under the same key', async (t) => {
  const { ask } = await open(t);
  assert.deepEqual(await ask('k', (trace) => refusedIn(trace, false)), refusedIn('trace-1', false));
  const fails = (): never => {
    throw new Error('no');
  };
  await assert.rejects(ask('k', fails), /no/);
  assert.deepEqual(await ask('k', () => done), done);
});

test('a key that came with another request is refused before anything is done', async (t) => {
  const { ask, worked } = await open(t);
  await ask('k', () => done);
  const reused = await ask('k', () => done, { fingerprint: 'g' });
  assert.ok('refused' in reused);
  assert.deepEqual(
    [reused.refused.code, reused.isKept, reused.replayed, reused.traceId],
    ['idempotency-key-reused', false, false, 'trace-2'],
  );
  assert.equal(worked(), 1);
});

test('keys are those of their caller', async (t) => {
  const { ask } = await open(t);
  await ask('k', () => done);
  assert.deepEqual(await ask('k', refusedIn, { caller: 'operator:ada' }), refusedIn('trace-2'));
});

test('of two processes that were asked at once, the one that is later gives the answer of the other', async (t) => {
  const { ask, worked } = await open(t);
  const late = await ask('k', refusedIn, {}, () => ask('k', () => done));
  assert.deepEqual(late, { ...done, replayed: true });
  assert.equal(worked(), 2);
});

test('old answers are forgotten, young ones are given again', async (t) => {
  const { ask, forget, pass } = await open(t);
  await ask('old', () => done);
  pass(1_000);
  await ask('young', () => done);
  assert.equal(await forget('2026-01-01T00:00:01Z'), 1);
  assert.deepEqual(await ask('young', refusedIn), { ...done, replayed: true });
  assert.deepEqual(await ask('old', refusedIn), refusedIn('trace-4'));
});
