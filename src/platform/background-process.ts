/** One piece of work in a process of its own that lets all others go first, and lives no longer than the work. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { stepBackSession } from './background.ts';
import { dieWithParent } from './supervised-process.ts';

/** `Told` is what the process is told, `Heard` what it says, `Result` what comes of it. */
export type BackgroundWork<Told, Heard, Result> = {
  /** For messages: `the rebuild`. */
  readonly name: string;
  /** A file that calls `workForParent`. */
  readonly script: string;
  /** Of Node, for that process. */
  readonly nodeOptions?: readonly string[];
  readonly signal: AbortSignal;
  begun(tell: (message: Told) => void): void;
  /** Undefined: it works on. Throws what the work has failed with. */
  heard(message: Heard, tell: (message: Told) => void): { readonly result: Result } | undefined;
};

/**
 * Starts the process and resolves to the first result that it has said. Rejects with what `heard` throws, when the process
 * ends before, and when `signal` is aborted. Whichever it is, the process is gone by then.
 */
export async function inBackgroundProcess<Told extends object, Heard extends object, Result>(
  work: BackgroundWork<Told, Heard, Result>,
): Promise<Result> {
  const { name, script, signal } = work;
  signal.throwIfAborted();
  const child = fork(script, [], {
    execArgv: [...(work.nodeOptions ?? [])],
    // A session of its own: Ctrl-C in the terminal reaches this process only, which says when to stop.
    detached: true,
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const { promise, resolve, reject } = Promise.withResolvers<Result>();
  const tell = (message: Told): void => {
    if (child.connected) child.send(message);
  };
  child.on('message', (message: Heard) => {
    try {
      const heard = work.heard(message, tell);
      if (heard !== undefined) resolve(heard.result);
    } catch (error) {
      reject(error);
    }
  });
  child.on('error', reject);
  child.on('exit', (code, how) => reject(new Error(`the process of ${name} has ended with ${how ?? `code ${code}`}`)));
  const end = (): void => reject(new Error(`${name} was stopped`));
  signal.addEventListener('abort', end, { once: true });
  try {
    if (child.pid !== undefined) stepBackSession(child.pid);
    work.begun(tell);
    return await promise;
  } finally {
    signal.removeEventListener('abort', end);
    if (child.exitCode === null && child.signalCode === null && child.pid !== undefined) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  }
}

/** In the process: `begin` is given what tells the parent, and returns what hears the parent. It ends when the parent does. */
export function workForParent<Told extends object, Heard extends object>(
  begin: (tell: (message: Heard) => void) => (message: Told) => void,
): void {
  dieWithParent(() => process.exit());
  process.on(
    'message',
    begin((message) => void process.send!(message)),
  );
}
