/**
 * A log that goes on from an older backup hands out positions anew that its consumers have applied already. Each
 * checkpoint therefore remembers the epoch of its source, and whoever starts compares it: where the source went
 * back nothing is applied and nothing skipped until somebody has decided.
 */
import type { Sql } from '#platform/postgres.ts';
import { EngineError } from './errors.ts';
import type { Anchor } from './event-log.ts';
import type { Feed } from './feed.ts';
import type { LogFinding } from './log-integrity.ts';

/** The epoch of `source` that each consumer goes by, by consumer. One that has none, or has applied nothing, goes by `epoch` from now on. */
export type RememberSource = (
  consumers: readonly string[],
  source: string,
  epoch: string,
) => Promise<ReadonlyMap<string, string>>;

/**
 * Rejects with `source-went-back` when the log of `feed` is not the one that `positions`, read before, were reached in: it
 * is in another epoch, or ends before them.
 */
export async function assertSourceStands(
  feed: Feed,
  positions: ReadonlyMap<string, number>,
  remember: RememberSource,
): Promise<void> {
  const anchor = await feed.anchor();
  const epochs = await remember([...positions.keys()], feed.source, anchor.epoch);
  const [odd] = [...positions]
    .map(([consumer, position]) => ({ consumer, position, epoch: epochs.get(consumer) ?? null }))
    .filter((checkpoint) => isBeyond(anchor, checkpoint));
  if (odd === undefined) return;
  const { consumer, position, epoch } = odd;
  throw position > anchor.position
    ? sourceWentBack(`${feed.source} ends at ${anchor.position}, and ${consumer} has applied it up to ${position}`)
    : sourceWentBack(
        `${feed.source} is in the epoch ${anchor.epoch}, and ${consumer} has applied it in the epoch ${epoch}`,
      );
}

/** As a checkpoint has it; an epoch that is null was never remembered. */
type Reached = { readonly position: number; readonly epoch: string | null };

/** Whether any of `checkpoints`, read before `anchor`, was reached in another log than the one that is there now. */
export const wentBack = (anchor: Anchor, checkpoints: readonly Reached[]): boolean =>
  checkpoints.some((checkpoint) => isBeyond(anchor, checkpoint));

const isBeyond = (anchor: Anchor, { position, epoch }: Reached): boolean =>
  position > anchor.position || (position > 0 && epoch !== null && epoch !== anchor.epoch);

/**
 * The consumers of rebuilt rows go on from `restored`. Those that go together with them come no further than that until
 * their rows are rebuilt, too. Within the transaction of the switch.
 */
export async function goByRestored(
  sql: Sql,
  {
    consumers,
    together,
    log,
  }: { readonly consumers: readonly string[]; readonly together: string; readonly log: { readonly source: string } },
  { epoch, position }: Anchor,
): Promise<void> {
  await sql.query('', 'update checkpoints set position = $2, source = $3, source_epoch = $4 where consumer = any($1)', [
    consumers,
    position,
    log.source,
    epoch,
  ]);
  await sql.query(
    '',
    `update checkpoints set position = least(position, $2), source = $3, source_epoch = $4 where consumer = $1`,
    [together, position, log.source, epoch],
  );
  await sql.query('', 'delete from parked_messages where consumer = $1 and position > $2', [together, position]);
}

const sourceWentBack = (what: string): EngineError =>
  new EngineError(
    'source-went-back',
    `source-went-back: ${what}: it was restored from an older backup. Nothing of it is applied until its consumers go ` +
      'by it again: read models by `twofold rebuild all`, a service by restoring its database from the same backup, ' +
      'or by an operator who has decided what becomes of the effects of what is gone.',
  );

/** In the tables of the folder `checkpoints`. Writes only for consumers that start for the first time. */
export function postgresSources(database: Sql): RememberSource {
  return async (consumers, source, epoch) => {
    const ask = async (): Promise<Map<string, string>> => {
      const rows = await database.query<{ consumer: string; epoch: string }>(
        'epochs of sources',
        `select consumer, source_epoch as epoch from checkpoints
         where consumer = any($1) and (source_epoch = $2 or (source_epoch is not null and position > 0))`,
        [consumers, epoch],
      );
      return new Map(rows.map((row) => [row.consumer, row.epoch]));
    };
    const known = await ask();
    const unknown = consumers.filter((consumer) => !known.has(consumer));
    if (unknown.length === 0) return known;
    await database.query(
      'remember source',
      `insert into checkpoints (consumer, position, source, source_epoch) select unnest($1::text[]), 0, $2, $3
       on conflict (consumer) do update set source = excluded.source, source_epoch = excluded.source_epoch
         where checkpoints.source_epoch is null or checkpoints.position = 0`,
      [unknown, source, epoch],
    );
    return ask();
  };
}

/** The same in memory; `positionOf` says how far a consumer has come. */
export function memorySources(positionOf: (consumer: string) => number): RememberSource {
  const epochs = new Map<string, string>();
  return async (consumers, _source, epoch) => {
    for (const consumer of consumers) {
      if (!epochs.has(consumer) || positionOf(consumer) === 0) epochs.set(consumer, epoch);
    }
    return new Map(consumers.map((consumer) => [consumer, epochs.get(consumer)!]));
  };
}

/**
 * Begins another epoch of a log that was restored, before anybody appends to it or reads it: its consumers are told
 * from then on. Resolves to where it stands.
 *
 * Promises:
 * - consumers of a restored log apply and skip nothing until they are told to go by its new epoch
 */
export async function beginEpoch(log: Sql): Promise<Anchor> {
  const rows = await log.query<Anchor>(
    'begin epoch',
    `update log_head set epoch = gen_random_uuid() returning epoch, position, encode(hash, 'hex') as hash`,
  );
  if (rows[0] === undefined) throw new EngineError('wrong-log', 'there is no log in this database');
  return rows[0];
}

/**
 * After all databases were restored from one backup: the consumers of `source` in the database of `consumers` that have
 * come no further than the log at `anchor` go by its epoch. Resolves to them and to those beyond, which still do not.
 *
 * Promises:
 * - consumers of a restored log apply and skip nothing until they are told to go by its new epoch
 * - a consumer that is beyond a restored log does not go by its new epoch
 */
export async function adoptEpoch(
  consumers: Sql,
  source: string,
  anchor: Anchor,
): Promise<{ readonly adopted: readonly string[]; readonly beyond: readonly string[] }> {
  const adopted = await consumers.query<{ consumer: string }>(
    'adopt epoch',
    'update checkpoints set source_epoch = $2 where source = $1 and position <= $3 returning consumer',
    [source, anchor.epoch, anchor.position],
  );
  const beyond = await consumers.query<{ consumer: string }>(
    'beyond epoch',
    'select consumer from checkpoints where source = $1 and position > $2',
    [source, anchor.position],
  );
  const names = (rows: readonly { consumer: string }[]): string[] => rows.map(({ consumer }) => consumer).sort();
  return { adopted: names(adopted), beyond: names(beyond) };
}

/**
 * The consumers in a database that have applied more of a log than there is. `headOf` is asked once for each source,
 * after the checkpoints were read.
 *
 * Promises:
 * - a checkpoint beyond the head of its source is found
 */
export async function checkCheckpoints(
  consumers: Sql,
  headOf: (source: string) => Promise<number>,
): Promise<LogFinding[]> {
  const rows = await consumers.query<{ consumer: string; position: number; source: string }>(
    'check checkpoints',
    'select consumer, position, source from checkpoints where source is not null order by consumer',
  );
  const heads = new Map<string, number>();
  for (const { source } of rows) if (!heads.has(source)) heads.set(source, await headOf(source));
  return rows.flatMap(({ consumer, position, source }): LogFinding[] => {
    const head = heads.get(source)!;
    if (position <= head) return [];
    const expected = `a position up to ${head}, the head of ${source}`;
    return [{ kind: 'checkpoint-beyond-head', consumer, position, expected, found: `${position}` }];
  });
}
