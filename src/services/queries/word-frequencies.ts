/**
 * How many rows of a table have a word, by a sample of its rows. PostgreSQL's own statistics do not say: of the beginning
 * of a word they have it that 2 % of all rows do, unless 100 words are frequent.
 */
import { type Ports, systemPorts } from '#platform/ports.ts';
import type { Sql } from '#platform/postgres.ts';
import type { SoughtWord } from './search-words.ts';

/** About how many rows of `table`, in its column `words`, have a word. */
export type WordFrequencies = (table: string) => Promise<Frequencies>;

export type Frequencies = {
  /** Of the table, whatever words they have. */
  readonly rows: number;
  rowsWith(word: SoughtWord): number;
};

/**
 * So long a sample is used; it takes PostgreSQL 30 to 50 ms. Of a table that has grown since, too few rows are expected: whoever
 * looks them up meets more, and ends at a limit.
 */
const sampleAgeMaxMs = 60_000;
/**
 * Rows that have a word may lie side by side: one that a ninth of a million has looks as if less than 50,000 had it in 1 of 60
 * samples of so many pages, and in 1 of 6 of a third of it.
 */
const samplePages = 120;
/**
 * So much of the words, as they are stored, is counted. Those of orders with many lines lie beside the table's pages: 120 of
 * these lead to 20,000 orders, and the words of all of them take 4 s.
 */
const sampleBytesMax = 1_000_000;
/** So many lexemes of a table are remembered, the most frequent: some 15,000 take 0.4 MB, the most of them at their longest 11 MB. */
const lexemesMax = 50_000;

/**
 * Samples `database` when it is first asked about a table, and once more when the sample has become too old.
 *
 * Promises:
 * - searches of a minute go by one sample
 * - whoever asks while a sample is taken waits for it, or goes by the one before
 * - a sample that fails is taken anew
 * - a whole word is counted by itself, the beginning of one by all that begin with it
 * - words that begin alike in one row make no more rows of it than there are
 * - a word that no sampled row has is in none
 * - what a part of a large table shows is true of all of it, and of how many rows it has
 * - of rows with many words fewer are counted
 * - the most frequent lexemes are remembered, and no more than 50,000
 */
export function wordFrequencies(database: Sql, ports: Ports = systemPorts): WordFrequencies {
  const taken = new Map<string, { readonly frequencies: Frequencies; readonly usedUntil: number }>();
  const underWay = new Map<string, Promise<Frequencies>>();

  async function take(table: string): Promise<Frequencies> {
    try {
      const frequencies = await sampleOf(database, table);
      taken.set(table, { frequencies, usedUntil: ports.elapsed() + sampleAgeMaxMs });
      return frequencies;
    } finally {
      underWay.delete(table);
    }
  }

  return async (table) => {
    const last = taken.get(table);
    const next = underWay.get(table);
    if (last !== undefined && (next !== undefined || ports.elapsed() < last.usedUntil)) return last.frequencies;
    if (next !== undefined) return next;
    const taking = take(table);
    underWay.set(table, taking);
    return taking;
  };
}

/** One row for all lexemes: one for each of 15,000 would hold up the event loop for 8 ms instead of 1. */
type Sample = {
  /** JSON texts: the lexemes in the order of their bytes, and in how many of the counted rows each of them is. */
  readonly lexemes: string;
  readonly counts: string;
  readonly countedRows: number;
  /** How many of the table's rows a counted one stands for. */
  readonly rowsEach: number;
};

async function sampleOf(database: Sql, table: string): Promise<Frequencies> {
  const [sample] = await database.query<Sample>(
    `sample ${table}`,
    `with size as (select greatest(1, pg_relation_size($1::regclass) / 8192.0) as pages),
     sample as materialized (
       select words from ${table} tablesample system (least(100, 100 * $2::int / (select pages from size)))
     ),
     counted as materialized (
       select words from sample where random() < $3::bigint / (select sum(pg_column_size(words))::float8 from sample)
     ),
     met as (
       select lexeme, count(*) as rows from counted, unnest(tsvector_to_array(words)) lexeme
       group by lexeme order by rows desc limit $4
     )
     select coalesce(json_agg(lexeme order by lexeme collate "C"), '[]') as lexemes,
       coalesce(json_agg(rows order by lexeme collate "C"), '[]') as counts,
       (select count(*) from counted) as "countedRows",
       (select count(*) from sample) * greatest(1, (select pages from size) / $2)
         / greatest(1, (select count(*) from counted)) as "rowsEach"
     from met`,
    [table, samplePages, sampleBytesMax, lexemesMax],
  );
  const { countedRows, rowsEach } = sample!;
  const lexemes = JSON.parse(sample!.lexemes) as readonly string[];
  /** In how many rows the lexemes before each are, and after the last one all. */
  const rowsBefore = new Uint32Array(lexemes.length + 1);
  for (const [n, count] of (JSON.parse(sample!.counts) as readonly number[]).entries())
    rowsBefore[n + 1] = rowsBefore[n]! + count;

  return {
    rows: countedRows * rowsEach,
    rowsWith({ lexeme, isPrefix }) {
      const bytes = Buffer.from(lexeme);
      const begin = firstFrom(0, lexemes, (one) => Buffer.compare(Buffer.from(one), bytes) >= 0);
      const end = firstFrom(begin, lexemes, (one) => (isPrefix ? !one.startsWith(lexeme) : one !== lexeme));
      // A row with several words that begin alike is counted once for each: too many, but never more than all.
      return Math.min(rowsBefore[end]! - rowsBefore[begin]!, countedRows) * rowsEach;
    },
  };
}

/** Where, from `begin` on, the first is that `holds`, which all after it do; the end when none does. */
function firstFrom(begin: number, lexemes: readonly string[], holds: (lexeme: string) => boolean): number {
  let low = begin;
  let high = lexemes.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(lexemes[middle]!)) high = middle;
    else low = middle + 1;
  }
  return low;
}
