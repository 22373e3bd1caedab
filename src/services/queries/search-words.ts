/**
 * What can be searched for: words, cut here and not by PostgreSQL's parser, which takes `85123A-2.x`
 * for a host name. The same cut on both sides makes a word findable by any prefix, and lets only
 * letters, digits and `._-` through to a tsquery: no text of a user can break its syntax.
 */
import { LRUCache } from 'lru-cache';

const lexemeLengthMax = 100;
/** A tsvector holds less than 1 MiB of lexemes. */
const lexemesBytesMax = 1_000_000;

const UUID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i;
const WORD = /[\p{L}\p{N}\p{M}._-]+/gu;

/** The words of a name or id, lower case: `T-Light holder.` gives `t-light`, `t`, `light`, `holder`. */
export const wordsOf = (text: string): readonly string[] =>
  wholeWordsOf(text).flatMap((word) => {
    const parts = word.split(/[._-]+/);
    return parts.length > 1 ? [word, ...parts] : parts;
  });

/** The words of an order's id. A UUID is one word: its parts would be five more that no other order has. */
export const wordsOfId = (id: string): readonly string[] => (UUID.test(id) ? [id.toLowerCase()] : wordsOf(id));

/** `wordsOf` for texts that come again and again, such as names of products: the last 10,000 are remembered. */
export function rememberingWordsOf(): typeof wordsOf {
  const remembered = new LRUCache<string, readonly string[]>({ max: 10_000 });
  return (text) => {
    const known = remembered.get(text);
    if (known) return known;
    const words = wordsOf(text);
    remembered.set(text, words);
    return words;
  };
}

/** Found by the whole SKU only, case and all; no word looks like it. */
export const exactSku = (sku: string): string => `=${sku}`;

/** What is stored of `words`: each once, as many of the first as fit. */
export function lexemes(words: Iterable<string>): readonly string[] {
  const distinct = [...new Set(words)];
  // No character takes more than three bytes per UTF-16 unit.
  if (distinct.reduce((units, word) => units + word.length, 0) * 3 <= lexemesBytesMax) return distinct;
  let bytes = 0;
  const cut = distinct.findIndex((word) => (bytes += Buffer.byteLength(word)) > lexemesBytesMax);
  return cut < 0 ? distinct : distinct.slice(0, cut);
}

/** What a text is searched for: this lexeme, or any that begins with it. */
export type SoughtWord = { readonly lexeme: string; readonly isPrefix: boolean };

/** Texts match `q` in which each of these begins a word or a part of one. None: nothing matches `q`. */
export const soughtWords = (q: string): SoughtWord[] =>
  [...new Set(wholeWordsOf(q))].map((lexeme) => ({ lexeme, isPrefix: true }));

/** Only texts that hold this SKU have it. */
export const soughtSku = (sku: string): SoughtWord => ({ lexeme: exactSku(sku), isPrefix: false });

/** The tsquery of texts that have all of `words`, of which there is one at least. */
export const tsqueryOf = (words: readonly SoughtWord[]): string =>
  words.map(({ lexeme, isPrefix }) => `'${lexeme}'${isPrefix ? ':*' : ''}`).join(' & ');

const wholeWordsOf = (text: string): string[] =>
  (text.normalize('NFKC').toLowerCase().match(WORD) ?? []).flatMap((found) => {
    const word = found
      .replace(/^[._-]+/, '')
      .slice(0, lexemeLengthMax)
      .replace(/[._-]+$/, '');
    return word === '' ? [] : [word];
  });
