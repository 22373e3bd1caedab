/** The event log in memory: the same promises as PostgreSQL's, kept by being single-threaded. For tests and the simulator. */
import { chainedHash, hashOfNothing } from './batch-hash.ts';
import type { AppendBatch, AppendResult, EventLog, RecordedEvent, StreamId, StreamRow } from './event-log.ts';
import { eventId, slotOfStream } from './event-log.ts';
import type { EventTypes } from './event-types.ts';
import { memoryParkedMessages } from './memory-parked-messages.ts';
import { appendParameters } from './postgres-append.ts';
import { memorySources } from './source-epoch.ts';
import { Tail } from './tail.ts';

type StoredStream = { version: number; state: string; dueAt: string | null };
/** A log in memory is never taken back to a backup. */
const onlyEpoch = '00000000-0000-4000-8000-000000000000';

type KeptAnswer = { caller: string; key: string; fingerprint: string; answer: string };

/**
 * An empty log of `source` (`<service>.<shard>`). With `eventTypes` events are checked when written, decoded when read.
 *
 * Promises:
 * - positions are dense, from 1, in the order of the batch
 * - a stream that was read and has moved since refuses a batch that does not write it
 * - a key is taken once, and gives its first answer to whoever comes second
 * - a checkpoint moves only from its old value, together with the effect
 * - each batch of events is chained to the one before, and the head knows the last hash
 */
export function openMemoryLog(source: string, eventTypes?: EventTypes): EventLog {
  const events: RecordedEvent[] = [];
  const storedNames: string[] = [];
  const versions = new Set<string>();
  const streams = new Map<string, StoredStream>();
  const keys = new Map<string, KeptAnswer>();
  const checkpoints = new Map<string, number>();
  const parked = memoryParkedMessages();
  const tail = new Tail();
  let hash = hashOfNothing;
  const keyOf = (caller: string, key: string): string => JSON.stringify([caller, key]);

  const load = (wanted: readonly StreamId[]): StreamRow[] =>
    wanted.flatMap((stream) => {
      const stored = streams.get(stream);
      return stored === undefined
        ? []
        : [{ stream, version: stored.version, state: JSON.parse(stored.state) as unknown }];
    });

  function append(batch: AppendBatch): AppendResult {
    const head = events.length;
    const conflicts = batch.checks
      .filter((c) => (streams.get(c.stream)?.version ?? 0) !== c.version)
      .map((c) => c.stream);
    const duplicates = batch.keys.flatMap(({ caller, key }) => {
      const kept = keys.get(keyOf(caller, key));
      return kept === undefined ? [] : [{ ...kept, answer: JSON.parse(kept.answer) as unknown, head }];
    });
    const fenced = batch.checkpoints
      .filter((m) => (checkpoints.get(m.consumer) ?? 0) !== m.from || !parked.fits(m.consumer, m))
      .map((m) => m.consumer);
    if (conflicts.length > 0 || duplicates.length > 0 || fenced.length > 0)
      return { head, conflicts, duplicates, fenced };

    for (const event of batch.events) {
      if (versions.has(`${event.stream}@${event.version}`))
        throw new Error(`${event.stream} has a version ${event.version} already`);
    }
    const named = [
      ...batch.keys.map((one) => keyOf(one.caller, one.key)),
      ...batch.checkpoints.map((one) => one.consumer),
    ];
    if (new Set(named).size < named.length) throw new Error('a batch names a key or a consumer twice');
    storedNames.push(...batch.events.map((event) => eventTypes?.storedName(event) ?? event.type));
    const appended = batch.events.map((event, n): RecordedEvent => {
      versions.add(`${event.stream}@${event.version}`);
      const position = head + n + 1;
      return {
        ...event,
        data: JSON.parse(JSON.stringify(event.data)) as object,
        id: eventId(source, position),
        position,
        slot: slotOfStream(event.stream),
      };
    });
    const { content } = appendParameters(batch, eventTypes, []);
    if (content !== null) hash = chainedHash(hash, head + 1, content);
    events.push(...appended);
    for (const write of batch.writes) {
      streams.set(write.stream, { version: write.version, state: JSON.stringify(write.state), dueAt: write.dueAt });
    }
    for (const { caller, key, fingerprint, answer } of batch.keys) {
      if (answer === undefined) continue;
      keys.set(keyOf(caller, key), { caller, key, fingerprint, answer: JSON.stringify(answer) });
    }
    for (const move of batch.checkpoints) {
      checkpoints.set(move.consumer, move.to);
      parked.write(move.consumer, move);
    }
    tail.push(
      appended,
      appended.map(() => 0),
    );
    return { appended, head: events.length };
  }

  return {
    source,
    tail,
    parked,
    append: async (batch) => append(batch),
    appendAlone: async (wanted, decide) => append(decide(load(wanted))),
    load: async (wanted) => load(wanted),

    read: async (position, limit) => {
      const read = events.slice(position, position + limit);
      if (eventTypes === undefined) return read;
      return read.map((event) => ({ ...event, ...eventTypes.decode(storedNames[event.position - 1]!, event.data) }));
    },
    head: async () => events.length,
    anchor: async () => ({ epoch: onlyEpoch, position: events.length, hash }),

    due: async (now, limit) =>
      [...streams]
        .flatMap(([stream, { dueAt, version }]) => {
          if (dueAt === null || dueAt > now) return [];
          const last = events.findLast((event) => event.stream === stream && event.version === version);
          return [{ stream, dueAt, last: last === undefined ? null : { id: last.id, origin: last.origin } }];
        })
        .sort((a, b) => (a.dueAt < b.dueAt ? -1 : 1))
        .slice(0, limit),

    checkpoint: async (consumer) => checkpoints.get(consumer) ?? 0,
    rememberSource: memorySources((consumer) => checkpoints.get(consumer) ?? 0),
  };
}
