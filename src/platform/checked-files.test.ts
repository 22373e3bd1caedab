import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { assertRoom, copyFiles, DiskFull, makeFolders } from './checked-files.ts';

const { signal } = new AbortController();
const onBytes = (): void => {};

test('copies are the same, byte by byte, and come with the hashes of what was copied', async (t) => {
  const { from, to } = folders(t);
  const contents = new Map(Array.from({ length: 9 }, (_, n) => [`file-${n}`, Buffer.alloc(n * 300_000, n)]));
  for (const [path, content] of contents) writeFileSync(join(from, path), content);
  let bytes = 0;
  const copied = await copyFiles(contents.keys(), { from, to, signal, onBytes: (count) => (bytes += count) });
  assert.equal(bytes, 36 * 300_000);
  assert.deepEqual(copied.map(({ path }) => path).sort(), [...contents.keys()]);
  for (const { path, bytes: size, sha256 } of copied) {
    const content = contents.get(path)!;
    assert.ok(readFileSync(join(to, path)).equals(content));
    assert.equal(size, content.length);
    assert.equal(sha256, createHash('sha256').update(content).digest('hex'));
  }
});

test('a file that is gone when its turn comes is left out', async (t) => {
  const { from, to } = folders(t);
  writeFileSync(join(from, 'there'), 'x');
  const copied = await copyFiles(['gone', 'there'], { from, to, signal, onBytes });
  assert.deepEqual(
    copied.map(({ path }) => path),
    ['there'],
  );
  assert.ok(!existsSync(join(to, 'gone')));
});

test('a disk without room is told by its name', { skip: !existsSync('/dev/full') }, async (t) => {
  const { from } = folders(t);
  writeFileSync(join(from, 'full'), 'x');
  await assert.rejects(
    copyFiles(['full'], { from, to: '/dev', signal, onBytes }),
    (error) => error instanceof DiskFull && /disk of \/dev is full/.test(error.message),
  );
  await assert.rejects(
    assertRoom(from, Number.MAX_SAFE_INTEGER),
    (error) => error instanceof DiskFull && error.message.includes(`${from} has`),
  );
  await assertRoom(from, 1);
});

test('told to give up, copying does, and one file that fails ends the others', async (t) => {
  const { from, to } = folders(t);
  const paths = Array.from({ length: 50 }, (_, n) => `file-${n}`);
  for (const path of paths) writeFileSync(join(from, path), 'x');
  const stop = new AbortController();
  const giveUp = (): void => stop.abort();
  await assert.rejects(copyFiles(paths, { from, to, signal: stop.signal, onBytes: giveUp }), { name: 'AbortError' });
  assert.ok(!existsSync(join(to, paths.at(-1)!)));

  const other = folders(t).to;
  makeFolders(other, ['file-1']);
  let copied = 0;
  await assert.rejects(copyFiles(paths, { from, to: other, signal, onBytes: () => (copied += 1) }), { code: 'EISDIR' });
  assert.ok(copied < paths.length / 2, `${copied} were copied`);
});

function folders(t: TestContext): { from: string; to: string } {
  const root = mkdtempSync(join(tmpdir(), 'twofold-files-'));
  t.after(() => rmSync(root, { recursive: true }));
  makeFolders(root, ['from', 'to']);
  return { from: join(root, 'from'), to: join(root, 'to') };
}
