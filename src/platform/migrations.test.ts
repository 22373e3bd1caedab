import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { testDatabase, testDatabaseUrl } from '../../tests/database.ts';
import { migrate, MigrationFailed } from './migrations.ts';
import { openDatabase } from './postgres.ts';

test('files are applied folder by folder, in the order of their numbers, several statements each', async (t) => {
  const database = await testDatabase(t, []);
  const first = folderOf(t, {
    '002-fill.sql': `insert into word values ('one'); insert into word values ('two; three');`,
    '001-word.sql': 'create table word (text text); -- a comment; with a semicolon\ncreate index on word (text);',
    'README.md': 'not a migration',
  });
  const second = folderOf(t, { '001-more.sql': `insert into word values ('four')` });
  const applied = await migrate(database, [pathToFileURL(`${first}/`), second]);
  assert.deepEqual(applied, ['001-word.sql', '002-fill.sql', '001-more.sql']);
  assert.deepEqual((await database.query('words', 'select text from word')).map(Object.values).flat(), [
    'one',
    'two; three',
    'four',
  ]);
});

test('what has been applied is not applied again, and a new file is', async (t) => {
  const database = await testDatabase(t, []);
  const folder = folderOf(t, { '001-word.sql': 'create table word (text text)' });
  await migrate(database, [folder]);
  assert.deepEqual(await migrate(database, [folder]), []);
  writeFileSync(join(folder, '002-fill.sql'), `insert into word values ('one')`);
  assert.deepEqual(await migrate(database, [folder]), ['002-fill.sql']);
});

test('a file that was changed after it was applied is refused by name', async (t) => {
  const database = await testDatabase(t, []);
  const folder = folderOf(t, { '001-word.sql': 'create table word (text text)' });
  await migrate(database, [folder]);
  writeFileSync(join(folder, '001-word.sql'), 'create table word (text varchar)');
  await assert.rejects(
    migrate(database, [folder]),
    failure(/001-word\.sql differs from .* a new file with the next number/),
  );
});

test('other ends of lines are no change', async (t) => {
  const database = await testDatabase(t, []);
  const folder = folderOf(t, { '001-word.sql': 'create table word\n(text text)\n' });
  await migrate(database, [folder]);
  writeFileSync(join(folder, '001-word.sql'), 'create table word\r\n(text text)\r\n');
  assert.deepEqual(await migrate(database, [folder]), []);
});

test('a file that fails leaves nothing behind, and says where it fails; the ones before it stay', async (t) => {
  const database = await testDatabase(t, []);
  const folder = folderOf(t, {
    '001-word.sql': 'create table word (text text)',
    '002-wrong.sql': `insert into word values ('one');\n\nselect nonsense from word;`,
  });
  await assert.rejects(
    migrate(database, [folder]),
    failure(/002-wrong\.sql could not be applied: .*nonsense.* in line 3/),
  );
  assert.deepEqual(await database.query('words', 'select from word'), []);
  writeFileSync(join(folder, '002-wrong.sql'), `insert into word values ('one')`);
  assert.deepEqual(await migrate(database, [folder]), ['002-wrong.sql']);
});

test('of several processes that migrate at the same time, one does it', async (t) => {
  const url = await testDatabaseUrl(t);
  const folder = folderOf(t, { '001-word.sql': `create table word (text text); select pg_sleep(0.05)` });
  const databases = Array.from({ length: 4 }, () => openDatabase(url, { applicationName: 'test' }));
  t.after(() => Promise.all(databases.map((database) => database.end())));
  const applied = await Promise.all(databases.map((database) => migrate(database, [folder])));
  assert.deepEqual(applied.flat(), ['001-word.sql']);
});

test('a migration may take longer than other statements may', async (t) => {
  const database = openDatabase(await testDatabaseUrl(t), { applicationName: 'test', statementTimeoutMs: 50 });
  t.after(() => database.end());
  const folder = folderOf(t, { '001-slow.sql': 'select pg_sleep(0.2)' });
  assert.deepEqual(await migrate(database, [folder]), ['001-slow.sql']);
  await assert.rejects(database.query('slow', 'select pg_sleep(0.2)'), { code: '57014' });
});

test('a file without a number, and two files of one name, are refused', async (t) => {
  const database = await testDatabase(t, []);
  await assert.rejects(
    migrate(database, [folderOf(t, { 'word.sql': '' })]),
    failure(/word\.sql is not named like a migration/),
  );
  const folders = [folderOf(t, { '001-word.sql': '' }), folderOf(t, { '001-word.sql': '' })];
  await assert.rejects(migrate(database, folders), failure(/have the same name/));
});

const failure = (message: RegExp) => (error: unknown) =>
  error instanceof MigrationFailed && message.test(error.message);

function folderOf(t: TestContext, files: Record<string, string>): string {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-migrations-'));
  t.after(() => rmSync(folder, { recursive: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return folder;
}
