/** The program as its users start it: a process of its own, on data of its own, that can be killed. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { databaseOwners, type DatabaseOwner } from '#platform/settings.ts';
import { freePort } from './free-port.ts';
import { openShop, type Shop, until } from './shop-client.ts';

export type DatabaseUrls = Readonly<Record<DatabaseOwner, string>>;

/** What an auditor needs of a running system, and what a client needs. */
export type TestSystem = {
  readonly address: string;
  readonly databaseUrls: DatabaseUrls;
  readonly providerUrl: string;
  /** Calls as operator. */
  readonly shop: Shop;
  /** Stops it before the test ends; once is enough. */
  stop(): Promise<void>;
};

/** Where is noted what has to be done at the end. A test context is one. */
export type Ending = { after(work: () => unknown): void };

/** What a test context is to a test, for a script: `end` does what was noted, in that order. */
export function openEnding(): Ending & { end(): Promise<void> } {
  const works: (() => unknown)[] = [];
  return {
    after: (work) => void works.push(work),
    async end() {
      for (let work = works.shift(); work !== undefined; work = works.shift()) await work();
    },
  };
}

const project = resolve(import.meta.dirname, '..');
const readyTimeoutMs = 90_000;
const endTimeoutMs = 20_000;

/** The program ended before it was ready. */
export class EndedEarly extends Error {
  override readonly name = 'EndedEarly';
  readonly signal: NodeJS.Signals | null;
  readonly output: string;

  constructor(signal: NodeJS.Signals | null, output: string) {
    super(`the program ended before it was ready:\n${output}`);
    this.signal = signal;
    this.output = output;
  }
}

export type TestProcess = {
  readonly pid: number;
  /** What the line that says where it is ready has in its brackets. */
  readonly said: readonly string[];
  /** Resolves once it has ended, however it does, to the signal that ended it. */
  ended(): Promise<NodeJS.Signals | null>;
  /** What it has printed so far. */
  output(): string;
  kill(signal: NodeJS.Signals): void;
};

/** `twofold <args>` without the rolling audit, once its output has `ready`. Still running at the end, it is told to stop. Rejects with EndedEarly. */
export async function startTestProcess(
  ending: Ending,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  ready: RegExp,
): Promise<TestProcess> {
  const child = spawn(process.execPath, ['bin/twofold.js', ...args], {
    cwd: project,
    env: { ...process.env, TWOFOLD_LOG_LEVEL: 'warn', TWOFOLD_AUDIT_SHARE_PERCENT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // By then its output is complete.
  const exit = once(child, 'close');
  ending.after(() => endProcess(child, exit));
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  }
  const said = await until(
    'the program is ready',
    async () => (hasEnded(child) ? 'ended' : ready.exec(output)),
    readyTimeoutMs,
  );
  if (said === 'ended') {
    await exit;
    throw new EndedEarly(child.signalCode, output);
  }
  return {
    pid: child.pid!,
    said: said.slice(1),
    async ended() {
      await exit;
      return child.signalCode;
    },
    output: () => output,
    kill: (signal) => void child.kill(signal),
  };
}

const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

async function endProcess(child: ChildProcess, exit: Promise<unknown>): Promise<void> {
  if (hasEnded(child)) return;
  child.kill('SIGTERM');
  await Promise.race([exit, delay(endTimeoutMs, undefined, { ref: false })]);
  child.kill('SIGKILL');
  await exit;
}

/** The program, and everything it has started. */
export type TestProgram = TestSystem &
  Pick<TestProcess, 'ended' | 'output'> & {
    /** Of the program, its PostgreSQL and its payment provider, as they are now. */
    pids(): { readonly node: number; readonly postgres: number; readonly sandbox: number };
  };

/**
 * `twofold up` at a free port. A second one with the same `dataDir` finds the data of the first. What
 * still runs at the end is ended, all of it by its own process id.
 */
export async function startTestProgram(
  ending: Ending,
  dataDir: string,
  env: Readonly<Record<string, string>> = {},
): Promise<TestProgram> {
  const sandboxPort = await freePort();
  ending.after(() => ending.after(() => endPostgres(dataDir)));
  const { pid, said, ended, output, kill } = await startTestProcess(
    ending,
    ['up', '--port', '0', '--data-dir', dataDir, '--empty'],
    { TWOFOLD_SANDBOX_PORT: String(sandboxPort), ...env },
    /API +(http:\S+)[^]*psql -h (\S+)/,
  );
  const [address = '', socket = ''] = said;
  return {
    address,
    databaseUrls: databaseUrlsAt(socket),
    providerUrl: env['TWOFOLD_PROVIDER_URL'] ?? `http://127.0.0.1:${sandboxPort}`,
    shop: openShop(address),
    pids: () => ({ node: pid, postgres: postgresPid(dataDir), sandbox: childOf(pid, 'sandbox') }),
    ended,
    output,
    async stop() {
      kill('SIGINT');
      await ended();
      assert.ok(!existsSync(join(dataDir, 'postgres/postmaster.pid')), `its PostgreSQL runs on:\n${output()}`);
    },
  };
}

/** Of the embedded PostgreSQL whose socket is in that folder. */
function databaseUrlsAt(socketFolder: string): DatabaseUrls {
  const host = encodeURIComponent(socketFolder);
  const urlOf = (owner: DatabaseOwner): string =>
    `postgresql://twofold@/${owner}?host=${host}&port=5432&sslmode=disable`;
  return Object.fromEntries(databaseOwners.map((owner) => [owner, urlOf(owner)])) as DatabaseUrls;
}

/** A folder for the data of a program; gone at the end. */
export async function programDataDir(ending: Ending): Promise<string> {
  const dataDir = await mkdtemp(join(tmpdir(), 'twofold-program-'));
  ending.after(() => ending.after(() => ending.after(() => rm(dataDir, { recursive: true, maxRetries: 5 }))));
  return dataDir;
}

/** A program that was killed leaves its PostgreSQL running. */
async function endPostgres(dataDir: string): Promise<void> {
  const pid = existsSync(join(dataDir, 'postgres/postmaster.pid')) ? postgresPid(dataDir) : 0;
  if (pid === 0 || !commandLine(pid).includes(dataDir)) return;
  process.kill(pid, 'SIGQUIT');
  await until(`PostgreSQL ${pid} has ended`, async () => (commandLine(pid).includes(dataDir) ? null : true));
}

const postgresPid = (dataDir: string): number =>
  Number(readFileSync(join(dataDir, 'postgres/postmaster.pid'), 'utf8').split('\n')[0]);

/** The child of `parent` whose command line has `word`. */
function childOf(parent: number, word: string): number {
  const children = readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').trim().split(' ').map(Number);
  const found = children.find((pid) => commandLine(pid).split('\0').includes(word));
  if (found === undefined) throw new Error(`process ${parent} has no child ${word}`);
  return found;
}

/** Empty when there is no such process, or it has ended and waits for its parent to hear of it. */
function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
