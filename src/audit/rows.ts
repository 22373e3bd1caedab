/** Rows as they should be, beside rows as they are. */
import { type ColumnValue, type ReadTable, type Row, rowKey } from '#cqrs/read-store.ts';

export type RowDifference = {
  readonly key: readonly string[];
  /** Null: there should be none, or is none. */
  readonly expected: Row | null;
  readonly found: Row | null;
};

/** The rows of `table` that are missing, too many, or another. */
export function differingRows(table: ReadTable, expected: readonly Row[], found: readonly Row[]): RowDifference[] {
  const differences: RowDifference[] = [];
  const left = new Map(found.map((row) => [rowKey(keyOf(table, row)), row]));
  const columns = Object.keys(table.columns);
  for (const row of expected) {
    const key = keyOf(table, row);
    const name = rowKey(key);
    const present = left.get(name) ?? null;
    left.delete(name);
    if (present === null || !columns.every((column) => isSameValue(row[column]!, present[column]!)))
      differences.push({ key, expected: row, found: present });
  }
  for (const row of left.values()) differences.push({ key: keyOf(table, row), expected: null, found: row });
  return differences;
}

export const keyOf = (table: ReadTable, row: Row): string[] => table.key.map((column) => String(row[column]));

/** Search words are compared as a set: the database has an order of its own. */
function isSameValue(a: ColumnValue, b: ColumnValue): boolean {
  if (a === b) return true;
  if (!Array.isArray(a) || !Array.isArray(b)) return false;
  const others = new Set<unknown>(b);
  return a.length === b.length && a.every((word) => others.has(word));
}
