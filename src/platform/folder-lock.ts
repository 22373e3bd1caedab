/** One folder, one program at a time: a file in it names the process that holds it. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startOf } from './other-process.ts';
import { sleep, systemPorts } from './ports.ts';

/** The folder is held by a process that runs. */
export class FolderInUse extends Error {
  override readonly name = 'FolderInUse';
}

/**
 * Holds `folder`, which exists, until `release` or until this process ends, however it ends. Rejects
 * with FolderInUse, naming the pid, when another process holds it, or this one already.
 */
export async function lockFolder(folder: string): Promise<{ release(): void }> {
  const file = join(folder, 'twofold.lock');
  const content = JSON.stringify({ pid: process.pid, started: await startOf(process.pid) });
  for (let attempt = 1; attempt <= attemptsMax; attempt += 1) {
    try {
      writeFileSync(file, content, { flag: 'wx', mode: 0o644 });
      return { release: () => removeIf(file, content) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const found = readIfThere(file);
    const holder = parseHolder(found);
    if (holder !== null && holder.started === (await startOf(holder.pid))) {
      throw new FolderInUse(
        `The data folder ${folder} is in use by another Twofold, process ${holder.pid}. ` +
          'Stop that one first, or choose another folder with --data-dir.',
      );
    }
    // Unreadable: it is being written at this moment, or its writer was cut off there.
    if (holder === null && found !== '' && attempt <= attemptsMax / 2) await sleep(systemPorts, 50);
    else removeIf(file, found);
  }
  throw new FolderInUse(
    `The lock ${file} changes hands again and again; stop the other programs that use this folder.`,
  );
}

const attemptsMax = 20;

/** Takes the file away if it still holds `content`; a lock that somebody else has just taken is put back. */
function removeIf(file: string, content: string): void {
  const aside = `${file}.${process.pid}`;
  try {
    renameSync(file, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  if (readFileSync(aside, 'utf8') === content) rmSync(aside, { force: true });
  else renameSync(aside, file);
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function parseHolder(text: string): { readonly pid: number; readonly started: string } | null {
  try {
    const { pid, started } = JSON.parse(text) as { pid: unknown; started: unknown };
    return Number.isInteger(pid) && typeof started === 'string' ? { pid: pid as number, started } : null;
  } catch {
    return null;
  }
}
