/** Facts about processes that this one did not start, by pid: from /proc, or from `ps` where there is none. */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';

/**
 * When the process started, in words that differ between two processes that had the same pid one
 * after the other; null when it does not run (any more).
 */
export async function startOf(pid: number): Promise<string | null> {
  if (!hasProc) {
    const [state, ...started] = (await ps('stat=,lstart=', pid)).split(/\s+/);
    return !state || state.startsWith('Z') ? null : started.join(' ');
  }
  const stat = readProc(pid, 'stat');
  // The name, in brackets, may hold blanks and brackets itself; after it come state (3rd field) … start (22nd).
  const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  // A zombie has ended; only its parent has not looked yet.
  return !state || state === 'Z' ? null : (rest[18] ?? null);
}

/** The command line of the process; empty when it does not run or may not be looked at. */
export async function commandLineOf(pid: number): Promise<string> {
  return hasProc ? readProc(pid, 'cmdline').replaceAll('\0', ' ').trim() : ps('command=', pid);
}

const hasProc = existsSync('/proc/self/stat');

function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    return '';
  }
}

async function ps(fields: string, pid: number): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)('ps', ['-o', fields, '-p', String(pid)], { timeout: 5_000 });
    return stdout.trim();
  } catch {
    return '';
  }
}
