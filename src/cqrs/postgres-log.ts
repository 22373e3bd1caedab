/** The event log on PostgreSQL: one database per shard, one round trip per batch. */
import { failpoint, failpointOnceSent } from '#platform/failpoint.ts';
import { type Ports, sleep, systemPorts } from '#platform/ports.ts';
import { type Database, DatabaseUnavailable, type PinnedConnection, type Sql } from '#platform/postgres.ts';
import { EngineError } from './errors.ts';
import type { EventTypes } from './event-types.ts';
import type {
  AppendBatch,
  AppendResult,
  EventLog,
  NewEvent,
  Origin,
  RecordedEvent,
  StreamId,
  StreamRow,
} from './event-log.ts';
import { eventId, slotOfStream } from './event-log.ts';
import {
  appendParameters,
  appendSql,
  awaitHeadSql,
  findCommitted,
  rfc3339,
  send,
  type SendResult,
  type Sent,
} from './postgres-append.ts';
import { postgresLogReader } from './postgres-log-reader.ts';
import { postgresParkedMessages } from './postgres-parked-messages.ts';
import { postgresSources } from './source-epoch.ts';
import type { InlineTable } from './table-rows.ts';
import { Tail } from './tail.ts';

export type PostgresLogOptions = {
  readonly database: Database;
  /** `<service>.<shard>`. */
  readonly source: string;
  /** Of the source. Events are checked when they are written, and decoded when they are read; without it they are neither. */
  readonly eventTypes?: EventTypes;
  /** What the database keeps beside the log, as its function `write_inline_tables` expects it. */
  readonly inlineTables?: readonly InlineTable[];
  /** How long an append may take, reconnecting included. */
  readonly appendTimeoutMs?: number;
  readonly ports?: Ports;
};

/** The channel on which a log tells other processes that it has grown. */
export const wakeChannel = 'log_appended';
/** The name of the application whose connection listens there. */
export const listenerName = 'twofold listens';
const wakeEveryMs = 20;
const lookForListenersMs = 1_000;
const retryPauseMs = 50;

/** What is worth another try, by SQLSTATE: the transaction was rolled back through no fault of its own. */
const transientStates = new Set(['40001', '40P01', '55P03', '57014', '53300', '25P03']);

/** The folders of SQL that a log's database needs, in order. */
export const logSchemaFolders = [
  new URL('./schema/checkpoints/', import.meta.url),
  new URL('./schema/log/', import.meta.url),
] as const;

/** The folder of SQL that a read database needs for its consumers. */
export const checkpointSchemaFolder = logSchemaFolders[0];

/**
 * Opens the log that `source` writes in `database`, whose schema is in place. Rejects with
 * `wrong-log` when the database is that of another log.
 *
 * Promises:
 * - positions are dense, from 1, in the order of the batch
 * - a stream that was read and has moved since refuses a batch that does not write it
 * - of two writers that create the same stream at once exactly one wins, 1,000 times out of 1,000
 * - a key is taken once, and gives its first answer to whoever comes second
 * - a checkpoint moves only from its old value, together with the effect
 * - whoever appends alone decides on what nobody can change meanwhile
 * - an append whose answer is lost after the commit is found in the log and not made again
 * - a log that does not answer is unavailable after its time-out
 * - a writer that no answer comes for while it is opened gives its connection back
 * - an append whose answer came while this process stood still is known
 * - an event that no reader could take is not written, and nothing of its batch
 * - each batch of events is chained to the one before, and the head knows the last hash
 * - a database of another log is not written to
 * - others are told that the log has grown only while one listens, and one that begins is heard of within a second
 */
export async function openPostgresLog(options: PostgresLogOptions): Promise<EventLog & { close(): void }> {
  const { database, source, eventTypes, inlineTables = [], ports = systemPorts } = options;
  const appendText = appendSql(inlineTables);
  const sentAs = (batch: AppendBatch): Sent => appendParameters(batch, eventTypes, inlineTables);
  await claim(database, source);
  const tail = new Tail();
  const reader = postgresLogReader(database, source, eventTypes);
  const appendTimeoutMs = options.appendTimeoutMs ?? 15_000;
  let writer: Promise<PinnedConnection> | null = null;
  let cancelWake: (() => void) | null = null;
  let lookedForListenersMs = -Infinity;
  let isListenedTo = false;
  let lastTurn: Promise<unknown> = Promise.resolve();

  /** One transaction at a time on the writer's connection. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = lastTurn.then(work, work);
    lastTurn = turn.catch(() => {});
    return turn;
  }

  async function openWriter(): Promise<PinnedConnection> {
    const pinned = await database.pin({ limited: true });
    try {
      // The second for a process that is stopped while it appends alone: it would hold the head's lock for as long.
      await pinned.query(
        'limit',
        `select set_config('statement_timeout', $1, false), set_config('idle_in_transaction_session_timeout', $1, false)`,
        [String(appendTimeoutMs)],
      );
    } catch (error) {
      // Nobody else knows of it: kept, it would be missing in the pool for good.
      pinned.release(true);
      throw error;
    }
    return pinned;
  }

  function keepWriter(): Promise<PinnedConnection> {
    if (writer !== null) return writer;
    const opening = openWriter();
    opening.catch(() => {
      // Given up before that, it has a successor, which is not to be lost.
      if (writer === opening) writer = null;
    });
    return (writer = opening);
  }

  function dropWriter(): void {
    void writer?.then(
      (pinned) => pinned.release(true),
      () => {},
    );
    writer = null;
  }

  /** Of what it sends, nothing is held but the sizes: see `statement` in `platform/postgres.ts`. */
  function record(connection: Sql, batch: AppendBatch): Promise<Attempted> {
    const { values, eventBytes } = sentAs(batch);
    return send(connection, appendText, values).then((result) => ({ batch, eventBytes, result }));
  }

  /** NOTIFY takes a lock on commit that all databases share, so it is sent at most once per interval, for all batches in it. */
  function wakeOthers(): void {
    cancelWake ??= ports.after(wakeEveryMs, () => {
      cancelWake = null;
      wake().catch(() => {});
    });
  }

  /** Whoever begins to listen may be heard of a second later: until then it looks by itself. */
  async function wake(): Promise<void> {
    if (ports.elapsed() - lookedForListenersMs >= lookForListenersMs) {
      lookedForListenersMs = ports.elapsed();
      const [found] = await database.query<{ listened: boolean }>(
        'listeners',
        `select exists (select from pg_stat_activity where datname = current_database() and application_name = $1)
           as listened`,
        [listenerName],
      );
      isListenedTo = found!.listened;
    }
    if (!isListenedTo) return;
    await database.query('wake', `select set_config('synchronous_commit', 'off', true), pg_notify($1, '')`, [
      wakeChannel,
    ]);
  }

  /**
   * Makes `attempt` until it is known what became of it. A connection that breaks leaves that open: the
   * batch that was being recorded is then looked for before it is sent again.
   */
  async function untilKnown(attempt: Attempt): Promise<AppendResult> {
    const giveUpAt = ports.elapsed() + appendTimeoutMs;
    let inDoubt: AppendBatch | null = null;
    for (;;) {
      try {
        const connection = await within(ports, giveUpAt - ports.elapsed(), keepWriter());
        const left = giveUpAt - ports.elapsed();
        const doubtful = inDoubt;
        const committedAt = doubtful === null ? null : await within(ports, left, findCommitted(connection, doubtful));
        if (doubtful !== null && committedAt !== null)
          return publish(doubtful, sentAs(doubtful).eventBytes, committedAt);
        const { batch, eventBytes, result } = await within(
          ports,
          left,
          attempt(connection, (sending) => (inDoubt = sending)),
        );
        failpoint('log-committed');
        return 'conflicts' in result ? result : publish(batch, eventBytes, result.head);
      } catch (error) {
        if (!(error instanceof DatabaseUnavailable) && !isTransient(error)) throw error;
        dropWriter();
        if (ports.elapsed() > giveUpAt) throw unavailable(error);
        await sleep(ports, retryPauseMs);
      }
    }
  }

  /** A question may be asked again until the database answers. */
  async function untilAnswered<T>(ask: () => Promise<T>): Promise<T> {
    const giveUpAt = ports.elapsed() + appendTimeoutMs;
    for (;;) {
      try {
        return await within(ports, giveUpAt - ports.elapsed(), ask());
      } catch (error) {
        if (!(error instanceof DatabaseUnavailable)) throw error;
        if (ports.elapsed() > giveUpAt) throw unavailable(error);
        await sleep(ports, retryPauseMs);
      }
    }
  }

  const unavailable = (cause: unknown): EngineError =>
    new EngineError('log-unavailable', `the log of ${source} did not answer within ${appendTimeoutMs} ms`, cause);

  function publish(batch: AppendBatch, eventBytes: Sent['eventBytes'], headBefore: number): AppendResult {
    const appended = batch.events.map((event, n) => recorded(source, event, headBefore + n + 1));
    if (appended.length > 0) {
      tail.push(appended, eventBytes);
      wakeOthers();
    }
    return { appended, head: headBefore + appended.length };
  }

  return {
    source,
    tail,
    parked: postgresParkedMessages(database),
    read: reader.read,
    head: reader.head,
    anchor: reader.anchor,

    append: (batch) =>
      inTurn(() =>
        untilKnown(async (connection, attempting) => {
          attempting(batch);
          failpoint('log-sending');
          failpointOnceSent('log-sent');
          return record(connection, batch);
        }),
      ),

    appendAlone(streams, decide) {
      return inTurn(() =>
        untilKnown((connection, attempting) =>
          alone(connection, async () => {
            const attempted = await record(connection, decide(await loadStreams(connection, streams)));
            attempting(attempted.batch);
            return attempted;
          }),
        ),
      );
    },

    load: (streams) => untilAnswered(() => loadStreams(database, streams)),

    async due(now, limit) {
      const rows = await database.query<{ stream: string; dueAt: string; position: number | null; origin: string }>(
        'due',
        `select stream, ${rfc3339('due_at')} as "dueAt", position, origin
         from (select stream, version, due_at from streams where due_at <= $1 order by due_at limit $2) s
         left join events using (stream, version) order by due_at`,
        [now, limit],
      );
      return rows.map(({ stream, dueAt, position, origin }) => {
        const last = position === null ? null : { id: eventId(source, position), origin: JSON.parse(origin) as Origin };
        return { stream, dueAt, last };
      });
    },

    async checkpoint(consumer) {
      const rows = await database.query<{ position: number }>(
        'checkpoint',
        'select position from checkpoints where consumer = $1',
        [consumer],
      );
      return rows[0]?.position ?? 0;
    },

    rememberSource: postgresSources(database),

    close() {
      cancelWake?.();
      void writer?.then(
        (pinned) => pinned.release(),
        () => {},
      );
      writer = null;
    },
  };
}

/** One try; calls `attempting` before the step whose answer, if lost, leaves open whether the batch is recorded. */
type Attempt = (connection: PinnedConnection, attempting: (batch: AppendBatch) => void) => Promise<Attempted>;

type Attempted = {
  readonly batch: AppendBatch;
  readonly eventBytes: Sent['eventBytes'];
  readonly result: SendResult;
};

async function loadStreams(sql: Sql, streams: readonly StreamId[]): Promise<StreamRow[]> {
  const rows = await sql.query<{ stream: string; version: number; state: string }>(
    'load',
    'select stream, version, state from streams where stream = any($1)',
    [streams],
  );
  return rows.map((row) => ({ stream: row.stream, version: row.version, state: JSON.parse(row.state) as unknown }));
}

/** Does `work` and commits it, with the head's lock held from before its first statement on. */
async function alone<T>(connection: PinnedConnection, work: () => Promise<T>): Promise<T> {
  await connection.query('begin', 'begin');
  try {
    await connection.query('await head', awaitHeadSql);
    const done = await work();
    failpoint('alone-committing');
    await connection.query('commit', 'commit');
    failpoint('alone-committed');
    return done;
  } catch (error) {
    if (!(error instanceof DatabaseUnavailable)) await connection.query('rollback', 'rollback');
    throw error;
  }
}

function recorded(source: string, event: NewEvent, position: number): RecordedEvent {
  return { ...event, id: eventId(source, position), position, slot: slotOfStream(event.stream) };
}

async function claim(database: Database, source: string): Promise<void> {
  await database.query('claim', 'insert into log_head (source) values ($1) on conflict do nothing', [source]);
  const rows = await database.query<{ source: string }>('owner', 'select source from log_head');
  if (rows[0]?.source !== source) {
    throw new EngineError(
      'wrong-log',
      `this is the database of ${rows[0]?.source}, not of ${source}: check the DATABASE_URL settings`,
    );
  }
}

const isTransient = (error: unknown): boolean => transientStates.has(String((error as { code?: unknown }).code));

/**
 * Rejects after `ms`: a database that does not answer at all is as good as a broken connection. In a process that stood
 * still its answer may be in the socket: it has one more turn of the event loop.
 */
async function within<T>(ports: Ports, ms: number, answer: Promise<T>): Promise<T> {
  const { promise: tooLate, reject } = Promise.withResolvers<never>();
  const giveUp = (): void => reject(new DatabaseUnavailable(`no answer from the database within ${Math.round(ms)} ms`));
  const cancel = ports.after(Math.max(ms, 0), () => ports.soon(giveUp));
  return Promise.race([answer, tooLate]).finally(cancel);
}

const keysPerDelete = 5_000;

/**
 * Forgets the idempotency keys from before `before` (RFC 3339), some thousands at a time; resolves to how many.
 *
 * Promises:
 * - old keys are forgotten, all of them; young ones are kept
 */
export async function forgetKeys(database: Database, before: string): Promise<number> {
  let forgotten = 0;
  for (let last = keysPerDelete; last === keysPerDelete; forgotten += last) {
    const [deleted] = await database.query<{ keys: number }>(
      'forget keys',
      `with deleted as (
         delete from idempotency_keys
         where ctid = any(array(select ctid from idempotency_keys where at < $1 limit $2)) returning 1
       ) select count(*) as keys from deleted`,
      [before, keysPerDelete],
    );
    last = deleted!.keys;
  }
  return forgotten;
}
