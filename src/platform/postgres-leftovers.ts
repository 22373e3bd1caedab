/** What an earlier PostgreSQL, killed or left alone, has left behind in its folders, and how it is cleared. */
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { commandLineOf, startOf } from './other-process.ts';
import type { PostgresHome } from './postgres-home.ts';
import { sleep, systemPorts } from './ports.ts';

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
  const lines = existsSync(pidFile) ? readFileSync(pidFile, 'utf8').split('\n') : [];
  const pid = Number(lines[0] ?? 0);
  // Pids are given anew: whoever has this one now may be anybody.
  const runs = pid > 0 && (await startOf(pid)) !== null && (await commandLineOf(pid)).includes(data);
  if (runs) await stopLeftover(pid, location);
  const socket = join(socketFolder, `.s.PGSQL.${socketPort}`);
  if (await accepts(socket)) {
    throw new PostgresFailed(
      `The data in ${location} is in use by a PostgreSQL that this process cannot see, perhaps in another container.`,
    );
  }
  if (existsSync(pidFile)) {
    // The server has ended, and its pid may still be there: as somebody else's, or as a zombie that nobody
    // looks after, which a container without an init keeps for ever. PostgreSQL would take it for the server.
    await untilOrphansHaveEnded(Number(lines[6]?.trim().split(/\s+/)[1] ?? 0), location);
    rmSync(pidFile, { force: true });
  }
  rmSync(socket, { force: true });
  rmSync(`${socket}.lock`, { force: true });
}

const orphansTimeoutMs = 15_000;
const sharedMemoryTable = '/proc/sysvipc/shm';

/** Without its pid file PostgreSQL cannot see the backends of a killed server: none may be attached to its shared memory. */
async function untilOrphansHaveEnded(segment: number, location: string): Promise<void> {
  const deadline = systemPorts.now() + orphansTimeoutMs;
  while (attachedTo(segment) > 0) {
    if (systemPorts.now() > deadline) {
      throw new PostgresFailed(
        `The data in ${location} is in use by processes that a killed PostgreSQL has left behind.`,
      );
    }
    await sleep(systemPorts, pollIntervalMs);
  }
}

function attachedTo(segment: number): number {
  if (segment === 0 || !existsSync(sharedMemoryTable)) return 0;
  const rows = readFileSync(sharedMemoryTable, 'utf8').trim().split('\n').slice(1);
  const row = rows.map((line) => line.trim().split(/\s+/)).find((cells) => Number(cells[1]) === segment);
  return Number(row?.[6] ?? 0);
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
    const deadline = systemPorts.now() + timeoutMs;
    while (systemPorts.now() < deadline) {
      if ((await startOf(pid)) !== started) return;
      await sleep(systemPorts, pollIntervalMs);
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
