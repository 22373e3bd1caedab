/**
 * Going over everything: walk by walk, piece by piece, with rests in between. What one look finds is looked at
 * again with fresh reads, since the system moves on meanwhile: only what stays is told.
 */
import { type Ports, sleep, timeNow } from '#platform/ports.ts';
import type { Finding, Walk } from './check.ts';
import { fingerprintOf } from './finding.ts';

export type DivergenceName = Pick<Finding, 'check' | 'entity'>;

/** Who keeps what is found. */
export type Recorder = {
  /** Findings that stay, also those that are recorded already. Resolves to the checks of which no more are taken. */
  confirmed(findings: readonly Finding[]): Promise<readonly string[]>;
  /** Recorded as open, and not to be found any more. */
  gone(names: readonly DivergenceName[]): Promise<void>;
  /** What is recorded as open of these checks. */
  open(checks: readonly string[]): Promise<readonly DivergenceName[]>;
};

export type WalkingOptions = {
  readonly walks: readonly Walk[];
  readonly recorder: Recorder;
  readonly ports: Ports;
  /** Of the time it works; the rest it rests. */
  readonly sharePercent: number;
  readonly pieceEntitiesMax: number;
  /** Walks under way at once: while one folds what it has read, the others read. */
  readonly walksAtOnceMax: number;
  /** What is asked for; none: all checks. */
  readonly checks: readonly string[];
  readonly signal: AbortSignal;
  /** What went wrong with one walk; it is tried again. */
  reportTrouble(walk: string, error: unknown): void;
};

/** How far one walk has come. */
export type WalkState = {
  /** Null: at its beginning, or its end. */
  readonly after: string | null;
  readonly ended: boolean;
  readonly looked: number;
  readonly of: number;
  readonly workedMs: number;
  /** Confirmed in this round, and those of them that no more were taken of. */
  readonly found: number;
  readonly notRecorded: number;
  /** When it has last come to its end, RFC 3339. */
  readonly endedAt: string | null;
  /** Why it could not come to its end this time, or what it has left out on the way. */
  readonly trouble: string | null;
};

export type WalkStates = Readonly<Record<string, WalkState>>;

export const walkBegins: WalkState = {
  after: null,
  ended: false,
  looked: 0,
  of: 0,
  workedMs: 0,
  found: 0,
  notRecorded: 0,
  endedAt: null,
  trouble: null,
};

/** A finding is looked at up to so many times, with a pause before each that doubles. */
const looksMax = 5;
const lookAgainMs = 500;
/** Before what was open and is not there is called gone: what changes just now is left out by some checks. */
const goneAfterMs = 3_000;
/** Of one piece, before the walk is given up for this time. */
const attemptsMax = 3;
const tryAgainMs = 2_000;
/** However long a piece took. */
const restMaxMs = 120_000;
/** Of what was confirmed in one walk it is remembered that it need not be looked for. */
const seenMax = 10_000;

/**
 * Looks at everything once, going on where `states` says. `told` hears how far it has come after each piece;
 * `between` is awaited before each. Resolves to the states at the end; a walk that cannot be walked says why in its.
 */
export async function walkOnce(
  options: WalkingOptions,
  states: WalkStates,
  told: (states: WalkStates) => void,
  between: () => Promise<void> = async () => {},
): Promise<WalkStates> {
  const { signal } = options;
  const walks = options.walks.filter((walk) => walk.checks.some(({ name }) => isAsked(options, name)));
  let now = Object.fromEntries(walks.map(({ name }) => [name, states[name] ?? walkBegins]));
  const sizes = await Promise.all(walks.map((walk) => walk.size().catch(() => 0)));
  now = Object.fromEntries(
    walks.map(({ name }, n) => [name, { ...now[name]!, of: Math.max(now[name]!.of, sizes[n]!) }]),
  );
  const waiting = walks.values();
  const walkNext = async (): Promise<void> => {
    for (const walk of waiting) {
      const keep = (state: WalkState): void => {
        now = { ...now, [walk.name]: state };
        told(now);
      };
      if (!now[walk.name]!.ended && !signal.aborted) await walkOne(options, walk, now[walk.name]!, keep, between);
    }
  };
  await Promise.all(Array.from({ length: options.walksAtOnceMax }, walkNext));
  return now;
}

async function walkOne(
  options: WalkingOptions,
  walk: Walk,
  from: WalkState,
  keep: (state: WalkState) => void,
  between: () => Promise<void>,
): Promise<void> {
  const { ports, signal, recorder } = options;
  const seen = new Set<string>();
  let state = from;
  try {
    while (!signal.aborted) {
      await between();
      const worked = workOf(options, walk);
      const piece = await trying(options, walk, () => walk.look(state.after, options.pieceEntitiesMax));
      let workedMs = worked();
      let notRecorded = 0;
      const findings = piece.findings.filter(({ check }) => isAsked(options, check));
      if (findings.length > 0) {
        const confirmed = await lookAgain(options, walk, findings);
        workedMs += confirmed.workedMs;
        for (const name of confirmed.findings) if (seen.size < seenMax) seen.add(nameOf(name));
        const full = await recorder.confirmed(confirmed.findings);
        notRecorded = confirmed.findings.filter(({ check }) => full.includes(check)).length;
        state = { ...state, found: state.found + confirmed.findings.length };
      }
      state = {
        ...state,
        after: piece.next,
        looked: state.looked + piece.looked,
        of: Math.max(state.of, state.looked + piece.looked),
        workedMs: state.workedMs + workedMs,
        notRecorded: state.notRecorded + notRecorded,
        trouble: piece.leftOut ?? state.trouble,
      };
      if (piece.next === null) break;
      keep(state);
      await rest(options, workedMs);
    }
    if (signal.aborted) return;
    const atEnd = { ...state, of: state.looked, ended: true };
    // What was left out may be there, whether it was found or not.
    if (state.trouble !== null) return keep(atEnd);
    await lookForGone(options, walk, seen);
    keep({ ...atEnd, endedAt: timeNow(ports) });
  } catch (error) {
    if (!signal.aborted) keep({ ...state, ended: true, trouble: (error as Error).message });
  }
}

/** Looks at single entities, such as those that changed last. */
export async function lookAtEntities(
  options: WalkingOptions,
  walk: Walk,
  entities: readonly string[],
): Promise<{ readonly workedMs: number }> {
  const { signal, recorder } = options;
  let workedMs = 0;
  for (const entity of entities) {
    if (signal.aborted) break;
    const worked = workOf(options, walk);
    const first = await walk.lookAt(entity);
    let took = worked();
    if (first.length > 0) {
      const confirmed = await lookAgain(options, walk, first);
      took += confirmed.workedMs;
      await recorder.confirmed(confirmed.findings);
    }
    workedMs += took;
    await rest(options, took);
  }
  return { workedMs };
}

/**
 * Those of `findings` that stay: that two looks in a row say the same of, or as many looks as there are say something
 * of. Looks with fresh reads and growing pauses.
 */
async function lookAgain(
  options: WalkingOptions,
  walk: Walk,
  findings: readonly Finding[],
): Promise<{ readonly findings: readonly Finding[]; readonly workedMs: number }> {
  const { ports, signal } = options;
  const confirmed: Finding[] = [];
  let open = [...findings];
  let workedMs = 0;
  for (let look = 2; look <= looksMax && open.length > 0 && !signal.aborted; look += 1) {
    await sleep(ports, lookAgainMs * 2 ** (look - 2), signal);
    const worked = workOf(options, walk);
    const fresh = new Map<string, readonly Finding[]>();
    const stillOpen: Finding[] = [];
    for (const before of open) {
      if (!fresh.has(before.entity)) fresh.set(before.entity, await walk.lookAt(before.entity));
      const now = fresh.get(before.entity)!.find((one) => nameOf(one) === nameOf(before));
      if (now === undefined) continue;
      const stays = look === looksMax || fingerprintOf(now) === fingerprintOf(before);
      (stays ? confirmed : stillOpen).push(now);
    }
    open = stillOpen;
    workedMs += worked();
  }
  return { findings: confirmed, workedMs };
}

/** What is recorded as open, and was not met on the way. */
async function lookForGone(options: WalkingOptions, walk: Walk, seen: ReadonlySet<string>): Promise<void> {
  const { ports, signal, recorder } = options;
  const open = await recorder.open(walk.checks.map(({ name }) => name).filter((name) => isAsked(options, name)));
  let missing = open.filter((name) => !seen.has(nameOf(name)));
  for (const pauseMs of [0, goneAfterMs]) {
    if (missing.length > 0 && pauseMs > 0) await sleep(ports, pauseMs, signal);
    const absent: DivergenceName[] = [];
    for (const name of missing) {
      if (signal.aborted) return;
      const found = (await walk.lookAt(name.entity)).find((one) => nameOf(one) === nameOf(name));
      if (found === undefined) absent.push(name);
      else await recorder.confirmed([found]);
    }
    missing = absent;
  }
  if (missing.length > 0 && !signal.aborted) await recorder.gone(missing);
}

/** Tells how long `walk` has worked since. */
function workOf({ ports }: WalkingOptions, walk: Walk): () => number {
  const idleMs = (): number => walk.waitedMs?.() ?? 0;
  const beganMs = ports.elapsed() - idleMs();
  return () => ports.elapsed() - idleMs() - beganMs;
}

async function trying<T>(options: WalkingOptions, walk: Walk, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      if (attempt >= attemptsMax || options.signal.aborted) throw error;
      options.reportTrouble(walk.name, error);
      await sleep(options.ports, tryAgainMs * attempt, options.signal);
    }
  }
}

/**
 * In proportion to what was worked, by the wall: on a busy machine work takes longer, and it rests longer. What it
 * takes of the machine, its own time and that of the databases that work for it, is no more than that.
 */
async function rest({ ports, sharePercent, signal }: WalkingOptions, workedMs: number): Promise<void> {
  const restMs = Math.min(restMaxMs, workedMs * (100 / sharePercent - 1));
  if (restMs >= 1) await sleep(ports, restMs, signal);
}

const isAsked = ({ checks }: WalkingOptions, check: string): boolean => checks.length === 0 || checks.includes(check);

const nameOf = ({ check, entity }: DivergenceName): string => `${check} ${entity}`;
