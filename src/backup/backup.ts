/** Takes a backup of all that `twofold up` keeps on this machine, while it runs or not. */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { takeBaseBackup } from '#platform/base-backup.ts';
import { stepBack } from '#platform/background.ts';
import { type CheckedFile, copyFiles, DiskFull, makeFolders, syncFolders } from '#platform/checked-files.ts';
import { findEmbeddedPostgres, startEmbeddedPostgres } from '#platform/embedded-postgres.ts';
import { FolderInUse, lockFolder } from '#platform/folder-lock.ts';
import { createLogger } from '#platform/logger.ts';
import { systemPorts, timeNow } from '#platform/ports.ts';
import { Refused } from './backup-error.ts';
import { type Manifest, writeManifest } from './manifest.ts';
import { databasesThere, readLogs, withDatabases } from './owned-databases.ts';

export type BackupOptions = {
  /** Does not exist, or is empty. */
  readonly target: string;
  readonly dataDir: string;
  /** Whose databases these are. */
  readonly owners: readonly string[];
  /** Of the sandbox provider, in `dataDir`; null when the provider is elsewhere. */
  readonly ledgerPath: string | null;
  /** The version of the program. */
  readonly version: string;
  readonly signal: AbortSignal;
  onProgress(part: 'data' | 'log', bytes: number, bytesTotal: number): void;
};

export type BackupOutcome = Pick<Manifest, 'takenAt' | 'logs'> & {
  readonly folder: string;
  readonly files: number;
  readonly bytes: number;
  readonly seconds: number;
  /** Whether the system ran meanwhile. */
  readonly online: boolean;
};

/**
 * Writes the backup beside `target` and gives it that name when it is whole and on disk. What was acknowledged before
 * is in it. Rejects with Refused, DiskFull or another error of the machine; nothing is left then.
 */
export async function takeBackup(options: BackupOptions): Promise<BackupOutcome> {
  const startedAt = systemPorts.elapsed();
  const target = resolve(options.target);
  if (existsSync(target)) assertFree(target);
  if (!existsSync(options.dataDir))
    throw new Refused(`There is no data folder ${options.dataDir}: nothing to back up.`);
  // The shop goes first.
  stepBack(process.pid);

  const unfinished = `${target}.unfinished`;
  mkdirSync(unfinished, { recursive: true, mode: 0o700 });
  const lock = await lockFolder(unfinished).catch((error: unknown) => {
    if (error instanceof FolderInUse) throw new Refused(`Another backup to ${target} is under way.`, { cause: error });
    throw error;
  });
  try {
    clear(unfinished);
    const { manifest, online } = await fill(unfinished, options);
    lock.release();
    renameSync(unfinished, target);
    syncFolders([dirname(target)]);
    return {
      folder: target,
      takenAt: manifest.takenAt,
      logs: manifest.logs,
      files: manifest.files.length,
      bytes: manifest.files.reduce((sum, { bytes }) => sum + bytes, 0),
      seconds: Math.round(systemPorts.elapsed() - startedAt) / 1_000,
      online,
    };
  } catch (error) {
    rmSync(unfinished, { recursive: true, force: true, maxRetries: 5 });
    throw error;
  }
}

/** The finished backup takes the place of `target`: it has to be a folder without anything in it, and no disk of its own. */
function assertFree(target: string): void {
  const found = statSync(target);
  if (!found.isDirectory()) throw new Refused(`${target} is no folder. Name one that does not exist yet.`);
  if (readdirSync(target).length > 0)
    throw new Refused(`${target} is not empty. Name a folder that does not exist yet; backups are not overwritten.`);
  if (found.dev !== statSync(dirname(target)).dev)
    throw new Refused(`${target} is where another disk begins. Name a folder in it.`);
}

/** What a backup that was killed has left. */
function clear(unfinished: string): void {
  for (const name of readdirSync(unfinished)) {
    if (!name.startsWith('twofold.lock')) rmSync(join(unfinished, name), { recursive: true, maxRetries: 5 });
  }
}

async function fill(folder: string, options: BackupOptions): Promise<{ manifest: Manifest; online: boolean }> {
  const { dataDir, owners, ledgerPath, version, signal } = options;
  const server = await reachServer(dataDir, signal);
  try {
    makeFolders(folder, ['postgres']);
    const backup = await takeBaseBackup({
      url: server.url('postgres'),
      dataFolder: join(server.location, 'postgres'),
      into: join(folder, 'postgres'),
      signal,
      onProgress: options.onProgress,
      async lastLook() {
        const urls = await databasesThere(server.url, owners);
        return { takenAt: timeNow(systemPorts), logs: await withDatabases(urls, readLogs) };
      },
    });
    // After the databases: what they know of payments the provider knows as well.
    const ledger = ledgerPath === null ? [] : await copyLedger(dataDir, ledgerPath, folder, signal);
    const inPostgres = backup.files.map((file) => ({ ...file, path: `postgres/${file.path}` }));
    const manifest: Manifest = {
      twofold: version,
      postgres: backup.serverVersion,
      ...backup.seen,
      folders: [
        'postgres',
        ...backup.folders.map((path) => `postgres/${path}`),
        ...ledger.map(({ path }) => dirname(path)),
      ],
      files: [...inPostgres, ...ledger].sort((a, b) => (a.path < b.path ? -1 : 1)),
    };
    await writeManifest(folder, manifest);
    syncFolders([...manifest.folders.map((path) => join(folder, path)), folder]);
    return { manifest, online: server.online };
  } finally {
    await server.stop();
  }
}

type ReachedServer = {
  url(database: string): string;
  readonly location: string;
  readonly online: boolean;
  stop(): Promise<void>;
};

/** The server of the running system; else it is started for as long as the backup takes. */
async function reachServer(dataDir: string, signal: AbortSignal): Promise<ReachedServer> {
  const found = await findEmbeddedPostgres(dataDir);
  if (!existsSync(join(found.location, 'postgres/PG_VERSION')))
    throw new Refused(`There is no database in ${found.location}: nothing to back up.`);
  try {
    const { url, location, stop } = await startEmbeddedPostgres({
      dataDir,
      databases: [],
      logger: createLogger('warn'),
      signal,
      // The connection breaks, and that ends the backup.
      onUnexpectedExit() {},
    });
    return { url, location, online: false, stop: () => stop() };
  } catch (error) {
    if (!(error instanceof FolderInUse)) throw error;
    return { ...found, online: true, stop: async () => {} };
  }
}

const ledgerBusyMs = 10_000;
const sqliteFull = 13;

/** A copy as of one moment, while the provider goes on. */
async function copyLedger(dataDir: string, path: string, into: string, signal: AbortSignal): Promise<CheckedFile[]> {
  if (!existsSync(join(dataDir, path))) return [];
  const scratch = join(into, 'ledger.unfinished');
  makeFolders(scratch, [dirname(path)]);
  const ledger = new DatabaseSync(join(dataDir, path), { readOnly: true, timeout: ledgerBusyMs });
  try {
    ledger.prepare('vacuum into ?').run(join(scratch, path));
  } catch (error) {
    if ((error as { errcode?: number }).errcode !== sqliteFull) throw error;
    throw new DiskFull(`The disk of ${into} is full. Make room, or choose another disk.`, { cause: error });
  } finally {
    ledger.close();
  }
  makeFolders(into, [dirname(path)]);
  const copied = await copyFiles([path], { from: scratch, to: into, signal, onBytes() {} });
  rmSync(scratch, { recursive: true });
  return copied;
}
