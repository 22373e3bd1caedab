/** What walks are given, and how they read: in snapshots that are short and block nobody. */
import { publishedEvents } from '#contracts/event-types.ts';
import type { CommandServiceName, ShopServiceName } from '#contracts/service.ts';
import { eventId, type RecordedEvent } from '#cqrs/event-log.ts';
import { createEventTypes } from '#cqrs/event-types.ts';
import { utcTime } from '#cqrs/table-rows.ts';
import type { Ports } from '#platform/ports.ts';
import { type Database, type Sql, statementName } from '#platform/postgres.ts';
import type { DatabaseOwner } from '#platform/settings.ts';
import type { Corrections } from './corrections.ts';

export const auditedServices = ['catalog', 'ordering', 'inventory', 'payments'] as const satisfies ShopServiceName[];

export type WalkParts = {
  readonly databases: Readonly<Record<DatabaseOwner, Database>>;
  sourceOf(service: CommandServiceName): string;
  /** `http://host:port` of the payment provider, whose ledger is read. */
  readonly providerUrl: string;
  readonly ports: Ports;
  readonly idempotencyRetentionHours: number;
  /** Only where the services run; without it nothing is repaired. */
  readonly corrections?: Corrections;
};

/** A piece that takes longer is given up: no snapshot is older than this. */
const statementTimeoutMs = 15_000;

/** Has `work` read `database` as it was at one moment. */
export function inSnapshot<T>(database: Database, work: (sql: Sql) => Promise<T>): Promise<T> {
  return database.transaction(async (sql) => {
    const [, , result] = await Promise.all([
      sql.query('', 'set transaction isolation level repeatable read, read only'),
      sql.query('audit limit', `select set_config('statement_timeout', $1, true)`, [String(statementTimeoutMs)]),
      work(sql),
    ]);
    return result;
  });
}

const types = Object.fromEntries(
  Object.entries(publishedEvents).map(([service, events]) => [service, createEventTypes(events)]),
);

type StoredEvent = {
  readonly p: number;
  readonly s: string;
  readonly v: number;
  readonly n: number;
  readonly t: string;
  readonly d: object;
  readonly at: string;
  readonly o: RecordedEvent['origin'];
};

/** The events that `where` names and orders, as whoever reads the log gets them; in one text, for a third of the work. */
export async function readEvents(
  sql: Sql,
  parts: Pick<WalkParts, 'sourceOf'>,
  service: CommandServiceName,
  where: string,
  values: readonly unknown[],
): Promise<RecordedEvent[]> {
  const text = `select json_agg(e) as events from (
    select position as p, stream as s, version as v, slot as n, type as t, at, data as d, origin as o
    from events where ${where}) e`;
  const [found] = await sql.query<{ events: string | null }>(statementName(text), text, values);
  const source = parts.sourceOf(service);
  const { decode } = types[service]!;
  return (JSON.parse(found?.events ?? '[]') as StoredEvent[]).map(({ p, s, v, n, t, d, at, o }) =>
    Object.assign(decode(t, d), {
      id: eventId(source, p),
      position: p,
      stream: s,
      version: v,
      slot: n,
      at: utcTime(at),
      origin: o,
    }),
  );
}

/** An event without when it was and who asked for it: all that a state follows from, and where it stands. */
export type Fact = Pick<RecordedEvent, 'position' | 'stream' | 'version' | 'slot' | 'type' | 'data' | 'unreadable'>;

/** As `readEvents` does, for two thirds of the work. */
export async function readFacts(
  sql: Sql,
  service: CommandServiceName,
  where: string,
  values: readonly unknown[],
): Promise<Fact[]> {
  const text = `select json_agg(e) as events from (
    select position as p, stream as s, version as v, slot as n, type as t, data as d from events where ${where}) e`;
  const [found] = await sql.query<{ events: string | null }>(statementName(text), text, values);
  const { decode } = types[service]!;
  return (JSON.parse(found?.events ?? '[]') as Omit<StoredEvent, 'at' | 'o'>[]).map(({ p, s, v, n, t, d }) =>
    Object.assign(decode(t, d), { position: p, stream: s, version: v, slot: n }),
  );
}

/** The type of a stream, before the dash. */
export const typeOf = (stream: string): string => stream.slice(0, stream.indexOf('-'));

export async function headOf(sql: Sql): Promise<number> {
  const rows = await sql.query<{ position: number }>('audit head', 'select position from log_head');
  return rows[0]?.position ?? 0;
}

/** How far a consumer has come, and what it has passed without applying it. */
export async function passedBy(
  sql: Sql,
  consumer: string,
): Promise<{ readonly position: number; readonly parked: ReadonlySet<string> }> {
  const [[checkpoint], streams] = await Promise.all([
    sql.query<{ position: number }>('audit passed', 'select position from checkpoints where consumer = $1', [consumer]),
    sql.query<{ stream: string }>('audit parked', 'select distinct stream from parked_messages where consumer = $1', [
      consumer,
    ]),
  ]);
  return { position: checkpoint?.position ?? 0, parked: new Set(streams.map(({ stream }) => stream)) };
}
