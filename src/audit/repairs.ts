/**
 * Repairs in place: what is derived from a log is written as its events have it. Each looks again with the lock that keeps
 * everybody else from writing it, and writes what that look says; it rejects when nothing is wrong any more.
 */
import type { CommandServiceName } from '#contracts/service.ts';
import { entityOf } from '#cqrs/event-log.ts';
import type { ReadTable, Row } from '#cqrs/read-store.ts';
import { type InlineTable, replaceRow } from '#cqrs/table-rows.ts';
import type { Database, Sql } from '#platform/postgres.ts';
import type { Finding, Walk } from './check.ts';
import type { Shape } from './checks/streams.ts';
import type { WalkParts } from './evidence.ts';
import { keyOf } from './rows.ts';

type Repair = NonNullable<Walk['repair']>;
type LookIn = (sql: Sql, entity: string) => Promise<readonly Finding[]>;

/** A repair gives up rather than have writers wait for longer. */
const lockTimeoutMs = 2_000;
const statementTimeoutMs = 15_000;

/**
 * Of rows in the read database: nobody applies anything while the row is computed and written, nor are tables switched: rows
 * that another version of the program has made by then are not found wrong. Every process that remembers rows is fenced by
 * their generation afterwards, and begins anew with what is there.
 */
export function rowRepair(parts: WalkParts, tables: readonly ReadTable[], lookIn: LookIn): { repair?: Repair } {
  const { corrections, databases } = parts;
  if (corrections === undefined) return {};
  return {
    async repair(finding) {
      const repaired = await locked(
        databases.queries,
        'lock table checkpoints in share row exclusive mode',
        async (sql) => {
          const now = await stillWrong(lookIn, sql, finding);
          const table = tables.find(({ name }) => finding.entity.startsWith(`queries/${name}/`))!;
          await replaceRow(sql, table, keyOf(table, (now.expected ?? now.found) as Row), now.expected as Row | null);
          await sql.query('audit fence all', 'update checkpoints set generation = generation + 1');
          return { before: now.found, after: now.expected };
        },
      );
      corrections.rowsReplaced();
      return repaired;
    },
  };
}

/** Of states and of the tables beside a log: nobody appends meanwhile, and what the bus remembers of the stream is forgotten. */
export function stateRepair(
  parts: WalkParts,
  options: {
    placeOf(entity: string): { readonly service: CommandServiceName; readonly stream: string };
    readonly tables: Readonly<Record<CommandServiceName, readonly InlineTable[]>>;
    readonly lookIn: LookIn;
  },
): { repair?: Repair } {
  const { corrections, databases } = parts;
  if (corrections === undefined) return {};
  return {
    async repair(finding) {
      const { service, stream } = options.placeOf(finding.entity);
      const bus = corrections.buses[service];
      const repaired = await locked(databases[service], 'select position from log_head for update', async (sql) => {
        const now = await stillWrong(options.lookIn, sql, finding);
        const inline = options.tables[service].find(({ table }) =>
          finding.entity.startsWith(`${service}/${table.name}/`),
        );
        if (inline === undefined) await replaceState(sql, stream, now.expected as Shape | null);
        else {
          const key = keyOf(inline.table, (now.expected ?? now.found) as Row);
          await replaceRow(sql, inline.table, key, now.expected as Row | null);
        }
        return { before: now.found, after: now.expected };
      });
      // Only what it has made itself is in its memory: of this state, perhaps, what it made of the wrong one.
      bus.forget([stream]);
      return repaired;
    },
  };
}

async function replaceState(sql: Sql, stream: string, shape: Shape | null): Promise<void> {
  if (shape === null) {
    await sql.query('audit remove state', 'delete from streams where stream = $1', [stream]);
    return;
  }
  await sql.query(
    'audit put state',
    `insert into streams (stream, version, slot, due_at, state) values ($1, $2, $3, $4, $5)
     on conflict (stream) do update
       set version = excluded.version, slot = excluded.slot, due_at = excluded.due_at, state = excluded.state`,
    [stream, shape.version, shape.slot, shape.dueAt, JSON.stringify(shape.state)],
  );
}

/** What a look in the transaction of the repair says of it. */
async function stillWrong(lookIn: LookIn, sql: Sql, { check, entity }: Finding): Promise<Finding> {
  const findings = await lookIn(sql, entity);
  const now = findings.find((one) => one.check === check && one.entity === entity);
  if (now === undefined) throw noLongerWrong(entity);
  return now;
}

/** Somebody was faster, or it has mended itself. */
export const noLongerWrong = (entity: string): Error => new Error(`${entity} is no longer as it was found`);

function locked<T>(database: Database, lock: string, work: (sql: Sql) => Promise<T>): Promise<T> {
  return database.transaction(async (sql) => {
    await sql.query(
      'audit limits of a repair',
      `select set_config('lock_timeout', $1, true), set_config('statement_timeout', $2, true)`,
      [String(lockTimeoutMs), String(statementTimeoutMs)],
    );
    await sql.query('', lock);
    return work(sql);
  });
}

/** The sku or the order of a stream in `entity`. */
export const idIn = (entity: string): string => entityOf(entity.slice(entity.indexOf('/') + 1));
