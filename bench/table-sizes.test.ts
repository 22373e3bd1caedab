import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openDatabase } from '#platform/postgres.ts';
import { testDatabaseUrl } from '../tests/database.ts';
import { openEnding } from '../tests/running-program.ts';
import { grownBeyondRows, openTableSizes, type TableSize } from './table-sizes.ts';

const mb = 1_048_576;
const table = (name: string, bytes: number, rows: number): TableSize => ({
  name,
  bytes,
  rows,
  deadRows: 0,
  vacuums: 0,
});

test('a table has grown by more than its rows explain when they take a fifth more than before, and a megabyte', () => {
  const before = [table('log', 10 * mb, 1_000), table('stock', 10 * mb, 100), table('heads', 8_192, 1)];
  const after = [
    table('log', 30 * mb, 3_000),
    table('stock', 14 * mb, 100),
    table('heads', 900_000, 1),
    table('new', mb, 1),
  ];
  assert.deepEqual(
    grownBeyondRows(before, after).map(({ name, explainedBytes }) => [name, explainedBytes]),
    [['stock', 10 * mb]],
  );
});

test('fewer rows than before explain what the table had, and nothing more', () => {
  const before = [table('open', 10 * mb, 1_000)];
  assert.deepEqual(grownBeyondRows(before, [table('open', 10 * mb, 10)]), []);
  assert.equal(grownBeyondRows(before, [table('open', 14 * mb, 10)]).length, 1);
});

test('tables are told with their indexes, their rows and their dead rows, those without any row are not', async (t) => {
  const url = await testDatabaseUrl(t);
  const ending = openEnding();
  t.after(() => ending.end());
  const database = openDatabase(url, { applicationName: 'test', poolMax: 1 });
  ending.after(() => database.end());
  const sizes = openTableSizes(ending, { shop: url });
  const walBefore = await sizes.wal();
  await database.query('', 'create table goods (id integer primary key)');
  await database.query('', 'create table untouched (id integer primary key)');
  await database.query('', 'insert into goods select * from generate_series(1, 1000)');
  await database.query('', 'delete from goods where id <= 10');
  await database.query('', 'select pg_stat_force_next_flush()');
  const [goods, ...others] = await sizes.read();
  assert.deepEqual(others, []);
  assert.deepEqual({ ...goods, bytes: 0 }, { name: 'shop.goods', bytes: 0, rows: 990, deadRows: 10, vacuums: 0 });
  // Pages of the table and of its index.
  assert.ok(goods!.bytes >= 9 * 8_192, String(goods!.bytes));
  assert.ok((await sizes.wal()) > walBefore);
});
