/** A projection keeps one read model: it folds events of one or more logs into rows. */
import type { Sql } from '#platform/postgres.ts';
import type { RecordedEvent } from './event-log.ts';

export type Projection = {
  /** Also the name of the read model. */
  readonly name: string;
  /** The services whose logs it folds, such as `ordering`. */
  readonly services: readonly string[];
  /**
   * Folds `events`, all from one service and in order, into rows: reads what it needs and writes one
   * final row per entity, all within the transaction `sql`, which also moves the checkpoint. Sends its
   * writes without waiting where it can. Resolves to what is to be done once the transaction has
   * committed (such as filling a cache), or to nothing.
   */
  apply(service: string, events: readonly RecordedEvent[], sql: Sql): Promise<(() => void) | void>;
};
