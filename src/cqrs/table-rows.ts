/**
 * Rows of tables as whoever checks and mends them reads and writes them: by key and outside of any consumer, with
 * values in the form that `read-store.ts` gives them.
 */
import { type Sql, statementName } from '#platform/postgres.ts';
import type { ColumnType, ColumnValue, ReadTable, Row, RowKey } from './read-store.ts';

/** A table whose rows follow from the states of a service's streams, written by the transaction that writes these. */
export type InlineTable = {
  /** The first column of the key is the id of the stream. */
  readonly table: ReadTable;
  /** The type of the streams. */
  readonly of: string;
  /** The rows of one stream. `events` are all of its own, in order. */
  rowsOf(stream: {
    readonly id: string;
    readonly version: number;
    readonly state: never;
    readonly events: readonly { readonly type: string; readonly data: object }[];
  }): readonly Row[];
};

/**
 * The rows of `table` that `where` names, in no order. They travel as one text: a row costs a third of what it does
 * column by column.
 *
 * Promises:
 * - rows are read as they were put, and written as they are read
 */
export async function readRows(
  sql: Sql,
  table: ReadTable,
  where: string,
  values: readonly unknown[],
): Promise<readonly Row[]> {
  const columns = Object.entries(table.columns).map(([name, type]) => {
    if (type === 'words') return `array_to_json(tsvector_to_array(${name})) as ${name}`;
    return type === 'numeric' ? `${name}::text as ${name}` : name;
  });
  const text = `select json_agg(r) as rows from (select ${columns.join()} from ${table.name} where ${where}) r`;
  const [found] = await sql.query<{ rows: string | null }>(statementName(text), text, values);
  const rows = JSON.parse(found?.rows ?? '[]') as Record<string, ColumnValue>[];
  const times = Object.entries(table.columns).flatMap(([name, type]) => (type === 'timestamptz' ? [name] : []));
  for (const row of rows) {
    for (const name of times) if (row[name] !== null) row[name] = utcTime(row[name] as string);
  }
  return rows;
}

/**
 * The rows of `table` that `where` names as one text, for who only asks whether they are the same as those at hand, of which
 * `textOf` makes the same text: that takes half of what it takes to read rows and to compare them.
 *
 * Promises:
 * - rows are the same text where they stand and at hand, and another one as soon as one of them differs
 */
export async function readText(sql: Sql, table: ReadTable, where: string, values: readonly unknown[]): Promise<string> {
  const columns = columnsOf(table).map(([name, type]) => {
    const text = type === 'words' ? `array_to_string(tsvector_to_array(${name}), ' ')` : `${name}::text`;
    return `coalesce(${text}, chr(3))`;
  });
  const order = table.key.map((name) => `${name} collate "C"`);
  const text = `select string_agg(${columns.join(' || chr(1) || ')}, chr(2) order by ${order.join()})
    as rows from ${table.name} where ${where}`;
  const [found] = await sql.query<{ rows: string | null }>(statementName(text), text, values);
  return found?.rows ?? '';
}

/**
 * `rows`, each of them whole, as `readText` has them of a table.
 *
 * Promises:
 * - rows are the same text where they stand and at hand, and another one as soon as one of them differs
 */
export function textOf(table: ReadTable, rows: Iterable<Row>): string {
  const columns = columnsOf(table);
  const texts: string[] = [];
  for (const row of rows) {
    let text = '';
    for (const [name, type] of columns) {
      if (text !== '') text += betweenValues;
      text += textOfValue(row[name] ?? null, type);
    }
    texts.push(text);
  }
  // By key: it stands first, and what stands behind it comes before all that is in one.
  return texts.sort().join(betweenRows);
}

/** Control characters, 1 to 3: JSON has none, nor has an id. */
const [betweenValues, betweenRows, nothing] = ['\u0001', '\u0002', '\u0003'] as const;

const columnsOf = ({ key, columns }: ReadTable): [string, ColumnType][] => [
  ...key.map((name): [string, ColumnType] => [name, columns[name]!]),
  ...Object.entries(columns).filter(([name]) => !key.includes(name)),
];

/** As PostgreSQL writes a value as text, in UTC. */
function textOfValue(value: ColumnValue, type: ColumnType): string {
  if (value === null) return nothing;
  if (type === 'words') return [...(value as readonly string[])].sort().join(' ');
  if (type !== 'timestamptz') return String(value);
  const time = value as string;
  const fraction = time.endsWith('.000Z') ? '' : time.slice(19, -1).replace(/0+$/, '');
  return `${time.slice(0, 10)} ${time.slice(11, 19)}${fraction}+00`;
}

/**
 * Puts `row` where `key` is, whatever stands there; null: nothing is to stand there. Within the caller's transaction.
 *
 * Promises:
 * - rows are read as they were put, and written as they are read
 */
export async function replaceRow(sql: Sql, table: ReadTable, key: RowKey, row: Row | null): Promise<void> {
  if (row === null) {
    const names = `(${table.key.join()}) = (${table.key.map((_, n) => `$${n + 1}`).join()})`;
    await sql.query('', `delete from ${table.name} where ${names}`, key);
    return;
  }
  const columns = Object.keys(table.columns);
  const given = Object.values<ColumnType>(table.columns).map(parameterSql);
  const changing = columns.filter((name) => !table.key.includes(name)).map((name) => `${name} = excluded.${name}`);
  const text = `insert into ${table.name} (${columns.join()}) select ${given.join()}
    on conflict (${table.key.join()}) do update set ${changing.join()}`;
  await sql.query(
    '',
    text,
    columns.map((name) => row[name] ?? null),
  );
}

function parameterSql(type: ColumnType, n: number): string {
  if (type === 'words') return `array_to_tsvector($${n + 1}::text[])`;
  return `$${n + 1}::${type === 'json' ? 'text' : type}`;
}

/**
 * From `2011-01-01T12:00:00.5+00:00`, as PostgreSQL writes a time into JSON in UTC. What is no such time (infinity)
 * stays as it is.
 *
 * Promises:
 * - rows are read as they were put, and written as they are read
 */
export function utcTime(text: string): string {
  if (!text.endsWith('+00:00')) return text;
  const [whole = '', fraction = ''] = text.slice(0, -6).split('.');
  return `${whole}.${fraction.slice(0, 3).padEnd(3, '0')}Z`;
}
