/**
 * Databases for tests: each test has its own, with the schema it asks for, on a real PostgreSQL. The
 * schema is migrated once into a template, named by the content of its files; a test's database is a
 * copy of that, made in some 50 ms.
 */
import { createHash, randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { migrate } from '#platform/migrations.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import { startTestServer, type TestServer } from './postgres-server.ts';

const releaseTimeoutMs = 5_000;

/**
 * A database with the migrations of `folders` applied, open. It is closed and dropped when the test
 * has ended and all of its own `t.after` hooks have run; the test fails when it still holds a
 * connection then.
 */
export async function testDatabase(t: TestContext, folders: readonly URL[]): Promise<Database> {
  const name = await createDatabase(folders);
  const database = openDatabase(await urlOf(name), { applicationName: 'test' });
  afterAllElse(t, () => endOrReject(database).finally(() => dropDatabase(name)));
  return database;
}

/** The address of a database as above, for a test that opens it itself, once or from several processes. */
export async function testDatabaseUrl(t: TestContext, folders: readonly URL[] = []): Promise<string> {
  const name = await createDatabase(folders);
  afterAllElse(t, () => dropDatabase(name));
  return urlOf(name);
}

async function createDatabase(folders: readonly URL[]): Promise<string> {
  const template = folders.length === 0 ? 'template0' : await templateOf(folders);
  const name = `test_${randomUUID().replaceAll('-', '')}`;
  await administer((postgres) =>
    postgres.query('create', `create database ${name} template ${template} strategy file_copy`),
  );
  return name;
}

const dropDatabase = (name: string): Promise<unknown> =>
  administer((postgres) => postgres.query('drop', `drop database ${name} with (force)`));

/** Hooks run in the order in which they are registered; one that a hook registers runs after all of them. */
function afterAllElse(t: TestContext, work: () => Promise<unknown>): void {
  t.after(() => t.after(work));
}

async function endOrReject(database: Database): Promise<void> {
  const { promise: tooLate, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(reject, releaseTimeoutMs, new Error('the test holds a pinned connection: release it'));
  await Promise.race([database.end(), tooLate]).finally(() => clearTimeout(timer));
}

const templates = new Map<string, Promise<string>>();

async function templateOf(folders: readonly URL[]): Promise<string> {
  const hash = createHash('sha256');
  for (const path of folders.map((folder) => fileURLToPath(folder))) {
    for (const file of (await readdir(path)).sort()) hash.update(file).update(await readFile(join(path, file)));
  }
  const name = `template_${hash.digest('hex').slice(0, 32)}`;
  const made = templates.get(name) ?? makeTemplate(name, folders);
  templates.set(name, made);
  return made;
}

/** Under a lock: the files of a run are tested by several processes. */
function makeTemplate(name: string, folders: readonly URL[]): Promise<string> {
  return administer(async (postgres) => {
    const lock = await postgres.pin();
    await lock.query('lock', 'select pg_advisory_lock(hashtext($1))', [name]);
    try {
      const found = await postgres.query('found', 'select from pg_database where datname = $1', [name]);
      if (found.length > 0) return name;
      const draft = `draft_${name}`;
      await postgres.query('discard', `drop database if exists ${draft}`);
      await postgres.query('draft', `create database ${draft}`);
      const database = openDatabase(await urlOf(draft), { applicationName: 'test' });
      await migrate(database, folders).finally(() => database.end());
      await postgres.query('publish', `alter database ${draft} rename to ${name}`);
      return name;
    } finally {
      // The session ends, and the lock with it.
      lock.release(true);
    }
  });
}

/** Work on the server's own database, over connections that are closed afterwards. */
async function administer<T>(work: (postgres: Database) => Promise<T>): Promise<T> {
  const postgres = openDatabase(await urlOf('postgres'), { applicationName: 'test' });
  return work(postgres).finally(() => postgres.end());
}

async function urlOf(name: string): Promise<string> {
  const ofRun = process.env['TEST_POSTGRES_URL'];
  if (ofRun !== undefined) return ofRun.replace('/postgres?', `/${name}?`);
  ownServer ??= startTestServer();
  return (await ownServer).url(name);
}

/** For a test file that is run by itself, outside `npm test`. */
let ownServer: Promise<TestServer> | undefined;

after(async () => {
  await (await ownServer)?.stop();
});
