/** The life of the whole program: what has been started, and how it ends, by a signal, by an error, or by both. */
import type { Logger } from './logger.ts';
import { dieWithParent } from './supervised-process.ts';
import { systemPorts } from './ports.ts';

type Part = { stop(withinMs: number): Promise<void>; stopNow?(): void };

/** Ctrl-C has stopped everything within 5 s: this is what the parts have for it together. */
const stopTimeoutMs = 4_400;
/** What is being started when the signal comes is waited for, in order to be stopped. */
const startStopTimeoutMs = 2_500;
/** npm passes Ctrl-C on to a program that has had it from the terminal already. */
const sameSignalMs = 500;

/**
 * SIGINT, SIGTERM and SIGHUP stop everything in reverse order and end the process with 0; a second one
 * ends it at once. An error that nobody has caught stops everything too, and ends it with 1.
 */
export class House {
  readonly #logger: Logger;
  readonly #explain: (error: unknown) => void;
  readonly #parts: { readonly name: string; readonly part: Part; readonly timeoutMs: number }[] = [];
  readonly #giveUp = new AbortController();
  #signalledAt: number | null = null;
  #stopping: Promise<void> | null = null;
  #starting: Promise<void> | null = null;

  /** `explain` tells the user what went wrong. */
  constructor(logger: Logger, explain: (error: unknown) => void) {
    this.#logger = logger;
    this.#explain = explain;
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => this.#signalled(signal));
    process.on('uncaughtException', (error) => this.collapse(error));
    process.on('unhandledRejection', (error) => this.collapse(error));
    // However this process ends, short of being killed, it leaves nothing running.
    process.on('exit', () => this.#parts.forEach(({ part }) => part.stopNow?.()));
    // The terminal or the pipe that read our words may have gone.
    for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
    dieWithParent(() => this.#end(0));
  }

  /** Starts parts; when that rejects, what was started is stopped, and so does this. */
  async run(start: (signal: AbortSignal) => Promise<void>): Promise<void> {
    this.#starting = start(this.#giveUp.signal);
    try {
      await this.#starting;
    } catch (error) {
      // Being told to stop while it starts is not an error.
      if (this.#stopping !== null) return;
      await this.#stop();
      this.#explain(error);
      process.exit(1);
    }
  }

  /** It is stopped after those that were added later, and has up to `timeoutMs` for that. */
  add(name: string, part: Part, timeoutMs = stopTimeoutMs): void {
    this.#parts.push({ name, part, timeoutMs });
  }

  /** Something went wrong that cannot be mended: says so once, stops everything and ends with code 1. */
  collapse(error: unknown): void {
    if (this.#stopping !== null) return;
    this.#logger.fatal({ err: error }, 'stopped by an error');
    this.#explain(error);
    this.#end(1);
  }

  #signalled(signal: NodeJS.Signals): void {
    const now = systemPorts.now();
    if (this.#signalledAt !== null) {
      if (now - this.#signalledAt > sameSignalMs) process.exit(130);
      return;
    }
    this.#signalledAt = now;
    if (process.channel === undefined || process.channel === null) {
      console.log(signal === 'SIGINT' ? '\nStopping; Ctrl-C again stops at once.' : '\nStopping.');
    }
    this.#end(0);
  }

  #end(code: number): void {
    if (this.#stopping !== null) return;
    this.#stopping = this.#stop();
    void this.#stopping.finally(() => process.exit(code));
  }

  async #stop(): Promise<void> {
    this.#giveUp.abort();
    const deadline = systemPorts.now() + stopTimeoutMs;
    if (this.#starting !== null) await within(startStopTimeoutMs, this.#starting);
    for (const { name, part, timeoutMs } of this.#parts.toReversed()) {
      const left = Math.max(0, Math.min(timeoutMs, deadline - systemPorts.now()));
      const outcome = await within(left, part.stop(left));
      if (outcome instanceof Error) this.#logger.error({ err: outcome }, `${name} did not stop cleanly`);
      else if (outcome === 'late') this.#logger.warn(`${name} did not stop within ${left} ms`);
    }
  }
}

/** How the work ended: in time, late, or with the error that it rejected with. */
async function within(timeoutMs: number, work: Promise<void>): Promise<unknown> {
  const { promise: late, resolve } = Promise.withResolvers<string>();
  const cancel = systemPorts.after(timeoutMs, () => resolve('late'));
  return Promise.race([
    work.then(
      () => 'in time',
      (error: unknown) => error,
    ),
    late,
  ]).finally(cancel);
}
