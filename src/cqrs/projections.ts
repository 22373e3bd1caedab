/** Runs the projections of a read database: one transaction per batch for all of them. */
import { failpoint } from '#platform/failpoint.ts';
import { type Ports, systemPorts } from '#platform/ports.ts';
import { batchEventsMax, type Consumer, type ReportTrouble, startConsumer, waitForEventsMs } from './consumer.ts';
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
 * - a new projection catches up alone, and then goes together with the others
 * - a read database that is gone is trouble, and gone on with when it is back
 * - rows that others have replaced are gone on with as they are, within seconds also when nothing happens
 * - projections whose source went back apply and skip nothing, say so, and go on once that is settled
 * - a read model of another version of the code is left alone until it is rebuilt
 */
export function startProjections(options: {
  readonly feed: Feed;
  readonly ports?: Ports;
  readonly store: ReadStore;
  readonly projections: readonly Projection[];
  /**
   * Called before going on from a checkpoint that was read anew, or with parked messages that were: rows may have
   * changed without the hooks of `apply`.
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
  /** Passed without being applied by those that go together. */
  let passed: ReadonlySet<number> = new Set();
  let afterCommitFailed: unknown = null;

  const gathered = gathering(feed, { ports, everyMs: gatherMs, progress: () => consumer.progress });

  const parking = createParking({
    consumer: name,
    feed: gathered,
    ports,
    parked: store.parked,
    reportTrouble,
    batchEventsMax,
    waitForEventsMs,
    checkpoint: async () => Math.max(...positions.values()),
    onOthers: () => options.onResume(),
    concerns: () => true,
    async apply(events, move) {
      const together = projections.map((projection) => ({
        consumer: consumerOf(projection),
        from: move.from,
        to: move.to,
      }));
      await fold(projections, events, [{ ...move, from: positions.get(name) ?? 0 }, ...together]);
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

  /** A projection that lags (a new one) catches up alone, without what the others have parked; from then on all go together. */
  async function catchUp(from: number): Promise<void> {
    const lagging = projections.filter((projection) => positionOf(projection) === from);
    const ahead = [...positions.values()].filter((position) => position > from).map((position) => position - from);
    const events = inOrder(await feed.next(from, Math.min(batchEventsMax, ...ahead), waitForEventsMs), from);
    const last = events.at(-1);
    if (last === undefined) return;
    const applied = events.filter((event) => !passed.has(event.position));
    const odd = applied.find((event) => event.unreadable !== undefined);
    if (odd !== undefined) throw new Error(`${odd.id} (${odd.type}) cannot be read: ${odd.unreadable!.detail}`);
    await fold(
      lagging,
      applied,
      lagging.map((projection) => ({ consumer: consumerOf(projection), from, to: last.position })),
    );
  }

  const slowest = (): number => Math.min(...projections.map(positionOf));

  const consumer = startConsumer({
    ports,
    name,
    feed: gathered,
    reportTrouble,
    ...parking,
    async start() {
      await store.takeOver(projections);
      const checkpoints = await store.checkpoints(consumers);
      await assertSourceStands(feed, checkpoints, store.rememberSource);
      for (const [moved, position] of checkpoints) positions.set(moved, position);
      await parking.start();
      if (slowest() < Math.max(...positions.values())) passed = new Set(await store.parked.positions(name));
      return slowest();
    },
    async step() {
      const from = slowest();
      if (from < Math.max(...positions.values())) await catchUp(from);
      else await parking.step();
      // An apply finds out by itself; this is for when there is nothing to apply.
      if (slowest() === from) await store.assertCurrent(consumers);
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
