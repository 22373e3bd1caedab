/**
 * What PostgreSQL is told of an append, and what it answers: one call of the function `append`
 * (`schema/log/`), one round trip.
 */
import { arrayLiteral, type Sql } from '#platform/postgres.ts';
import type { AppendBatch, AppendResult, NewEvent } from './event-log.ts';
import { entityOf, slotOfStream } from './event-log.ts';
import type { EventTypes } from './event-types.ts';
import type { InlineTable } from './table-rows.ts';

export type Sent = {
  /** What the batch is hashed of; null: it has no events. */
  readonly content: string | null;
  readonly values: readonly (string | null)[];
  readonly eventBytes: readonly number[];
};
export type SendResult = { readonly head: number } | Extract<AppendResult, { conflicts: unknown }>;

export const awaitHeadSql = 'select position from log_head for update';

export const rfc3339 = (column: string): string =>
  `to_char(${column} at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

type AppendRow = {
  readonly head: number;
  readonly conflicts: string | null;
  readonly duplicates: string | null;
  readonly fenced: string | null;
};

/** `sql` is that of `appendSql`. */
export const send = (writer: Sql, sql: string, values: Sent['values']): Promise<SendResult> =>
  writer.query<AppendRow>('append', sql, values).then(resultOf);

function resultOf([row]: readonly AppendRow[]): SendResult {
  const { head, conflicts, duplicates, fenced } = row!;
  if (conflicts === null && duplicates === null && fenced === null) return { head };
  const parsed = <T>(text: string | null): T[] => (text === null ? [] : (JSON.parse(text) as T[]));
  return {
    head,
    conflicts: parsed<string>(conflicts),
    duplicates: parsed<{ caller: string; key: string; fingerprint: string; answer: unknown }>(duplicates).map(
      (kept) => ({ ...kept, head }),
    ),
    fenced: parsed<string>(fenced),
  };
}

/**
 * Whether a batch whose answer was lost is in the log: the position before it, or null. Waits for the
 * head's lock first, because the lost transaction may still be committing. A batch without events is
 * safe to send again: its keys and checkpoints tell.
 */
export async function findCommitted(writer: Sql, batch: AppendBatch): Promise<number | null> {
  const first = batch.events[0];
  if (first === undefined) return null;
  await writer.query('await head', awaitHeadSql);
  const rows = await writer.query<FoundRow>('find', findSql, [first.stream, first.version, batch.events.length]);
  // All of it: a competing worker may have made a smaller batch of the same messages in the same millisecond.
  const ours = batch.events.every((event, n) => isSame(event, rows[n]));
  return ours ? rows[0]!.position - 1 : null;
}

type FoundRow = {
  position: number;
  stream: string;
  version: number;
  data: string;
  origin: string;
  at: string;
};

const findSql = `
  select position, stream, version, data, origin, ${rfc3339('at')} as at from events
  where position >= (select position from events where stream = $1 and version = $2) order by position limit $3`;

const isSame = (event: NewEvent, row: FoundRow | undefined): boolean =>
  row !== undefined &&
  row.stream === event.stream &&
  row.version === event.version &&
  row.at === event.at &&
  row.data === JSON.stringify(event.data) &&
  row.origin === JSON.stringify(event.origin);

/**
 * A batch as the function `append` takes it: column by column, parts that are empty as null. Events and states are
 * stringified once; the sizes of the events bound the tail. `content`, of which the hash of the batch is made, is the JSON
 * of the events (`event_content` makes it again from what is stored): its fields, their order and their form stay as they are.
 */
export function appendParameters(
  batch: AppendBatch,
  eventTypes: EventTypes | undefined,
  inlineTables: readonly InlineTable[],
): Sent {
  const { checks, events, writes, keys, checkpoints } = batch;
  const slots = events.map(({ stream }) => slotOfStream(stream));
  const types = events.map((event) => eventTypes?.storedName(event) ?? event.type);
  const data = events.map((event) => JSON.stringify(event.data));
  const origins = events.map(({ origin }) => JSON.stringify(origin));
  // Times and types hold nothing that JSON would quote. Put around the whole, the brackets would have it copied again.
  const last = events.length - 1;
  const texts = events.map(
    ({ at, version, stream }, n) =>
      `${n === 0 ? '[' : ','}{"n":${n + 1},"at":"${at}","v":${version},"slot":${slots[n]},"s":${JSON.stringify(stream)},"type":"${types[n]}","data":${data[n]},"origin":${origins[n]}}${n === last ? ']' : ''}`,
  );
  const content = events.length === 0 ? null : texts.join('');
  const ofEvents = (column: () => string): string | null => (events.length === 0 ? null : column());
  const ofWrites = (column: () => string): string | null => (writes.length === 0 ? null : column());
  const ofKeys = (column: () => string): string | null => (keys.length === 0 ? null : column());
  return {
    content,
    values: [
      arrayLiteral(checks.map(({ stream }) => stream)),
      arrayLiteral(checks.map(({ version }) => version)),
      content,
      ofEvents(() => arrayLiteral(events.map(({ stream }) => stream))),
      ofEvents(() => arrayLiteral(events.map(({ version }) => version))),
      ofEvents(() => arrayLiteral(slots)),
      ofEvents(() => arrayLiteral(types)),
      ofEvents(() => arrayLiteral(events.map(({ at }) => at))),
      ofEvents(() => data.join('\n')),
      ofEvents(() => origins.join('\n')),
      ofWrites(() => arrayLiteral(writes.map(({ stream }) => stream))),
      ofWrites(() => arrayLiteral(writes.map(({ version }) => version))),
      ofWrites(() => arrayLiteral(writes.map(({ stream }) => slotOfStream(stream)))),
      ofWrites(() => arrayLiteral(writes.map(({ dueAt }) => dueAt))),
      ofWrites(() => writes.map(({ state }) => JSON.stringify(state)).join('\n')),
      ofKeys(() => arrayLiteral(keys.map(({ caller }) => caller))),
      ofKeys(() => arrayLiteral(keys.map(({ key }) => key))),
      ofKeys(() => arrayLiteral(keys.map(({ fingerprint }) => fingerprint))),
      ofKeys(() => arrayLiteral(keys.map(({ at }) => at))),
      ofKeys(() => keys.map(({ answer }) => JSON.stringify(answer) ?? '').join('\n')),
      movesOf(checkpoints),
      ...inlineColumns(batch, inlineTables),
    ],
    eventBytes: texts.map((text) => text.length),
  };
}

type BatchOfRows = {
  readonly writes: readonly Pick<AppendBatch['writes'][number], 'stream' | 'version' | 'state'>[];
  readonly events: readonly Pick<NewEvent, 'stream' | 'type' | 'data'>[];
};

/** Those of the function `append`, before the columns of inline tables. */
const parametersOfAppend = 21;

/** The statement that records batches of a log with these tables beside it. */
export function appendSql(inlineTables: readonly InlineTable[]): string {
  const columns = inlineTables.reduce((sum, { table }) => sum + Object.keys(table.columns).length, 0);
  const given = Array.from({ length: parametersOfAppend + columns }, (_, n) => `$${n + 1}`);
  // Whoever has no such tables gives none of their columns.
  if (columns === 0) given.push(`variadic '{}'::text[]`);
  return `select head, conflicts, duplicates, fenced from append(${given.join()})`;
}

/**
 * What the function `write_inline_tables` takes: an array literal for each column of each table, in the order in which they
 * are declared, and null where the batch has no rows of the table.
 *
 * Promises:
 * - the rows beside a log are written with the batch, and none where it has none
 */
export function inlineColumns(
  { writes, events }: BatchOfRows,
  inlineTables: readonly InlineTable[],
): (string | null)[] {
  if (inlineTables.length === 0) return [];
  const eventsOf = Map.groupBy(events, ({ stream }) => stream);
  return inlineTables.flatMap(({ of, table, rowsOf }) => {
    const rows = writes.flatMap(({ stream, version, state }) =>
      stream.startsWith(`${of}-`)
        ? rowsOf({ id: entityOf(stream), version, state: state as never, events: eventsOf.get(stream) ?? [] })
        : [],
    );
    return Object.keys(table.columns).map((name) =>
      rows.length === 0 ? null : arrayLiteral(rows.map((row) => row[name] as string | number | null)),
    );
  });
}

const movesOf = (checkpoints: AppendBatch['checkpoints']): string | null =>
  checkpoints.length === 0
    ? null
    : JSON.stringify(
        checkpoints.map((move) => ({ c: move.consumer, f: move.from, t: move.to, u: move.unparks, p: move.parks })),
      );
