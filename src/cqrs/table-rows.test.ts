import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testDatabase } from '../../tests/database.ts';
import { eventId } from './event-log.ts';
import { contractTables, pairs, things } from './read-store.contract.ts';
import { type ColumnValue, type ReadTable, type Row, rowKey } from './read-store.ts';
import { readRows, readText, replaceRow, textOf, utcTime } from './table-rows.ts';

const whole: Row = {
  id: 'a',
  version: 3,
  name: 'Ada',
  data: '{"b": 1, "a":  2}',
  count: 2 ** 52,
  sum: '123456789012345678901234567890',
  done: true,
  at: '2026-02-28T23:59:59.120Z',
  words: ['a', 'b'],
};
const bare: Row = {
  id: 'b',
  version: 0,
  name: null,
  data: null,
  count: 0,
  sum: null,
  done: false,
  at: null,
  words: null,
};

test('rows are read as they were put, and written as they are read', async (t) => {
  const database = await testDatabase(t, []);
  await database.query('', contractTables.split(';')[0]!);
  await database.query('', contractTables.split(';')[1]!);
  const [thingsTable, pairsTable] = [things, pairs] as unknown as readonly [ReadTable, ReadTable];

  for (const row of [whole, bare]) await replaceRow(database, thingsTable, [row['id'] as string], row);
  const read = await readRows(database, thingsTable, 'id = any($1) order by id', [['a', 'b', 'c']]);
  assert.deepEqual(read, [whole, bare]);

  await replaceRow(database, thingsTable, ['a'], { ...bare, id: 'a' });
  await replaceRow(database, thingsTable, ['b'], null);
  await replaceRow(database, thingsTable, ['c'], null);
  assert.deepEqual(await readRows(database, thingsTable, 'true', []), [{ ...bare, id: 'a' }]);

  for (const n of [1, 2]) await replaceRow(database, pairsTable, ['x', 'y'], { a: 'x', b: 'y', n });
  assert.deepEqual(await readRows(database, pairsTable, 'a = $1', ['x']), [{ a: 'x', b: 'y', n: 2 }]);

  assert.equal(utcTime('2026-01-01T12:00:00+00:00'), '2026-01-01T12:00:00.000Z');
  assert.equal(utcTime('2026-01-01T12:00:00.123456+00:00'), '2026-01-01T12:00:00.123Z');
  assert.equal(utcTime('infinity'), 'infinity');
});

test('rows are the same text where they stand and at hand, and another one as soon as one of them differs', async (t) => {
  const database = await testDatabase(t, []);
  await database.query('', contractTables.split(';')[0]!);
  await database.query('', contractTables.split(';')[1]!);
  const [thingsTable, pairsTable] = [things, pairs] as unknown as readonly [ReadTable, ReadTable];
  const odd: Row = {
    ...whole,
    id: 'c',
    name: 'Zoë\n"x", {y}\\ \t🙂',
    done: false,
    at: '2026-02-28T23:00:00.000Z',
    words: ['zoë', 'a', 'über', 'ab', 'b'],
  };
  const rows = [odd, bare, whole];
  for (const row of rows) await replaceRow(database, thingsTable, [row['id'] as string], row);
  const standing = await readText(database, thingsTable, 'id = any($1)', [['a', 'b', 'c']]);
  assert.equal(standing, textOf(thingsTable, rows));
  assert.equal(await readText(database, thingsTable, 'id = $1', ['nobody']), textOf(thingsTable, []));

  assert.notEqual(textOf(thingsTable, [odd, whole]), standing);
  for (const column of Object.keys(thingsTable.columns))
    for (const row of rows) {
      const value = row[column]!;
      const changed = { ...row, [column]: anotherThan(value) };
      const others = rows.filter((one) => one !== row);
      assert.notEqual(textOf(thingsTable, [...others, changed]), standing, `${column} of ${row['id'] as string}`);
    }

  const couples = ['y', 'Y', 'x', 'yy', 'ä'].map((b, n) => ({ a: 'x', b, n }));
  for (const couple of couples) await replaceRow(database, pairsTable, ['x', couple.b], couple);
  assert.equal(await readText(database, pairsTable, 'a = $1', ['x']), textOf(pairsTable, couples));
});

function anotherThan(value: ColumnValue): ColumnValue {
  if (typeof value === 'boolean') return !value;
  if (typeof value === 'number') return value + 1;
  return typeof value === 'string' || value === null ? `${value ?? ''}1` : [...value, 'another'];
}

test('a row is named after its key, however many columns that has', () => {
  assert.equal(rowKey(['a']), 'a');
  assert.notEqual(rowKey(['a', 'b']), rowKey(['ab']));
});

test('an event is named after its log and its position in it', () => {
  assert.equal(eventId('ordering.0', 42), 'ordering-0-42');
});
