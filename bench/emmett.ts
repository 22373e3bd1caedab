/** Emmett's event store on PostgreSQL, for comparison: installed into a folder of its own, run in a process of its own. */
import { type ChildProcess, execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { openDatabase } from '#platform/postgres.ts';
import type { Ending } from '../tests/running-program.ts';

const version = '0.42.0';
const installTimeoutMs = 180_000;

export type Emmett = {
  readonly version: string;
  /** Appends a second, each of one event to a new stream. Rejects with what kept one from being made. */
  append(callers: number, seconds: number): Promise<number>;
  /** Appends one, for whoever looks at what comes of it. */
  appendOne(): Promise<void>;
  /** Rejects unless what was appended is in its database. */
  check(): Promise<string>;
};

/** Resolves to why not when npm cannot install it. */
export async function openEmmett(ending: Ending, databaseUrl: string): Promise<Emmett | string> {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-bench-'));
  // After the process that runs in it.
  ending.after(() => ending.after(() => rmSync(folder, { recursive: true, force: true })));
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
  const packages = ['emmett', 'emmett-postgresql'].map((name) => `@event-driven-io/${name}@${version}`);
  try {
    const args = ['install', '--ignore-scripts', '--no-audit', '--no-fund', ...packages];
    await promisify(execFile)('npm', args, { cwd: folder, timeout: installTimeoutMs });
  } catch (error) {
    const { stderr = '', message } = error as Error & { stderr?: string };
    const said = stderr.split('\n').filter((line) => line.startsWith('npm error'));
    return `npm cannot install it: ${said[0] ?? message.split('\n')[0]}`;
  }
  const child = fork(`${import.meta.dirname}/emmett.process.ts`, [folder, databaseUrl]);
  const exit = once(child, 'exit');
  ending.after(async () => {
    child.kill();
    await exit;
  });
  await heard(child);
  let appended = 0;
  const append = async (callers: number, seconds: number): Promise<number> => {
    child.send({ callers, seconds });
    const { perSecond, done } = (await heard(child)) as { perSecond: number; done: number };
    appended += done;
    return perSecond;
  };
  return {
    version,
    append,
    async appendOne() {
      await append(1, 0.001);
    },
    async check() {
      const database = openDatabase(databaseUrl, { applicationName: 'bench', poolMax: 1 });
      const [row] = await database
        .query<{ events: number }>('', 'select count(*) as events from emt_messages')
        .finally(() => database.end());
      if (row!.events !== appended) throw new Error(`Emmett has ${row!.events} events where ${appended} were appended`);
      return `${appended.toLocaleString('en')} of them are there`;
    },
  };
}

/** What it says next. Rejects when it says that something failed, or ends. */
async function heard(child: ChildProcess): Promise<unknown> {
  const ended = new AbortController();
  try {
    const [said] = (await Promise.race([
      once(child, 'message', { signal: ended.signal }),
      once(child, 'exit', { signal: ended.signal }),
    ])) as [unknown];
    if (typeof said === 'number' || said === null) throw new Error(`the process of Emmett has ended (${said})`);
    if (typeof said === 'object' && 'failed' in said) throw new Error(`Emmett: ${String(said.failed)}`);
    return said;
  } finally {
    ended.abort();
  }
}
