/** Files that are copied with their hashes, so that whoever has the hashes knows later whether they are the same. */
import { createHash } from 'node:crypto';
import { chownSync, closeSync, fsyncSync, mkdirSync, openSync } from 'node:fs';
import { type FileHandle, open, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Account } from './postgres-home.ts';

/** `path` is relative to the folder of all of them, with `/`; `sha256` in hexadecimal digits. */
export type CheckedFile = { readonly path: string; readonly bytes: number; readonly sha256: string };

export type CopyOptions = {
  readonly from: string;
  readonly to: string;
  /** Whose the copies are; undefined: of the account that runs this program. */
  readonly account?: Account;
  /** Gives up between two pieces of a file. */
  readonly signal: AbortSignal;
  onBytes(bytes: number): void;
};

/** No room is left where something has to be written; the message says where. */
export class DiskFull extends Error {
  override readonly name = 'DiskFull';
}

const filesAtOnce = 4;
const pieceBytes = 1_048_576;

/**
 * Copies the files at `paths` in the folder `from` to the same paths in the folder `to`, whose folders exist, several
 * at a time. Each is on disk when this resolves. A file that is gone when its turn comes is left out; one that is
 * written meanwhile is copied as its pieces are read. Rejects with DiskFull.
 */
export async function copyFiles(paths: Iterable<string>, options: CopyOptions): Promise<CheckedFile[]> {
  const copied: CheckedFile[] = [];
  // One iterator for all workers: each takes the next path.
  const left = paths[Symbol.iterator]();
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const work = async (): Promise<void> => {
    for (let next = left.next(); !next.done; next = left.next()) {
      const file = await copyFile(next.value, { ...options, signal });
      if (file !== null) copied.push(file);
    }
  };
  const workers = Array.from({ length: filesAtOnce }, () =>
    work().catch((error: unknown) => {
      failed.abort(error);
      throw error;
    }),
  );
  await Promise.allSettled(workers);
  signal.throwIfAborted();
  return copied;
}

async function copyFile(path: string, options: CopyOptions): Promise<CheckedFile | null> {
  const source = await openIfThere(join(options.from, path));
  if (source === null) return null;
  try {
    const target = await open(join(options.to, path), 'w', 0o600);
    try {
      const { bytes, sha256 } = await copyPieces(source, target, options);
      if (options.account !== undefined) await target.chown(options.account.uid, options.account.gid);
      await target.sync();
      return { path, bytes, sha256 };
    } finally {
      await target.close();
    }
  } catch (error) {
    throw explained(error, options.to);
  } finally {
    await source.close();
  }
}

async function openIfThere(file: string): Promise<FileHandle | null> {
  try {
    return await open(file, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

async function copyPieces(
  source: FileHandle,
  target: FileHandle,
  { signal, onBytes }: CopyOptions,
): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  const piece = Buffer.allocUnsafe(pieceBytes);
  let bytes = 0;
  for (;;) {
    signal.throwIfAborted();
    const { bytesRead } = await source.read(piece, 0, pieceBytes);
    if (bytesRead === 0) return { bytes, sha256: hash.digest('hex') };
    const part = piece.subarray(0, bytesRead);
    hash.update(part);
    for (let written = 0; written < bytesRead;) {
      written += (await target.write(part, written)).bytesWritten;
    }
    bytes += bytesRead;
    onBytes(bytesRead);
  }
}

/** Writes a small file that is on disk when this resolves. Rejects with DiskFull. */
export async function writeChecked(folder: string, path: string, content: string | Buffer): Promise<CheckedFile> {
  try {
    const file = await open(join(folder, path), 'w', 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    return { path, bytes: Buffer.byteLength(content), sha256: createHash('sha256').update(content).digest('hex') };
  } catch (error) {
    throw explained(error, folder);
  }
}

/** Makes the folders at `paths` in `root`, with those above them, for `account` alone. */
export function makeFolders(root: string, paths: Iterable<string>, account?: Account): void {
  for (const path of [...paths].sort()) {
    const folder = join(root, path);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    if (account !== undefined) chownSync(folder, account.uid, account.gid);
  }
}

/** Has the names of the files in these folders on disk, too. */
export function syncFolders(folders: Iterable<string>): void {
  for (const path of folders) {
    const folder = openSync(path, 'r');
    try {
      fsyncSync(folder);
    } finally {
      closeSync(folder);
    }
  }
}

/** Rejects with DiskFull when the disk of `folder` has no room for so many bytes, and some to spare. */
export async function assertRoom(folder: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const needed = bytes * roomFactor;
  if (bavail * bsize >= needed) return;
  const mb = (count: number): string => `${Math.ceil(count / 1_000_000).toLocaleString('en')} MB`;
  throw new DiskFull(
    `The disk of ${folder} has ${mb(bavail * bsize)} left, and ${mb(needed)} are needed. Make room, or choose another disk.`,
  );
}

/** What is written while it is copied has to be copied, too. */
const roomFactor = 1.1;

function explained(error: unknown, folder: string): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return error;
  return new DiskFull(`The disk of ${folder} is full. Make room, or choose another disk.`, { cause: error });
}
