import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { FolderInUse, lockFolder } from './folder-lock.ts';
import { commandLineOf, startOf } from './other-process.ts';

test('a folder is held by one at a time, and free again when released', async (t) => {
  const folder = temporaryFolder(t);
  const lock = await lockFolder(folder);
  await assert.rejects(
    lockFolder(folder),
    (error) => error instanceof FolderInUse && error.message.includes(`process ${process.pid}`),
  );
  lock.release();
  (await lockFolder(folder)).release();
  assert.deepEqual(readdirSync(folder), []);
});

test('of many that want a folder whose holder was killed, one gets it', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'twofold.lock'), JSON.stringify({ pid: process.pid, started: 'before this process' }));
  const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => lockFolder(folder)));
  assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
  assert.ok(outcomes.every((outcome) => outcome.status === 'fulfilled' || outcome.reason instanceof FolderInUse));
});

test('a lock that was cut off while it was written holds nobody up for long', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'twofold.lock'), '{"pid":');
  (await lockFolder(folder)).release();
  assert.ok(!existsSync(join(folder, 'twofold.lock')));
});

test('a process is known by its start and its command line, until it has ended', async () => {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1_000)', 'a word'], { stdio: 'ignore' });
  await once(child, 'spawn');
  const pid = child.pid as number;
  assert.notEqual(await startOf(pid), null);
  assert.equal(await startOf(pid), await startOf(pid));
  assert.match(await commandLineOf(pid), /a word$/);
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.equal(await startOf(pid), null);
  assert.equal(await commandLineOf(pid), '');
});

function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-lock-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}
