import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readTogether } from './read-together.ts';

/** Rows of the keys that begin with `row`; what was asked for, statement by statement. */
function readingRows() {
  const asked: (readonly string[])[] = [];
  const read = readTogether(async (keys) => {
    asked.push(keys);
    if (keys.includes('bad')) throw new Error('the database is away');
    return {
      rows: new Map(keys.filter((key) => key.startsWith('row')).map((key) => [key, { key }])),
      known: asked.length,
    };
  });
  return { asked, read };
}

test('keys that are asked for in one turn are read together, and each gets its own row', async () => {
  const { asked, read } = readingRows();
  const rows = await Promise.all(['row-1', 'row-2', 'row-1'].map(read));
  assert.deepEqual(
    rows.map((found) => [found?.row.key, found?.known]),
    [
      ['row-1', 1],
      ['row-2', 1],
      ['row-1', 1],
    ],
  );
  assert.equal((await read('row-2'))?.known, 2);
  assert.deepEqual(asked, [['row-1', 'row-2'], ['row-2']]);
  const many = Array.from({ length: 250 }, (_, n) => `row-${n}`);
  assert.deepEqual(
    (await Promise.all(many.map(read))).map((found) => found?.row.key),
    many,
  );
  assert.deepEqual(
    asked.slice(2).map(({ length }) => length),
    [100, 100, 50],
  );
});

test('a key that has no row gets none', async () => {
  const { read } = readingRows();
  assert.deepEqual(await Promise.all([read('nothing'), read('row-1').then((found) => found?.row)]), [
    undefined,
    { key: 'row-1' },
  ]);
});

test('when a statement fails, whoever has asked for one of its rows is told, and nobody else', async () => {
  const { read } = readingRows();
  const failed = [read('row-1'), read('bad')].map((one) => assert.rejects(one, /away/));
  await Promise.all(failed);
  assert.equal((await read('row-1'))?.row.key, 'row-1');
});
