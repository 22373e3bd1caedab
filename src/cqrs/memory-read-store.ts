/** The read store in memory: the same promises as PostgreSQL's, kept by being single-threaded. For tests and the simulator. */
import { EngineError } from './errors.ts';
import { memoryParkedMessages } from './memory-parked-messages.ts';
import { takesBack } from './parked-messages.ts';
import { type ReadStore, type ReadTable, type Row, rowKey } from './read-store.ts';
import { changed, RowChanges } from './row-changes.ts';
import { memorySources } from './source-epoch.ts';

export type MemoryReadStore = ReadStore & {
  /** All rows of a table, in the order of their keys. */
  rowsOf<R extends Row>(table: ReadTable<R>): R[];
};

/**
 * An empty store.
 *
 * Promises:
 * - what is loaded is what was put, by the same store and by another
 * - values come back as the database writes them
 * - checkpoints move with the rows, from where they were, or nothing happens
 * - work that throws changes nothing
 * - a worker that has not seen what another takes back of its parked messages is fenced
 * - all rows of a table are listed by key, and nobody can change them
 */
export function memoryReadStore(): MemoryReadStore {
  const tables = new Map<string, Map<string, Row>>();
  const positions = new Map<string, number>();
  /** How often parked messages of a consumer have been taken back. */
  const generations = new Map<string, number>();
  const parked = memoryParkedMessages();
  const tableOf = ({ name }: { readonly name: string }): Map<string, Row> => {
    const rows = tables.get(name) ?? new Map<string, Row>();
    tables.set(name, rows);
    return rows;
  };

  return {
    parked,
    committed: <R extends Row>(table: ReadTable<R>, key: readonly string[]) =>
      tableOf(table).get(rowKey(key)) as R | undefined,
    rowsOf: <R extends Row>(table: ReadTable<R>) =>
      [...tableOf(table)].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row as R),

    async checkpoints(consumers) {
      for (const consumer of consumers) if (!positions.has(consumer)) positions.set(consumer, 0);
      return new Map(consumers.map((consumer) => [consumer, positions.get(consumer)!]));
    },

    rememberSource: memorySources((consumer) => positions.get(consumer) ?? 0),

    // Nobody else has these rows, and no other code has written them.
    async takeOver() {},
    async assertCurrent() {},

    async apply(moves, work) {
      const changes = new RowChanges();
      const begun = moves.map(({ consumer }) => generations.get(consumer));
      const result = await work({
        async load<R extends Row>(table: ReadTable<R>, keys: readonly (readonly string[])[]) {
          const rows = new Map<string, R>();
          for (const name of keys.map(rowKey)) {
            const row = changed(table, tableOf(table).get(name), changes.of(table)?.get(name));
            if (row !== undefined) rows.set(name, row as R);
          }
          return rows;
        },
        put: (table, rows, columns) => changes.put(table, rows as readonly Row[], columns),
        remove: (table, keys) => changes.remove(table, keys),
      });
      const fenced = moves.filter(
        (move, n) =>
          positions.get(move.consumer) !== move.from ||
          generations.get(move.consumer) !== begun[n] ||
          !parked.fits(move.consumer, move),
      );
      if (fenced.length > 0)
        throw new EngineError('consumer-fenced', `${fenced[0]!.consumer} was moved by another worker`);
      const areTakenBack = moves.some(takesBack);
      for (const move of moves) {
        parked.write(move.consumer, move);
        positions.set(move.consumer, move.to);
        if (areTakenBack) generations.set(move.consumer, (generations.get(move.consumer) ?? 0) + 1);
      }
      for (const [table, ofTable] of changes.byTable()) {
        const rows = tableOf(table);
        for (const change of ofTable) {
          const name = rowKey(change.key);
          const row = changed(table, rows.get(name), change);
          if (row === undefined) rows.delete(name);
          else rows.set(name, Object.freeze(row));
        }
      }
      return result;
    },
  };
}
