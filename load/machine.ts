/** What the machine does meanwhile: processor time and memory by process, and how fast its disk confirms a write. */
import { closeSync, fdatasyncSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export type SystemPids = { readonly node: number; readonly postgres: number; readonly sandbox: number };

export type ProcessRow = {
  readonly name: string;
  readonly corePercent: number;
  readonly microsPerRequest: number;
  readonly memoryMb: number;
};

/**
 * Processor time and memory, between two moments, of everything that runs on this machine for it. `pids`: of the
 * system's parts as they are now; null when they are not ours to see.
 */
export function usedBetween(pids: (() => SystemPids) | null, generatorPids: readonly number[]) {
  const read = (): ReadonlyMap<string, Usage> => {
    const found = new Map<string, Usage>();
    const put = (name: string, usage: Usage | null): void => void (usage && found.set(name, usage));
    if (pids !== null) {
      const { node, postgres, sandbox } = pids();
      put('server', usageOf(node));
      for (const child of childrenOf(node)) {
        if (child !== sandbox && child !== postgres) put(`its process ${child}`, usageOfTree(child));
      }
      put('PostgreSQL', usageOfTree(postgres));
      put('payment provider', usageOf(sandbox));
    }
    generatorPids.forEach((pid, n) =>
      put(generatorPids.length === 1 ? 'generator' : `generator ${n + 1}`, usageOf(pid)),
    );
    put('this process', usageOf(process.pid));
    return found;
  };
  let [before, after]: ReadonlyMap<string, Usage>[] = [new Map(), new Map()];
  let [beganMs, endedMs] = [0, 0];
  return {
    begin(): void {
      before = tryRead(read);
      beganMs = performance.now();
    },
    end(): void {
      after = tryRead(read);
      endedMs = performance.now();
    },
    rows: (requests: number): readonly ProcessRow[] =>
      [...after!].map(([name, { cpuMs, memoryMb }]) => {
        const spentMs = cpuMs - (before!.get(name)?.cpuMs ?? 0);
        return {
          name,
          corePercent: (spentMs * 100) / (endedMs - beganMs),
          microsPerRequest: requests === 0 ? 0 : (spentMs * 1_000) / requests,
          memoryMb,
        };
      }),
  };
}

// As the kernel counts.
const tickMs = 10;

/** A system that has ended meanwhile has no figures. */
function tryRead(read: () => ReadonlyMap<string, Usage>): ReadonlyMap<string, Usage> {
  try {
    return read();
  } catch {
    return new Map();
  }
}

/** So far, of a process and of those of its children that have ended. */
type Usage = { readonly cpuMs: number; readonly memoryMb: number };

/** A process alone; null when there is none. */
function usageOf(pid: number): Usage | null {
  return usageOfAll([pid]);
}

/** A process and all that it has started. */
const usageOfTree = (pid: number): Usage | null => usageOfAll([...treeOf(pid)]);

/** The processes that `pid` itself has started. */
const childrenOf = (pid: number): readonly number[] => {
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

const syncMs = 500;
const syncBytes = 4_096;

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
