/** Parked messages in PostgreSQL: read by consumers and operators, decided on by operators; `append` writes them. */
import type { Database } from '#platform/postgres.ts';
import {
  type DeadLetter,
  type DeadLetterGroup,
  type ParkedMessage,
  type ParkedMessages,
  parkedMessagesMax,
} from './parked-messages.ts';

/**
 * The parked messages in a database that has the tables of the folder `checkpoints`.
 *
 * Promises:
 * - what is parked is written with the checkpoint, and read as it was written
 * - a retry names the first of each queue, and says how many wait in them
 * - a message that was discarded stays on record, and its stream goes on without it
 * - a message that is parked anew while somebody decides about it is decided about all the same
 * - messages are grouped by consumer and cause, page by page
 * - a group is shown from any position on, and still says how many messages it has
 * - what an operator said last about a consumer is what it hears
 */
export function postgresParkedMessages(database: Database): ParkedMessages {
  return {
    waiting: (consumer) =>
      database.query<ParkedMessage>(
        'parked messages',
        `select ${columns} from parked_messages
         where consumer = $1 and state <> 'discarded' order by position limit $2`,
        [consumer, parkedMessagesMax],
      ),

    async positions(consumer) {
      const rows = await database.query<{ position: number }>(
        'parked positions',
        'select position from parked_messages where consumer = $1 order by position',
        [consumer],
      );
      return rows.map((row) => row.position);
    },

    async decisions(consumer) {
      const [row] = await database.query<{
        waiting: number;
        retries: number;
        paused: boolean | null;
        by: string;
        at: string;
      }>('decisions', decisionsSql, [consumer]);
      const { waiting, retries, paused, by, at } = row!;
      return { waiting, retries, pause: paused === null ? null : { paused, by, at } };
    },

    async groups({ discarded, consumer, cause, after, limit, itemsAfter = 0, itemsMax }) {
      const rows = await database.query<Omit<DeadLetterGroup, 'items'> & { items: string }>('dead letters', groupsSql, [
        discarded,
        consumer,
        cause,
        after?.consumer,
        after?.cause,
        limit,
        itemsMax,
        itemsAfter,
      ]);
      return rows.map(({ items, ...group }) => ({ ...group, items: (JSON.parse(items) as LetterRow[]).map(letterOf) }));
    },

    async retry(which, { by, at }) {
      const position = 'position' in which ? which.position : undefined;
      const cause = 'position' in which ? undefined : which.cause;
      const values = [which.consumer, position, cause, by, at];
      const mark = (): Promise<{ consumer: string; messages: number }[]> =>
        database.query('retry dead letters', retrySql, values);
      let rows = await mark();
      for (let time = 1; rows.length === 0 && time < decideMax; time += 1) rows = await mark();
      const messages = rows.reduce((sum, row) => sum + row.messages, 0);
      return { messages, consumers: [...new Set(rows.map((row) => row.consumer))].sort() };
    },

    async discard({ consumer, position }, { by, at, reason }) {
      const values = [consumer, position, by, at, reason];
      for (let time = 1; ; time += 1) {
        await database.query('discard dead letter', discardSql, values);
        const [row] = await database.query<{ letter: string }>(
          'discarded dead letter',
          discardedSql,
          values.slice(0, 2),
        );
        const letter = row === undefined ? null : letterOf(JSON.parse(row.letter) as LetterRow);
        if (letter === null || letter.state === 'discarded' || time === decideMax) return letter;
      }
    },

    async setPause(consumer, paused, { by, at }) {
      await database.query('set pause', pauseSql, [consumer, paused, by, at]);
    },
  };
}

/** Who parks a message anew replaces its row. A decision that has waited for the row that was there is made again, on the new one. */
const decideMax = 5;

type LetterRow = { readonly [Field in keyof DeadLetter]: DeadLetter[Field] | null };

/** Without the fields that are null: nobody has decided. */
const letterOf = (row: LetterRow): DeadLetter =>
  Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null)) as DeadLetter;

const rfc3339 = (column: string): string => `to_char(${column} at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

const columns = `position, stream, event_id as "eventId", type, cause, detail, attempts,
  ${rfc3339('parked_at')} as "parkedAt", state`;

const decisionsSql = `
  select count(position) as waiting, count(*) filter (where state = 'retry') as retries,
    p.paused, p.decided_by as by, ${rfc3339('p.decided_at')} as at
  from (values ($1)) as c(consumer)
  left join parked_messages m on m.consumer = c.consumer and m.state <> 'discarded'
  left join consumer_pauses p on p.consumer = c.consumer
  group by p.paused, p.decided_by, p.decided_at`;

const letterJson = `json_build_object('position', position, 'stream', stream, 'eventId', event_id, 'type', type,
  'cause', cause, 'detail', detail, 'attempts', attempts, 'parkedAt', ${rfc3339('parked_at')}, 'state', state,
  'decidedBy', decided_by, 'decidedAt', ${rfc3339('decided_at')}, 'reason', reason)`;

const groupsSql = `
  select consumer, cause, count(*) as messages, count(distinct stream) as streams,
    ${rfc3339('min(parked_at)')} as "firstAt", ${rfc3339('max(parked_at)')} as "lastAt",
    (select coalesce(json_agg(letter order by position), '[]') from (
      select position, ${letterJson} as letter from parked_messages i
      where i.consumer = g.consumer and i.cause = g.cause and (i.state = 'discarded') = $1 and i.position > $8
      order by position limit $7) as first) as items
  from parked_messages g
  where (state = 'discarded') = $1
    and ($2::text is null or consumer = $2) and ($3::text is null or cause = $3)
    and ($4::text is null or (consumer collate "C", cause collate "C") > ($4, $5))
  group by consumer, cause
  order by consumer collate "C", cause collate "C"
  limit $6`;

const retrySql = `
  with queues as (
    select consumer, stream, min(position) as first, count(*) as messages
    from parked_messages
    where state <> 'discarded' and (consumer, stream) in (
      select consumer, stream from parked_messages
      where state <> 'discarded' and ($1::text is null or consumer = $1)
        and ($2::bigint is null or position = $2) and ($3::text is null or cause = $3))
    group by consumer, stream)
  update parked_messages m set state = 'retry', decided_by = $4, decided_at = $5
  from queues q
  where m.consumer = q.consumer and m.position = q.first and m.state <> 'discarded'
  returning m.consumer, q.messages`;

const discardSql = `
  with queue as (
    select position, row_number() over (order by position) as place from parked_messages
    where consumer = $1 and state <> 'discarded'
      and stream = (select stream from parked_messages where consumer = $1 and position = $2)
    order by position limit 2),
  discarded as (
    update parked_messages set state = 'discarded', decided_by = $3, decided_at = $4, reason = $5
    where consumer = $1 and position = $2 and state <> 'discarded'
    returning position)
  update parked_messages set state = 'retry', decided_by = $3, decided_at = $4
  where consumer = $1 and state <> 'discarded'
    and position = (select position from queue where place = 2)
    and (select position from queue where place = 1) = (select position from discarded)`;

const discardedSql = `select ${letterJson} as letter from parked_messages
  where consumer = $1 and position = $2`;

const pauseSql = `
  insert into consumer_pauses (consumer, paused, decided_by, decided_at) values ($1, $2, $3, $4)
  on conflict (consumer) do update
    set paused = excluded.paused, decided_by = excluded.decided_by, decided_at = excluded.decided_at`;
