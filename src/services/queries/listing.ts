/** Lists: pages by keyset, so that inserts neither shift nor repeat an item, and within a time limit. */
import type { QueryAnswer } from '#contracts/routes.ts';
import type { Refusal } from '#cqrs/decider.ts';
import { cursorsOf as endsOf } from '#platform/cursors.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import { type SoughtWord, tsqueryOf } from './search-words.ts';
import type { Frequencies, WordFrequencies } from './word-frequencies.ts';

export const limitDefault = 20;
/** A list that takes longer is given up: its filters fit no index well enough. */
const listTimeoutMs = 3_000;

/** What queries are read with. */
export type ReadDatabases = {
  /** Each statement is planned for its very values: else a frequent word would be looked up as if it were a rare one. */
  readonly database: Database;
  /** For what one plan serves, whatever the values are: rows by their keys, and walks along an index. */
  readonly plannedOnce: Database;
  end(): Promise<void>;
};

/** `connectionsMax`: of either. */
export function openReads(
  url: string,
  {
    applicationName,
    connectionsMax: poolMax = 4,
  }: { readonly applicationName: string; readonly connectionsMax?: number },
): ReadDatabases {
  const options = { applicationName, poolMax, statementTimeoutMs: listTimeoutMs };
  const database = openDatabase(url, { ...options, planForValues: true, plansByIndex: true });
  const plannedOnce = openDatabase(url, { ...options, plansOnce: true });
  return { database, plannedOnce, end: async () => void (await Promise.all([database.end(), plannedOnce.end()])) };
}

/** What lists are read with. */
export type ListReads = Omit<ReadDatabases, 'end'> & { readonly frequencies: WordFrequencies };

/** Where a page ended: the sort key of its last item, and the item's id, which settles ties. */
export type PageEnd = { readonly key: string | number; readonly id: string };

type Cursors = {
  /** Where the page before ended; null on the first page; `malformed` when it is not a cursor of this very list. */
  read(cursor: string | undefined): PageEnd | null | 'malformed';
  write(end: PageEnd): string;
};

/**
 * The cursors of one list: name, filters and sort together. `isKey` knows the sort's keys; `keyOf` makes them of the
 * text that PostgreSQL gives, where that differs.
 */
export function cursorsOf(
  list: readonly unknown[],
  isKey: (key: unknown) => boolean,
  keyOf?: (text: string) => string,
): Cursors {
  const cursors = endsOf(list, (end): end is [key: string | number, id: string] => {
    const [key, id] = end;
    return end.length === 2 && isKey(key) && typeof id === 'string' && /^[A-Za-z0-9._-]{1,64}$/.test(id);
  });
  return {
    read(cursor) {
      const end = cursors.read(cursor);
      return Array.isArray(end) ? { key: end[0], id: end[1] } : end;
    },
    write: ({ key, id }) => cursors.write([typeof key === 'string' && keyOf ? keyOf(key) : key, id]),
  };
}

export const malformedCursor: { refused: Refusal } = {
  refused: {
    code: 'malformed-cursor',
    detail: 'The cursor is not one of this list: send it with the filters and the sort of the page before.',
    errors: [{ pointer: '/cursor', detail: 'is not one of this list' }],
  },
};

const tooSlow: { refused: Refusal } = {
  refused: { code: 'overloaded', detail: `The list was given up after ${listTimeoutMs} ms. Narrow its filters.` },
};

/**
 * How the items of a page are found: rows of `id`, `key` and `found`. All take the list's filters, then key and id of
 * where the page before ended (null: from the start), the most items wanted, and the most entries.
 */
export type ListStatements = {
  /** What the statements are called by. */
  readonly name: string;
  /** For filters that leave nothing to be tested: reads along the index of the sort, by whatever values. */
  readonly read: string;
  /**
   * Tests entries of the sort's index one by one, in their order, until the page is full: rows with `found` 1. One plan
   * serves: where the walk begins must be no condition that a plan for all values would test row by row. When
   * it is not, and there may be more entries, the last one tested is the last row, with `found` 0.
   */
  readonly walk: string;
  /** Gathers what fits by any index but that of words, and sorts it. `found`: how many, at most the most entries. */
  readonly search: string;
  /**
   * Gathers what has the words of one more parameter, the most entries of it, and sorts what fits. `found`: how many
   * have them; if none of them fits, in a row without an id.
   */
  readonly searchWords: string;
  /** The table that has the words. */
  readonly wordsTable: string;
};

type Listed = PageEnd & { readonly found: number };

/** A word, and about how many rows have it. */
type SoughtIn = { readonly word: SoughtWord; readonly rows: number };

type PageRequest = {
  readonly filters: readonly unknown[];
  /** No filter is left to be tested. */
  readonly isServedByIndex: boolean;
  /** The words that are looked for, all of them. */
  readonly words: readonly SoughtWord[];
  readonly after: PageEnd | null;
  readonly limit: number;
  /** JSON texts, in the order of `ids`; without those that are no longer what the filters ask for. */
  itemsOf(ids: readonly string[]): Promise<readonly (Buffer | string)[]>;
  readonly cursors: Cursors;
};

/** An entry takes about 0.6 µs: filters that let 1 in 50 pass fill a page. */
const firstEntriesMax = 1_000;
/** Where the first have shown that these will do, so many more. */
const furtherEntriesMax = 5_000;
/** A row that is looked up costs as much as so many entries of a walk. */
const entriesPerRow = 2;
/** Words that are looked up before anything is walked end here, if more rows have them than was thought. */
const seldomRowsMax = 5_000;
/** Words that more rows have than this are not looked up; a row takes 1 to 2 µs. If it was thought to be fewer, it ends here. */
const searchRowsMax = 50_000;
/** Nothing else is searched for that the planner thinks dearer than this: 5,000 rows here and there, 100,000 side by side. */
const searchCostMax = 6_000;

/**
 * One page of a list, at a bounded price whatever its filters are: words that are so rare that this is the cheaper way are
 * looked up; else, a walk along the index of the sort, and a longer one when the first has met something; otherwise, a search
 * for what may be rare. When nothing is, as with filters that much passes but nothing together, the page has fewer than
 * `limit` items, even none, and a cursor to go on.
 * Either way is cheap for filters that have nothing to do with the sort: the rows that fit, and the entries to be gone
 * through until a page is full, are not both many.
 */
export async function readPage(
  { database, plannedOnce, frequencies }: ListReads,
  statements: ListStatements,
  request: PageRequest,
): Promise<QueryAnswer> {
  const { words, after } = request;
  const pageMax = request.limit + 1;
  const parameters = (from: PageEnd | null, most: number | null): unknown[] => [
    ...request.filters,
    from?.key ?? null,
    from?.id ?? null,
    pageMax,
    most,
  ];
  const run = (kind: 'read' | 'walk' | 'search' | 'searchWords', values: readonly unknown[]): Promise<Listed[]> =>
    (kind === 'read' || kind === 'walk' ? plannedOnce : database).query(
      `${kind} ${statements.name}`,
      statements[kind],
      values,
    );

  const walk = async (from: PageEnd | null, most: number): Promise<Walked> => {
    const rows = await run('walk', parameters(from, most));
    const last = rows.at(-1);
    return last?.found === 0 ? { rows: rows.slice(0, -1), end: last } : { rows, end: null };
  };
  /** Those of the words that so many rows have as is `rare`, with their number. */
  const wordsThat = async (rare: (rows: number, of: Frequencies) => boolean): Promise<SoughtIn[]> => {
    if (words.length === 0) return [];
    const of = await frequencies(statements.wordsTable);
    return words.map((word) => ({ word, rows: of.rowsWith(word) })).filter(({ rows }) => rare(rows, of));
  };
  /** What a search finds; null: as many as `most` rows were gone through, and it ended there. */
  const allOf = (rows: Listed[], most: number): Listed[] | null =>
    rows[0] === undefined || rows[0].found < most ? rows.filter(({ id }) => id !== null) : null;
  const lookUp = async (rare: readonly SoughtIn[], most: number): Promise<Listed[] | null> =>
    allOf(await run('searchWords', [...parameters(after, most), tsqueryOf(rare.map(({ word }) => word))]), most);
  const lookUpSeldom = async (): Promise<Listed[] | null> => {
    // Until a page is full, a walk goes through `pageMax * of.rows / rows` entries.
    const seldom = await wordsThat((rows, of) => rows * entriesPerRow * rows <= pageMax * of.rows);
    return seldom.length === 0 ? null : lookUp(seldom, seldomRowsMax + 1);
  };
  const search = async (): Promise<Listed[] | null> => {
    const plan = await database.query<{ 'QUERY PLAN': string }>(
      `plan ${statements.name}`,
      `explain (format json) ${statements.search}`,
      parameters(after, null),
    );
    const [{ Plan: planned }] = JSON.parse(plan[0]!['QUERY PLAN']) as [{ Plan: { 'Total Cost': number } }];
    const rare = await wordsThat((rows) => rows <= searchRowsMax);
    const most = searchRowsMax + 1;
    // A row that is looked up costs the planner somewhat more than 1.
    const ways = [
      ...(planned['Total Cost'] <= searchCostMax
        ? [
            {
              cost: planned['Total Cost'],
              go: async () => allOf(await run('search', parameters(after, most)), most),
            },
          ]
        : []),
      ...(rare.length > 0 ? [{ cost: Math.min(...rare.map(({ rows }) => rows)), go: () => lookUp(rare, most) }] : []),
    ].toSorted((one, other) => one.cost - other.cost);
    for (const { go } of ways) {
      const found = await go();
      if (found !== null) return found;
    }
    return null;
  };
  const find = async (): Promise<Walked> => {
    if (request.isServedByIndex) return { rows: await run('read', parameters(after, null)), end: null };
    const seldom = await lookUpSeldom();
    if (seldom !== null) return { rows: seldom, end: null };
    const first = await walk(after, firstEntriesMax);
    const { end } = first;
    if (end === null) return first;
    const walkOn = async (): Promise<Walked> => {
      const more = await walk(end, furtherEntriesMax);
      return { rows: [...first.rows, ...more.rows], end: more.end };
    };
    const isMetOften = first.rows.length * furtherEntriesMax >= pageMax * firstEntriesMax;
    const further = isMetOften ? await walkOn() : null;
    if (further !== null && (further.end === null || further.rows.length >= pageMax)) return further;
    const found = await search();
    return found === null ? (further ?? walkOn()) : { rows: found, end: null };
  };

  return givenUpInTime(async () => ({ bytes: await pageBytes(await find(), request) }));
}

/** `end`: null, or where to go on when `rows` do not fill a page. */
type Walked = { readonly rows: readonly Listed[]; readonly end: PageEnd | null };

async function pageBytes({ rows, end }: Walked, { limit, itemsOf, cursors }: PageRequest): Promise<Buffer> {
  const shown = rows.slice(0, limit);
  const next = rows.length > limit ? shown.at(-1)! : end;
  const items = shown.length === 0 ? [] : await itemsOf(shown.map(({ id }) => id));
  const nextCursor = next === null ? 'null' : `"${cursors.write(next)}"`;
  const parts = items.flatMap((item, n) => (n === 0 ? [item] : [',', item]));
  return Buffer.concat(
    ['{"items":[', ...parts, `],"nextCursor":${nextCursor}}`].map((part) =>
      typeof part === 'string' ? Buffer.from(part) : part,
    ),
  );
}

/** Runs one statement, and gives it up when it takes too long; `reads` is opened with `readsOptions`. */
export const listRows = <Row extends object>(
  reads: Database,
  name: string,
  text: string,
  values: readonly unknown[],
): Promise<{ rows: Row[] } | { refused: Refusal }> =>
  givenUpInTime(async () => ({ rows: await reads.query<Row>(name, text, values) }));

async function givenUpInTime<T>(work: () => Promise<T>): Promise<T | { refused: Refusal }> {
  try {
    return await work();
  } catch (error) {
    const queryCancelled = '57014';
    if ((error as { code?: string }).code === queryCancelled) return tooSlow;
    throw error;
  }
}

/**
 * The items `ids` as JSON texts, in this order: from memory those that are `kept`, the others in one `read`. What a list
 * reads is not put into memory: whoever goes through all pages would leave nothing else there.
 */
export async function itemTexts(
  ids: readonly string[],
  kept: (id: string) => Buffer | undefined,
  read: (missing: readonly string[]) => Promise<readonly (readonly [id: string, text: string])[]>,
): Promise<readonly (Buffer | string)[]> {
  const texts = new Map<string, Buffer | string>();
  const missing: string[] = [];
  for (const id of ids) {
    const text = kept(id);
    if (text === undefined) missing.push(id);
    else texts.set(id, text);
  }
  if (missing.length > 0) for (const [id, text] of await read(missing)) texts.set(id, text);
  return ids.flatMap((id) => texts.get(id) ?? []);
}

export const emptyPage = '{"items":[],"nextCursor":null}';
