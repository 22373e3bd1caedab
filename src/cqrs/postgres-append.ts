/**
 * What PostgreSQL is told of an append, and what it answers: one call of the function `append`
 * (`schema/log/`), one round trip.
 */
import type { Sql } from '#platform/postgres.ts';
import type { AppendBatch, AppendResult, NewEvent } from './event-log.ts';
import { slotOfStream } from './event-log.ts';
import type { EventTypes } from './event-types.ts';

export type Sent = { readonly values: (string | null)[]; readonly eventBytes: number[] };
export type SendResult = { readonly head: number } | Extract<AppendResult, { conflicts: unknown }>;

export const awaitHeadSql = 'select position from log_head for update';

export const rfc3339 = (column: string): string =>
  `to_char(${column} at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

export async function send(writer: Sql, values: readonly unknown[]): Promise<SendResult> {
  const [row] = await writer.query<{
    head: number;
    conflicts: string | null;
    duplicates: string | null;
    fenced: string | null;
  }>('append', 'select head, conflicts, duplicates, fenced from append($1, $2, $3, $4, $5)', values);
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
 * Empty parts travel as null: the function skips them. Events are stringified once; their sizes bound the tail. The
 * text of the events is what the hash of the batch is made of (`event_content` makes it again from what is stored): its
 * fields, their order and their form stay as they are.
 */
export function appendParameters(batch: AppendBatch, eventTypes: EventTypes | undefined): Sent {
  const json = (rows: readonly object[]): string | null => (rows.length === 0 ? null : JSON.stringify(rows));
  const texts = batch.events.map((event, n) => {
    const row = {
      n: n + 1,
      at: event.at,
      v: event.version,
      slot: slotOfStream(event.stream),
      s: event.stream,
      type: eventTypes?.storedName(event) ?? event.type,
    };
    const head = JSON.stringify(row).slice(0, -1);
    return `${head},"data":${JSON.stringify(event.data)},"origin":${JSON.stringify(event.origin)}}`;
  });
  return {
    values: [
      JSON.stringify(batch.checks.map((check) => ({ s: check.stream, v: check.version }))),
      texts.length === 0 ? null : `[${texts.join(',')}]`,
      json(
        batch.writes.map((write) => ({
          s: write.stream,
          v: write.version,
          slot: slotOfStream(write.stream),
          due: write.dueAt,
          state: write.state,
        })),
      ),
      json(
        batch.keys.map((key) => ({
          c: key.caller,
          k: key.key,
          fingerprint: key.fingerprint,
          answer: key.answer,
          at: key.at,
        })),
      ),
      json(
        batch.checkpoints.map((move) => ({
          c: move.consumer,
          f: move.from,
          t: move.to,
          u: move.unparks,
          p: move.parks,
        })),
      ),
    ],
    eventBytes: texts.map((text) => text.length),
  };
}
