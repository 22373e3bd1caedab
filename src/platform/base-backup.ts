/**
 * A physical copy of a PostgreSQL that goes on working: its low-level backup, for the programs that come with the
 * embedded one lack pg_basebackup. Pages are read while they are written; the write-ahead log from before the first to
 * after the last, which is copied too, puts them right when the copy is started. All databases of the server come
 * out as of one moment, that of the end.
 */
import { type Dirent, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type CheckedFile, copyFiles, makeFolders, writeChecked, assertRoom } from './checked-files.ts';
import { openDatabase, type Sql } from './postgres.ts';

export type BaseBackupOptions<Seen> = {
  /** Of any database of the server, as an account that may take backups. */
  readonly url: string;
  readonly dataFolder: string;
  /** Exists and is empty. */
  readonly into: string;
  readonly signal: AbortSignal;
  /** What it sees committed is in the backup. */
  lastLook(): Promise<Seen>;
  /** First the data, then the write-ahead log that belongs to them. */
  onProgress(part: 'data' | 'log', bytes: number, bytesTotal: number): void;
};

export type BaseBackup<Seen> = {
  readonly files: readonly CheckedFile[];
  /** All folders, for some of them are empty. */
  readonly folders: readonly string[];
  readonly serverVersion: string;
  readonly seen: Seen;
};

/** The data folder holds what this cannot copy; the message says what. */
export class NotCopyable extends Error {
  override readonly name = 'NotCopyable';
}

// A checkpoint of all that waits to be written comes first, and may take that long on a slow disk.
const statementTimeoutMs = 600_000;

/** Nobody is held up but for the checkpoint at the beginning. Rejects with DiskFull, NotCopyable or DatabaseUnavailable. */
export async function takeBaseBackup<Seen>(options: BaseBackupOptions<Seen>): Promise<BaseBackup<Seen>> {
  const database = openDatabase(options.url, { applicationName: 'twofold backup', poolMax: 1, statementTimeoutMs });
  try {
    // The server gives a backup up when its session ends, and drops the slot.
    const session = await database.pin();
    try {
      return await copyWithin(session, options);
    } finally {
      session.release(true);
    }
  } finally {
    await database.end();
  }
}

async function copyWithin<Seen>(session: Sql, options: BaseBackupOptions<Seen>): Promise<BaseBackup<Seen>> {
  const { dataFolder, into, signal } = options;
  const [started] = await session.query<{ version: string; first: string }>(
    'start backup',
    // The slot keeps the write-ahead log from the checkpoint before on; both last as long as this session.
    `select current_setting('server_version') as version, pg_walfile_name(pg_backup_start('twofold', fast => true)) as first
     from pg_create_physical_replication_slot('twofold_backup_' || pg_backend_pid(), true, true)`,
  );
  const { version, first } = started!;
  signal.throwIfAborted();
  const { files, folders, bytes } = findFiles(dataFolder);
  await assertRoom(into, bytes);
  makeFolders(into, folders);

  const copy = (part: 'data' | 'log', paths: readonly string[], total: number): Promise<CheckedFile[]> => {
    let done = 0;
    const onBytes = (count: number): void => options.onProgress(part, Math.min((done += count), total), total);
    return copyFiles(paths, { from: dataFolder, to: into, signal, onBytes });
  };
  const copied = await copy('data', files, bytes);
  const control = await copyControlFile(dataFolder, into);
  const seen = await options.lastLook();
  const [stopped] = await session.query<{ last: string; label: string; tablespaces: string }>(
    'stop backup',
    `select pg_walfile_name(lsn) as last, labelfile as label, spcmapfile as tablespaces
     from pg_backup_stop(wait_for_archive => false)`,
  );
  const { last, label, tablespaces } = stopped!;
  if (tablespaces !== '') throw new NotCopyable('Databases in tablespaces of their own cannot be backed up this way.');

  const segments = segmentsBetween(first, last).map((name) => `pg_wal/${name}`);
  const log = await copy('log', segments, segments.length * segmentBytes);
  if (log.length < segments.length)
    throw new NotCopyable(
      `${dataFolder} has not kept the write-ahead log from ${first} to ${last}, as the backup needs it.`,
    );
  const all = [...copied, ...log, control, await writeChecked(into, 'backup_label', label)];
  return { files: all, folders, serverVersion: version, seen };
}

/** The names of the files of the log, which are 16 MB each: timeline, then the number in two parts of 32 bits. */
function segmentsBetween(first: string, last: string): string[] {
  const perPart = 2 ** 32 / segmentBytes;
  const numberOf = (name: string): number => parseInt(name.slice(8, 16), 16) * perPart + parseInt(name.slice(16), 16);
  const hex = (n: number): string => n.toString(16).toUpperCase().padStart(8, '0');
  return Array.from({ length: numberOf(last) - numberOf(first) + 1 }, (_, n) => {
    const number = numberOf(first) + n;
    return first.slice(0, 8) + hex(Math.floor(number / perPart)) + hex(number % perPart);
  });
}

const segmentBytes = 16 * 1_024 * 1_024;

/** What the server makes anew when it starts, and what only the running one has a use for. */
const contentLeftOut = [
  'pg_wal',
  'pg_replslot',
  'pg_dynshmem',
  'pg_notify',
  'pg_serial',
  'pg_snapshots',
  'pg_stat_tmp',
  'pg_subtrans',
];
const filesLeftOut =
  /^(?:postmaster\.(?:pid|opts)|(?:backup_label|tablespace_map)(?:\.old)?|backup_manifest|pg_internal\.init.*|pgsql_tmp.*|.*\.tmp)$/;
const controlFile = 'global/pg_control';

function findFiles(root: string): { files: string[]; folders: string[]; bytes: number } {
  const [files, folders]: [string[], string[]] = [[], []];
  let bytes = 0;
  const walk = (folder: string): void => {
    for (const entry of entriesIfThere(join(root, folder))) {
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (filesLeftOut.test(entry.name)) continue;
      if (entry.isSymbolicLink() && path !== 'pg_wal')
        throw new NotCopyable(`${join(root, path)} is a link to elsewhere, and cannot be backed up this way.`);
      if (entry.isDirectory() || path === 'pg_wal') {
        folders.push(path);
        if (!contentLeftOut.includes(path)) walk(path);
      } else if (entry.isFile() && path !== controlFile) {
        files.push(path);
        bytes += sizeOf(join(root, path));
      }
    }
  };
  walk('');
  return { files, folders, bytes };
}

const sizeOf = (file: string): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0;

/** A database that is dropped takes its folder with it. */
function entriesIfThere(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

const controlReadsMax = 100;

/** The server writes it whole, but a read may come in between: two that are equal did not. */
async function copyControlFile(from: string, into: string): Promise<CheckedFile> {
  let before = readFileSync(join(from, controlFile));
  for (let read = 1; read <= controlReadsMax; read += 1) {
    const now = readFileSync(join(from, controlFile));
    if (now.equals(before)) return writeChecked(into, controlFile, now);
    before = now;
  }
  throw new NotCopyable(`${join(from, controlFile)} changes all the time.`);
}
