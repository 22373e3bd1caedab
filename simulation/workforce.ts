/** Several workers that share out ranges of seeds. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Range, Report } from './worker.ts';

const workerFile = fileURLToPath(new URL('./worker.ts', import.meta.url));
const hookFile = new URL('./mutant-hook.ts', import.meta.url).href;

export type Orders = {
  readonly from: number;
  /** Included. */
  readonly to: number;
  readonly workers: number;
  readonly seedsPerTurn: number;
  readonly stopAtFirst: boolean;
  /** The safeguard that is switched off. */
  readonly mutant?: string;
};

/**
 * Has all seeds run; `hear` is told of each range that is done, in whatever order. Resolves when all are
 * done, or with `stopAtFirst` when a failure was found. Rejects when a worker dies.
 */
export async function runSeeds(orders: Orders, hear: (report: Report) => void): Promise<void> {
  let next = orders.from;
  let failed = false;
  const rangeOf = (): Range | null => {
    if (next > orders.to || (failed && orders.stopAtFirst)) return null;
    const range = {
      from: next,
      to: Math.min(next + orders.seedsPerTurn - 1, orders.to),
      stopAtFirst: orders.stopAtFirst,
    };
    next = range.to + 1;
    return range;
  };

  const work = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const worker = fork(workerFile, {
        execArgv: orders.mutant === undefined ? [] : ['--import', hookFile],
        env: { ...process.env, ...(orders.mutant === undefined ? {} : { TWOFOLD_MUTANT: orders.mutant }) },
        stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      });
      let complaint = '';
      worker.stderr!.setEncoding('utf8').on('data', (text: string) => (complaint = (complaint + text).slice(-4_000)));
      const give = (): void => {
        const range = rangeOf();
        if (range === null) worker.disconnect();
        else worker.send(range);
      };
      worker.on('message', (report: Report) => {
        failed ||= report.failures.length > 0;
        hear(report);
        give();
      });
      worker.on('exit', (code) => {
        if (code === 0) resolve();
        else reject(new Error(`a worker has ended with ${code}:\n${complaint}`));
      });
      give();
    });

  await Promise.all(Array.from({ length: orders.workers }, work));
}
