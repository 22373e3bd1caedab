/**
 * Puts a backup back. All happens beside what is there: the files are copied and compared with their hashes, the server
 * recovers from them, the logs begin new epochs and are checked. Only then do the data take their place.
 */
import { existsSync, mkdirSync, readdirSync, realpathSync, renameSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { assertRoom, type CheckedFile, copyFiles, makeFolders, syncFolders } from '#platform/checked-files.ts';
import { halfRestored, startEmbeddedPostgres } from '#platform/embedded-postgres.ts';
import { lockFolder } from '#platform/folder-lock.ts';
import { createLogger } from '#platform/logger.ts';
import { systemPorts, timeNow } from '#platform/ports.ts';
import { findPostgresHome, type PostgresHome } from '#platform/postgres-home.ts';
import { clearLeftovers } from '#platform/postgres-leftovers.ts';
import { BackupDamaged, Refused } from './backup-error.ts';
import { type Manifest, manifestFile, readManifest } from './manifest.ts';
import { databasesThere, withDatabases } from './owned-databases.ts';
import { beginAgain, checkRestored, type RestoredFinding, type RestoredLog } from './restored-databases.ts';

export type RestoreOptions = {
  readonly backup: string;
  readonly dataDir: string;
  /** Whose databases these are. */
  readonly owners: readonly string[];
  /** As in `checkLog`. */
  readonly movedByOthers: readonly string[];
  /** Of the program: data of another one are migrated first, and audited once the system runs. */
  readonly version: string;
  readonly ledgerPath: string;
  readonly audit: AuditRestored;
  /** What is there is moved aside. */
  readonly replace: boolean;
  readonly signal: AbortSignal;
  onCopied(bytes: number, bytesTotal: number): void;
  onChecked(events: number, eventsTotal: number): void;
  onAudited(entities: number, entitiesTotal: number): void;
};

/** Looks at everything in databases by owner, and in the ledger beside them (null: there is none). Null: it could not. */
export type AuditRestored = (
  urls: ReadonlyMap<string, string>,
  ledgerFile: string | null,
  signal: AbortSignal,
  onProgress: (entities: number, entitiesTotal: number) => void,
) => Promise<readonly RestoredDivergence[] | null>;

/** What does not agree, in the words of the audit. */
export type RestoredDivergence = { readonly check: string; readonly entity: string; readonly says: string };

export type RestoreOutcome = {
  readonly takenAt: string;
  readonly location: string;
  readonly logs: readonly RestoredLog[];
  /** What is wrong with the data, and was when they were backed up: their files are the same. */
  readonly findings: readonly RestoredFinding[];
  /** Null: it is left to the audit of the running system. */
  readonly divergences: readonly RestoredDivergence[] | null;
  /** Where the data went that were there before. */
  readonly movedAside: readonly string[];
  readonly bytes: number;
  readonly seconds: number;
};

/**
 * Restores `backup` into `dataDir`. Rejects with Refused, BackupDamaged, FolderInUse, DiskFull or another error of the
 * machine; what was there is as it was then, and the next restore clears away what this one has left.
 */
export async function restoreBackup(options: RestoreOptions): Promise<RestoreOutcome> {
  const startedAt = systemPorts.elapsed();
  const backup = resolve(options.backup);
  const manifest = readManifest(backup);
  mkdirSync(options.dataDir, { recursive: true, mode: 0o755 });
  const dataDir = realpathSync(options.dataDir);
  const lock = await lockFolder(dataDir);
  try {
    const home = await findPostgresHome(dataDir);
    const there = [join(home.location, 'postgres'), join(dataDir, 'sandbox')].filter(
      (folder) => existsSync(folder) && readdirSync(folder).length > 0,
    );
    if (there.length > 0 && !options.replace) {
      throw new Refused(
        `There are data in ${there.join(' and ')}, which are not overwritten. With --replace they are moved aside, to a ` +
          'folder beside; or choose another folder with --data-dir.',
      );
    }
    const staging = join(home.location, 'restoring');
    await clearStaging(staging);
    try {
      await copyBackup(backup, manifest, staging, home, options);
      const { logs, findings, divergences } = await recover(staging, manifest, options);
      const movedAside = await takePlace(staging, home, dataDir);
      return {
        takenAt: manifest.takenAt,
        location: home.location,
        logs,
        findings,
        divergences,
        movedAside,
        bytes: bytesOf(manifest.files),
        seconds: Math.round(systemPorts.elapsed() - startedAt) / 1_000,
      };
    } catch (error) {
      rmSync(staging, { recursive: true, force: true, maxRetries: 5 });
      throw error;
    }
  } finally {
    lock.release();
  }
}

/** What a restore that was killed has left; its server may still run. */
async function clearStaging(staging: string): Promise<void> {
  if (existsSync(join(staging, 'postgres/PG_VERSION'))) await clearLeftovers(await findPostgresHome(staging));
  rmSync(staging, { recursive: true, force: true, maxRetries: 5 });
}

const bytesOf = (files: readonly CheckedFile[]): number => files.reduce((sum, { bytes }) => sum + bytes, 0);

async function copyBackup(
  backup: string,
  { folders, files }: Manifest,
  staging: string,
  { account }: PostgresHome,
  { signal, onCopied }: RestoreOptions,
): Promise<void> {
  mkdirSync(staging, { mode: 0o755 });
  const total = bytesOf(files);
  await assertRoom(staging, total);
  let done = 0;
  const copied: CheckedFile[] = [];
  for (const [part, owner] of [
    ['postgres', account],
    ['sandbox', undefined],
  ] as const) {
    const isIn = (path: string): boolean => path === part || path.startsWith(`${part}/`);
    makeFolders(staging, folders.filter(isIn), owner);
    const paths = files.map(({ path }) => path).filter(isIn);
    const onBytes = (bytes: number): void => onCopied((done += bytes), total);
    const ownedBy = owner === undefined ? {} : { account: owner };
    copied.push(...(await copyFiles(paths, { from: backup, to: staging, ...ownedBy, signal, onBytes })));
  }
  assertSame(files, copied, backup);
  syncFolders(folders.map((path) => join(staging, path)));
}

function assertSame(files: readonly CheckedFile[], copied: readonly CheckedFile[], backup: string): void {
  const found = new Map(copied.map((file) => [file.path, file]));
  const odd = files.filter(({ path, bytes, sha256 }) => {
    const file = found.get(path);
    return file === undefined || file.bytes !== bytes || file.sha256 !== sha256;
  });
  if (odd.length === 0) return;
  const named = odd.slice(0, namedMax).map(({ path }) => `  ${path}: ${found.has(path) ? 'changed' : 'missing'}`);
  const more = odd.length > namedMax ? `\n  and ${odd.length - namedMax} more` : '';
  throw new BackupDamaged(
    `${backup} is damaged: of ${files.length} files that ${manifestFile} names, these are not as they were:\n` +
      `${named.join('\n')}${more}\nNothing was restored.`,
  );
}

const namedMax = 10;

/** Has the server recover in `staging`, and what it then holds begin anew and be checked. */
async function recover(
  staging: string,
  { logs: anchors, twofold }: Manifest,
  { owners, movedByOthers, version, ledgerPath, audit, signal, onChecked, onAudited }: RestoreOptions,
): Promise<Pick<RestoreOutcome, 'logs' | 'findings' | 'divergences'>> {
  const died = new AbortController();
  const server = await startEmbeddedPostgres({
    dataDir: staging,
    databases: [],
    logger: createLogger('warn'),
    signal,
    onUnexpectedExit: (error) => died.abort(error),
  });
  // However this process ends, short of being killed, it leaves nothing running.
  const stopNow = (): void => server.stopNow();
  process.on('exit', stopNow);
  try {
    const urls = await databasesThere(server.url, owners);
    const either = AbortSignal.any([signal, died.signal]);
    const checked = await withDatabases(urls, async (databases) => {
      const logs = await beginAgain(databases);
      const checking = {
        anchors,
        movedByOthers,
        signal: either,
        onProgress: onChecked,
      };
      return { logs, findings: await checkRestored(databases, checking) };
    });
    const ledger = join(staging, ledgerPath);
    const divergences =
      twofold === version ? await audit(urls, existsSync(ledger) ? ledger : null, either, onAudited) : null;
    return { ...checked, divergences };
  } finally {
    process.off('exit', stopNow);
    await server.stop(stopTimeoutMs);
  }
}

/** It writes all that it has recovered, so that the data need no recovery in their place. */
const stopTimeoutMs = 120_000;

/** From the first step on neither old nor new data can be started, until the last. */
async function takePlace(staging: string, home: PostgresHome, dataDir: string): Promise<string[]> {
  const { location } = home;
  const restored = join(location, halfRestored);
  rmSync(restored, { recursive: true, force: true, maxRetries: 5 });
  // A server that a killed program has left behind must not find itself elsewhere.
  await clearLeftovers(home);
  renameSync(staging, restored);
  syncFolders([location]);
  const aside = `replaced-${timeNow(systemPorts).replaceAll(':', '-')}`;
  const movedAside: string[] = [];
  for (const [part, root] of [
    ['postgres', location],
    ['sandbox', dataDir],
  ] as const) {
    const [from, to] = [join(restored, part), join(root, part)];
    if (!existsSync(from)) continue;
    if (existsSync(to)) {
      const kept = join(root, aside, part);
      mkdirSync(dirname(kept), { recursive: true, mode: 0o700 });
      renameSync(to, kept);
      syncFolders([dirname(kept)]);
      movedAside.push(kept);
    }
    renameSync(from, to);
    syncFolders([root]);
  }
  rmSync(restored, { recursive: true, maxRetries: 5 });
  return movedAside;
}
