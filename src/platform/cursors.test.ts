import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cursorsOf } from './cursors.ts';

type End = readonly [text: string, number: number];
const isEnd = (end: readonly unknown[]): end is End =>
  end.length === 2 && typeof end[0] === 'string' && Number.isSafeInteger(end[1]);
const cursorsFor = (...list: unknown[]) => cursorsOf<End>(list, isEnd);
const encoded = (text: string): string => Buffer.from(text).toString('base64url');

test('a cursor says where its page ended, and nothing says: at the beginning', () => {
  const { read, write } = cursorsFor('things', undefined);
  for (const end of [
    ['', 0],
    ['ä "\0" \ud800', -7],
  ] as const)
    assert.deepEqual(read(write(end)), end);
  assert.equal(read(undefined), null);
});

test('a cursor belongs to its list and its filters', () => {
  const cursor = cursorsFor('things', undefined, 'red').write(['a', 1]);
  assert.deepEqual(cursorsFor('things', undefined, 'red').read(cursor), ['a', 1]);
  for (const list of [['things', 'red', undefined], ['things'], ['others', undefined, 'red']])
    assert.equal(cursorsFor(...list).read(cursor), 'malformed');
});

test('what was altered, or is no cursor at all, is malformed', () => {
  const { read, write } = cursorsFor('things');
  const cursor = write(['a', 1]);
  const text = Buffer.from(cursor, 'base64url').toString();
  for (const other of [
    encoded(text.replace('"a"', '7')),
    encoded(text.replace(',1]', ',1.5]')),
    encoded(text.replace(',1]', ',1,1]')),
    encoded(text.replace(',1]', ', 1]')),
    encoded(text.slice(1)),
    encoded('null'),
    encoded('{}'),
    `${cursor}A`,
    `${cursor}=`,
    'nonsense',
    '',
  ])
    assert.equal(read(other), 'malformed', other);
});
