/** `twofold import` as a process of its own, for tests that end it, and ask how it ended. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export type Run = {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
};

/** February 2011 of Online Retail. */
export const sample = fileURLToPath(new URL('../../examples/online-retail-2011-02.csv.gz', import.meta.url));
export const sampleOrders = 1126;

const entry = `
  const { importCommand } = await import(${JSON.stringify(new URL('command.ts', import.meta.url).href)});
  await importCommand().parseAsync(process.argv.slice(1), { from: 'user' });
`;

/** The report and the journal are in `folder`. `ended` resolves when the process has, however it did. */
export function startImport(folder: string, ...args: string[]): { process: ChildProcess; ended: Promise<Run> } {
  const started = spawn(process.execPath, ['--input-type=module', '--eval', entry, '--', ...args], { cwd: folder });
  let stdout = '';
  let stderr = '';
  started.stdout.on('data', (text) => (stdout += String(text)));
  started.stderr.on('data', (text) => (stderr += String(text)));
  const ended = new Promise<Run>((resolve) => {
    started.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
  return { process: started, ended };
}
