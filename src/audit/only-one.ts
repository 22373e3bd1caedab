/** Work that one process does at a time, however many there are that could: the others wait for its end. */
import { type Ports, sleep } from '#platform/ports.ts';
import type { Database, PinnedConnection } from '#platform/postgres.ts';

export type OnlyOneOptions = {
  readonly database: Database;
  /** Of the lock, in that database. */
  readonly name: string;
  readonly ports: Ports;
  readonly signal: AbortSignal;
  reportTrouble(error: unknown): void;
};

const askEveryMs = 5_000;
const retryFirstMs = 1_000;
const retryMaxMs = 60_000;

/**
 * Does `work` while this process has the lock, again whenever it ends or rejects, later and later while it keeps
 * rejecting. Its signal is aborted when the lock is lost, or `signal` is. Resolves once `signal` is aborted.
 */
export async function onlyOne(
  { database, name, ports, signal, reportTrouble }: OnlyOneOptions,
  work: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  let pauseMs = retryFirstMs;
  while (!signal.aborted) {
    const beganMs = ports.elapsed();
    try {
      await holding(database, name, signal, work);
      await sleep(ports, askEveryMs, signal);
    } catch (error) {
      if (signal.aborted) return;
      reportTrouble(error);
      if (ports.elapsed() - beganMs > retryMaxMs) pauseMs = retryFirstMs;
      await sleep(ports, pauseMs, signal);
      pauseMs = Math.min(pauseMs * 2, retryMaxMs);
    }
  }
}

/** Not at all, when somebody else has the lock. */
async function holding(
  database: Database,
  name: string,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const lost = new AbortController();
  let connection: PinnedConnection | null = null;
  try {
    connection = await database.pin({ limited: true });
    connection.client.once('end', () => lost.abort());
    const [row] = await connection.query<{ mine: boolean }>(
      'only one',
      'select pg_try_advisory_lock(hashtext($1)) as mine',
      [name],
    );
    if (row?.mine === true) await work(AbortSignal.any([signal, lost.signal]));
  } finally {
    // Closed and not given back: with it goes the lock.
    connection?.release(true);
  }
}
