/**
 * What a projection may do with its read database: load rows by key and put final rows, in one
 * transaction with its checkpoint. Projections that know no more than this run unchanged against
 * PostgreSQL, in memory, beside the live tables, and one entity at a time.
 */
import type { CheckpointMove } from './event-log.ts';
import type { ParkedMessages } from './parked-messages.ts';
import type { RememberSource } from './source-epoch.ts';

/** What a column holds. `json` is JSON text, in a column of type text; `words` are search words, kept as a text search vector. */
export type ColumnType = 'text' | 'json' | 'integer' | 'bigint' | 'numeric' | 'boolean' | 'timestamptz' | 'words';

/**
 * A column's value: times are RFC 3339 UTC with milliseconds, `numeric` the digits of a whole number of any
 * size, `words` an array of at least one word without blanks, the rest as JavaScript has it.
 */
export type ColumnValue = string | number | boolean | readonly string[] | null;

export type Row = Readonly<Record<string, ColumnValue>>;

/** One table of a read model. */
export type ReadTable<R extends Row = Row> = {
  readonly name: string;
  /** The text columns that name a row. */
  readonly key: readonly (keyof R & string)[];
  readonly columns: Readonly<Record<keyof R & string, ColumnType>>;
  /** What a new row has where it is put without; null in columns that are not named here. */
  readonly defaults?: Partial<R>;
  /** The column that grows with each change: what is put over a row that is not older changes nothing. */
  readonly version?: keyof R & string;
  /** Rows are put once and not loaded: a row that is there already stays as it is, and none is kept in memory. */
  readonly once?: true;
};

/** Values of a table's key columns, in order. */
export type RowKey = readonly string[];

/**
 * The name of a row in what `load` resolves to.
 *
 * Promises:
 * - a row is named after its key, however many columns that has
 */
export const rowKey = (key: RowKey): string => (key.length === 1 ? key[0]! : key.join('\0'));

/** The rows of one transaction. Reads see what the same transaction has put. */
export type Rows = {
  /** The rows of `keys` that exist, by `rowKey(key)`; each with all columns. */
  load<R extends Row>(table: ReadTable<R>, keys: readonly RowKey[]): Promise<ReadonlyMap<string, R>>;
  /**
   * Writes each row whole, or only `columns` of it beside its key: what other columns of an existing row
   * hold stays. One row per key and call. Sent with the transaction, not awaited.
   */
  put<R extends Row>(table: ReadTable<R>, rows: readonly Partial<R>[], columns?: readonly (keyof R & string)[]): void;
  /** Removes the rows of `keys` that exist. */
  remove<R extends Row>(table: ReadTable<R>, keys: readonly RowKey[]): void;
};

/**
 * A row as it was last committed through the store that is asked, by any of its consumers. Undefined says
 * nothing: there is none, or it is not in memory.
 */
export type Committed = <R extends Row>(table: ReadTable<R>, key: RowKey) => R | undefined;

export type ReadStore = {
  /**
   * Takes over read models in the version that their code has. Rejects with `read-model-version` when one was
   * projected by another; one that is new is of this version from now on.
   */
  takeOver(readModels: readonly { readonly name: string; readonly version: number }[]): Promise<void>;
  /**
   * How far each of `consumers` has come; one that is new begins at 0, and can be moved from then on. What
   * is in memory is forgotten: whoever asks does so because others may have written.
   */
  checkpoints(consumers: readonly string[]): Promise<ReadonlyMap<string, number>>;
  /** Which epoch of their source `consumers` go by. */
  readonly rememberSource: RememberSource;
  /** Rejects with `consumer-fenced` when others have replaced the rows of `consumers` since their checkpoints were read. */
  assertCurrent(consumers: readonly string[]): Promise<void>;
  /**
   * Has `work` put its rows, and moves the checkpoints, in one transaction: all of it or nothing. Rejects
   * with `consumer-fenced` when another worker has moved one of them or taken one of its parked messages,
   * or with what `work` threw. Several may be under way at once, of consumers that put different columns.
   */
  apply<T>(moves: readonly CheckpointMove[], work: (rows: Rows) => Promise<T>): Promise<T>;
  readonly committed: Committed;
  /** What consumers could not apply. */
  readonly parked: ParkedMessages;
};
