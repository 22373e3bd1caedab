/**
 * How rebuilt tables begin to answer, and how those from before do so again: in one transaction, while nobody
 * writes, and with everybody fenced who remembers rows.
 */
import { type Ports, sleep, systemPorts } from '#platform/ports.ts';
import { type Database, type PinnedConnection, type Sql, sqlStateOf } from '#platform/postgres.ts';
import { EngineError } from './errors.ts';
import type { Projection } from './projection.ts';
import type { ReadTable } from './read-store.ts';
import { changedSince, dropTables, exchange, holdTables } from './tables-beside.ts';

const lockKey = 'twofold rebuild';
/** How long a switch waits for readers to let go of a table, while others queue behind it. */
const lockTimeoutMs = 300;
const attemptsMax = 100;
const pauseMs = 100;

/**
 * The tables from before the last rebuild answer again, from where they stopped; those that answered are previous
 * now. Rejects with `rebuild-refused` when that would show something wrong, or there are none.
 *
 * Promises:
 * - the way back is open until the tables of before are dropped, and leads to the same answers
 * - the way back leads each read model to where it stood, however far apart they were
 * - there is no way back over a changed table, or over what was taken back from the parked messages since
 */
export async function goBack(
  live: Database,
  projections: readonly Projection[],
  ports: Ports = systemPorts,
): Promise<void> {
  const tables = projections.flatMap((projection) => projection.tables);
  const names = projections.map(({ name }) => name);
  await alone(live, async (control) => {
    await switchOver(
      control,
      ports,
      async () => {},
      async () => {
        await holdTables(control, tables);
        await assertWayBack(control, names, tables);
        const held = await control.query<{ consumer: string; position: number; back: number; together: string }>(
          '',
          `select c.consumer, c.position, p.position as back,
           'projections-of-' || substr(c.consumer, length(p.read_model) + 5) as together
         from checkpoints c join previous_checkpoints p using (consumer)
         where p.read_model = any($1) order by c.consumer for update of c`,
          [names],
        );
        await rememberPosition(
          control,
          projections,
          new Map(held.map(({ consumer, position, together }) => [consumer, { position, together }])),
        );
        await control.query(
          '',
          `update checkpoints set position = b.position from unnest($1::text[], $2::bigint[]) as b (consumer, position)
         where checkpoints.consumer = b.consumer`,
          [held.map(({ consumer }) => consumer), held.map(({ back }) => back)],
        );
        await exchange(control, tables);
        await fenceOthers(control, [...new Set(held.flatMap(({ consumer, together }) => [consumer, together]))]);
        await control.query(
          '',
          `update read_models set version = previous_version, previous_version = version, previous_since = now()
         where name = any($1)`,
          [names],
        );
      },
    );
  });
}

/**
 * The way back is closed, and its room is free. Resolves to the read models that had one.
 *
 * Promises:
 * - the way back is open until the tables of before are dropped, and leads to the same answers
 */
export async function dropPrevious(live: Database, projections: readonly Projection[]): Promise<string[]> {
  return alone(live, (control) => inTransaction(control, () => closeWayBack(control, projections)));
}

/** Within a transaction. */
export async function closeWayBack(sql: Sql, projections: readonly Projection[]): Promise<string[]> {
  const names = projections.map(({ name }) => name);
  await dropTables(
    sql,
    'previous',
    projections.flatMap((projection) => projection.tables),
  );
  await sql.query('', 'delete from previous_checkpoints where read_model = any($1)', [names]);
  await sql.query('', 'delete from previous_passed where read_model = any($1)', [names]);
  const dropped = await sql.query<{ name: string }>(
    '',
    `update read_models set previous_version = null, previous_since = null
     where name = any($1) and previous_since is not null returning name`,
    [names],
  );
  return dropped.map(({ name }) => name);
}

async function assertWayBack(sql: Sql, names: readonly string[], tables: readonly ReadTable[]): Promise<void> {
  const [without] = await sql.query<{ name: string }>(
    '',
    `select name from read_models where name = any($1) and previous_since is null order by name limit 1`,
    [names],
  );
  if (without !== undefined) throw refused(`there are no tables of ${without.name} from before a rebuild`);
  const changed = await changedSince(sql, tables);
  if (changed !== null)
    throw refused(`the table ${changed} has other columns now than the one from before: it has to be rebuilt`);
  const [applied] = await sql.query<{ consumer: string; position: number }>(
    '',
    `select p.consumer, p.position from previous_passed p left join parked_messages m using (consumer, position)
     where p.read_model = any($1) and m.consumer is null limit 1`,
    [names],
  );
  if (applied !== undefined) {
    throw refused(
      `the parked message ${applied.consumer}-${applied.position} was applied since, and the tables from before do not have it: rebuild instead`,
    );
  }
}

/** The whole read database has one rebuild at a time: its process dies, its connection ends, and the lock is free. */
export async function alone<T>(live: Database, work: (control: PinnedConnection) => Promise<T>): Promise<T> {
  const control = await live.pin();
  try {
    const [row] = await control.query<{ locked: boolean }>(
      'only rebuild',
      'select pg_try_advisory_lock(hashtextextended($1, 0)) as locked',
      [lockKey],
    );
    if (!row!.locked) throw new EngineError('rebuild-running', 'another rebuild of this read database is under way');
    await control.query(
      '',
      `select set_config('statement_timeout', '0', false), set_config('search_path', 'public', false)`,
    );
    return await work(control);
  } finally {
    // The server takes its time to notice a closed connection: the next one should not be refused meanwhile.
    await control.query('', 'select pg_advisory_unlock_all()').catch(() => {});
    // Closed and not given back: with it go the limits.
    control.release(true);
  }
}

/** Tries until nobody stands in the way for longer than a switch may wait. Calls `before` before each try. */
export async function switchOver<T>(
  control: PinnedConnection,
  ports: Ports,
  before: () => Promise<void>,
  work: () => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    await before();
    try {
      return await inTransaction(control, work);
    } catch (error) {
      if (!standsInTheWay(error) || attempt >= attemptsMax) throw error;
      await sleep(ports, pauseMs);
    }
  }
}

async function inTransaction<T>(control: PinnedConnection, work: () => Promise<T>): Promise<T> {
  await control.query('', 'begin');
  try {
    await control.query('', `select set_config('lock_timeout', $1, true)`, [String(lockTimeoutMs)]);
    const result = await work();
    await control.query('', 'commit');
    return result;
  } catch (error) {
    await control.query('', 'rollback').catch(() => {});
    throw error;
  }
}

/** For the way back: where the tables stop that are about to be previous, and what they have passed without applying it. */
export async function rememberPosition(
  sql: Sql,
  projections: readonly Projection[],
  positions: ReadonlyMap<string, { readonly position: number; readonly together: string }>,
): Promise<void> {
  const names = projections.map(({ name }) => name);
  const modelOf = (consumer: string): string => consumer.slice(0, consumer.indexOf('-of-'));
  const consumers = [...positions.keys()];
  await sql.query(
    '',
    `insert into previous_checkpoints (consumer, read_model, position)
     select * from unnest($1::text[], $2::text[], $3::bigint[])
     on conflict (consumer) do update set position = excluded.position`,
    [consumers, consumers.map(modelOf), consumers.map((consumer) => positions.get(consumer)!.position)],
  );
  await sql.query('', 'delete from previous_passed where read_model = any($1)', [names]);
  await sql.query(
    '',
    `insert into previous_passed (consumer, read_model, position)
     select m.consumer, p.read_model, m.position
     from unnest($1::text[], $2::text[], $3::bigint[]) as p (consumer, read_model, position)
     join parked_messages m on m.consumer = p.consumer and m.position <= p.position`,
    [
      consumers.map((consumer) => positions.get(consumer)!.together),
      consumers.map(modelOf),
      consumers.map((consumer) => positions.get(consumer)!.position),
    ],
  );
}

export const fenceOthers = (sql: Sql, consumers: readonly string[]): Promise<unknown> =>
  sql.query('', 'update checkpoints set generation = generation + 1 where consumer = any($1)', [consumers]);

export const nameVersions = (sql: Sql, projections: readonly Projection[]): Promise<unknown> =>
  sql.query(
    '',
    `insert into read_models (name, version, previous_version, previous_since)
     select name, version, version, now() from unnest($1::text[], $2::integer[]) as n (name, version)
     on conflict (name) do update
       set previous_version = read_models.version, previous_since = now(), version = excluded.version`,
    [projections.map(({ name }) => name), projections.map(({ version }) => version)],
  );

const refused = (message: string): EngineError => new EngineError('rebuild-refused', message);

/** Somebody held a table or a checkpoint for longer than the switch may wait, or waited for the switch in turn. */
const standsInTheWay = (error: unknown): boolean => ['55P03', '40P01'].includes(sqlStateOf(error) ?? '');
