/** What an earlier PostgreSQL, killed or left alone, has left behind in its folders, and how it is cleared. */
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { commandLineOf, startOf } from './other-process.ts';
import type { PostgresHome } from './postgres-home.ts';

/** The server did not start, or not again; the message says why, if need be in the words of its log. */
export class PostgresFailed extends Error {
  override readonly name = 'PostgresFailed';
}

/** The number in the name of the socket; no TCP port is opened. */
export const socketPort = 5_432;

/**
 * Ends the server that a killed run has left behind, and takes away what would keep a new one from
 * starting. Rejects with PostgresFailed when that server cannot be ended.
 */
export async function clearLeftovers({ location, socketFolder }: PostgresHome): Promise<void> {
  const data = join(location, 'postgres');
  const pidFile = join(data, 'postmaster.pid');
  const pid = existsSync(pidFile) ? Number(readFileSync(pidFile, 'utf8').split('\n')[0]) : 0;
  if (pid > 0 && (await startOf(pid)) !== null) {
    // Pids are given anew: whoever has this one now may be anybody.
    if ((await commandLineOf(pid)).includes(data)) await stopLeftover(pid, location);
    else rmSync(pidFile, { force: true });
  }
  const socket = join(socketFolder, `.s.PGSQL.${socketPort}`);
  if (await accepts(socket)) {
    throw new PostgresFailed(
      `The data in ${location} is in use by a PostgreSQL that this process cannot see, perhaps in another container.`,
    );
  }
  rmSync(socket, { force: true });
  rmSync(`${socket}.lock`, { force: true });
}

const stopTimeoutMs = 20_000;
const immediateStopTimeoutMs = 7_000; // PostgreSQL itself kills what has not ended after 5 s
const pollIntervalMs = 20;

async function stopLeftover(pid: number, location: string): Promise<void> {
  const started = await startOf(pid);
  for (const [signal, timeoutMs] of [
    ['SIGINT', stopTimeoutMs],
    ['SIGQUIT', immediateStopTimeoutMs],
  ] as const) {
    try {
      process.kill(pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') return;
      throw new PostgresFailed(
        `The data in ${location} is in use by process ${pid}, which this account may not stop.`,
        { cause: error },
      );
    }
    const deadline = Date.now() + timeoutMs;
    while (Date.now() < deadline) {
      if ((await startOf(pid)) !== started) return;
      await delay(pollIntervalMs);
    }
  }
  throw new PostgresFailed(
    `The data in ${location} is in use by an earlier PostgreSQL, process ${pid}, which does not stop.`,
  );
}

async function accepts(socket: string): Promise<boolean> {
  const client = connect(socket);
  try {
    await once(client, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    client.destroy();
  }
}
