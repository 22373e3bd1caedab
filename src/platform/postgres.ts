/** Connections to one PostgreSQL database: a small pool of pipelined clients, prepared statements by name. */
import { createHash } from 'node:crypto';
import pg from 'pg';
import { stepBackServer } from './background.ts';
import { abandonConnection, connectionWatch, socketOf } from './connection-watch.ts';
import { type Ports, systemPorts } from './ports.ts';

export type Sql = {
  /**
   * Runs one prepared statement. `name` identifies its text for ever: the server plans it once per
   * connection. Statements sent without awaiting the one before travel in one round trip.
   */
  query<Row extends object = Record<string, unknown>>(
    name: string,
    text: string,
    values?: readonly unknown[],
  ): Promise<Row[]>;
};

export type Database = Sql & {
  /** Runs `work` in one transaction on one connection: committed when it resolves, rolled back when it rejects. */
  transaction<T>(work: (sql: Sql) => Promise<T>): Promise<T>;
  /**
   * A connection of one's own, for LISTEN or for a writer that never shares. The caller releases it; `broken` closes it,
   * whatever is under way. Its statements may take as long as the server lets them, unless they are `limited` like all others.
   */
  pin(options?: { readonly limited?: boolean }): Promise<PinnedConnection>;
  end(): Promise<void>;
};

export type PinnedConnection = Sql & { client: pg.PoolClient; release(broken?: boolean): void };

/** The database did not answer: it is down, starting or out of reach, or the connection broke under a statement. */
export class DatabaseUnavailable extends Error {
  override readonly name = 'DatabaseUnavailable';
  readonly code = 'database-unavailable';
}

export type DatabaseOptions = {
  readonly applicationName: string;
  readonly poolMax?: number;
  /** For data that can be rebuilt: commits do not wait for the disk. */
  readonly asynchronousCommit?: boolean;
  /**
   * After which the server gives a statement up; 0: never. A server from which nothing comes for a few seconds more does
   * not answer: the connection is closed.
   */
  readonly statementTimeoutMs?: number;
  /** Each statement is planned anew, for its values. */
  readonly planForValues?: boolean;
  /** Each statement is planned once, to go along indexes: for those that name their rows by key, or read in an index's order. */
  readonly plansOnce?: boolean;
  /** No statement reads a whole table where an index serves it. */
  readonly plansByIndex?: boolean;
  /** For what nobody waits for: on this machine its servers let everything else go first. */
  readonly background?: boolean;
  readonly connectTimeoutMs?: number;
  /** The schemas in which tables are looked for; default: `public`. */
  readonly searchPath?: readonly string[];
  readonly ports?: Ports;
};

/** For the way there and back, and for a server that takes a moment to give a statement up. */
const answerGraceMs = 5_000;
/** So long after the last word a connection is asked whether the other end is there: once a second then, ten times at most. */
const keepAliveDelayMs = 10_000;

const everythingByIndexes = ['seqscan', 'bitmapscan', 'sort', 'incremental_sort', 'hashjoin', 'mergejoin']
  .map((other) => `-c enable_${other}=off`)
  .join(' ');

// int8 as a number: positions and amounts stay below 2^53. numeric likewise: sums of amounts.
const types = {
  getTypeParser: ((oid: number, format: 'text' | 'binary') => {
    if (oid === 20 || oid === 1700) return Number;
    // json as text: whoever wants the value parses it, whoever wants the bytes has them.
    if (oid === 114 || oid === 3802) return (text: string) => text;
    // timestamps as text: the database prints them as RFC 3339 where they are shown.
    if (oid === 1184) return (text: string) => text;
    return pg.types.getTypeParser(oid, format);
  }) as never,
};

/** Opens a pool; connects on first use. */
export function openDatabase(url: string, options: DatabaseOptions): Database {
  const { statementTimeoutMs = 30_000, ports = systemPorts } = options;
  const pool = new pg.Pool({
    connectionString: url,
    application_name: options.applicationName,
    max: options.poolMax ?? 4,
    connectionTimeoutMillis: options.connectTimeoutMs ?? 5_000,
    idleTimeoutMillis: 30_000,
    statement_timeout: statementTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: keepAliveDelayMs,
    pipeline: true,
    types,
    options: [
      '-c timezone=UTC -c jit=off',
      options.searchPath === undefined ? '' : `-c search_path=${options.searchPath.join()}`,
      `-c synchronous_commit=${options.asynchronousCommit ? 'off' : 'on'}`,
      `-c plan_cache_mode=${options.planForValues ? 'force_custom_plan' : options.plansOnce ? 'force_generic_plan' : 'auto'}`,
      // A plan that was made while a table was empty has to hold when it is large.
      options.plansByIndex ? '-c enable_seqscan=off' : '',
      options.plansOnce ? everythingByIndexes : '',
    ].join(' '),
  });
  // A connection that breaks tells the statement under way, and is replaced on next use: nobody else needs to hear.
  pool.on('error', () => {});
  const unlimited = new WeakSet<pg.PoolClient>();
  const silenceMaxMs = statementTimeoutMs === 0 ? Infinity : statementTimeoutMs + answerGraceMs;
  const watch = connectionWatch((client) => (unlimited.has(client) ? Infinity : silenceMaxMs), ports);
  pool.on('connect', (client) => {
    client.on('error', () => {});
    watch(client);
    if (options.background && isLocalSocket(url)) void stepBackServer((client as unknown as BackendKeys).processID);
  });

  const sqlOf = (client: pg.PoolClient): Sql => ({
    query<Row extends object>(name: string, text: string, values: readonly unknown[] = []) {
      gather(client);
      const { promise, resolve, reject } = Promise.withResolvers<pg.QueryResult<Row>>();
      client.query(statement(name, text, values), (error: Error | null, result: pg.QueryResult<Row>) =>
        error === null ? resolve(result) : reject(error),
      );
      return answered(promise).then(rowsOf);
    },
  });
  const connect = (): Promise<pg.PoolClient> => answered(pool.connect());

  return {
    query: <Row extends object>(name: string, text: string, values: readonly unknown[] = []) =>
      answered(pool.query<Row>(statement(name, text, values))).then(rowsOf),

    async transaction(work) {
      const client = await connect();
      let broken = false;
      gather(client);
      const begun = client.query('begin');
      begun.catch(() => {});
      try {
        const result = await work(sqlOf(client));
        await answered(begun);
        const { command } = await answered(client.query('commit'));
        // PostgreSQL answers the commit of a transaction in which a statement has failed with a rollback.
        if (command !== 'COMMIT') throw new Error('the transaction was rolled back, because a statement in it failed');
        return result;
      } catch (error) {
        await client.query('rollback').catch(() => {
          broken = true;
        });
        throw error;
      } finally {
        client.release(broken);
      }
    },

    async pin({ limited = false } = {}) {
      const client = await connect();
      if (!limited) unlimited.add(client);
      return {
        ...sqlOf(client),
        client,
        release(broken = false) {
          unlimited.delete(client);
          if (broken) abandonConnection(client);
          else client.release();
        },
      };
    },

    end: () => pool.end(),
  };
}

const rowsOf = <Row extends object>({ rows }: pg.QueryResult<Row>): Row[] => rows;

/**
 * A statement that lets go of its values once they are sent. Those of a batch are texts of hundreds of kilobytes: held until
 * the answer is there, they outlive collections of the young generation, and then only full ones reach them. For the same
 * reason nothing that sends a batch is an async function: while one waits, it holds all that it was given.
 */
function statement(name: string, text: string, values: readonly unknown[]): pg.QueryConfig {
  const query = new pg.Query({ name, text, values: values as unknown[] }) as pg.Query & { values: unknown };
  const { submit } = query;
  query.submit = (connection) => {
    const refused = submit.call(query, connection);
    query.values = undefined;
    return refused;
  };
  // A query is taken where its description is.
  return query as unknown as pg.QueryConfig;
}

/**
 * Sends every statement at once over one connection, on which they are answered one after the other: for those that are
 * quick. An answer is taken once in a turn of the event loop; a connection for each statement would be taken for as long.
 * A connection that breaks, or over which nothing comes any more, fails all that are under way over it; the next statement
 * takes another.
 */
export function overOneConnection(database: Database): Sql {
  let shared: { readonly pinned: Promise<PinnedConnection>; users: number } | null = null;
  return {
    async query<Row extends object>(name: string, text: string, values: readonly unknown[] = []) {
      const mine = (shared ??= { pinned: database.pin({ limited: true }), users: 0 });
      mine.users += 1;
      try {
        return await (await mine.pinned).query<Row>(name, text, values);
      } finally {
        mine.users -= 1;
        if (mine.users === 0) {
          shared = null;
          // The pool keeps none that is broken.
          mine.pinned.then(
            (pinned) => pinned.release(),
            () => {},
          );
        }
      }
    },
  };
}

/**
 * An array as PostgreSQL reads it. Without a backslash the JSON of an array is one but for its brackets, and made in less
 * than half of the time that it takes to put it together.
 *
 * Promises:
 * - an array arrives as it was, whatever its texts hold
 */
export function arrayLiteral(values: readonly (string | number | boolean | null)[]): string {
  const json = JSON.stringify(values);
  return `{${json.includes('\\') ? values.map(element).join() : json.slice(1, -1)}}`;
}

const element = (value: string | number | boolean | null): string =>
  typeof value === 'string' ? `"${value.replace(/["\\]/g, '\\$&')}"` : String(value);

/** The name of a statement that is put together: PostgreSQL takes no longer ones than 63 bytes. */
export function statementName(text: string): string {
  let name = statementNames.get(text);
  if (name === undefined) {
    name = createHash('sha256').update(text).digest('hex').slice(0, 16);
    statementNames.set(text, name);
  }
  return name;
}

/** By text, of which there are as many as places in the code that put one together. */
const statementNames = new Map<string, string>();

/** What PostgreSQL tells of a connection's server; pg has it, its types do not. */
type BackendKeys = { readonly processID: number };

const isLocalSocket = (url: string): boolean => /[?&]host=(?:%2F|\/)/i.test(url);

/**
 * Lets the statements of one turn of the event loop leave in one write: each write is a system call
 * that wakes the server, and under load these were a third of this process's time.
 */
function gather(client: pg.PoolClient): void {
  const stream = socketOf(client);
  if (stream.writableCorked > 0) return;
  stream.cork();
  process.nextTick(() => stream.uncork());
}

/**
 * The SQLSTATE with which the database has refused; null: the error is not of the database. By its class and
 * not by the look of its code: EPIPE, from the operating system, looks like a SQLSTATE.
 */
export const sqlStateOf = (error: unknown): string | null =>
  error instanceof pg.DatabaseError ? (error.code ?? null) : null;

/** Tells a database that answers with an error from one that does not answer. */
async function answered<T>(asked: Promise<T>): Promise<T> {
  try {
    return await asked;
  } catch (error) {
    const sqlState = sqlStateOf(error);
    // What was read from the socket tells where that was; who has asked is who waits here.
    if (sqlState !== null) Error.captureStackTrace(error as Error);
    // Shut down, crashed or starting; connection exceptions.
    if (sqlState !== null && !sqlState.startsWith('57P') && !sqlState.startsWith('08')) throw error;
    throw new DatabaseUnavailable(`the database does not answer: ${(error as Error).message}`, { cause: error });
  }
}
