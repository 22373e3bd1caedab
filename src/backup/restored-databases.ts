/**
 * What databases need that come from a backup, before anybody writes to them: new epochs of their logs, so that
 * whoever was not restored with them notices; and checks that they are what was backed up.
 */
import type { Anchor } from '#cqrs/event-log.ts';
import { checkAnchor, checkLog, logBeginning, type LogFinding, type LogPlace } from '#cqrs/log-integrity.ts';
import { adoptEpoch, beginEpoch, checkCheckpoints } from '#cqrs/source-epoch.ts';
import { Refused } from './backup-error.ts';
import { countStreams, type LogAnchor, type OwnedDatabase, readLogs, withCheckpoints } from './owned-databases.ts';

export type RestoredLog = LogAnchor & {
  /** How many streams there are of each type. */
  readonly streams: Readonly<Record<string, number>>;
};

/** Something that is not as it should be, in the database of `owner`. */
export type RestoredFinding = LogFinding & { readonly owner: string };

/**
 * Begins a new epoch of each log in `restored`, and has the consumers in these databases go by it. `others` have not
 * been restored: their consumers of these logs will stop. Rejects with Refused, having changed nothing, when a consumer
 * in `restored` is beyond its source, or the system runs.
 */
export async function beginAgain(
  restored: readonly OwnedDatabase[],
  others: readonly OwnedDatabase[] = [],
): Promise<RestoredLog[]> {
  for (const { owner, database } of restored) await assertAtRest(owner, database);
  const before = await readLogs([...restored, ...others]);
  const consumers = await withCheckpoints(restored);
  const beyond = await consumersBeyond(consumers, before);
  if (beyond.length > 0) {
    const list = beyond.map(
      ({ owner, consumer, expected, found }) => `  ${consumer} of ${owner}: ${expected}; ${found}`,
    );
    throw new Refused(
      `These consumers are beyond their sources, so their databases are newer than those:\n${list.join('\n')}\n` +
        'Restore them to an earlier point. Nothing was changed.',
    );
  }
  const logs: RestoredLog[] = [];
  for (const { owner, database } of restored) {
    const log = before.find((one) => one.owner === owner);
    if (log === undefined) continue;
    const anchor: Anchor = await beginEpoch(database);
    for (const consumer of consumers) await adoptEpoch(consumer.database, log.source, anchor);
    logs.push({ owner, source: log.source, ...anchor, streams: await countStreams(database) });
  }
  return logs;
}

async function assertAtRest(owner: string, database: OwnedDatabase['database']): Promise<void> {
  const [row] = await database.query<{ count: number }>(
    'connected',
    `select count(*) as count from pg_stat_activity
     where datname = current_database() and application_name like 'twofold %' and application_name <> 'twofold backup'`,
  );
  if (row!.count > 0)
    throw new Refused(`Twofold is connected to the database of ${owner}: stop it first. Nothing was changed.`);
}

async function consumersBeyond(
  consumers: readonly OwnedDatabase[],
  logs: readonly LogAnchor[],
): Promise<RestoredFinding[]> {
  const found: RestoredFinding[] = [];
  // Of a source that is not at hand nothing can be said.
  const headOf = async (source: string): Promise<number> =>
    logs.find((log) => log.source === source)?.position ?? Number.POSITIVE_INFINITY;
  for (const { owner, database } of consumers) {
    found.push(...(await checkCheckpoints(database, headOf)).map((finding) => ({ owner, ...finding })));
  }
  return found;
}

const eventsPerPiece = 10_000;
/** Enough to see what kind of damage it is. */
const findingsMax = 100;

/**
 * All that can be said against databases that come from a backup: logs, what `anchors` says of them, and checkpoints.
 * `movedByOthers` as in `checkLog`. This is the place for whatever else is to hold of restored data.
 */
export async function checkRestored(
  databases: readonly OwnedDatabase[],
  options: {
    readonly anchors: readonly LogAnchor[];
    readonly movedByOthers: readonly string[];
    readonly signal: AbortSignal;
    onProgress(events: number, eventsTotal: number): void;
  },
): Promise<RestoredFinding[]> {
  const { anchors, movedByOthers, signal, onProgress } = options;
  const logs = await readLogs(databases);
  const eventsTotal = logs.reduce((sum, { position }) => sum + position, 0);
  const found: RestoredFinding[] = [];
  let checked = 0;
  for (const { owner, position } of logs) {
    const { database } = databases.find((one) => one.owner === owner)!;
    const note = (findings: readonly LogFinding[]): void =>
      void found.push(...findings.map((finding) => ({ owner, ...finding })));
    for (const anchor of anchors.filter((one) => one.owner === owner)) note(await checkAnchor(database, anchor));
    for (let place: LogPlace | null = logBeginning; place !== null && found.length < findingsMax;) {
      signal.throwIfAborted();
      const piece = await checkLog(database, { place, eventsMax: eventsPerPiece, movedByOthers });
      note(piece.findings);
      place = piece.next;
      if (place?.part === 'events') onProgress(checked + place.after, eventsTotal);
    }
    onProgress((checked += position), eventsTotal);
  }
  for (const { owner, source } of anchors) {
    if (logs.some((log) => log.source === source)) continue;
    const expected = `the log ${source}`;
    found.push({ owner, kind: 'anchor-beyond-head', expected, found: 'none' });
  }
  return [...found, ...(await consumersBeyond(await withCheckpoints(databases), logs))];
}
