import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type BaseBackupOptions, NotCopyable, takeBaseBackup } from './base-backup.ts';
import { startEmbeddedPostgres } from './embedded-postgres.ts';
import { createLogger } from './logger.ts';
import { openDatabase } from './postgres.ts';

const root = mkdtempSync(join(tmpdir(), 'twofold-base-'));
const server = await startEmbeddedPostgres({
  dataDir: root,
  databases: ['orders'],
  logger: createLogger('silent'),
  onUnexpectedExit() {},
});
const orders = openDatabase(server.url('orders'), { applicationName: 'test', poolMax: 1 });
const dataFolder = join(server.location, 'postgres');
after(async () => {
  await orders.end();
  await server.stop();
  rmSync(root, { recursive: true });
});

test('a copy has what was seen at the last look, the log that belongs to it, and nothing of the server that runs', async () => {
  await orders.query('', 'create table kept (n integer)');
  const parts = new Set<string>();
  const { files, folders, seen } = await backup({
    async lastLook() {
      // So much that a segment of the log is full before the end.
      for (let n = 0; n < 3; n += 1) await orders.query('', `insert into kept select generate_series(1, 100000)`);
      return 300_000;
    },
    onProgress: (part, bytes, bytesTotal) => {
      parts.add(part);
      assert.ok(bytes <= bytesTotal);
    },
  });
  assert.equal(seen, 300_000);
  assert.deepEqual([...parts], ['data', 'log']);
  const paths = files.map(({ path }) => path);
  for (const path of ['backup_label', 'global/pg_control', 'PG_VERSION']) assert.ok(paths.includes(path), path);
  for (const path of ['postmaster.pid', 'postmaster.opts']) assert.ok(!paths.includes(path), path);
  assert.ok(paths.filter((path) => path.startsWith('pg_wal/')).length >= 2, 'the log from beginning to end');
  assert.ok(folders.includes('pg_notify'), 'an empty folder is part of it');
  for (const { path, bytes } of files) assert.equal(statSync(join(root, 'copy', path)).size, bytes);
});

test('a copy that is given up, or fails, leaves no backup under way in the server', async () => {
  const stop = new AbortController();
  await assert.rejects(backup({ signal: stop.signal, onProgress: () => stop.abort() }), { name: 'AbortError' });
  await assert.rejects(backup({ lastLook: () => Promise.reject(new Error('looked away')) }), /looked away/);
  for (;;) {
    const [row] = await orders.query<{ slots: number }>('slots', 'select count(*) as slots from pg_replication_slots');
    if (row!.slots === 0) break;
  }
});

test('what the copy would lack is told, instead of leaving it out', async () => {
  const link = join(dataFolder, 'base/elsewhere');
  symlinkSync(root, link);
  await assert.rejects(backup({}), (error) => error instanceof NotCopyable && error.message.includes(link));
  unlinkSync(link);

  await assert.rejects(
    backup({
      async lastLook() {
        const [row] = await orders.query<{ name: string }>('', 'select pg_walfile_name(pg_switch_wal()) as name');
        await orders.query('', 'insert into kept values (1)');
        unlinkSync(join(dataFolder, 'pg_wal', row!.name));
      },
    }),
    (error) => error instanceof NotCopyable && /has not kept the write-ahead log/.test(error.message),
  );
});

function backup<Seen = void>(options: Partial<BaseBackupOptions<Seen>>): ReturnType<typeof takeBaseBackup<Seen>> {
  const into = join(root, 'copy');
  if (existsSync(into)) rmSync(into, { recursive: true });
  mkdirSync(into);
  return takeBaseBackup<Seen>({
    url: server.url('postgres'),
    dataFolder,
    into,
    signal: new AbortController().signal,
    lastLook: () => Promise.resolve() as Promise<Seen>,
    onProgress() {},
    ...options,
  });
}
