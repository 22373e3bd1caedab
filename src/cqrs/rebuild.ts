/**
 * Rebuilds read models without downtime: from the first event, into tables beside those that answer, then compares
 * the two row by row, and lets the new ones answer from the very position at which the old ones stopped. The live
 * projections go on all the while; they are held only for the moment of the switch, and then fenced, because what
 * they remember of the rows is not to be trusted any more.
 */
import { failpoint } from '#platform/failpoint.ts';
import { type Ports, sleep, systemPorts } from '#platform/ports.ts';
import type { Database, DatabaseOptions, PinnedConnection, Sql } from '#platform/postgres.ts';
import { compareKeys, compareRange, type RowDifference } from './compare-rows.ts';
import { EngineError } from './errors.ts';
import type { Anchor, CheckpointMove, LogReader, RecordedEvent } from './event-log.ts';
import { postgresReadStore, readStoreOptions } from './postgres-read-store.ts';
import { postgresParkedMessages } from './postgres-parked-messages.ts';
import type { Projection } from './projection.ts';
import type { ReadStore, ReadTable } from './read-store.ts';
import { alone, closeWayBack, fenceOthers, nameVersions, rememberPosition, switchOver } from './rebuild-switch.ts';
import { goByRestored, wentBack } from './source-epoch.ts';
import { createBeside, holdTables, indexBeside, schemas, switchIn } from './tables-beside.ts';

/** How the database is opened in which a rebuild writes: its own tables before those that answer. */
export const besideOptions = {
  ...readStoreOptions,
  searchPath: [schemas.beside, schemas.live],
} as const satisfies Partial<DatabaseOptions>;

export type RebuildOptions = {
  /** The read database, as it answers. */
  readonly live: Database;
  /** The same, opened with `besideOptions`. */
  readonly beside: Database;
  /** What is rebuilt. */
  readonly projections: readonly Projection[];
  /** The logs, by service, decoded as for the live projections. */
  readonly logs: ReadonlyMap<string, LogReader>;
  /** How much of the time is spent working, in per cent: the rest is left to those who read and write. */
  readonly sharePercent: number;
  /** Compares, and leaves everything as it is. */
  readonly checkOnly: boolean;
  readonly ports?: Ports;
  readonly signal?: AbortSignal;
  /** Called some times a second. */
  onProgress(progress: RebuildProgress): void;
};

export type RebuildPhase = 'reading' | 'indexing' | 'comparing' | 'switching';
export type RebuildProgress = {
  readonly phase: RebuildPhase;
  /** Events read, of those there are as far as known. */
  readonly done: number;
  readonly of: number;
};

export type RebuildReport = {
  readonly readModels: readonly string[];
  readonly events: number;
  /** Of reading, without what was left to others. */
  readonly workedMs: number;
  readonly rows: number;
  /** Null: not compared, because the rows are of another version of the code. */
  readonly differences: { readonly count: number; readonly listed: readonly RowDifference[] } | null;
  readonly switched: boolean;
  /** How long writers of the read models were held. */
  readonly heldMs: number;
};

const batchEventsFirst = 500;
const batchEventsMax = 10_000;
/** Batches grow up to this: long enough to be worth their while, short enough to share a machine. */
const batchMs = 150;
/** So close behind, the rest is left for the switch to catch up. */
const closeEvents = 200;
const comparedRowsPerPiece = 2_000;
/** Rows that differed at first are looked at once more while writers are held: that takes some 10 µs each. */
const lookedAgainMax = 20_000;
const differencesListedMax = 100;

/**
 * Rejects with `rebuild-running` when another one is under way, `rebuild-refused` when it cannot be made, or with what
 * stood in the way; the live tables are then as they were. What a rebuild that was killed has left is cleared away.
 *
 * Promises:
 * - a rebuilt read model has the rows of the live one, while both go on
 * - rows that were changed by hand are found, named, and gone after the switch
 * - a check compares and leaves everything as it is
 * - a rebuild that was killed anywhere is started again
 * - two rebuilds at once: the second is told
 * - what is parked is left out, and what is taken back meanwhile is not
 * - a worker that writes beside is fenced by the switch, and goes on with the new rows
 * - read models of a log that went back are rebuilt from what there is, and go on from there
 */
export async function rebuild(options: RebuildOptions): Promise<RebuildReport> {
  const { projections, ports = systemPorts } = options;
  return alone(options.live, async (control) => {
    const tables = projections.flatMap((projection) => projection.tables);
    const compared = await isSameCode(options.live, projections);
    await createBeside(control, tables);
    failpoint('rebuild-begun');
    const work = new Work(options, ports);
    await work.open();
    await work.readAll();
    options.onProgress(work.progress('indexing'));
    await indexBeside(control, tables);
    const differing = compared ? await work.compareAll(tables) : null;
    failpoint('rebuild-compared');
    const result = await work.switch(control, tables, differing);
    await control.query('', 'drop schema rebuild cascade');
    return { readModels: projections.map(({ name }) => name), ...work.counts, ...result };
  });
}

/** The log of one service, as far as the rebuilt rows include it. */
type Source = {
  readonly log: LogReader;
  readonly service: string;
  readonly projections: readonly Projection[];
  /** Of the projections that are rebuilt. */
  readonly consumers: readonly string[];
  /** Of all projections of the log: what is parked is parked under its name. */
  readonly together: string;
  position: number;
  /** Where the log stood at first, if that is not the log that the live projections have applied. */
  restored: Anchor | null;
  /** Passed by the live projections without being applied. */
  readonly skipped: Map<number, RecordedEvent>;
};

class Work {
  readonly counts = { events: 0, workedMs: 0, rows: 0 };
  readonly #options: RebuildOptions;
  readonly #ports: Ports;
  readonly #store: ReadStore;
  readonly #sources: readonly Source[];
  /** Where the live projections stood when last asked. */
  #targets = 0;

  constructor(options: RebuildOptions, ports: Ports) {
    this.#options = options;
    this.#ports = ports;
    this.#store = postgresReadStore(options.beside);
    this.#sources = [...options.logs].flatMap(([service, log]) => {
      const projections = options.projections.filter(({ services }) => services.includes(service));
      if (projections.length === 0) return [];
      const consumers = projections.map(({ name }) => `${name}-of-${log.source}`);
      const together = `projections-of-${log.source}`;
      return [{ log, service, projections, consumers, together, position: 0, restored: null, skipped: new Map() }];
    });
  }

  async open(): Promise<void> {
    await this.#store.checkpoints(this.#sources.flatMap(({ consumers }) => consumers));
    for (const source of this.#sources) {
      const positions = await positionsIn(this.#options.live, source.consumers);
      const anchor = await source.log.anchor();
      if (wentBack(anchor, positions)) source.restored = anchor;
    }
  }

  progress(phase: RebuildPhase): RebuildProgress {
    const done = this.#sources.reduce((sum, { position }) => sum + position, 0);
    return { phase, done, of: Math.max(done, this.#targets) };
  }

  /** Reads all logs up to where the live projections are, until they are close. */
  async readAll(): Promise<void> {
    for (;;) {
      const targets = await this.#liveTargets(this.#options.live);
      this.#targets = [...targets.values()].reduce((sum, target) => sum + target, 0);
      const behind = this.#sources.filter((source) => targets.get(source)! - source.position > closeEvents);
      if (behind.length === 0) return;
      for (const source of behind) await this.#read(source, targets.get(source)!, 'reading');
    }
  }

  /** The keys whose rows differed, by table. The live rows go on changing, so rows that are only newer are among them. */
  async compareAll(tables: readonly ReadTable[]): Promise<Map<ReadTable, string[][]>> {
    const differing = new Map<ReadTable, string[][]>();
    let looked = 0;
    for (const table of tables) {
      const keys: string[][] = [];
      differing.set(table, keys);
      for (let after: readonly string[] | null = null; ;) {
        await this.#follow();
        const began = this.#ports.elapsed();
        const range = await compareRange(this.#options.live, table, after, comparedRowsPerPiece);
        this.counts.rows += range.rows;
        for (const key of range.differing) if ((looked += 1) <= lookedAgainMax) keys.push([...key]);
        this.#options.onProgress(this.progress('comparing'));
        after = range.upTo;
        if (after === null) break;
        await this.#rest(this.#ports.elapsed() - began);
      }
    }
    return differing;
  }

  /** Tries until nobody stands in the way for as long as it takes. */
  async switch(
    control: PinnedConnection,
    tables: readonly ReadTable[],
    differing: ReadonlyMap<ReadTable, string[][]> | null,
  ): Promise<Pick<RebuildReport, 'differences' | 'switched' | 'heldMs'>> {
    const { checkOnly, projections } = this.#options;
    let began = 0;
    const differences = await switchOver(
      control,
      this.#ports,
      async () => {
        this.#options.signal?.throwIfAborted();
        await this.#follow();
        this.#options.onProgress(this.progress('switching'));
      },
      async () => {
        began = this.#ports.elapsed();
        await holdTables(control, tables);
        const consumers = this.#sources.flatMap(({ consumers: own, together }) => [...own, together]);
        await control.query('', 'select from checkpoints where consumer = any($1) order by consumer for update', [
          consumers,
        ]);
        await this.#catchUp(control);
        const found = await this.#lookAgain(control, differing);
        if (checkOnly) return found;
        failpoint('rebuild-switching');
        await rememberPosition(control, projections, this.#positions());
        await switchIn(control, tables);
        await fenceOthers(control, consumers);
        await nameVersions(control, projections);
        const restored = this.#sources.filter((source) => source.restored !== null);
        for (const source of restored) await goByRestored(control, source, source.restored!);
        // What was applied of a log that is gone is no way back.
        if (restored.length > 0) await closeWayBack(control, projections);
        return found;
      },
    );
    if (!checkOnly) failpoint('rebuild-switched');
    return { differences, switched: !checkOnly, heldMs: Math.round(this.#ports.elapsed() - began) };
  }

  #positions(): Map<string, { readonly position: number; readonly together: string }> {
    return new Map(
      this.#sources.flatMap(({ consumers, position, together }) =>
        consumers.map((consumer) => [consumer, { position, together }] as const),
      ),
    );
  }

  async #lookAgain(
    sql: Sql,
    differing: ReadonlyMap<ReadTable, string[][]> | null,
  ): Promise<RebuildReport['differences']> {
    if (differing === null) return null;
    let count = 0;
    const listed: RowDifference[] = [];
    for (const [table, keys] of differing) {
      if (keys.length === 0) continue;
      const found = await compareKeys(sql, table, keys, differencesListedMax);
      count += found.count;
      listed.push(...found.listed);
    }
    return { count, listed: listed.slice(0, differencesListedMax) };
  }

  async #follow(): Promise<void> {
    const targets = await this.#liveTargets(this.#options.live);
    for (const source of this.#sources) await this.#read(source, targets.get(source)!, null);
  }

  /** The same without resting, while nobody moves any more. */
  async #catchUp(sql: Sql): Promise<void> {
    const targets = await this.#liveTargets(sql);
    for (const source of this.#sources) await this.#read(source, targets.get(source)!, 'switching');
  }

  /** How far the live projections have come in each log, or the log itself if it went back; then what they have passed without applying it. */
  async #liveTargets(sql: Sql): Promise<Map<Source, number>> {
    const rows = await positionsIn(
      sql,
      this.#sources.flatMap(({ consumers }) => consumers),
    );
    const positions = new Map(rows.map(({ consumer, position }) => [consumer, position]));
    return new Map(
      this.#sources.map((source) => [
        source,
        source.restored?.position ?? Math.min(...source.consumers.map((consumer) => positions.get(consumer) ?? 0)),
      ]),
    );
  }

  /** Folds the log up to `target`, then what the live projections have taken back meanwhile of what was left out. */
  async #read(source: Source, target: number, phase: RebuildPhase | null): Promise<void> {
    const passed = new Set(await postgresParkedMessages(this.#options.live).positions(source.together));
    let batchEvents = batchEventsFirst;
    let next = target > source.position ? source.log.read(source.position, batchEvents) : null;
    next?.catch(() => {});
    while (source.position < target) {
      this.#options.signal?.throwIfAborted();
      const began = this.#ports.elapsed();
      const events = (await next!).slice(0, target - source.position);
      const last = events.at(-1);
      if (last === undefined)
        throw new EngineError('log-gap', `${source.log.source} ends at ${source.position}, before ${target}`);
      if (last.position < target) {
        next = source.log.read(last.position, batchEvents);
        next.catch(() => {});
      }
      for (const event of events) if (passed.has(event.position)) source.skipped.set(event.position, event);
      await this.#fold(
        source,
        events.filter(({ position }) => !passed.has(position)),
        last.position,
      );
      const workedMs = this.#ports.elapsed() - began;
      this.counts.events += events.length;
      this.counts.workedMs += workedMs;
      if (workedMs < batchMs) batchEvents = Math.min(batchEvents * 2, batchEventsMax);
      else batchEvents = Math.max(Math.round(batchEvents / 2), batchEventsFirst);
      if (phase !== null) this.#options.onProgress(this.progress(phase));
      if (phase !== 'switching') await this.#rest(workedMs);
    }
    const takenBack = [...source.skipped.values()].filter(({ position }) => !passed.has(position));
    if (takenBack.length > 0) await this.#fold(source, takenBack, source.position);
    for (const { position } of takenBack) source.skipped.delete(position);
  }

  async #fold(source: Source, events: readonly RecordedEvent[], to: number): Promise<void> {
    const odd = events.find(({ unreadable }) => unreadable !== undefined);
    if (odd !== undefined) throw new Error(`${odd.id} (${odd.type}) cannot be read: ${odd.unreadable!.detail}`);
    const from = source.position;
    const moves: CheckpointMove[] = source.consumers.map((consumer) => ({ consumer, from, to }));
    await this.#store.apply(moves, (rows) =>
      Promise.all(source.projections.map((projection) => projection.apply(source.service, events, rows))),
    );
    source.position = to;
  }

  /** Leaves the machine to others for a while, in proportion to what was worked. */
  #rest(workedMs: number): Promise<void> {
    const restMs = workedMs * (100 / this.#options.sharePercent - 1);
    return restMs < 1 ? Promise.resolve() : sleep(this.#ports, restMs, this.#options.signal);
  }
}

const positionsIn = (
  live: Sql,
  consumers: readonly string[],
): Promise<{ consumer: string; position: number; epoch: string | null }[]> =>
  live.query(
    'live positions',
    'select consumer, position, source_epoch as epoch from checkpoints where consumer = any($1)',
    [consumers],
  );

const isSameCode = async (sql: Sql, projections: readonly Projection[]): Promise<boolean> => {
  const rows = await sql.query<{ name: string; version: number }>(
    'versions of read models',
    'select name, version from read_models where name = any($1)',
    [projections.map(({ name }) => name)],
  );
  const stored = new Map(rows.map(({ name, version }) => [name, version]));
  return projections.every(({ name, version }) => stored.get(name) === version);
};
