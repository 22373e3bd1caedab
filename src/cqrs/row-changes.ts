/** What one transaction is about to change in the tables of read models: the last word on each row. */
import { type ColumnType, type ColumnValue, type ReadTable, type Row, type RowKey, rowKey } from './read-store.ts';

export type RowChange = {
  readonly key: RowKey;
  /** Null: the row is removed. Otherwise the key's columns and `columns`, as the database would give them back. */
  readonly row: Row | null;
  /** Beside the key; all of them when the row is put whole. */
  readonly columns: readonly string[];
  /** Whatever the row was before, this is all of it. */
  readonly isWhole: boolean;
};

export class RowChanges {
  readonly #tables = new Map<ReadTable, Map<string, RowChange>>();

  put(table: ReadTable, rows: readonly Row[], only?: readonly string[]): void {
    const changes = this.#changesOf(table);
    const columns = only ?? allBesideKey(table);
    const typed = [...table.key, ...columns].map((column) => typedColumn(table, column));
    for (const given of rows) {
      const row = canonical(typed, given);
      const key = table.key.map((column) => row[column] as string);
      const name = rowKey(key);
      const before = changes.get(name);
      if (before === undefined || only === undefined)
        changes.set(name, { key, row, columns, isWhole: only === undefined });
      else if (before.row === null) {
        changes.set(name, { key, row: { ...newRow(table), ...row }, columns: allBesideKey(table), isWhole: true });
      } else {
        const both = [...new Set([...before.columns, ...columns])];
        const isWhole = both.length === allBesideKey(table).length;
        changes.set(name, { key, row: { ...before.row, ...row }, columns: both, isWhole });
      }
    }
  }

  remove(table: ReadTable, keys: readonly RowKey[]): void {
    const changes = this.#changesOf(table);
    for (const key of keys) changes.set(rowKey(key), { key, row: null, columns: [], isWhole: true });
  }

  /** By table, in the order in which they were changed first, and row. */
  get tables(): ReadonlyMap<ReadTable, ReadonlyMap<string, RowChange>> {
    return this.#tables;
  }

  /** The changes of one table, by row; undefined when there is none. */
  of(table: ReadTable): ReadonlyMap<string, RowChange> | undefined {
    return this.#tables.get(table);
  }

  /** Tables in the order in which they were changed first, rows in the order of their keys. */
  byTable(): [ReadTable, RowChange[]][] {
    return [...this.#tables].map(([table, changes]) => [
      table,
      [...changes.keys()].sort().map((name) => changes.get(name)!),
    ]);
  }

  #changesOf(table: ReadTable): Map<string, RowChange> {
    const known = this.#tables.get(table);
    if (known !== undefined) return known;
    const changes = new Map<string, RowChange>();
    this.#tables.set(table, changes);
    return changes;
  }
}

/** The row that `change` leaves where `before` was; undefined: none. */
export function changed(table: ReadTable, before: Row | undefined, change: RowChange | undefined): Row | undefined {
  if (change === undefined) return before;
  if (change.row === null) return undefined;
  if (before === undefined) return change.isWhole ? change.row : { ...newRow(table), ...change.row };
  const { version } = table;
  if (table.once || (version !== undefined && isOlder(change.row[version], before[version]))) return before;
  return change.isWhole ? change.row : { ...before, ...change.row };
}

const isOlder = (put: ColumnValue | undefined, present: ColumnValue | undefined): boolean =>
  typeof put === 'number' && typeof present === 'number' && put <= present;

const allBesideKey = (table: ReadTable): string[] =>
  Object.keys(table.columns).filter((column) => !table.key.includes(column));

const newRow = ({ columns, defaults }: ReadTable): Row =>
  Object.fromEntries(Object.keys(columns).map((column) => [column, defaults?.[column] ?? null]));

type TypedColumn = { readonly column: string; readonly type: ColumnType; readonly otherwise: ColumnValue };

function typedColumn(table: ReadTable, column: string): TypedColumn {
  const type = table.columns[column];
  if (type === undefined) throw new Error(`${table.name} has no column ${column}`);
  return { column, type, otherwise: table.defaults?.[column] ?? null };
}

function canonical(columns: readonly TypedColumn[], given: Row): Row {
  const row: Record<string, ColumnValue> = {};
  for (const { column, type, otherwise } of columns) {
    const value = given[column] ?? otherwise;
    row[column] = value === null ? null : canonicalValue(type, value);
  }
  return row;
}

/** As PostgreSQL gives it back. Throws for a text that it cannot hold. */
function canonicalValue(type: ColumnType, value: string | number | boolean | readonly string[]): ColumnValue {
  switch (type) {
    case 'text':
    case 'json':
      if ((value as string).includes('\0')) throw new Error('a text of a read model holds a NUL');
      return (value as string).toWellFormed();
    case 'timestamptz':
      return isUtcTime(value as string) ? value : new Date(value as string).toISOString();
    case 'numeric':
      return String(BigInt(value as string));
    case 'words':
      return [...new Set(value as readonly string[])].sort();
    case 'integer':
    case 'bigint':
    case 'boolean':
      return value;
  }
}

/** `2011-01-01T00:00:00.000Z`, and nothing else of that length. */
const isUtcTime = (text: string): boolean => text.length === 24 && text.endsWith('Z');
