/** The whole, as its user meets it: start, import a month of real orders, Ctrl-C, start again. `npm run smoke`. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { freePort } from './free-port.ts';

const startTimeoutMs = 60_000;
const importTimeoutMs = 240_000;
const stopTimeoutMs = 5_000;
const endTimeoutMs = 15_000;

const month = 'examples/online-retail-2011-02.csv.gz';
const salesOfMonth = '/v1/reports/sales?bucket=month&from=2011-02-01T00:00:00Z&to=2011-03-01T00:00:00Z';

test('a shop takes a month of real orders, stops at Ctrl-C, and has them when it starts again', async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), 'twofold-smoke-'));
  t.after(async () => {
    for (const program of launched) {
      if (program.child.exitCode !== null || program.child.signalCode !== null) continue;
      process.kill(-program.pid, 'SIGTERM');
      await ended(program, endTimeoutMs);
    }
    await rm(dataDir, { recursive: true });
  });

  let since = performance.now();
  const lap = (what: string): void => {
    t.diagnostic(`${what} after ${((performance.now() - since) / 1_000).toFixed(1)} s`);
    since = performance.now();
  };

  const first = await start(dataDir);
  lap('started');
  assert.equal((await fetch(`${first.address}/readyz`)).status, 200);
  const report = ['--report', join(dataDir, 'import-report.json')];
  const imported = launch('run', 'twofold', '--', 'import', month, '--url', first.address, ...report);
  assert.equal(await ended(imported, importTimeoutMs), 0, imported.output);
  lap('imported');
  const sales = await answerOf(`${first.address}${salesOfMonth}`);
  assert.match(sales, /"orders":[1-9]/);
  await stop(first.program, dataDir);
  lap('stopped');

  const second = await start(dataDir);
  lap('started again');
  assert.equal(await answerOf(`${second.address}${salesOfMonth}`), sales);
  await stop(second.program, dataDir);
});

/** `npm start`, until its banner names the address. */
async function start(dataDir: string): Promise<{ address: string; program: Program }> {
  const port = await freePort();
  const address = `http://127.0.0.1:${port}`;
  const program = launch('start', '--', '--port', String(port), '--data-dir', dataDir);
  await printed(program, address, startTimeoutMs);
  return { address, program };
}

/** Ctrl-C reaches every process of the terminal's foreground group: npm's, its shell's and ours. */
async function stop(program: Program, dataDir: string): Promise<void> {
  process.kill(-program.pid, 'SIGINT');
  const code = await ended(program, stopTimeoutMs);
  assert.ok(code === 0 || code === 130 || code === null, `it ended with ${code}:\n${program.output}`);
  assert.ok(!existsSync(join(dataDir, 'postgres/postmaster.pid')), 'its PostgreSQL runs on');
}

type Program = { readonly command: string; readonly child: ChildProcess; readonly pid: number; output: string };

const project = resolve(import.meta.dirname, '..');
const launched: Program[] = [];

/** `npm <args>` in a process group of its own, as a terminal makes it. */
function launch(...args: readonly string[]): Program {
  const child = spawn('npm', args, { cwd: project, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  const program: Program = { command: `npm ${args.join(' ')}`, child, pid: child.pid ?? 0, output: '' };
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (program.output += text));
  }
  launched.push(program);
  return program;
}

/** Rejects when the program ends without having printed `text`, or takes longer. */
async function printed(program: Program, text: string, timeoutMs: number): Promise<void> {
  const { promise, resolve: done, reject } = Promise.withResolvers<void>();
  program.child.stdout?.on('data', () => program.output.includes(text) && done());
  program.child.once('close', (code) => reject(new Error(`${program.command} ended with ${code}:\n${program.output}`)));
  await inTime(program, `print ${text}`, promise, timeoutMs);
}

/** The exit code; null when a signal ended the program. Rejects when that takes longer. */
async function ended(program: Program, timeoutMs: number): Promise<number | null> {
  const { child } = program;
  const end = child.exitCode === null && child.signalCode === null ? once(child, 'close') : Promise.resolve();
  await inTime(program, 'end', end, timeoutMs);
  return child.exitCode;
}

async function inTime(program: Program, what: string, event: Promise<unknown>, timeoutMs: number): Promise<void> {
  const { promise: tooLate, reject } = Promise.withResolvers<never>();
  const late = (): void =>
    reject(new Error(`${program.command} did not ${what} within ${timeoutMs} ms:\n${program.output}`));
  const timer = setTimeout(late, timeoutMs);
  await Promise.race([event, tooLate]).finally(() => clearTimeout(timer));
}

async function answerOf(url: string): Promise<string> {
  const answer = await fetch(url);
  const body = await answer.text();
  assert.equal(answer.status, 200, body);
  return body;
}
