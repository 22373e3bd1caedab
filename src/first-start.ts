/** Whether this start is the very first one of a shop, which is the one that gets the demo data. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openDatabase } from '#platform/postgres.ts';
import type { Settings } from '#platform/settings.ts';
import type { RunningSystem } from './system.ts';

export type DemoData = {
  /** It is to be put in at this start. */
  readonly isWanted: boolean;
  /** It is in, or will be before the banner. */
  readonly isThere: boolean;
  seed(system: RunningSystem): Promise<void>;
};

/**
 * Whether this is the very first start of a catalogue. A file remembers the answer until the demo data
 * is in: a start that was killed half way goes on with it, and nothing is put into a catalogue that has
 * been in use.
 */
export async function openDemoData(settings: Settings, catalogUrl: string): Promise<DemoData> {
  const file = join(settings.dataDir, 'demo-data');
  mkdirSync(settings.dataDir, { recursive: true });
  let state = existsSync(file) ? readFileSync(file, 'utf8').trim() : '';
  if (settings.empty && state !== 'there') state = 'none';
  else if (state === '') state = (await isNew(catalogUrl)) ? 'wanted' : 'none';
  writeFileSync(file, `${state}\n`);
  return {
    isWanted: state === 'wanted',
    isThere: state !== 'none',
    async seed(system) {
      await system.seedDemoData();
      writeFileSync(file, 'there\n');
    },
  };
}

async function isNew(catalogUrl: string): Promise<boolean> {
  const catalog = openDatabase(catalogUrl, { applicationName: 'twofold start', poolMax: 1 });
  try {
    const [row] = await catalog.query<{ migrations: string | null }>(
      'is-new',
      `select to_regclass('migrations')::text as migrations`,
    );
    return row?.migrations === null;
  } finally {
    await catalog.end();
  }
}
