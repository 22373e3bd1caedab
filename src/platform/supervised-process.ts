/** A part of the program that runs as a process of its own, and is brought back when it dies. */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { takeTurns } from './background.ts';
import type { Logger } from './logger.ts';
import { sleep, systemPorts } from './ports.ts';

export type SupervisedProcessOptions = {
  /** For messages. */
  readonly name: string;
  readonly script: string;
  readonly args: readonly string[];
  /** Beside the variables of this process. Asked before each start; `address` is that of the first, for its successors. */
  env(address: string | undefined): Readonly<Record<string, string>>;
  readonly logger: Logger;
  /** It has died more often than it may be restarted. */
  onGivenUp(error: Error): void;
  readonly readyTimeoutMs?: number;
  readonly restartsPerMinuteMax?: number;
};

export type SupervisedProcess = {
  /** What the process has told of itself when it was ready first. */
  readonly address: string;
  /** Of the process that runs now; 0 while there is none. */
  readonly pid: number;
  /** Asks it to stop, and ends it after half a second. Never rejects. */
  stop(): Promise<void>;
  /** Ends it at once, without waiting: for a process that is ending itself. */
  stopNow(): void;
};

/** The process did not become ready, or has died too often; the message says how it ended. */
export class ProcessFailed extends Error {
  override readonly name = 'ProcessFailed';
}

/**
 * Starts `script` and resolves once it has said `reportReady(address)`. It lives no longer than this
 * process, however that ends, as long as it calls `dieWithParent`. Rejects with ProcessFailed.
 */
export async function startSupervisedProcess(options: SupervisedProcessOptions): Promise<SupervisedProcess> {
  const { name, script, args, logger, readyTimeoutMs = 15_000, restartsPerMinuteMax = 10 } = options;
  let child: ChildProcess | null = null;
  let address: string | undefined;
  let stopping = false;
  let deaths: number[] = [];
  const stopped = new AbortController();

  async function start(): Promise<string> {
    const started = fork(script, args, {
      env: { ...process.env, ...options.env(address) },
      execArgv: [],
      // A session of its own: Ctrl-C in the terminal reaches this process only, which says when to stop.
      detached: true,
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    child = started;
    if (started.pid !== undefined) takeTurns(started.pid);
    const ended = new Promise<string>((resolve) => {
      started.once('error', (error) => resolve(error.message));
      started.once('exit', (code, signal) => resolve(`it ended with ${signal ?? `code ${code}`}`));
    });
    const late = new AbortController();
    const outcome = await Promise.race([
      once(started, 'message').then(([message]) => message as { ready?: string }),
      ended,
      sleep(systemPorts, readyTimeoutMs, late.signal).then(() => `it was not ready within ${readyTimeoutMs} ms`),
    ]);
    late.abort();
    if (typeof outcome === 'string' || outcome.ready === undefined) {
      child = null;
      started.kill('SIGKILL');
      throw new ProcessFailed(
        `${name} did not start: ${typeof outcome === 'string' ? outcome : 'it said something else'}.`,
      );
    }
    void ended.then((how) => died(`${name} died: ${how}.`));
    return outcome.ready;
  }

  function died(how: string): void {
    child = null;
    if (stopping) return;
    const now = systemPorts.now();
    deaths = [...deaths.filter((at) => at > now - 60_000), now];
    if (deaths.length > restartsPerMinuteMax) {
      options.onGivenUp(
        new ProcessFailed(`${how} It is not started again after ${restartsPerMinuteMax} restarts in a minute.`),
      );
      return;
    }
    const pauseMs = Math.min(firstPauseMs * 2 ** (deaths.length - 1), pauseMsMax);
    logger.warn(`${how} It is started again in ${pauseMs} ms.`);
    sleep(systemPorts, pauseMs, stopped.signal)
      .then(() => (stopping ? undefined : start()))
      .catch((error: Error) => died(error.message));
  }

  address = await start();
  return {
    address,
    get pid() {
      return child?.pid ?? 0;
    },
    async stop() {
      stopping = true;
      stopped.abort();
      const last = child;
      if (last === null) return;
      const ended = once(last, 'exit');
      if (last.connected) last.disconnect();
      const cancel = systemPorts.after(stopTimeoutMs, () => last.kill('SIGKILL'));
      await ended;
      cancel();
    },
    stopNow() {
      stopping = true;
      stopped.abort();
      child?.kill('SIGKILL');
    },
  };
}

/** In the process that is supervised: says that it is ready, and where. Without a supervisor it does nothing. */
export function reportReady(address: string): void {
  process.send?.({ ready: address });
}

/** In the process that is supervised: calls `stop` when the supervisor asks for it, or is gone. */
export function dieWithParent(stop: () => void): void {
  if (process.channel !== undefined && process.channel !== null) process.once('disconnect', stop);
}

const firstPauseMs = 100;
const pauseMsMax = 5_000;
const stopTimeoutMs = 500;
