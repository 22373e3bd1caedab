/**
 * What a projection may do with its read database: load rows by key and put final rows, in one
 * transaction with its checkpoint. Projections that know no more than this run unchanged against
 * PostgreSQL, in memory, beside the live tables, and one entity at a time.
 */

/** What a column holds; `words` are search words, kept as a text search vector. */
export type ColumnType = 'text' | 'integer' | 'bigint' | 'numeric' | 'boolean' | 'timestamptz' | 'words';

/** A column's value: times are RFC 3339 UTC with milliseconds, `words` an array, the rest as JavaScript has it. */
export type ColumnValue = string | number | boolean | readonly string[] | null;

export type Row = Readonly<Record<string, ColumnValue>>;

/** One table of a read model. A row that is put for the first time has each column's default where it gives none. */
export type ReadTable<R extends Row = Row> = {
  readonly name: string;
  /** One or two text columns that name a row. */
  readonly key: readonly (keyof R & string)[];
  readonly columns: Readonly<Record<keyof R & string, ColumnType>>;
};

/** Values of a table's key columns, in order. */
export type RowKey = readonly string[];

/** The rows of one transaction. Reads see what the same transaction has put. */
export type Rows = {
  /** The rows of `keys` that exist, by `rowKey(key)`; each with all columns. */
  load<R extends Row>(table: ReadTable<R>, keys: readonly RowKey[]): Promise<ReadonlyMap<string, R>>;
  /**
   * Writes each row whole, or only `columns` of it beside its key: what other columns of an existing row
   * hold stays. One row per key and call. Sent with the transaction, not awaited.
   */
  put<R extends Row>(table: ReadTable<R>, rows: readonly Partial<R>[], columns?: readonly (keyof R & string)[]): void;
};

/** Of several consumers that move together: all from one position to another. */
export type CheckpointMove = { readonly consumers: readonly string[]; readonly from: number; readonly to: number };

export type ReadStore = {
  /** How far each of `consumers` has come; one that is new begins at 0. */
  checkpoints(consumers: readonly string[]): Promise<ReadonlyMap<string, number>>;
  /**
   * Moves the checkpoints and has `work` put its rows, in one transaction: all of it or nothing.
   * Rejects with `consumer-fenced` when another worker has moved one of them, or with what `work` threw.
   */
  apply<T>(move: CheckpointMove, work: (rows: Rows) => Promise<T>): Promise<T>;
};
