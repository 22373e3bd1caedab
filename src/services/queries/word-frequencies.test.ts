import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { checkpointSchemaFolder } from '#cqrs/postgres-log.ts';
import { systemPorts } from '#platform/ports.ts';
import type { Database, Sql } from '#platform/postgres.ts';
import { testDatabase } from '../../../tests/database.ts';
import { queriesSchema } from './service.ts';
import { wordFrequencies } from './word-frequencies.ts';

const table = 'products';
const whole = (lexeme: string) => ({ lexeme, isPrefix: false });
const begun = (lexeme: string) => ({ lexeme, isPrefix: true });

const databaseFor = (t: TestContext): Promise<Database> => testDatabase(t, [checkpointSchemaFolder, queriesSchema]);

/** A row for each text: its words, each with a space behind it. */
const put = (database: Sql, ...rows: readonly string[]): Promise<unknown> =>
  database.query(
    '',
    `insert into products (sku, words) select gen_random_uuid(), array_to_tsvector(string_to_array(row, ' ')) from unnest($1::text[]) row`,
    [rows],
  );

/** The frequencies of words in `database`, by a clock that the test moves; `samples` are those asked for so far. */
function watched(database: Sql) {
  let nowMs = 0;
  const samples: string[] = [];
  const counting: Sql = {
    query(name, text, values) {
      samples.push(name);
      return database.query(name, text, values);
    },
  };
  return {
    samples,
    frequencies: wordFrequencies(counting, { ...systemPorts, elapsed: () => nowMs }),
    pass: (ms: number): void => void (nowMs += ms),
  };
}

test('searches of a minute go by one sample', async (t) => {
  const database = await databaseFor(t);
  const { frequencies, samples, pass } = watched(database);
  await put(database, 'tea', 'tea', 'pot');
  assert.equal((await frequencies(table)).rowsWith(whole('tea')), 2);
  await put(database, 'tea', 'cup');
  pass(59_999);
  const first = await frequencies(table);
  assert.deepEqual([first.rowsWith(whole('tea')), first.rowsWith(whole('cup'))], [2, 0]);
  assert.equal(samples.length, 1);
  pass(1);
  const second = await frequencies(table);
  assert.deepEqual([second.rowsWith(whole('tea')), second.rowsWith(whole('cup'))], [3, 1]);
  assert.equal((await frequencies('placed_orders')).rowsWith(whole('tea')), 0);
  assert.deepEqual(samples, ['sample products', 'sample products', 'sample placed_orders']);
});

test('whoever asks while a sample is taken waits for it, or goes by the one before', async (t) => {
  const database = await databaseFor(t);
  const { frequencies, samples, pass } = watched(database);
  await put(database, 'tea');
  const seenBy = async (callers: number): Promise<number[]> =>
    Promise.all(Array.from({ length: callers }, async () => (await frequencies(table)).rowsWith(whole('tea'))));
  assert.deepEqual(await seenBy(3), [1, 1, 1]);
  assert.equal(samples.length, 1);
  await put(database, 'tea');
  pass(60_000);
  assert.deepEqual(await seenBy(3), [2, 1, 1]);
  assert.equal(samples.length, 2);
});

test('a sample that fails is taken anew', async (t) => {
  const database = await databaseFor(t);
  const { frequencies } = watched(database);
  await database.query('', 'alter table products rename to away');
  await Promise.all([1, 2].map(() => assert.rejects(frequencies(table), { code: '42P01' })));
  await database.query('', 'alter table away rename to products');
  await put(database, 'tea');
  assert.equal((await frequencies(table)).rowsWith(whole('tea')), 1);
});

test('a whole word is counted by itself, the beginning of one by all that begin with it', async (t) => {
  const database = await databaseFor(t);
  // The last two are sorted by their bytes, not by their halves of characters.
  await put(database, 'tea', 'teapot', 'tea', 'te', 'teb', 'Tea', 'téa', '=tea', '\ufb01x', '\u{20000}x');
  const { rowsWith } = await watched(database).frequencies(table);
  for (const [lexeme, asWhole, asBeginning] of [
    ['tea', 2, 3],
    ['te', 1, 5],
    ['t', 0, 6],
    ['teapot', 1, 1],
    ['teapots', 0, 0],
    ['=tea', 1, 1],
    ['\ufb01x', 1, 1],
    ['\u{20000}', 0, 1],
    ['', 0, 10],
  ] as const)
    assert.deepEqual([rowsWith(whole(lexeme)), rowsWith(begun(lexeme))], [asWhole, asBeginning], lexeme);
});

test('words that begin alike in one row make no more rows of it than there are', async (t) => {
  const database = await databaseFor(t);
  await put(database, 'p-1 p-2 p-3', 'p-4 p-5', 'q');
  const { rowsWith } = await watched(database).frequencies(table);
  assert.equal(rowsWith(begun('p')), 3);
});

test('a word that no sampled row has is in none', async (t) => {
  const database = await databaseFor(t);
  const { frequencies } = watched(database);
  const { rowsWith } = await frequencies(table);
  assert.deepEqual([rowsWith(whole('tea')), rowsWith(begun('t'))], [0, 0]);
  await database.query('', `insert into products (sku) values ('A')`);
  const { rowsWith: ofRowsWithoutWords } = await watched(database).frequencies(table);
  assert.deepEqual([ofRowsWithoutWords(whole('tea')), ofRowsWithoutWords(begun('t'))], [0, 0]);
});

/** Rows of `words`, an expression of the row's number `n`. */
const fill = (database: Sql, rows: number, words: string): Promise<unknown> =>
  database.query(
    '',
    `insert into products (sku, words) select n, array_to_tsvector(${words}) from generate_series(1, $1::integer) n`,
    [rows],
  );

test('what a part of a large table shows is true of all of it, and of how many rows it has', async (t) => {
  const database = await databaseFor(t);
  await database.query('', 'drop index products_words');
  await fill(database, 100_000, `array['all', 'n' || n, case when n % 4 = 0 then 'fourth' else 'other' end]`);
  const { rows: all, rowsWith } = await watched(database).frequencies(table);
  const known = Array.from({ length: 100_000 }, (_, n) => rowsWith(whole(`n${n + 1}`))).filter((rows) => rows > 0);
  assert.ok(known.length > 5_000 && known.length < 20_000, `${known.length}`);
  // As many pages are sampled as chance has it, about 120: their number is off by a third in 1 of 3,000 samples.
  for (const [word, rows] of [
    [whole('all'), 100_000],
    [begun('n'), 100_000],
    [whole('fourth'), 25_000],
  ] as const)
    assert.ok(Math.abs(rowsWith(word) / rows - 1) < 0.6, `${word.lexeme} in ${rowsWith(word)}`);
  assert.equal(Math.round(all), Math.round(rowsWith(whole('all'))));
});

test('of rows with many words fewer are counted', async (t) => {
  const database = await databaseFor(t);
  await database.query('', 'drop index products_words');
  await fill(
    database,
    1_000,
    `array(select 'all' union all select 'n' || n union all select md5(n * 1000 + m || '') from generate_series(1, 100) m)`,
  );
  const { rowsWith } = await watched(database).frequencies(table);
  const known = Array.from({ length: 1_000 }, (_, n) => rowsWith(whole(`n${n + 1}`))).filter((rows) => rows > 0);
  // 100 words of 36 bytes: 270 rows of them are 1 MB.
  assert.ok(known.length > 200 && known.length < 350, `${known.length}`);
  assert.equal(Math.round(rowsWith(whole('all'))), 1_000);
  assert.equal(Math.round(rowsWith(begun('n'))), 1_000);
});

test('the most frequent lexemes are remembered, and no more than 50,000', async (t) => {
  const database = await databaseFor(t);
  await database.query('', 'drop index products_words');
  await fill(
    database,
    60,
    `array(select 'all-' || m from generate_series(1, 20) m
      union all select 'n' || n * 1000 + m from generate_series(1, 1000) m)`,
  );
  const { rowsWith } = await watched(database).frequencies(table);
  const known = (from: number, to: number, before: string): number =>
    Array.from({ length: to - from + 1 }, (_, n) => rowsWith(whole(`${before}${from + n}`))).filter((rows) => rows > 0)
      .length;
  assert.equal(known(1, 20, 'all-'), 20);
  assert.equal(known(1_001, 61_000, 'n'), 50_000 - 20);
});
