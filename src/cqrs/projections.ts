/** Runs the projections of a read database: one transaction per batch for all of them. */
import { failpoint } from '#platform/failpoint.ts';
import { type Ports, systemPorts } from '#platform/ports.ts';
import { DatabaseUnavailable } from '#platform/postgres.ts';
import { batchEventsMax, type Consumer, type ReportTrouble, startConsumer, waitForEventsMs } from './consumer.ts';
import { EngineError, isEngineError } from './errors.ts';
import { type CheckpointMove, type RecordedEvent, serviceOf } from './event-log.ts';
import type { Feed } from './feed.ts';
import { gathering } from './gathering.ts';
import { inOrder } from './in-order.ts';
import { createParking } from './parking.ts';
import type { AfterCommit, Projection } from './projection.ts';
import type { ReadStore } from './read-store.ts';
import { assertSourceStands } from './source-epoch.ts';

/** How far apart batches begin. */
const gatherMs = 40;
/** Those that lag go on for so long before it is the turn of the others again. */
const catchUpMs = 100;
/** They try again after what failed, with growing pauses. */
const tryAgainFirstMs = 1_000;
const tryAgainMostMs = 60_000;

/**
 * Runs those projections of the read database that fold the log of `feed`. One transaction per batch for all
 * of them. They go together, so an event that one of them cannot fold is parked for all, with its stream.
 *
 * Promises:
 * - projections of a log apply each event once, and only those of its service run
 * - a projection that throws leaves neither rows nor checkpoint, nor do its neighbours, until it is mended
 * - of two workers at once each event is applied once, and both come along
 * - what is to be done after the commit is not done when the commit fails
 * - of each event it is told once that a read shows it
 * - a new projection catches up beside the others, and then goes together with them
 * - a projection that lags and cannot go on holds up none of the others, and says so
 * - what is taken back of the parked messages reaches each projection once, also one that lags
 * - a read database that is gone is trouble, and gone on with when it is back
 * - rows that others have replaced are gone on with as they are, within seconds also when nothing happens
 * - projections whose source went back apply and skip nothing, say so, and go on once that is settled
 * - a read model of another version of the code is left alone until it is rebuilt
 * - whoever made rows that a newer version has taken over forgets what it remembers of them
 */
export function startProjections(options: {
  readonly feed: Feed;
  readonly ports?: Ports;
  readonly store: ReadStore;
  readonly projections: readonly Projection[];
  /**
   * Called before going on from a checkpoint that was read anew, or with parked messages that were, and as long as a newer
   * program has taken over: rows may have changed without the hooks of `apply`.
   */
  readonly onResume: () => void;
  /** Told of events once a read shows them: each of them once, in whichever process has applied it. */
  readonly onVisible?: (events: readonly RecordedEvent[]) => void;
  readonly reportTrouble: ReportTrouble;
}): Consumer {
  const { feed, store, ports = systemPorts, reportTrouble } = options;
  const name = `projections-of-${feed.source}`;
  const service = serviceOf(feed.source);
  const projections = options.projections.filter((projection) => projection.services.includes(service));
  const consumerOf = (projection: Projection): string => `${projection.name}-of-${feed.source}`;
  /** By consumer; `name` itself stands for what they have come through together. */
  const positions = new Map<string, number>();
  const consumers = [name, ...projections.map(consumerOf)];
  const positionOf = (projection: Projection): number => positions.get(consumerOf(projection)) ?? 0;
  const slowest = (): number => Math.min(...projections.map(positionOf));
  const furthest = (): number => Math.max(...positions.values());
  /** Of those that lag and cannot go on: when they try again, in milliseconds of `ports.elapsed`. */
  const stuck = new Map<Projection, { readonly pauseMs: number; readonly untilMs: number }>();
  const restMs = (projection: Projection): number => (stuck.get(projection)?.untilMs ?? 0) - ports.elapsed();
  const lagging = (): Projection[] => projections.filter((projection) => positionOf(projection) < furthest());
  let afterCommitFailed: unknown = null;

  const gathered = gathering(feed, { ports, everyMs: gatherMs, progress: () => consumer.progress });

  const parking = createParking({
    consumer: name,
    feed: gathered,
    ports,
    parked: store.parked,
    reportTrouble,
    batchEventsMax,
    waitForEventsMs: () => Math.max(0, Math.min(waitForEventsMs, ...lagging().map(restMs))),
    checkpoint: async () => furthest(),
    onOthers: () => options.onResume(),
    concerns: () => true,
    async apply(events, move) {
      const { unparks = [] } = move;
      // Those that lag have passed what is taken back, or come to it yet; where they are, nobody has moved them meanwhile.
      const folding = projections.filter((one) => positionOf(one) === move.from || positionOf(one) >= unparks[0]!);
      const moves = (unparks.length > 0 ? projections : folding).map((projection) => {
        const from = positionOf(projection);
        return { consumer: consumerOf(projection), from, to: from === move.from ? move.to : from };
      });
      await fold(folding, events, [{ ...move, from: positions.get(name) ?? 0 }, ...moves]);
      options.onVisible?.(events);
    },
  });

  /** Folds `events` and makes the moves, all of it or nothing. */
  async function fold(
    folding: readonly Projection[],
    events: readonly RecordedEvent[],
    moves: readonly CheckpointMove[],
  ): Promise<void> {
    failpoint('projection-reading');
    const afterCommit = await store.apply(moves, async (rows) => {
      if (events.length === 0) return [];
      const applied = await Promise.allSettled(folding.map((projection) => projection.apply(service, events, rows)));
      return applied.map((one) => {
        if (one.status === 'rejected') throw one.reason;
        return one.value;
      });
    });
    failpoint('projection-committed');
    for (const { consumer, to } of moves) positions.set(consumer, to);
    for (const act of afterCommit) perform(act);
  }

  /** What fails here has been applied: it is trouble, but nothing to apply again. */
  function perform(act: AfterCommit | void): void {
    try {
      act?.(store.committed);
    } catch (error) {
      afterCommitFailed ??= error;
    }
  }

  /**
   * Those that lag (new ones, or such as were taken back) go on for a moment, the ones furthest behind first, without what is parked:
   * whoever takes that back applies it to them, too. What fails concerns none of the others.
   */
  async function catchUp(): Promise<void> {
    const untilMs = ports.elapsed() + catchUpMs;
    do {
      const ready = lagging().filter((projection) => restMs(projection) <= 0);
      if (ready.length === 0) return;
      const from = Math.min(...ready.map(positionOf));
      const together = ready.filter((projection) => positionOf(projection) === from);
      if (!(await goOn(together, from)) && together.length > 1) for (const one of together) await goOn([one], from);
    } while (ports.elapsed() < untilMs);
  }

  /** Resolves to false if they cannot: one alone rests then, and says why. */
  async function goOn(some: readonly Projection[], from: number): Promise<boolean> {
    try {
      await applyTo(some, from);
      for (const one of some) stuck.delete(one);
      return true;
    } catch (error) {
      if (error instanceof EngineError || error instanceof DatabaseUnavailable) throw error;
      const [one] = some as [Projection];
      if (some.length === 1) {
        const pauseMs = Math.min(2 * (stuck.get(one)?.pauseMs ?? tryAgainFirstMs / 2), tryAgainMostMs);
        stuck.set(one, { pauseMs, untilMs: ports.elapsed() + pauseMs });
        const why = `${one.name} lags, and cannot go on from ${from}: ${(error as Error).message}`;
        reportTrouble(name, new Error(why, { cause: error }));
      }
      return false;
    }
  }

  async function applyTo(some: readonly Projection[], from: number): Promise<void> {
    const ahead = [...positions.values()].filter((position) => position > from).map((position) => position - from);
    const passed = new Set(await store.parked.positions(name));
    const events = inOrder(await feed.next(from, Math.min(batchEventsMax, ...ahead), gatherMs), from);
    const last = events.at(-1);
    if (last === undefined) return;
    const applied = events.filter((event) => !passed.has(event.position));
    const odd = applied.find((event) => event.unreadable !== undefined);
    if (odd !== undefined) throw new Error(`${odd.id} (${odd.type}) cannot be read: ${odd.unreadable!.detail}`);
    const moves = some.map((projection) => ({ consumer: consumerOf(projection), from, to: last.position }));
    await fold(some, applied, moves);
  }

  const consumer = startConsumer({
    ports,
    name,
    feed: gathered,
    reportTrouble,
    ...parking,
    wake() {
      stuck.clear();
      parking.wake();
    },
    async start() {
      await store.takeOver(projections).catch((error: unknown) => {
        // The newer program goes on without telling this one.
        if (isEngineError(error, 'read-model-version')) options.onResume();
        throw error;
      });
      const checkpoints = await store.checkpoints(consumers);
      await assertSourceStands(feed, checkpoints, store.rememberSource);
      for (const [moved, position] of checkpoints) positions.set(moved, position);
      await parking.start();
      stuck.clear();
      return slowest();
    },
    async step() {
      const before = [slowest(), furthest()];
      await parking.step();
      if (parking.paused() === null) await catchUp();
      // An apply finds out by itself; this is for when there is nothing to apply.
      if (slowest() === before[0] && furthest() === before[1]) await store.assertCurrent(consumers);
      if (afterCommitFailed !== null) {
        const error = afterCommitFailed;
        afterCommitFailed = null;
        throw error;
      }
      return slowest();
    },
  });
  return consumer;
}
