import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { type Database, openDatabase } from '#platform/postgres.ts';
import { testDatabaseUrl } from '../../tests/database.ts';
import { checkpointSchemaFolder } from './postgres-log.ts';
import { postgresReadStore, readStoreOptions } from './postgres-read-store.ts';
import { contractTables, readStoreContract, things } from './read-store.contract.ts';
import type { ReadStore } from './read-store.ts';

async function readDatabase(t: TestContext): Promise<Database> {
  const database = openDatabase(await testDatabaseUrl(t, [checkpointSchemaFolder]), {
    ...readStoreOptions,
    applicationName: 'test',
  });
  t.after(() => database.end());
  for (const statement of contractTables.split(';').filter((text) => text.trim() !== '')) {
    await database.query(statement.slice(0, 40), statement);
  }
  await postgresReadStore(database).checkpoints(['a', 'b', 'c']);
  return database;
}

readStoreContract('PostgreSQL', async (t) => {
  const database = await readDatabase(t);
  return { another: () => postgresReadStore(database) };
});

/** What a store asks of its database, by the names of its statements. */
function overheard(database: Database): { store: ReadStore; heard: string[]; lose(next: boolean): void } {
  const heard: string[] = [];
  let losing = false;
  const store = postgresReadStore({
    ...database,
    async query(name, text, values) {
      heard.push(name);
      const rows = await database.query(name, text, values);
      if (losing && name.startsWith('apply ')) throw new Error('the answer is lost');
      return rows as never;
    },
  });
  return { store, heard, lose: (next) => (losing = next) };
}

const counted = (id: string) => async (rows: Parameters<Parameters<ReadStore['apply']>[1]>[0]) => {
  const row = (await rows.load(things, [[id]])).get(id);
  rows.put(things, [{ id, version: (row?.version ?? 0) + 1 }], ['version']);
};

test('a row is read once, and each batch is one statement from then on', async (t) => {
  const { store, heard } = overheard(await readDatabase(t));
  for (let n = 0; n < 5; n += 1) await store.apply([{ consumer: 'a', from: n, to: n + 1 }], counted('x'));
  assert.equal(heard[0], 'load things');
  assert.equal(heard.filter((name) => name.startsWith('load')).length, 1);
  assert.equal(heard.filter((name) => name.startsWith('apply')).length, 5);
  assert.equal(heard.length, 6);
  assert.equal(store.committed(things, ['x'])?.version, 5);
});

test('a batch whose answer is lost may have been applied: its rows are read anew', async (t) => {
  const { store, heard, lose } = overheard(await readDatabase(t));
  await store.apply([{ consumer: 'a', from: 0, to: 1 }], counted('x'));
  lose(true);
  await assert.rejects(store.apply([{ consumer: 'a', from: 1, to: 2 }], counted('x')), /the answer is lost/);
  lose(false);
  assert.equal(store.committed(things, ['x']), undefined);
  const position = (await store.checkpoints(['a'])).get('a')!;
  assert.equal(position, 2);
  heard.length = 0;
  await store.apply([{ consumer: 'a', from: position, to: position + 1 }], counted('x'));
  assert.deepEqual(heard[0], 'load things');
  assert.equal(store.committed(things, ['x'])?.version, 3);
});

test('a batch that the database refuses leaves nothing, and tells why', async (t) => {
  const database = await readDatabase(t);
  await database.query('constraint', 'alter table things add check (version < 3)');
  const store = postgresReadStore(database);
  for (const n of [0, 1]) await store.apply([{ consumer: 'a', from: n, to: n + 1 }], counted('x'));
  await assert.rejects(store.apply([{ consumer: 'a', from: 2, to: 3 }], counted('x')), { code: '23514' });
  assert.equal((await store.checkpoints(['a'])).get('a'), 2);
});
