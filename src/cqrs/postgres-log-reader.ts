/** Reads an event log on PostgreSQL: whoever writes it, or a consumer in another process. */
import type { Database } from '#platform/postgres.ts';
import { EngineError } from './errors.ts';
import type { Anchor, LogReader, Origin } from './event-log.ts';
import { eventId } from './event-log.ts';
import type { EventTypes } from './event-types.ts';
import { rfc3339 } from './postgres-append.ts';

/**
 * Reads the log of another service from its database. With `eventTypes`, those of that service, what is read is decoded.
 *
 * Promises:
 * - reading starts after a position and ends at the limit
 * - a hole in the log is noticed by its reader
 * - an event of an older version is read as one of the newest
 * - what cannot be read is handed out as stored, with the reason, among what can
 */
export function postgresLogReader(database: Database, source: string, eventTypes?: EventTypes): LogReader {
  const decode: EventTypes['decode'] = eventTypes?.decode ?? ((type, data) => ({ type, data }));
  return {
    source,

    async read(position, limit) {
      const rows = await database.query<EventRow>('read', readSql, [position, limit]);
      return rows.map((row, n) => {
        if (row.position !== position + n + 1) {
          throw new EngineError(
            'log-gap',
            `the log of ${source} has position ${row.position} where ${position + n + 1} should be`,
          );
        }
        return {
          id: eventId(source, row.position),
          position: row.position,
          stream: row.stream,
          version: row.version,
          slot: row.slot,
          ...decode(row.type, JSON.parse(row.data) as object),
          at: row.at,
          origin: JSON.parse(row.origin) as Origin,
        };
      });
    },

    async head() {
      const rows = await database.query<{ position: number }>('head', 'select position from log_head');
      return rows[0]?.position ?? 0;
    },

    async anchor() {
      const rows = await database.query<Anchor>(
        'anchor',
        `select epoch, position, encode(hash, 'hex') as hash from log_head`,
      );
      if (rows[0] === undefined) throw new EngineError('wrong-log', `nobody has written the log of ${source} yet`);
      return rows[0];
    },
  };
}

type EventRow = {
  position: number;
  stream: string;
  version: number;
  slot: number;
  type: string;
  data: string;
  at: string;
  origin: string;
};

const readSql = `
  select position, stream, version, slot, type, data, ${rfc3339('at')} as at, origin
  from events where position > $1 order by position limit $2`;
