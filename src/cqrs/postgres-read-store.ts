/**
 * The read store on PostgreSQL. All that a batch changes leaves as one statement, which is its own
 * transaction: checkpoints first, and nothing else when they have been moved by another. A statement costs
 * the server some 60 µs however little it does (40 more with a transaction around it), a row 4 to 10.
 */
import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { failpoint, failpointOnceSent } from '#platform/failpoint.ts';
import { arrayLiteral, type Database, type DatabaseOptions, sqlStateOf } from '#platform/postgres.ts';
import { EngineError } from './errors.ts';
import type { CheckpointMove } from './event-log.ts';
import { takesBack } from './parked-messages.ts';
import { postgresParkedMessages } from './postgres-parked-messages.ts';
import { type ColumnType, type ReadStore, type ReadTable, type Row, type RowKey, rowKey } from './read-store.ts';
import { changed, RowChanges } from './row-changes.ts';
import { postgresSources } from './source-epoch.ts';

/**
 * What is remembered of rows that were loaded or put last. As long as this store is the one that moves the
 * checkpoints, nobody else changes what its consumers have put: what they go on with is read once.
 */
const rowsKeptBytesMax = 8 * 1_048_576; // of each table

/** How the database of a read store is opened. */
export const readStoreOptions = {
  asynchronousCommit: true,
  plansOnce: true,
} as const satisfies Partial<DatabaseOptions>;

/**
 * `database` is opened with `readStoreOptions` and has the tables of the folder `checkpoints` beside those of the
 * read models.
 *
 * Promises:
 * - checkpoints move with the rows, from where they were, or nothing happens
 * - work that throws changes nothing
 * - of two workers at once one is fenced, and finds the rows of the other when it begins anew
 * - a worker that has not seen what another takes back of its parked messages is fenced
 * - what is put over a row that is not older changes nothing
 * - two consumers of one store that put their own columns of the same rows lose nothing
 * - what is parked is written with the checkpoint, and taken back once
 * - a batch whose answer is lost may have been applied: its rows are read anew
 * - a row is read once, and each batch is one statement from then on
 */
export function postgresReadStore(database: Database): ReadStore {
  const kept = new Map<ReadTable, LRUCache<string, Row>>();
  const underWay = new Set<Transaction>();
  /** By consumer, as of when its checkpoint was read. */
  const generations = new Map<string, number>();
  const statements = new Map<string, { readonly name: string; readonly text: string }>();
  let generation = 0;

  function forget(): void {
    generation += 1;
    kept.clear();
  }

  function keptOf(table: ReadTable): LRUCache<string, Row> {
    let rows = kept.get(table);
    if (rows === undefined)
      kept.set(table, (rows = new LRUCache({ maxSize: rowsKeptBytesMax, sizeCalculation: sizeOf })));
    return rows;
  }

  async function load<R extends Row>(
    transaction: Transaction,
    table: ReadTable<R>,
    keys: readonly RowKey[],
  ): Promise<Map<string, R>> {
    const { known, asked } = touchedIn(transaction, table);
    const { changes } = transaction;
    const rows = keptOf(table);
    const names = keys.map(rowKey);
    const missing: RowKey[] = [];
    for (const [n, name] of names.entries()) {
      if (known.has(name)) continue;
      const row = rows.get(name);
      if (row !== undefined) known.set(name, row);
      else if (changes.of(table)?.get(name)?.isWhole !== true) missing.push(keys[n]!);
    }
    if (missing.length > 0) {
      // What others commit from now on may or may not be in the answer.
      for (const key of missing) asked.add(rowKey(key));
      const read = await database.query(
        `load ${table.name}`,
        loadSql(table),
        table.key.map((_, n) => missing.map((key) => key[n])),
      );
      for (const key of missing) known.set(rowKey(key), undefined);
      for (const raw of read) {
        const row = rowOf(table, raw as Row);
        known.set(rowKey(table.key.map((column) => row[column] as string)), row);
      }
    }
    const found = new Map<string, R>();
    const changesNow = changes.of(table);
    for (const name of names) {
      const row = changed(table, known.get(name), changesNow?.get(name));
      if (row !== undefined) found.set(name, row as R);
    }
    return found;
  }

  /** Not async: see `statement` in `platform/postgres.ts`. */
  function write(moves: readonly CheckpointMove[], changes: RowChanges): Promise<unknown> {
    const { signature, text, values } = statementOf(moves, generations, changes);
    const statement = statements.get(signature) ?? { name: `apply ${digest(text())}`, text: text() };
    statements.set(signature, statement);
    failpoint('projection-committing');
    failpointOnceSent('projection-sent');
    return database.query(statement.name, statement.text, values);
  }

  /** Takes over what has been committed, so that what is kept is what the database holds. */
  function remember(transaction: Transaction): void {
    const isCurrent = generation === transaction.begun;
    for (const [table, { known, asked, overtaken }] of transaction.touched) {
      const rows = keptOf(table);
      for (const name of asked) {
        const row = known.get(name);
        if (row !== undefined && isCurrent && !overtaken.has(name) && !rows.has(name)) rows.set(name, row);
      }
    }
    for (const [table, changes] of transaction.changes.tables) {
      if (table.once) continue;
      const { known, overtaken } = touchedIn(transaction, table);
      const rows = keptOf(table);
      const others = [...underWay].flatMap(({ touched }) => touched.get(table) ?? []);
      for (const [name, change] of changes) {
        for (const other of others) if (other.asked.has(name)) other.overtaken.add(name);
        const isSure = isCurrent && !overtaken.has(name);
        // Another consumer's columns are in what is kept now, as it left them.
        const before = rows.get(name) ?? (isSure ? known.get(name) : undefined);
        const isKnown = before !== undefined || (isSure && (known.has(name) || change.isWhole));
        const row = isKnown ? changed(table, before, change) : undefined;
        if (row === undefined) rows.delete(name);
        else rows.set(name, row);
      }
    }
  }

  return {
    parked: postgresParkedMessages(database),
    committed: <R extends Row>(table: ReadTable<R>, key: RowKey) => kept.get(table)?.get(rowKey(key)) as R | undefined,

    async takeOver(readModels) {
      await database.query(
        'name read models',
        `insert into read_models (name, version) select * from unnest($1::text[], $2::integer[])
         on conflict do nothing`,
        [readModels.map(({ name }) => name), readModels.map(({ version }) => version)],
      );
      const others = await database.query<{ name: string; stored: number; version: number }>(
        'other versions',
        `select name, r.version as stored, m.version from read_models r
         join unnest($1::text[], $2::integer[]) as m (name, version) using (name)
         where r.version <> m.version order by name limit 1`,
        [readModels.map(({ name }) => name), readModels.map(({ version }) => version)],
      );
      const [other] = others;
      if (other !== undefined) throw new EngineError('read-model-version', versionText(other));
    },

    async checkpoints(consumers) {
      forget();
      await database.query(
        'open checkpoints',
        'insert into checkpoints (consumer, position) select unnest($1::text[]), 0 on conflict do nothing',
        [consumers],
      );
      const rows = await database.query<{ consumer: string; position: number; generation: number }>(
        'checkpoints',
        'select consumer, position, generation from checkpoints where consumer = any($1)',
        [consumers],
      );
      for (const { consumer, generation: of } of rows) generations.set(consumer, of);
      return new Map(rows.map(({ consumer, position }) => [consumer, position]));
    },

    rememberSource: postgresSources(database),

    async assertCurrent(consumers) {
      const rows = await database.query<{ consumer: string; generation: number }>(
        'generations',
        'select consumer, generation from checkpoints where consumer = any($1)',
        [consumers],
      );
      const replaced = rows.find(({ consumer, generation: of }) => of !== generations.get(consumer));
      if (replaced !== undefined)
        throw new EngineError('consumer-fenced', `the rows of ${replaced.consumer} were replaced`);
    },

    async apply(moves, work) {
      const transaction: Transaction = {
        changes: new RowChanges(),
        touched: new Map(),
        begun: generation,
      };
      underWay.add(transaction);
      try {
        const result = await work({
          load: (table, keys) => load(transaction, table, keys),
          put: (table, rows, columns) => transaction.changes.put(table, rows as readonly Row[], columns),
          remove: (table, keys) => transaction.changes.remove(table, keys),
        });
        await write(moves, transaction.changes);
        underWay.delete(transaction);
        for (const consumer of regenerated(moves)) generations.set(consumer, (generations.get(consumer) ?? 0) + 1);
        remember(transaction);
        return result;
      } catch (error) {
        // It may have been committed, or another worker has.
        forget();
        const divisionByZero = '22012';
        if (sqlStateOf(error) !== divisionByZero) throw error;
        throw new EngineError('consumer-fenced', `${moves[0]?.consumer} was moved by another worker`, error);
      } finally {
        underWay.delete(transaction);
      }
    },
  };
}

const versionText = ({ name, stored, version }: { name: string; stored: number; version: number }): string =>
  stored < version
    ? `the read model ${name} is of version ${stored}, this program makes version ${version}: it is taken over once it is rebuilt`
    : `the read model ${name} is of version ${stored}, which is newer than the ${version} of this program: update the program, or go back with \`twofold rebuild ${name} --back\``;

type Transaction = {
  readonly changes: RowChanges;
  readonly touched: Map<ReadTable, Touched>;
  readonly begun: number;
};

/** Of one table, by row. */
type Touched = {
  /** Rows as they were before; undefined: there was none. */
  readonly known: Map<string, Row | undefined>;
  /** Rows that the database was asked for. */
  readonly asked: Set<string>;
  /** Rows that it was asked for and that others have changed since. */
  readonly overtaken: Set<string>;
};

function touchedIn({ touched }: Transaction, table: ReadTable): Touched {
  let ofTable = touched.get(table);
  if (ofTable === undefined)
    touched.set(table, (ofTable = { known: new Map(), asked: new Set(), overtaken: new Set() }));
  return ofTable;
}

function sizeOf(row: Row): number {
  let bytes = 200;
  for (const column in row) {
    const value = row[column];
    bytes += 24 + (typeof value === 'string' ? value.length : Array.isArray(value) ? 40 * value.length : 0);
  }
  return bytes;
}

const digest = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16);

/**
 * One statement for a whole batch. The main query runs first: it moves the checkpoints and, where that is
 * fenced, ends everything by dividing by zero. Then each part of `with` runs to its end.
 */
function statementOf(
  moves: readonly CheckpointMove[],
  generations: ReadonlyMap<string, number>,
  changes: RowChanges,
): { readonly signature: string; readonly values: unknown[]; text(): string } {
  const values: unknown[] = [
    moves.map((move) => move.consumer),
    moves.map((move) => move.from),
    moves.map((move) => move.to),
    moves.map((move) => generations.get(move.consumer) ?? 0),
    moves.length,
  ];
  const signatures: string[] = [];
  const parts: (() => string)[] = [];
  const parks = moves.flatMap(({ consumer, parks: own = [] }) => own.map((message) => ({ consumer, ...message })));
  const unparks = moves.flatMap(({ consumer, unparks: own = [] }) => own.map((position) => ({ consumer, position })));
  const parking = parks.length + unparks.length > 0;
  if (parking) {
    signatures.push('parking');
    values.push(JSON.stringify(parks), JSON.stringify(unparks), unparks.length, regenerated(moves));
    parts.push(() => parkingSql);
  }
  for (const [table, ofTable] of changes.byTable()) {
    for (const group of Map.groupBy(ofTable, ({ row, columns }) => (row === null ? null : columns.join())).values()) {
      const { row, columns } = group[0]!;
      const first = values.length + 1;
      const name = `part_${parts.length}`;
      const names = [...table.key, ...columns];
      const added = names.map((column, n) =>
        parameter(
          table.columns[column]!,
          group.map((change) => (row === null ? change.key[n]! : change.row![column]!)),
        ),
      );
      values.push(...added);
      signatures.push(row === null ? `-${table.name}` : `${table.name}(${names.join()})`);
      parts.push(() => `${name} as (${row === null ? removeSql(table, first) : putSql(table, names, first)})`);
    }
  }
  return {
    signature: signatures.join(' '),
    values,
    text: () => `with moved as (
        update checkpoints set position = m.upto${parking ? takenBackSql : ''}
        from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) as m (name, past, upto, generation)
        where consumer = m.name and position = m.past and checkpoints.generation = m.generation returning consumer
      ), ${parts.map((part) => `${part()}, `).join('')}fence as (select count(*) = $5 as holds from moved)
      select 1 / ((select holds from fence)${parking ? ' and (select count(*) from held) = $8' : ''})::int`,
  };
}

/** Of a batch that takes messages back, all: whoever goes on with one of them has read what is parked before. */
const regenerated = (moves: readonly CheckpointMove[]): string[] =>
  moves.some(takesBack) ? moves.map(({ consumer }) => consumer) : [];

/** Rows change, and the checkpoint may stay where it is: who remembers rows is fenced by their generation. */
const takenBackSql = ', generation = checkpoints.generation + (consumer = any($9::text[]))::integer';

/** Messages that are taken back have to be waiting; those that are parked anew stay where they are. */
const parkingSql = `held as (
    select p.consumer, p.position from parked_messages p
    join json_to_recordset($7) as u (consumer text, position bigint) using (consumer, position)
    where p.state <> 'discarded' for update of p
  ), parking as (
    select * from json_to_recordset($6) as p (consumer text, position bigint, stream text, "eventId" text, type text,
      cause text, detail text, attempts integer, "parkedAt" timestamptz, state text)
  ), unparked as (
    delete from parked_messages p using held h where (p.consumer, p.position) = (h.consumer, h.position)
      and (p.consumer, p.position) not in (select consumer, position from parking)
  ), reparked as (
    update parked_messages p set cause = n.cause, detail = n.detail, attempts = n.attempts, parked_at = n."parkedAt",
      state = n.state, decided_by = null, decided_at = null
    from parking n join held h using (consumer, position) where (p.consumer, p.position) = (n.consumer, n.position)
  ), parked as (
    insert into parked_messages (consumer, position, stream, event_id, type, cause, detail, attempts, parked_at, state)
    select n.* from parking n where (n.consumer, n.position) not in (select consumer, position from held)
  )`;

function putSql(table: ReadTable, names: readonly string[], first: number): string {
  const arrays = names.map((name, n) => {
    const type = table.columns[name]!;
    return isJoined(type) ? `string_to_array($${first + n}, E'\\n', '')` : `$${first + n}::${type}[]`;
  });
  const selected = names.map((name) =>
    table.columns[name] === 'words' ? `array_to_tsvector(string_to_array(${name}, ' '))` : name,
  );
  const set = names.filter((name) => !table.key.includes(name)).map((name) => `${name} = excluded.${name}`);
  const isVersioned = table.version !== undefined && names.includes(table.version);
  const newer = !isVersioned ? '' : ` where ${table.name}.${table.version} < excluded.${table.version}`;
  const conflict =
    table.once || set.length === 0 ? 'do nothing' : `(${table.key.join()}) do update set ${set.join()}${newer}`;
  return `insert into ${table.name} (${names.join()})
    select ${selected.join()} from unnest(${arrays.join()}) as n (${names.join()}) on conflict ${conflict}`;
}

const removeSql = (table: ReadTable, first: number): string =>
  `delete from ${table.name} where (${table.key.join()}) in (
    select * from unnest(${table.key.map((_, n) => `$${first + n}::text[]`).join()}))`;

function loadSql(table: ReadTable): string {
  const columns = Object.entries(table.columns).map(([name, type]) => {
    if (type === 'words') return `tsvector_to_array(${name}) as ${name}`;
    return type === 'numeric' ? `${name}::text as ${name}` : name;
  });
  return `select ${columns.join()} from ${table.name} where (${table.key.join()}) in (
    select * from unnest(${table.key.map((_, n) => `$${n + 1}::text[]`).join()}))`;
}

/**
 * Long texts travel as one, cut at line breaks, which none of them holds: nothing has to be quoted. With 20
 * lines per order that wrote 19,000 to 22,000 orders/s where an array wrote 9,000 and JSON 13,000.
 */
const isJoined = (type: ColumnType): boolean => type === 'json' || type === 'words';

function parameter(type: ColumnType, values: readonly Row[string][]): string {
  if (type === 'json') return values.map((value) => value ?? '').join('\n');
  if (type === 'words') return values.map((value) => (value as readonly string[] | null)?.join(' ') ?? '').join('\n');
  return arrayLiteral(values as readonly (string | number | boolean | null)[]);
}

const rowOf = (table: ReadTable, read: Row): Row =>
  Object.fromEntries(
    Object.entries(table.columns).map(([name, type]) => {
      const value = read[name]!;
      return [name, type === 'timestamptz' && value !== null ? utcTime(value as string) : value];
    }),
  );

/** From `2011-01-01 12:00:00.5+00`, as PostgreSQL prints a time in UTC. */
function utcTime(text: string): string {
  const [, date, time, fraction = ''] = /^(\S+) (\d\d:\d\d:\d\d)(?:\.(\d{1,3}))?\d*\+00$/.exec(text)!;
  return `${date}T${time}.${fraction.padEnd(3, '0')}Z`;
}
