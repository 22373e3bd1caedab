import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkpointSchemaFolder } from '#cqrs/postgres-log.ts';
import type { Projection } from '#cqrs/projection.ts';
import { systemPorts } from '#platform/ports.ts';
import { testDatabase } from '../../tests/database.ts';
import { createJobs } from './jobs.ts';
import { createRebuilds } from './rebuilds.ts';

test('what another version of the code has made is rebuilt, and tried again until that is done', async (t) => {
  const database = await testDatabase(t, [checkpointSchemaFolder]);
  await database.query('as it was', `insert into read_models (name, version) values ('orders', 1), ('sales', 2)`);
  const projections = ['orders', 'sales'].map((name): Projection => ({
    name,
    version: 2,
    services: ['ordering'],
    tables: [],
    apply: async () => {},
  }));
  const troubles: string[] = [];
  const reportTrouble = (_who: string, error: unknown): void => void troubles.push((error as Error).message);
  // Pauses are as long as they are said to be, by a quicker clock.
  const ports = { ...systemPorts, after: quickly };
  const jobs = createJobs(database, { ports, reportTrouble: () => {} });
  t.after(() => jobs.stop());
  const asked: (readonly string[])[] = [];
  let blips = 1;
  const rebuilds = createRebuilds({
    database: {
      ...database,
      query: (name, ...statement) =>
        name === 'read models' && blips-- > 0
          ? Promise.reject(new Error('the database is away'))
          : database.query(name, ...statement),
    },
    projections,
    consumers: [],
    jobs,
    answeredOnce: (_request, work) => work(),
    ports,
    reportTrouble,
    async rebuild({ readModels }) {
      asked.push(readModels);
      if (asked.length < 3) throw new Error('killed');
      await database.query('switch', 'update read_models set version = 2');
      return {} as never;
    },
  });
  await rebuilds.bringUpToDate(AbortSignal.timeout(30_000));
  assert.deepEqual(asked, [['orders'], ['orders'], ['orders']]);
  assert.deepEqual(troubles, [
    'the database is away',
    'the rebuild of orders has failed: killed',
    'the rebuild of orders has failed: killed',
  ]);
  await rebuilds.bringUpToDate(AbortSignal.timeout(30_000));
  assert.equal(asked.length, 3, 'what is of this version is left alone');
});

const quickly: typeof systemPorts.after = (ms, act, options) => systemPorts.after(ms / 1_000, act, options);
