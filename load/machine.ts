/** What the machine does meanwhile: processor time and memory by process, and how fast its disk confirms a write. */
import { closeSync, fdatasyncSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** So far, of a process and of those of its children that have ended. */
export type Usage = { readonly cpuMs: number; readonly memoryMb: number };

const tickMs = 10;
const syncMs = 500;
const syncBytes = 4_096;

/** A process alone; null when there is none. */
export function usageOf(pid: number): Usage | null {
  return usageOfAll([pid]);
}

/** A process and all that it has started. */
export const usageOfTree = (pid: number): Usage | null => usageOfAll([...treeOf(pid)]);

/** The processes that `pid` has started, by their command lines. */
export const childrenOf = (pid: number): readonly number[] => {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
};

function* treeOf(pid: number): Generator<number> {
  yield pid;
  for (const child of childrenOf(pid)) yield* treeOf(child);
}

function usageOfAll(pids: readonly number[]): Usage | null {
  let [cpuMs, ownKb, sharedKb, found] = [0, 0, 0, false];
  for (const pid of pids) {
    try {
      // User and system, then those of children that have been waited for.
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
      for (const field of [11, 12, 13, 14]) cpuMs += Number(fields[field]) * tickMs;
      const status = readFileSync(`/proc/${pid}/status`, 'utf8');
      const kb = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
      ownKb += kb('RssAnon');
      // Shared by all of a tree, such as PostgreSQL's buffers: counted once.
      sharedKb = Math.max(sharedKb, kb('RssShmem'));
      found = true;
    } catch {
      // It has ended meanwhile.
    }
  }
  return found ? { cpuMs, memoryMb: (ownKb + sharedKb) / 1_024 } : null;
}

/** How often a second a 4 KiB write can be made durable, one after the other. */
export function syncsPerSecond(): number {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-load-'));
  const file = openSync(join(folder, 'sync'), 'w');
  try {
    const block = Buffer.alloc(syncBytes, 1);
    const beganMs = performance.now();
    let syncs = 0;
    for (; performance.now() - beganMs < syncMs; syncs += 1) {
      writeSync(file, block, 0, block.length, 0);
      fdatasyncSync(file);
    }
    return (syncs * 1_000) / (performance.now() - beganMs);
  } finally {
    closeSync(file);
    rmSync(folder, { recursive: true });
  }
}
