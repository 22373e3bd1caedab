/** `twofold backup`, `twofold restore` and `twofold restored`: all that there is, put away and put back. */
import { Command } from 'commander';
import { DiskFull } from '#platform/checked-files.ts';
import { NotCopyable } from '#platform/base-backup.ts';
import { FolderInUse } from '#platform/folder-lock.ts';
import { systemPorts } from '#platform/ports.ts';
import { DatabaseUnavailable } from '#platform/postgres.ts';
import { NoPostgresHere } from '#platform/postgres-home.ts';
import { PostgresFailed } from '#platform/postgres-leftovers.ts';
import { Progress } from '#platform/progress-bar.ts';
import {
  type DatabaseOwner,
  databaseOwners,
  databaseUrlName,
  loadSettings,
  sandboxLedgerPath,
  type Settings,
} from '#platform/settings.ts';
import { type BackupOutcome, takeBackup } from './backup.ts';
import { BackupDamaged, Refused } from './backup-error.ts';
import { withDatabases } from './owned-databases.ts';
import { restoreBackup, type RestoreOptions, type RestoreOutcome } from './restore.ts';
import { beginAgain, type RestoredFinding, type RestoredLog } from './restored-databases.ts';

type Options = { readonly dataDir?: string; readonly replace?: true; readonly json?: true };

/**
 * The commands as Commander takes them. They set `process.exitCode`: 0 when it is done, 1 when a backup or what is in
 * it is damaged, 2 when it could not be done, 130 or 143 when stopped by a signal. `version` is that of the program.
 */
export function backupCommands(parts: Pick<RestoreOptions, 'version' | 'movedByOthers' | 'audit'>): Command[] {
  return [
    withOptions(new Command('backup'))
      .description('back up everything that `twofold up` keeps on this machine, while it runs or not')
      .argument('<folder>', 'where to; it does not exist yet, or is empty')
      .addHelpText('after', BACKUP_HELP)
      .action((folder: string, options: Options) =>
        guarded((signal) => backup(folder, options, parts.version, signal)),
      ),
    withOptions(new Command('restore'))
      .description('put a backup back, and check that it is what was backed up; the system does not run meanwhile')
      .argument('<folder>', 'a backup')
      .option('--replace', 'move aside what is in the data folder, instead of refusing')
      .addHelpText('after', RESTORE_HELP)
      .action((folder: string, options: Options) => guarded((signal) => restore(folder, options, parts, signal))),
    new Command('restored')
      .description('after databases of your own were restored, and before anything starts: their logs begin new epochs')
      .argument('[service...]', `whose databases were restored, of ${databaseOwners.join(', ')} (default: all)`)
      .option('--json', 'print the outcome as JSON on stdout')
      .addHelpText('after', RESTORED_HELP)
      .action((services: string[], options: Options) => guarded(() => restored(services, options))),
  ];
}

const withOptions = (command: Command): Command =>
  command
    .option(
      '--data-dir <folder>',
      'where everything is kept (TWOFOLD_DATA_DIR; default: .twofold in the project folder)',
    )
    .option('--json', 'print the outcome as JSON on stdout');

const BACKUP_HELP = `
Examples:
  twofold backup backups/monday
  twofold backup "backups/$(date +%F-%H%M)" --data-dir ~/shop --json

A running system goes on; what it had answered before the backup began is in it. Killed, it leaves nothing that looks
like a backup. Databases at DATABASE_URL_… are backed up by their own server's tools: docs/backup.md.`;

const RESTORE_HELP = `
Examples:
  twofold restore backups/monday
  twofold restore backups/monday --replace              what is there now is kept, in a folder beside
  twofold restore backups/monday --data-dir /tmp/trial  a trial of the backup, elsewhere

Every file is compared with its SHA-256 before anything else; then the server recovers, the logs begin new epochs and are
checked. Exit code 1: the backup, or what is in it, is damaged. 2: it could not be done.`;

const RESTORED_HELP = `
Each database is named by its variable, such as DATABASE_URL_ORDERING, as in \`twofold serve\`.

Examples:
  twofold restored                       all databases were restored, to the same point
  twofold restored ordering inventory    these two were; consumers of their logs elsewhere will stop and say so
  twofold restored queries               nothing to begin: checks that it is not beyond the logs`;

async function backup(folder: string, options: Options, version: string, signal: AbortSignal): Promise<void> {
  const settings = embeddedSettings(options);
  const bars = { data: megabytes('MB copied'), log: megabytes('MB of log') };
  const outcome = await takeBackup({
    target: folder,
    dataDir: settings.dataDir,
    owners: databaseOwners,
    ledgerPath: settings.providerUrl === undefined ? sandboxLedgerPath : null,
    version,
    signal,
    onProgress(part, bytes, total) {
      if (part === 'log') bars.data.end();
      bars[part].reach(bytes, total);
    },
  });
  bars.log.end();
  say(options, outcome, backupLines);
}

async function restore(
  folder: string,
  options: Options,
  parts: Parameters<typeof backupCommands>[0],
  signal: AbortSignal,
): Promise<void> {
  const settings = embeddedSettings(options);
  const [copied, checked, audited] = [megabytes('MB copied'), bar('events'), bar('entities')];
  const outcome = await restoreBackup({
    backup: folder,
    dataDir: settings.dataDir,
    owners: databaseOwners,
    ...parts,
    ledgerPath: sandboxLedgerPath,
    replace: options.replace === true,
    signal,
    onCopied: copied.reach,
    onChecked(events, total) {
      copied.end();
      checked.reach(events, total);
    },
    onAudited(entities, total) {
      checked.end();
      audited.reach(entities, total);
    },
  });
  checked.end();
  audited.end();
  say(options, outcome, restoreLines);
  if (outcome.findings.length + (outcome.divergences ?? []).length > 0) process.exitCode = 1;
}

async function restored(services: readonly string[], options: Options): Promise<void> {
  const wrong = services.filter((service) => !databaseOwners.includes(service as DatabaseOwner));
  if (wrong.length > 0)
    throw new Refused(`There is no service ${wrong.join(', ')}; there are ${databaseOwners.join(', ')}.`);
  const { databaseUrls } = loadSettings(process.env);
  const named = (services.length === 0 ? databaseOwners : services) as readonly DatabaseOwner[];
  const missing = named.filter((owner) => databaseUrls[owner] === undefined);
  if (missing.length > 0)
    throw new Refused(`Set ${missing.map(databaseUrlName).join(', ')}, or name the services that were restored.`);
  const urls = new Map(Object.entries(databaseUrls));
  await withDatabases(urls, async (databases) => {
    const isNamed = ({ owner }: { owner: string }): boolean => named.includes(owner as DatabaseOwner);
    const logs = await beginAgain(
      databases.filter(isNamed),
      databases.filter((one) => !isNamed(one)),
    );
    say(options, { logs }, restoredLines);
  });
}

/** Those of a system whose data are all in the data folder. */
function embeddedSettings({ dataDir }: Options): Settings {
  const settings = loadSettings(process.env, { dataDir });
  const elsewhere = databaseOwners.filter((owner) => settings.databaseUrls[owner] !== undefined);
  if (elsewhere.length === 0) return settings;
  throw new Refused(
    `${elsewhere.map(databaseUrlName).join(', ')} ${elsewhere.length === 1 ? 'is' : 'are'} set: what lies on a server of ` +
      "your own is backed up and restored by that server's tools. docs/backup.md says how, and what has to agree.",
  );
}

function say<Outcome>({ json }: Options, outcome: Outcome, lines: (outcome: Outcome) => Iterable<string>): void {
  if (json === true) console.log(JSON.stringify(outcome));
  else for (const line of lines(outcome)) console.log(line);
}

const count = (n: number): string => n.toLocaleString('en');

function* backupLines({ folder, files, bytes, seconds, logs, online }: BackupOutcome): Generator<string> {
  const size = `${count(files)} files, ${count(Math.ceil(bytes / 1_000_000))} MB, ${seconds.toFixed(1)} s`;
  yield `Backed up to ${folder}: ${size}${online ? ', while the system ran' : ''}.`;
  for (const { source, position } of logs) yield `  ${source.padEnd(12)} up to position ${count(position)}, at least`;
  yield `\`twofold restore ${folder}\` puts it back.`;
}

function* restoreLines(outcome: RestoreOutcome): Generator<string> {
  const { takenAt, location, logs, findings, divergences, movedAside, bytes, seconds } = outcome;
  yield `The backup of ${takenAt} is restored to ${location}: ${count(Math.ceil(bytes / 1_000_000))} MB, ${seconds.toFixed(1)} s.`;
  yield* logLines(logs);
  for (const folder of movedAside) yield `What was there before is in ${folder}; delete it when you do not need it.`;
  if (findings.length + (divergences ?? []).length === 0) {
    const agrees = divergences === null ? '' : ', and everything that follows from them agrees';
    yield `Every file is as it was backed up, the logs are what was written${agrees}. \`twofold up\` goes on from here.`;
    return;
  }
  yield 'The files are as they were backed up, but something was wrong with the data then:';
  yield* findingLines(findings);
  const shown = (divergences ?? []).slice(0, divergencesShownMax);
  for (const { check, entity, says } of shown) yield `  ${check} ${entity}: ${says}`;
  const more = (divergences ?? []).length - shown.length;
  if (more > 0) yield `  and ${count(more)} more`;
  if (shown.length > 0) yield 'Once it runs, `twofold divergences` lists what the audit finds, and what can be done.';
}

const divergencesShownMax = 20;

function* restoredLines({ logs }: { readonly logs: readonly RestoredLog[] }): Generator<string> {
  yield logs.length === 0 ? 'None of these databases has a log: nothing to begin.' : 'New epochs have begun:';
  yield* logLines(logs);
  yield 'Start the system. Consumers that were not restored with these logs stop, and say so in /readyz.';
}

function* logLines(logs: readonly RestoredLog[]): Generator<string> {
  for (const { source, position, streams } of logs) {
    const counts = Object.entries(streams).map(([type, number]) => `${type} ${count(number)}`);
    yield `  ${source.padEnd(12)} at position ${count(position)}${counts.length === 0 ? '' : `: ${counts.join(', ')}`}`;
  }
}

function* findingLines(findings: readonly RestoredFinding[]): Generator<string> {
  for (const { owner, kind, position, stream, consumer, expected, found } of findings) {
    const where = [consumer, stream, position === undefined ? undefined : `position ${position}`].filter(Boolean);
    yield `  ${owner}: ${kind} ${where.join(', ')}: expected ${expected}; found ${found}`;
  }
}

type Bar = { reach(done: number, total: number): void; end(): void };

/** Begins when it is first reached, and ends once. */
function bar(label: string): Bar {
  const progress = new Progress(process.stderr);
  let state: 'waits' | 'moves' | 'has ended' = 'waits';
  return {
    reach(done, total) {
      if (state === 'waits') progress.begin(label, total);
      state = 'moves';
      progress.reach(done);
    },
    end() {
      if (state === 'moves') progress.end();
      state = 'has ended';
    },
  };
}

function megabytes(label: string): Bar {
  const inner = bar(label);
  const mb = (bytes: number): number => Math.ceil(bytes / 1_000_000);
  return { ...inner, reach: (done, total) => inner.reach(mb(done), mb(total)) };
}

/** Ctrl-C in a terminal comes twice when npm or another Node in front passes it on too. */
const againMsMin = 1_000;

/** What a user can act on; anything else is a bug, or the machine, and is told as such. */
const clear = [
  Refused,
  BackupDamaged,
  DiskFull,
  NotCopyable,
  FolderInUse,
  NoPostgresHere,
  PostgresFailed,
  DatabaseUnavailable,
];

/** Runs a command under the signals, and says how it ended when that was not well. */
async function guarded(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const stop = new AbortController();
  let stoppedMs = 0;
  const onSignal = (signal: NodeJS.Signals): void => {
    process.exitCode = signal === 'SIGINT' ? 130 : 143;
    if (stop.signal.aborted) {
      if (systemPorts.elapsed() - stoppedMs >= againMsMin) process.exit();
      return;
    }
    process.stderr.write('\nstopping: taking back what was begun (again to stop at once)\n');
    stoppedMs = systemPorts.elapsed();
    stop.abort();
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, onSignal);
  try {
    await work(stop.signal);
  } catch (error) {
    if (stop.signal.aborted) return;
    if (!(error instanceof Error) || !clear.some((kind) => error instanceof kind)) {
      // A system call that the machine refused says what and where.
      if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
    }
    process.stderr.write(`\n${(error as Error).message}\n`);
    process.exitCode = error instanceof BackupDamaged ? 1 : 2;
  } finally {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, onSignal);
  }
}
