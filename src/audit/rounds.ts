/** The rolling audit: everything once within a period, and what changes as soon as it has changed. */
import { type Ports, sleep, timeNow } from '#platform/ports.ts';
import type { Sample } from './sampling.ts';
import { lookAtEntities, walkBegins, type WalkingOptions, walkOnce, type WalkStates } from './walking.ts';

export type RoundsState = {
  /** RFC 3339, of the round under way, or of the last one. */
  readonly beganAt: string;
  readonly ended: boolean;
  readonly walks: WalkStates;
  /** The last round in which every walk came to its end. */
  readonly last: {
    readonly beganAt: string;
    readonly endedAt: string;
    readonly looked: number;
    readonly workedMs: number;
  } | null;
  /** What was worked since the process has begun, with what was looked at for having changed. */
  readonly workedMs: number;
};

export type RoundsOptions = WalkingOptions & {
  readonly periodMs: number;
  /** Differs when something has happened. */
  changes(): Promise<string>;
  /** What was read since it was asked last. */
  samples(): readonly Sample[];
};

const freshEveryMs = 10_000;
const freshEntitiesMax = 20;
/** What was looked at for having changed is not looked at again for so long. */
const freshAgainMs = 60_000;
const freshRemembered = 10_000;

/** Goes round until `signal` is aborted; `told` hears of every piece. */
export async function walkRounds(
  options: RoundsOptions,
  before: RoundsState | null,
  told: (state: RoundsState) => void,
): Promise<void> {
  const { ports, signal, periodMs } = options;
  const lookAtFresh = freshLooks(options);
  let state: RoundsState =
    before === null ? { ...newRound(ports, null), ended: true, beganAt: timeNow(ports) } : { ...before, workedMs: 0 };
  let freshWorkedMs = 0;
  let roundsWorkedMs = 0;
  const tell = (next: RoundsState): void => {
    state = { ...next, workedMs: roundsWorkedMs + freshWorkedMs };
    told(state);
  };
  const fresh = async (): Promise<void> => {
    freshWorkedMs += (await lookAtSamples(options)) + (await lookAtFresh());
  };

  let next = before === null || !before.ended ? ports.now() : Date.parse(before.beganAt) + periodMs;
  while (!signal.aborted) {
    // A clock that went back does not stop the rounds.
    next = Math.min(next, ports.now() + periodMs);
    while (ports.now() < next && !signal.aborted) {
      await fresh();
      tell(state);
      await sleep(ports, Math.min(freshEveryMs, Math.max(0, next - ports.now())), signal);
    }
    if (signal.aborted) return;
    if (state.ended) tell(newRound(ports, state));
    const { beganAt } = state;
    const workedBefore = roundsWorkedMs - workedIn(state.walks);
    const walks = await walkOnce(
      options,
      state.walks,
      (walked) => {
        roundsWorkedMs = workedBefore + workedIn(walked);
        tell({ ...state, walks: walked });
      },
      fresh,
    );
    if (signal.aborted) return;
    const isFull = Object.values(walks).every(({ trouble }) => trouble === null);
    const round = { beganAt, endedAt: timeNow(ports), looked: lookedIn(walks), workedMs: workedIn(walks) };
    tell({ ...state, walks, ended: true, last: isFull ? round : state.last });
    next = Date.parse(beganAt) + periodMs;
  }
}

/** All walks from their beginning; when each has last come to its end is known from before. */
const newRound = (ports: Ports, before: RoundsState | null): RoundsState => ({
  beganAt: timeNow(ports),
  ended: false,
  walks: Object.fromEntries(
    Object.entries(before?.walks ?? {}).map(([name, { endedAt, of }]) => [name, { ...walkBegins, of, endedAt }]),
  ),
  last: before?.last ?? null,
  workedMs: 0,
});

const workedIn = (walks: WalkStates): number => Object.values(walks).reduce((sum, { workedMs }) => sum + workedMs, 0);
const lookedIn = (walks: WalkStates): number => Object.values(walks).reduce((sum, { looked }) => sum + looked, 0);

/** The walk that looks at the rows of a table, by its name, once there is one. */
const walkOfTable: Readonly<Record<Sample['table'], string>> = {
  orders: 'read-rows',
  customers: 'read-sums',
  products: 'read-products',
};

/** Resolves to how long it took. */
async function lookAtSamples(options: RoundsOptions): Promise<number> {
  let workedMs = 0;
  for (const { table, id } of options.samples()) {
    const walk = options.walks.find(({ name }) => name === walkOfTable[table]);
    if (walk === undefined) continue;
    try {
      workedMs += (await lookAtEntities(options, walk, [`queries/${table}/${id}`])).workedMs;
    } catch (error) {
      options.reportTrouble(walk.name, error);
    }
  }
  return workedMs;
}

/** Looks at what changed last, when something has changed and it is time; resolves to how long that took. */
function freshLooks(options: RoundsOptions): () => Promise<number> {
  const { ports, walks, signal } = options;
  const lookedAt = new Map<string, number>();
  let lastMs = -Infinity;
  let lastChanges = '';

  async function look(): Promise<number> {
    const changes = await options.changes();
    if (changes === lastChanges) return 0;
    let workedMs = 0;
    for (const walk of walks) {
      if (walk.freshest === undefined || signal.aborted) continue;
      const entities = (await walk.freshest(freshEntitiesMax)).filter((entity) => {
        const key = `${walk.name} ${entity}`;
        if (ports.elapsed() - (lookedAt.get(key) ?? -Infinity) < freshAgainMs) return false;
        lookedAt.delete(key);
        lookedAt.set(key, ports.elapsed());
        return true;
      });
      workedMs += (await lookAtEntities(options, walk, entities)).workedMs;
    }
    for (const key of lookedAt.keys()) {
      if (lookedAt.size <= freshRemembered) break;
      lookedAt.delete(key);
    }
    lastChanges = changes;
    return workedMs;
  }

  return async () => {
    if (ports.elapsed() - lastMs < freshEveryMs) return 0;
    try {
      return await look();
    } catch (error) {
      if (!signal.aborted) options.reportTrouble('what changed last', error);
      return 0;
    } finally {
      lastMs = ports.elapsed();
    }
  };
}
