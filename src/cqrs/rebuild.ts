/**
 * Rebuilds read models without downtime: from the first event, into tables beside those that answer, then compares
 * the two row by row, and lets the new ones answer from the very position at which the old ones stopped: each read
 * model from its own, for one may lag behind others of the same log. The live projections go on all the while; they
 * are held only for the moment of the switch, and then fenced, because what they remember of the rows is not to be
 * trusted any more.
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
 * - read models that have come differently far are each rebuilt as far as they have come, and go on from there
 * - a read model that has never begun holds up none of those that are rebuilt with it
 * - a read model that catches up while it is rebuilt with others gets what was parked, as they do, once
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

/** One read model, as far as its rebuilt rows include one log. */
type Model = {
  readonly projection: Projection;
  readonly consumer: string;
  position: number;
  /** Passed by the live projections without being applied, up to `position`. */
  readonly skipped: Map<number, RecordedEvent>;
};

/** The log of one service, and what is rebuilt of it. */
type Source = {
  readonly log: LogReader;
  readonly service: string;
  readonly models: readonly Model[];
  /** Of all projections of the log: what is parked is parked under its name. */
  readonly together: string;
  /** Where the log stood at first, if that is not the log that the live projections have applied. */
  restored: Anchor | null;
};

type Targets = ReadonlyMap<Model, number>;

class Work {
  readonly counts = { events: 0, workedMs: 0, rows: 0 };
  readonly #options: RebuildOptions;
  readonly #ports: Ports;
  readonly #store: ReadStore;
  readonly #sources: readonly Source[];
  /** Where the live projections stood when last asked. */
  #targets: Targets = new Map();

  constructor(options: RebuildOptions, ports: Ports) {
    this.#options = options;
    this.#ports = ports;
    this.#store = postgresReadStore(options.beside);
    this.#sources = [...options.logs].flatMap(([service, log]) => {
      const projections = options.projections.filter(({ services }) => services.includes(service));
      if (projections.length === 0) return [];
      const models = projections.map((projection): Model => {
        const consumer = `${projection.name}-of-${log.source}`;
        return { projection, consumer, position: 0, skipped: new Map() };
      });
      return [{ log, service, models, together: `projections-of-${log.source}`, restored: null }];
    });
  }

  async open(): Promise<void> {
    await this.#store.checkpoints(this.#sources.flatMap(consumersOf));
    for (const source of this.#sources) {
      const positions = await positionsIn(this.#options.live, consumersOf(source));
      const anchor = await source.log.anchor();
      if (wentBack(anchor, positions)) source.restored = anchor;
    }
  }

  progress(phase: RebuildPhase): RebuildProgress {
    const { events: done } = this.counts;
    return { phase, done, of: this.#sources.reduce((sum, source) => sum + eventsBehind(source, this.#targets), done) };
  }

  /** Reads all logs up to where the live projections are, until they are close. */
  async readAll(): Promise<void> {
    for (;;) {
      const targets = await this.#liveTargets(this.#options.live);
      this.#targets = targets;
      const behind = this.#sources.filter((source) => eventsBehind(source, targets) > closeEvents);
      if (behind.length === 0) return;
      for (const source of behind) await this.#read(source, targets, 'reading');
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
        const consumers = this.#sources.flatMap((source) => [...consumersOf(source), source.together]);
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
        for (const source of restored)
          await goByRestored(control, { ...source, consumers: consumersOf(source) }, source.restored!);
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
      this.#sources.flatMap(({ models, together }) =>
        models.map(({ consumer, position }) => [consumer, { position, together }] as const),
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
    for (const source of this.#sources) await this.#read(source, targets, null);
  }

  /** The same without resting, while nobody moves any more. */
  async #catchUp(sql: Sql): Promise<void> {
    const targets = await this.#liveTargets(sql);
    for (const source of this.#sources) await this.#read(source, targets, 'switching');
  }

  /** How far each live read model has come in each log, or the log itself if it went back. */
  async #liveTargets(sql: Sql): Promise<Targets> {
    const rows = await positionsIn(sql, this.#sources.flatMap(consumersOf));
    const positions = new Map(rows.map(({ consumer, position }) => [consumer, position]));
    return new Map(
      this.#sources.flatMap(({ models, restored }) =>
        models.map((model) => [model, restored?.position ?? positions.get(model.consumer) ?? 0] as const),
      ),
    );
  }

  /** Folds the log into each read model up to its target, then what the live projections have taken back meanwhile of what was left out. */
  async #read(source: Source, targets: Targets, phase: RebuildPhase | null): Promise<void> {
    const passed = new Set(await postgresParkedMessages(this.#options.live).positions(source.together));
    for (let next = nextStretch(source, targets); next !== null; next = nextStretch(source, targets)) {
      await this.#readStretch(source, next, passed, phase);
    }
    for (const model of source.models) {
      const takenBack = [...model.skipped.values()].filter(({ position }) => !passed.has(position));
      if (takenBack.length > 0) await this.#fold(source, [model], takenBack, model.position);
      for (const { position } of takenBack) model.skipped.delete(position);
    }
  }

  /** Batch by batch: the next is read while one is folded. */
  async #readStretch(
    source: Source,
    { models, from, to }: Stretch,
    passed: ReadonlySet<number>,
    phase: RebuildPhase | null,
  ): Promise<void> {
    let batchEvents = batchEventsFirst;
    let next = source.log.read(from, batchEvents);
    next.catch(() => {});
    for (let position = from; position < to;) {
      this.#options.signal?.throwIfAborted();
      const began = this.#ports.elapsed();
      const events = (await next).slice(0, to - position);
      const last = events.at(-1);
      if (last === undefined)
        throw new EngineError('log-gap', `${source.log.source} ends at ${position}, before ${to}`);
      position = last.position;
      if (position < to) {
        next = source.log.read(position, batchEvents);
        next.catch(() => {});
      }
      const skipped = events.filter((event) => passed.has(event.position));
      for (const { skipped: own } of models) for (const event of skipped) own.set(event.position, event);
      await this.#fold(
        source,
        models,
        events.filter((event) => !passed.has(event.position)),
        position,
      );
      const workedMs = this.#ports.elapsed() - began;
      this.counts.events += events.length;
      this.counts.workedMs += workedMs;
      if (workedMs < batchMs) batchEvents = Math.min(batchEvents * 2, batchEventsMax);
      else batchEvents = Math.max(Math.round(batchEvents / 2), batchEventsFirst);
      if (phase !== null) this.#options.onProgress(this.progress(phase));
      if (phase !== 'switching') await this.#rest(workedMs);
    }
  }

  /** Into `models`, which are at the same position. */
  async #fold(source: Source, models: readonly Model[], events: readonly RecordedEvent[], to: number): Promise<void> {
    const odd = events.find(({ unreadable }) => unreadable !== undefined);
    if (odd !== undefined) throw new Error(`${odd.id} (${odd.type}) cannot be read: ${odd.unreadable!.detail}`);
    const moves = models.map(({ consumer, position: from }): CheckpointMove => ({ consumer, from, to }));
    await this.#store.apply(moves, (rows) =>
      Promise.all(models.map(({ projection }) => projection.apply(source.service, events, rows))),
    );
    for (const model of models) model.position = to;
  }

  /** Leaves the machine to others for a while, in proportion to what was worked. */
  #rest(workedMs: number): Promise<void> {
    const restMs = workedMs * (100 / this.#options.sharePercent - 1);
    return restMs < 1 ? Promise.resolve() : sleep(this.#ports, restMs, this.#options.signal);
  }
}

/** Read models that are at `from` all, and go on together up to `to`. */
type Stretch = { readonly models: readonly Model[]; readonly from: number; readonly to: number };

/** Those furthest behind go on, until the first of them is at its target; null: all are at their targets. */
function nextStretch({ models }: Source, targets: Targets): Stretch | null {
  const behind = models.filter((model) => model.position < targets.get(model)!);
  if (behind.length === 0) return null;
  const from = Math.min(...behind.map(({ position }) => position));
  const furthest = behind.filter(({ position }) => position === from);
  return { models: furthest, from, to: Math.min(...furthest.map((model) => targets.get(model)!)) };
}

/** How many events the read model furthest behind has still to fold. */
const eventsBehind = ({ models }: Source, targets: Targets): number =>
  Math.max(0, ...models.map((model) => targets.get(model)! - model.position));

const consumersOf = ({ models }: Source): string[] => models.map(({ consumer }) => consumer);

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
