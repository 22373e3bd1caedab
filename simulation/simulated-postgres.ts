/**
 * A PostgreSQL server with the database of one log, as far as the log leans on it: the head's row lock
 * for which writers queue, a transaction's commit apart from the moment at which others see it and from
 * the answer, connections that break at any of these points, statements that carry on without the client
 * that sent them. The log above it is the real one. `simulated-postgres.test.ts` compares both servers.
 */
import type { Database, PinnedConnection, Sql } from '#platform/postgres.ts';
import { DatabaseUnavailable } from '#platform/postgres.ts';
import type { Incarnation } from './incarnation.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';
import { type Changes, type LogTables, SqlError, statements } from './log-tables.ts';

/** Where an append may be when something happens to it. */
export type Stage = 'sent' | 'locked' | 'committed' | 'visible' | 'answered';

/** How the way to a server and back is at the moment. */
export type Weather = {
  down: boolean;
  /** Milliseconds that each statement takes in addition, at most. */
  slowMs: number;
  /** Milliseconds that one step in three within a transaction takes in addition, as when the disk is busy. */
  stallMs: number;
  /** How many of the answers to an append are lost with their connection. */
  lostAnswers: number;
};

export type SimulatedServerOptions = {
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly tables: LogTables;
  /** Told of each commit once others see it. */
  onVisible(changes: Changes, by: string): void;
  /** Told where an append of a process is; what it does to the process happens before the next stage. */
  onStage(process: Incarnation, stage: Stage): void;
  /** Told when the answer to an append is lost. */
  onLostCommit(): void;
  /** Told which timers a process has found to be due. */
  onDue(streams: readonly string[]): void;
};

/** How long a client takes to find that a connection leads nowhere. */
const deadConnectionMs = 20_000;

export class SimulatedServer {
  readonly tables: LogTables;
  readonly weather: Weather = { down: false, slowMs: 0, stallMs: 0, lostAnswers: 0 };
  readonly #options: SimulatedServerOptions;
  #sessions = new Set<Session>();
  /** Of the head's row; the others wait in line. */
  #holder: Session | null = null;
  #waiting: { readonly session: Session; readonly granted: () => void }[] = [];

  constructor(options: SimulatedServerOptions) {
    this.#options = options;
    this.tables = options.tables;
  }

  /** The database as one process sees it. */
  databaseFor(client: Incarnation): Database {
    const connect = (): Session => {
      const session = new Session(client);
      this.#sessions.add(session);
      return session;
    };
    const query = (session: Session) =>
      ((name: string, text: string, values: readonly unknown[] = []) =>
        this.#send(session, name, text, values)) as Sql['query'];
    return {
      // The pool has a connection ready: one statement, and it is given back.
      query: ((name: string, text: string, values: readonly unknown[] = []) => {
        const session = connect();
        session.left = true;
        return this.#send(session, name, text, values);
      }) as Sql['query'],
      pin: () =>
        new Promise((resolve, reject) =>
          client.deliver(this.#latency(), 'connect', () => {
            if (this.weather.down) return reject(unavailable('connection refused'));
            const session = connect();
            resolve({
              client: {} as PinnedConnection['client'],
              query: query(session),
              release: () => {
                session.left = true;
                if (session.idle) this.#end(session);
              },
            });
          }),
        ),
      transaction: () =>
        Promise.reject(new Error('the simulated server knows transactions on pinned connections only')),
      end: async () => {},
    };
  }

  /** The server stops at once and is back at once: what was not committed is gone, and every connection. */
  restart(): void {
    for (const session of this.#sessions) this.#breakOff(session, 'server restarted');
    this.#sessions.clear();
    this.#waiting = [];
  }

  /** Every connection is torn on the way: clients are told, and the server finishes what it has begun. */
  cut(): void {
    for (const session of this.#sessions) {
      session.cut = true;
      session.left = true;
      for (const statement of session.pending) statement.settle({ error: unavailable('connection reset') });
      if (session.idle) this.#end(session);
    }
  }

  /** A process is dead: the server finishes the statement that it has, and rolls back what is left open. */
  forget(client: Incarnation): void {
    for (const session of this.#sessions) {
      if (session.client !== client) continue;
      session.left = true;
      if (session.idle) this.#end(session);
    }
  }

  get locked(): boolean {
    return this.#holder !== null;
  }

  #latency(): number {
    const { random } = this.#options;
    const usual = random.chance(0.04) ? random.between(2, 40) : random.between(0.1, 1.5);
    return this.weather.slowMs > 0 ? usual + random.next() * this.weather.slowMs : usual;
  }

  /** A moment on the server, which goes on whatever becomes of the client. */
  #moment(session: Session, kind: string, act: () => void): void {
    const { scheduler, random } = this.#options;
    const ms = random.between(0.05, 0.6) + (random.chance(0.3) ? random.next() * this.weather.stallMs : 0);
    scheduler.after(ms, kind, null, () => {
      if (!session.broken) act();
    });
  }

  #send(session: Session, name: string, text: string, values: readonly unknown[]): Promise<object[]> {
    const { scheduler, random } = this.#options;
    if (name === 'append') this.#options.onStage(session.client, 'sent');
    return new Promise((resolve, reject) => {
      const settle = (outcome: Outcome, ms = this.#latency()): void => {
        // Answers of one connection do not overtake each other.
        const at = Math.max(scheduler.nowMs + ms, session.answeredMs);
        session.answeredMs = at;
        session.client.deliver(at - scheduler.nowMs, `answer ${name}`, () =>
          'rows' in outcome ? resolve(outcome.rows) : reject(outcome.error),
        );
      };
      const statement: Statement = {
        name,
        text,
        values,
        settle(outcome, ms) {
          // What is said on a connection that was torn reaches nobody: the client has its answer.
          if (session.pending.delete(statement)) settle(outcome, ms);
        },
      };
      if (session.broken || session.cut) return settle({ error: unavailable('connection closed') }, 0);
      session.pending.add(statement);
      session.sentMs = Math.max(scheduler.nowMs + this.#latency(), session.sentMs);
      session.flying += 1;
      // What has left a process arrives even when the process is dead or stopped by then, or half of the time.
      scheduler.after(session.sentMs - scheduler.nowMs, `arrive ${name}`, null, () => {
        session.flying -= 1;
        if (session.broken) return settle({ error: unavailable('connection closed') });
        if ((session.cut || !session.client.alive) && random.chance(0.5)) return this.#breakOff(session, 'client gone');
        session.queue.push(statement);
        if (!session.busy) this.#next(session);
      });
    });
  }

  #next(session: Session): void {
    const statement = session.queue.shift();
    session.busy = statement !== undefined;
    if (statement === undefined) {
      if (session.left && session.idle) this.#end(session);
      return;
    }
    session.underWay = statement;
    if (this.weather.down) return this.#breakOff(session, 'server is down');
    const { name } = statement;
    const explicit = session.inTransaction;
    if (session.failed && name !== 'rollback') {
      return this.#answer(session, statement, { error: new SqlError('25P02', 'current transaction is aborted') });
    }
    switch (name) {
      case 'begin':
        session.inTransaction = true;
        return this.#answer(session, statement, { rows: [] });
      case 'rollback':
        this.#rollBack(session);
        return this.#answer(session, statement, { rows: [] });
      case 'commit':
        return this.#commit(session, statement, []);
      case 'await head':
        return this.#withHead(session, () => {
          if (!explicit) this.#unlock(session);
          this.#answer(session, statement, { rows: [{ position: this.tables.head }] });
        });
      case 'append':
        return this.#withHead(session, () => this.#append(session, statement, explicit));
      // Operators lock the rows that they decide on, and so does an append that takes some of them back.
      case 'retry dead letters':
      case 'discard dead letter':
        return this.#withHead(session, () => {
          this.#unlock(session);
          this.#read(session, statement);
        });
      default:
        return this.#read(session, statement);
    }
  }

  #append(session: Session, statement: Statement, explicit: boolean): void {
    this.#stage(session, 'locked');
    this.#moment(session, 'append', () => {
      try {
        const { row, changes } = this.tables.append(statement.values);
        session.changes = changes;
        if (explicit || changes === null) {
          if (!explicit) this.#unlock(session);
          return this.#answer(session, statement, { rows: [row] });
        }
        this.#commit(session, statement, [row]);
      } catch (error) {
        if (!(error instanceof SqlError)) throw error;
        if (explicit) session.failed = true;
        else this.#unlock(session);
        this.#answer(session, statement, { error });
      }
    });
  }

  /** Durable, then seen by others, then free for the next writer, then known to whoever asked. */
  #commit(session: Session, statement: Statement, rows: object[]): void {
    this.#moment(session, 'commit', () => {
      session.committed = true;
      this.#stage(session, 'committed');
      this.#moment(session, 'visible', () => {
        this.#publish(session);
        this.#stage(session, 'visible');
        this.#moment(session, 'unlock', () => {
          this.#rollBack(session);
          this.#answer(session, statement, { rows });
        });
      });
    });
  }

  #publish(session: Session): void {
    const { changes } = session;
    session.changes = null;
    session.committed = false;
    if (changes === null) return;
    this.tables.apply(changes);
    this.#options.onVisible(changes, session.client.name);
  }

  #read(session: Session, statement: Statement): void {
    const { name, text, values } = statement;
    const ask = statements[name];
    if (ask === undefined) throw new Error(`the simulated server does not know the statement ${name}: ${text}`);
    if (name === 'limit') session.timeoutMs = Number(values[0]);
    const rows = ask(this.tables, values);
    if (name === 'due' && rows.length > 0) this.#options.onDue(rows.map((row) => (row as { stream: string }).stream));
    this.#answer(session, statement, { rows });
  }

  #answer(session: Session, statement: Statement, outcome: Outcome): void {
    const { random } = this.#options;
    session.underWay = null;
    const mayBeLost = statement.name === 'append' || statement.name === 'commit';
    if (mayBeLost) this.#stage(session, 'answered');
    if (mayBeLost && random.chance(this.weather.lostAnswers)) {
      const found = random.chance(0.7) ? this.#latency() : deadConnectionMs;
      this.#options.onLostCommit();
      statement.settle({ error: unavailable('the connection broke under the statement') }, found);
      session.broken = true;
      return this.#end(session);
    }
    statement.settle(outcome);
    this.#next(session);
  }

  #stage(session: Session, stage: Stage): void {
    if (session.client.alive) this.#options.onStage(session.client, stage);
  }

  #withHead(session: Session, granted: () => void): void {
    if (this.#holder === session) return granted();
    if (this.#holder === null) {
      this.#holder = session;
      return this.#moment(session, 'lock', granted);
    }
    const waiter = { session, granted };
    this.#waiting.push(waiter);
    this.#options.scheduler.after(session.timeoutMs, 'statement timeout', null, () => {
      if (!this.#waiting.includes(waiter)) return;
      this.#waiting = this.#waiting.filter((one) => one !== waiter);
      const error = new SqlError('57014', 'canceling statement due to statement timeout');
      if (session.inTransaction) session.failed = true;
      this.#answer(session, session.underWay!, { error });
    });
  }

  #unlock(session: Session): void {
    if (this.#holder !== session) return;
    this.#holder = null;
    const next = this.#waiting.shift();
    if (next === undefined) return;
    this.#holder = next.session;
    this.#moment(next.session, 'lock', next.granted);
  }

  #rollBack(session: Session): void {
    session.changes = null;
    session.inTransaction = false;
    session.failed = false;
    this.#unlock(session);
  }

  /** The session ends in order: nothing of it is under way. */
  #end(session: Session): void {
    session.broken = true;
    this.#sessions.delete(session);
    this.#rollBack(session);
  }

  /** The connection is torn: what is past its commit point stays, the rest is gone, and the client is told. */
  #breakOff(session: Session, why: string): void {
    const { underWay, queue } = session;
    if (session.committed) this.#publish(session);
    this.#waiting = this.#waiting.filter((one) => one.session !== session);
    this.#end(session);
    for (const statement of underWay === null ? queue : [underWay, ...queue]) {
      statement.settle({ error: unavailable(why) });
    }
    session.underWay = null;
    session.queue = [];
  }
}

type Outcome = { readonly rows: object[] } | { readonly error: Error };
type Statement = {
  readonly name: string;
  readonly text: string;
  readonly values: readonly unknown[];
  /** Sends the outcome on its way. */
  readonly settle: (outcome: Outcome, ms?: number) => void;
};

/** One connection, as the server knows it. */
class Session {
  readonly client: Incarnation;
  queue: Statement[] = [];
  underWay: Statement | null = null;
  busy = false;
  broken = false;
  /** The client has closed its end, or is dead. */
  left = false;
  /** Torn on the way, which the server does not know. */
  cut = false;
  /** Statements without an answer. */
  readonly pending = new Set<Statement>();
  /** Statements between the client and the server. */
  flying = 0;
  timeoutMs = 30_000;
  inTransaction = false;
  failed = false;
  /** What its transaction has written so far. */
  changes: Changes | null = null;
  /** Past the commit point, and not yet seen by others. */
  committed = false;
  sentMs = 0;
  answeredMs = 0;

  constructor(client: Incarnation) {
    this.client = client;
  }

  get idle(): boolean {
    return !this.busy && this.flying === 0;
  }
}

const unavailable = (why: string): DatabaseUnavailable =>
  new DatabaseUnavailable(`the database does not answer: ${why}`);
