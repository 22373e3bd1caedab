import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exactSku, lexemes, soughtSku, soughtWords, tsqueryOf, wordsOf, wordsOfId } from './search-words.ts';

test('a text gives its words and the parts of those that are joined', () => {
  assert.deepEqual(wordsOf('T-Light holder.'), ['t-light', 't', 'light', 'holder']);
  assert.deepEqual(wordsOf('RED/BLUE "box" — 2.5cm'), ['red', 'blue', 'box', '2.5cm', '2', '5cm']);
  assert.deepEqual(wordsOf('ﬁne CAFÉ'), ['fine', 'café']);
  assert.deepEqual(wordsOf(" '' & -- ._- \0 😀 "), []);
});

test('a query asks for the beginning of each word, and lets nothing else through', () => {
  assert.equal(tsqueryOf(soughtWords("Hea 't-li (x|y) hea")), `'hea':* & 't-li':* & 'x':* & 'y':*`);
  assert.deepEqual(soughtWords("'; --"), []);
});

test('a whole SKU is found by itself, case and all', () => {
  assert.equal(tsqueryOf([soughtSku('A.b-1')]), `'${exactSku('A.b-1')}'`);
  assert.ok(!wordsOf('A.b-1').includes(exactSku('A.b-1')));
});

test('lexemes are named once, and stop at what a tsvector holds', () => {
  assert.deepEqual(lexemes(['b', 'a', 'b']), ['b', 'a']);
  const many = lexemes(
    (function* () {
      for (let n = 0; n < 100_000; n += 1) yield `${n}`.padStart(50, 'é');
    })(),
  );
  assert.ok(many.length > 10_000 && Buffer.byteLength(many.join('')) < 1_048_576);
  assert.equal(wordsOf('x'.repeat(500))[0]?.length, 100);
  assert.deepEqual(wordsOf(`${'x'.repeat(99)}-y`), ['x'.repeat(99)]);
});

test('a UUID is one word, other ids are cut as names are', () => {
  assert.deepEqual(wordsOfId('019A0A4E-7F00-7000-8000-00000000000A'), ['019a0a4e-7f00-7000-8000-00000000000a']);
  assert.deepEqual(wordsOfId('2024-0001'), ['2024-0001', '2024', '0001']);
});
