import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { BackupDamaged, Refused } from './backup-error.ts';
import { type Manifest, manifestFile, readManifest, writeManifest } from './manifest.ts';

const manifest: Manifest = {
  twofold: '0.1.0',
  postgres: '18.4',
  takenAt: '2026-07-01T12:00:00.000Z',
  logs: [{ owner: 'ordering', source: 'ordering.0', epoch: 'e', position: 7, hash: 'aa' }],
  folders: ['postgres', 'postgres/base'],
  files: [{ path: 'postgres/base/1', bytes: 3, sha256: 'bb' }],
};

test('a manifest is read as it was written', async (t) => {
  const folder = folderOf(t);
  await writeManifest(folder, manifest);
  const { twofold, postgres, takenAt, logs, folders, files } = readManifest(folder);
  assert.deepEqual({ twofold, postgres, takenAt, logs, folders, files }, manifest);
});

test('a manifest of which any byte was changed is refused, or says the same', async (t) => {
  const folder = folderOf(t);
  await writeManifest(folder, manifest);
  const file = join(folder, manifestFile);
  const right = readFileSync(file);
  const read = readManifest(folder);
  let refused = 0;
  for (let at = 0; at < right.length; at += 1) {
    const wrong = Buffer.from(right);
    wrong[at] = wrong[at]! ^ 1;
    writeFileSync(file, wrong);
    try {
      assert.deepEqual(readManifest(folder), read);
    } catch (error) {
      if (!(error instanceof BackupDamaged)) throw error;
      refused += 1;
    }
  }
  // White space between the values, which is all that may be otherwise, is a small part of it.
  assert.ok(refused > right.length * 0.6, `${refused} of ${right.length}`);
});

test('a manifest never leads out of its backup, and one of another format or none is told from a damaged one', async (t) => {
  const folder = folderOf(t);
  assert.throws(() => readManifest(folder), Refused);
  for (const path of ['postgres/../../passwd', 'elsewhere/file', '/postgres/x']) {
    await writeManifest(folder, { ...manifest, files: [{ path, bytes: 1, sha256: 'cc' }] });
    assert.throws(() => readManifest(folder), /no part of a backup/);
  }
  const content = { format: 2, ...manifest };
  const sha256 = createHash('sha256').update(JSON.stringify(content)).digest('hex');
  writeFileSync(join(folder, manifestFile), JSON.stringify({ ...content, sha256 }));
  assert.throws(
    () => readManifest(folder),
    (error) => error instanceof Refused && /format 2/.test(error.message),
  );
});

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-manifest-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}
