import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, suite, test } from 'node:test';
import { ImportError } from './import-error.ts';
import { ImportJournal } from './import-journal.ts';

suite('the journal of an import', () => {
  let folder = '';
  let path = '';
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'twofold-import-'));
    path = join(folder, 'journal');
  });
  afterEach(() => rm(folder, { recursive: true }));

  const open = (changed: { sha256?: string; url?: string; stock?: number } = {}): ImportJournal =>
    new ImportJournal(path, { sha256: 'abc', url: 'http://127.0.0.1:8080/', stock: null, ...changed });
  const written = (): ImportJournal => {
    const journal = open();
    journal.markSetUp();
    journal.acknowledge('536365');
    journal.acknowledge('536366');
    journal.flush();
    return journal;
  };

  test('knows again what was acknowledged', () => {
    written();
    const again = open();
    assert.deepEqual([...again.acknowledged], ['536365', '536366']);
    assert.equal(again.setUp, true);
  });

  for (const other of [{ sha256: 'def' }, { url: 'http://127.0.0.1:9090/' }, { stock: 5 }]) {
    test(`begins anew for another ${Object.keys(other).join()}`, () => {
      written();
      assert.deepEqual([[...open(other).acknowledged], open(other).setUp], [[], false]);
    });
  }

  test('a last line torn by a crash is no order, then and later', async () => {
    written();
    await appendFile(path, '5363');
    const torn = open();
    assert.deepEqual([...torn.acknowledged], ['536365', '536366']);
    torn.acknowledge('536367');
    torn.flush();
    assert.deepEqual([...open().acknowledged], ['536365', '536366', '536367']);
  });

  test('forgets for good', () => {
    const journal = written();
    journal.forget();
    journal.acknowledge('7');
    journal.flush();
    assert.deepEqual([[...open().acknowledged], open().setUp], [['7'], false]);
  });

  test('is written soon without being asked', async () => {
    const journal = open();
    for (let order = 0; order < 500; order++) journal.acknowledge(String(order));
    assert.equal((await readFile(path, 'utf8')).trimEnd().split('\n').length, 501);
  });

  test('says at once where it cannot be written', () => {
    assert.throws(
      () => new ImportJournal(join(folder, 'none', 'journal'), { sha256: 'abc', url: 'x', stock: null }),
      ImportError,
    );
  });

  test('that can no longer be written says why and does not stop the import', async () => {
    const journal = written();
    await rm(folder, { recursive: true });
    journal.acknowledge('1');
    journal.flush();
    assert.match(journal.failure ?? '', /ENOENT/);
    folder = await mkdtemp(join(tmpdir(), 'twofold-import-'));
  });
});
