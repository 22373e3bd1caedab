/** What a backup consists of: one file in it names all others, with their hashes, and where each log stood. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CheckedFile, writeChecked } from '#platform/checked-files.ts';
import { BackupDamaged, Refused } from './backup-error.ts';
import type { LogAnchor } from './owned-databases.ts';

export const manifestFile = 'twofold-backup.json';
const format = 1;

export type Manifest = {
  /** The version of the program. */
  readonly twofold: string;
  /** The version of the server: its data are for servers of the same major version. */
  readonly postgres: string;
  /** RFC 3339: all databases are as they were shortly after. */
  readonly takenAt: string;
  /** What is in the backup for certain of each log. */
  readonly logs: readonly LogAnchor[];
  /** Relative to the backup, as are the files. */
  readonly folders: readonly string[];
  readonly files: readonly CheckedFile[];
};

/** Writes the manifest of the files in `folder`, with a hash of its own. */
export async function writeManifest(folder: string, manifest: Manifest): Promise<void> {
  const content = { format, ...manifest };
  await writeChecked(folder, manifestFile, `${JSON.stringify({ ...content, sha256: hashOf(content) }, null, 1)}\n`);
}

/** Reads and checks the manifest in `folder`, the files not. Throws Refused, or BackupDamaged. */
export function readManifest(folder: string): Manifest {
  const file = join(folder, manifestFile);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new Refused(`${folder} is no backup: ${manifestFile} cannot be read there (${(error as Error).message}).`, {
      cause: error,
    });
  }
  const { sha256, ...content } = parse(text, file);
  if (content.format !== format && sha256 === hashOf(content))
    throw new Refused(`${file} is of format ${content.format}; this version of Twofold reads format ${format}.`);
  if (sha256 !== hashOf(content)) throw new BackupDamaged(`${file} has been changed since the backup was taken.`);
  const outside = content.files.find(({ path }) => !/^(?:postgres|sandbox)\//.test(path) || path.includes('..'));
  if (outside !== undefined) throw new BackupDamaged(`${file} names ${outside.path}, which is no part of a backup.`);
  return content;
}

type Stored = Manifest & { readonly format: number; readonly sha256?: unknown };

function parse(text: string, file: string): Stored {
  try {
    const stored = JSON.parse(text) as Stored | null;
    if (stored !== null && typeof stored === 'object') return stored;
  } catch {
    // Said below.
  }
  throw new BackupDamaged(`${file} has been changed since the backup was taken: it is not JSON any more.`);
}

const hashOf = (content: object): string => createHash('sha256').update(JSON.stringify(content)).digest('hex');
