import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { openDatabase } from '#platform/postgres.ts';
import { testDatabase, testDatabaseUrl } from './database.ts';
import { startTestServer } from './postgres-server.ts';

const folder = await mkdtemp(path.join(tmpdir(), 'twofold-schema-'));
await writeFile(path.join(folder, '001-things.sql'), 'create table things (name text primary key);\n');
const schema = [pathToFileURL(`${folder}/`)];

test('each test has a database of its own, migrated and empty', async (t) => {
  const [one, other] = await Promise.all([testDatabase(t, schema), testDatabase(t, schema)]);
  await one.query('insert', 'insert into things values ($1)', ['kettle']);
  assert.deepEqual(await one.query('all', 'select name from things'), [{ name: 'kettle' }]);
  assert.deepEqual(await other.query('all', 'select name from things'), []);
});

let url: string;

test('a database is there for as long as the hooks of its test run', async (t) => {
  url = await testDatabaseUrl(t, schema);
  t.after(async () => {
    const database = openDatabase(url, { applicationName: 'test' });
    assert.deepEqual(await database.query('all', 'select name from things'), []);
    await database.end();
  });
});

test('and is gone with the next test', async () => {
  const database = openDatabase(url, { applicationName: 'test' });
  await assert.rejects(database.query('all', 'select'), { code: '3D000' });
  await database.end();
});

test('a server leaves no folder behind', async () => {
  const server = await startTestServer();
  const socketFolder = /[?&]host=([^&]*)/.exec(server.url('postgres'))?.[1] ?? '';
  const dataFolder = path.dirname(decodeURIComponent(socketFolder));
  assert.ok(existsSync(dataFolder));
  await server.stop();
  assert.ok(!existsSync(dataFolder));
});

test.after(() => rm(folder, { recursive: true }));
