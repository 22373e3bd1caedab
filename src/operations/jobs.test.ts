import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { checkpointSchemaFolder } from '#cqrs/postgres-log.ts';
import { systemPorts } from '#platform/ports.ts';
import type { Database } from '#platform/postgres.ts';
import { testDatabase } from '../../tests/database.ts';
import { createJobs, type Jobs } from './jobs.ts';

async function open(t: TestContext) {
  const database = await testDatabase(t, [checkpointSchemaFolder]);
  const jobsOn = (own: Database): Jobs => {
    const jobs = createJobs(own, { ports: systemPorts, reportTrouble: () => {} });
    t.after(() => jobs.stop());
    return jobs;
  };
  return { database, jobsOn };
}

/** A job that goes on until it is ended. */
function endless() {
  const { promise, resolve } = Promise.withResolvers<object>();
  const job = { kind: 'rebuild', subject: 'all', by: 'operator', run: () => promise };
  return { job, end: () => resolve({ came: 'of it' }) };
}

async function ended(jobs: Jobs, id: string): Promise<void> {
  while ((await jobs.get(id))?.state === 'running') await new Promise((resolve) => setTimeout(resolve, 5));
}

test('of several that are asked for at once one is begun, and the others are told which', async (t) => {
  const { database, jobsOn } = await open(t);
  const { job, end } = endless();
  const asked = [jobsOn(database), jobsOn(database)].flatMap((jobs) => [jobs.start(job), jobs.start(job)]);
  const outcomes = await Promise.all(asked);
  const begun = outcomes.flatMap((outcome) => ('started' in outcome ? [outcome.started.id] : []));
  assert.equal(begun.length, 1);
  for (const outcome of outcomes) assert.deepEqual('running' in outcome ? outcome.running.id : begun[0], begun[0]);
  end();
});

test('who asks for a job just as another one ends is told of that one', async (t) => {
  const { database, jobsOn } = await open(t);
  const { job, end } = endless();
  const jobs = jobsOn(database);
  const first = await jobs.start(job);
  assert.ok('started' in first);
  const { id } = first.started;
  const late = jobsOn({
    ...database,
    async transaction(work) {
      const done = await database.transaction(work);
      end();
      await ended(jobs, id);
      return done;
    },
  });
  const second = await late.start(job);
  assert.equal('running' in second ? second.running.id : 'another was begun', id);
  assert.ok('started' in (await jobs.start({ ...job, run: async () => ({}) })));
});

test('what a job has come to is written down, also when the database is away just then', async (t) => {
  const { database, jobsOn } = await open(t);
  let failures = 2;
  const jobs = jobsOn({
    ...database,
    query: (name, ...statement) =>
      name === 'job has ended' && failures-- > 0
        ? Promise.reject(new Error('the database is away'))
        : database.query(name, ...statement),
  });
  const begun = await jobs.start({
    kind: 'rebuild',
    subject: 'all',
    by: 'operator',
    run: async () => ({ came: 'of it' }),
  });
  assert.ok('started' in begun);
  await ended(jobs, begun.started.id);
  const job = await jobs.get(begun.started.id);
  assert.deepEqual([job?.state, job?.outcome], ['done', { came: 'of it' }]);
});
