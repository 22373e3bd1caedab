/**
 * Rows as projections put them, without the form that a database gives them. What is found to be the same is the same; of what
 * is not, a store says what it should be. For rows that are put whole at first, as folds from the beginning do.
 */
import { type ReadTable, type Row, rowKey, type RowKey, type Rows } from '#cqrs/read-store.ts';
import { textOf } from '#cqrs/table-rows.ts';
import { keyOf } from './rows.ts';

export type PlainRows = {
  readonly rows: Rows;
  /** Whether `table` has exactly the rows whose text was read. False when in doubt. */
  isSame(table: ReadTable, found: string): boolean;
};

export function plainRows(): PlainRows {
  const tables = new Map<string, Map<string, Row>>();
  let isWhole = true;
  const rowsIn = ({ name }: { readonly name: string }): Map<string, Row> => {
    let rows = tables.get(name);
    if (rows === undefined) tables.set(name, (rows = new Map()));
    return rows;
  };
  const nameOf = (table: ReadTable, row: Row): string =>
    table.key.length === 1 ? (row[table.key[0]!] as string) : rowKey(keyOf(table, row));

  return {
    rows: {
      async load<R extends Row>(table: ReadTable<R>, keys: readonly RowKey[]) {
        const rows = rowsIn(table);
        return new Map(
          keys.map(rowKey).flatMap((name) => {
            const row = rows.get(name);
            return row === undefined ? [] : [[name, row as R] as const];
          }),
        );
      },
      put(table, given, only) {
        const rows = rowsIn(table);
        for (const row of given as readonly Row[]) {
          const name = nameOf(table, row);
          const before = rows.get(name);
          if (before === undefined) {
            if (only !== undefined) isWhole = false;
            rows.set(name, table.defaults === undefined ? row : { ...table.defaults, ...row });
          } else if (!table.once) rows.set(name, { ...before, ...row });
        }
      },
      remove(table, keys) {
        const rows = rowsIn(table);
        for (const key of keys) rows.delete(rowKey(key));
      },
    },

    isSame: (table, found) => isWhole && textOf(table, rowsIn(table).values()) === found,
  };
}
