/**
 * Who walks, and when: the rolling audit in one process at a time, a full one on demand, and what only this process
 * has, its answers in memory, in tiny pieces beside it all.
 */
import type { TakenAnchor } from '#contracts/audit.ts';
import type { CommandBus } from '#cqrs/command-bus.ts';
import type { Logger } from '#platform/logger.ts';
import { type Ports, sleep, timeNow } from '#platform/ports.ts';
import type { Database } from '#platform/postgres.ts';
import { type AuditOrder, walkInProcess } from './audit-process.ts';
import type { Walk } from './check.ts';
import { auditActor } from './divergence.ts';
import { onlyOne } from './only-one.ts';
import { type RoundsState, walkRounds } from './rounds.ts';
import type { Sample } from './sampling.ts';
import { anchorsId, anchorsStream } from './streams.ts';
import { lookAtEntities, type Recorder, type WalkState, walkOnce, type WalkStates } from './walking.ts';

export type RunningOptions = {
  /** Of the audit. */
  readonly database: Database;
  readonly bus: CommandBus;
  readonly recorder: Recorder;
  /** What the process of the walks is told. */
  readonly order: Pick<AuditOrder, 'databaseUrls' | 'sources' | 'providerUrl' | 'idempotencyRetentionHours'>;
  /** Those that need the memory of this process. */
  readonly walksHere: readonly Walk[];
  /** Where all logs stand. */
  anchors(): Promise<readonly TakenAnchor[]>;
  /** 0: no rolling audit. */
  readonly sharePercent: number;
  readonly periodMs: number;
  readonly firstRoundAfterMs: number;
  readonly ports: Ports;
  readonly logger: Logger;
};

export type Running = {
  /** Looks at everything once, or at what `checks` are about. Rejects when a walk could not come to its end. */
  full(
    checks: readonly string[],
    tell: (progress: { readonly phase: string; readonly done: number; readonly of: number }) => void,
    signal: AbortSignal,
  ): Promise<FullAudit>;
  /** As told last by whichever process walks; null: nobody ever has. */
  rolling(): Promise<RollingAudit | null>;
  /** Something was read here: what it was answered from is looked at. */
  sample(sample: Sample): void;
  stop(): Promise<void>;
};

export type FullAudit = {
  readonly walks: readonly (Pick<WalkState, 'looked' | 'workedMs' | 'found' | 'notRecorded'> & {
    readonly name: string;
  })[];
};

/** `heardAt`: RFC 3339; a process that walks is heard of every few seconds. */
export type RollingAudit = RoundsState & { readonly heardAt: string };

const lockName = 'twofold rolling audit';
const walkHereAgainMs = 60_000;
const noteEveryMs = 2_000;
/** Of the answers in memory: each costs this process a read. */
const hereEntitiesMax = 10;
const hereSharePercentMax = 1;
const hereShareOfFull = 50;

/** Starts the rolling audit, unless its share is 0. */
export function startRunning(options: RunningOptions): Running {
  const { database, recorder, ports, logger, sharePercent, periodMs } = options;
  const stopping = new AbortController();
  const reportTrouble = (walk: string, error: unknown): void =>
    logger.warn({ walk, err: error }, 'the audit could not look at something; it tries again');
  let slowSince: string | null = null;
  let tellWalker: ((sample: Sample) => void) | null = null;
  let hereNow: RoundsState | null = null;

  async function walkRolling(signal: AbortSignal): Promise<void> {
    const note = noting(database, ports, (error) => reportTrouble('rolling', error));
    let round = '';
    try {
      await walkInProcess(
        {
          ...options.order,
          mode: 'rolling',
          state: await rolling(),
          sharePercent,
          periodMs,
        },
        {
          recorder,
          reportTrouble,
          whenBegun: (tell) => (tellWalker = tell),
          onRounds(state) {
            note.put(state);
            tellWhetherInTime(state);
            if (state.last === null || state.last.endedAt === round) return;
            round = state.last.endedAt;
            takeAnchors().catch((error: unknown) => reportTrouble('anchors', error));
          },
        },
        signal,
      );
    } finally {
      tellWalker = null;
      note.stop();
    }
  }

  function tellWhetherInTime(state: RoundsState): void {
    const late = isLate(state, periodMs, ports.now());
    if (late && slowSince === null) {
      slowSince = state.beganAt;
      logger.warn(
        { periodMinutes: periodMs / 60_000, sharePercent, roundBeganAt: state.beganAt },
        'the rolling audit does not come round within its period: give it a larger share or a longer period',
      );
    } else if (!late && state.ended) slowSince = null;
  }

  async function walkHere(): Promise<void> {
    while (!stopping.signal.aborted && options.walksHere.length > 0) {
      try {
        await walkRounds(
          {
            ...here(stopping.signal),
            checks: [],
            sharePercent: Math.min(hereSharePercentMax, sharePercent),
            periodMs,
            changes: async () => '',
            samples: () => [],
          },
          hereNow,
          (state) => (hereNow = state),
        );
      } catch (error) {
        reportTrouble('here', error);
        await sleep(ports, walkHereAgainMs, stopping.signal);
      }
    }
  }

  const here = (signal: AbortSignal) => ({
    walks: options.walksHere,
    recorder,
    ports,
    pieceEntitiesMax: hereEntitiesMax,
    walksAtOnceMax: 1,
    signal,
    reportTrouble,
  });

  /** Kept of where the logs stand, unless they stand where they stood; that of the audit moves by this itself. */
  async function takeAnchors(): Promise<void> {
    const anchors = await options.anchors();
    const others = (of: readonly TakenAnchor[]): string =>
      JSON.stringify(of.filter(({ source }) => !source.startsWith(`${auditActor}.`)));
    await options.bus.execute({
      reads: [{ type: anchorsStream, id: anchorsId }],
      origin: { actor: auditActor, correlationId: anchorsId, causationId: anchorsId },
      run(scope) {
        const last = scope.state(anchorsStream, anchorsId).taken.at(-1);
        if (last !== undefined && others(last.anchors) === others(anchors)) return;
        scope.record(anchorsStream, anchorsId, { type: 'AnchorsTaken', data: { at: scope.now, anchors } });
      },
    });
  }

  async function rolling(): Promise<RollingAudit | null> {
    const rows = await database.query<{ state: string }>('rolling audit', 'select state from rolling_audit');
    return rows[0] === undefined ? null : (JSON.parse(rows[0].state) as RollingAudit);
  }

  async function rollingAndHere(): Promise<RollingAudit | null> {
    const state = await rolling();
    return state === null || hereNow === null ? state : { ...state, walks: { ...state.walks, ...hereNow.walks } };
  }

  /** The answer in memory, if it is still there. */
  async function lookHere({ table, id }: Sample): Promise<void> {
    const looking = { ...here(stopping.signal), checks: [], sharePercent: hereShareOfFull };
    for (const walk of options.walksHere) await lookAtEntities(looking, walk, [`cache/${table.slice(0, -1)}/${id}`]);
  }

  const lock = {
    database,
    name: lockName,
    ports,
    signal: stopping.signal,
    reportTrouble: (error: unknown) => reportTrouble('rolling', error),
  };
  const begin = async (): Promise<void> => {
    await sleep(ports, options.firstRoundAfterMs, stopping.signal);
    await Promise.all([onlyOne(lock, walkRolling), walkHere()]);
  };
  const underWay = sharePercent === 0 ? Promise.resolve() : begin();
  return {
    rolling: rollingAndHere,

    sample(sample) {
      tellWalker?.(sample);
      lookHere(sample).catch((error: unknown) => reportTrouble('here', error));
    },

    async full(checks, tell, signal) {
      // When the one fails, the other is not to go on.
      const over = new AbortController();
      const either = AbortSignal.any([signal, stopping.signal, over.signal]);
      const states = new Map<string, WalkState>();
      const told = (walks: WalkStates): void => {
        for (const [name, state] of Object.entries(walks)) states.set(name, state);
        const all = [...states];
        const sum = (of: (state: WalkState) => number): number =>
          all.reduce((total, [, state]) => total + of(state), 0);
        tell({
          phase: 'looking',
          done: sum(({ looked, of }) => Math.min(looked, of)),
          of: sum(({ of }) => of),
        });
      };
      const host = { recorder, reportTrouble, onWalks: told };
      const ended = await Promise.all([
        walkInProcess({ ...options.order, mode: 'once', checks }, host, either),
        walkOnce({ ...here(either), checks, sharePercent: hereShareOfFull }, {}, told),
      ]).finally(() => over.abort());
      ended.forEach(told);
      signal.throwIfAborted();
      stopping.signal.throwIfAborted();
      const failed = [...states].filter(([, { trouble }]) => trouble !== null);
      if (failed.length > 0)
        throw new Error(failed.map(([name, { trouble }]) => `${name} could not be walked: ${trouble}`).join('; '));
      await takeAnchors();
      return {
        walks: [...states].map(([name, { looked, workedMs, found, notRecorded }]) => ({
          name,
          looked,
          workedMs: Math.round(workedMs),
          found,
          notRecorded,
        })),
      };
    },

    async stop() {
      stopping.abort();
      await underWay;
    },
  };
}

/** Whether the round under way, or else the last one, has taken longer than the period. */
export function isLate({ ended, beganAt, last }: RoundsState, periodMs: number, nowMs: number): boolean {
  if (!ended) return nowMs - Date.parse(beganAt) > periodMs;
  return last !== null && Date.parse(last.endedAt) - Date.parse(last.beganAt) > periodMs;
}

/** Writes down what it is told last, at most every so often. */
function noting(database: Database, ports: Ports, failed: (error: unknown) => void) {
  let latest: RoundsState | null = null;
  let written: RoundsState | null = null;
  const write = (): void => {
    if (latest === null || latest === written) return;
    written = latest;
    const state: RollingAudit = { ...latest, heardAt: timeNow(ports) };
    database
      .query(
        'note rolling audit',
        `insert into rolling_audit (state) values ($1) on conflict (single) do update set state = excluded.state`,
        [JSON.stringify(state)],
      )
      .catch(failed);
  };
  const stop = ports.every(noteEveryMs, write);
  return {
    put: (state: RoundsState): void => void (latest = state),
    stop,
  };
}
