/** A projection keeps one read model: it folds events of one or more logs into rows. */
import type { RecordedEvent } from './event-log.ts';
import type { Committed, ReadTable, Rows } from './read-store.ts';

export type Projection = {
  /** Also the name of the read model. */
  readonly name: string;
  /**
   * Grows whenever the same events come out as other rows. A read model of an older version is rebuilt before
   * this program takes it over.
   */
  readonly version: number;
  /** The services whose logs it folds, such as `ordering`. The columns that each of them fills are its own. */
  readonly services: readonly string[];
  /** What it keeps. It may load rows of other projections' tables, of columns that never change once put. */
  readonly tables: readonly ReadTable[];
  /**
   * Folds `events`, all from one service and in order, into rows: loads what it needs and puts one final
   * row per entity, all within the transaction that also moves the checkpoint. Resolves to what is to be
   * done once it has committed (such as filling a cache), or to nothing.
   */
  apply(service: string, events: readonly RecordedEvent[], rows: Rows): Promise<AfterCommit | void>;
};

export type AfterCommit = (committed: Committed) => void;
