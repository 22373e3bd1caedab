/**
 * A batch of commands while it is decided: each on the state that the ones before it left, and in the end
 * one append of all their effects.
 */
import type { AnyStreamType, Done, StreamRef, StreamType, Work } from './command-bus.ts';
import type { DomainEvent } from './decider.ts';
import type { AppendBatch, CheckpointMove, NewEvent, StreamId } from './event-log.ts';
import { streamId } from './event-log.ts';

export type Stored = { readonly version: number; readonly state: unknown };
/** `base`: the version in the database, as far as known. */
type Entry = Stored & { readonly base: number };
export type View = Map<StreamId, Entry>;

/** Thrown by a scope that meets streams which are not in memory: they are loaded, and the command runs again. */
export class NotLoaded extends Error {
  readonly streams: ReadonlyMap<StreamId, unknown>;

  constructor(streams: ReadonlyMap<StreamId, unknown>) {
    super('streams are not loaded');
    this.streams = streams;
  }
}

export type Queued = {
  readonly work: Work<unknown>;
  readonly resolve: (done: Done<unknown>) => void;
  readonly reject: (error: unknown) => void;
  /** By the clock that only goes forward. */
  readonly givenMs: number;
  attempts: number;
};

type Write = Stored & { readonly dueAt: string | null; readonly isOver: boolean };

/** A command that has been decided on top of the ones before it. */
export type Decided = {
  readonly queued: Queued;
  readonly result: unknown;
  readonly reads: readonly StreamId[];
  readonly events: readonly NewEvent[];
  readonly writes: ReadonlyMap<StreamId, Write>;
  /** Undefined: the key is checked, and not taken. */
  readonly kept: unknown;
  readonly at: string;
};

/**
 * Decides one command on `view`, and leaves its effect there; `before` takes what stood there before. Streams that
 * are not in the view `recall` may put there from memory. Throws `NotLoaded` when it cannot, or what the command throws.
 */
export function decide(
  queued: Queued,
  view: View,
  before: View,
  now: string,
  recall: (view: View, stream: StreamId) => boolean,
): Decided {
  const { work } = queued;
  const reads = new Set(work.reads.map((ref) => streamId(ref.type.name, ref.id)));
  const events: NewEvent[] = [];
  const writes = new Map<StreamId, Write>();
  let origin = work.origin;

  const isThere = (stream: StreamId): boolean => view.has(stream) || recall(view, stream);
  const entryOf = (type: AnyStreamType, id: string): Entry => {
    const stream = streamId(type.name, id);
    if (!isThere(stream)) throw new NotLoaded(new Map([[stream, type.initial]]));
    reads.add(stream);
    return view.get(stream)!;
  };
  const needAll = (refs: readonly StreamRef[]): void => {
    const missing = refs.flatMap(({ type, id }): [StreamId, unknown][] => {
      const stream = streamId(type.name, id);
      return isThere(stream) ? [] : [[stream, type.initial]];
    });
    if (missing.length > 0) throw new NotLoaded(new Map(missing));
  };
  const move = (type: AnyStreamType, id: string, event: DomainEvent): number => {
    const stream = streamId(type.name, id);
    const entry = entryOf(type, id);
    if (!before.has(stream)) before.set(stream, entry);
    const version = entry.version + 1;
    const state: unknown = type.evolve(entry.state, event, id);
    view.set(stream, { version, state, base: entry.base });
    writes.set(stream, { version, state, dueAt: type.dueAt?.(state) ?? null, isOver: type.isOver?.(state) ?? false });
    return version;
  };

  const result = work.run({
    now,
    state: <State>(type: StreamType<State>, id: string) => entryOf(type, id).state as State,
    version: (type, id) => entryOf(type, id).version,
    because(reason) {
      origin = reason;
    },
    record(type, id, event, also = []) {
      needAll(also);
      const version = move(type, id, event);
      events.push({ stream: streamId(type.name, id), version, type: event.type, data: event.data, at: now, origin });
      for (const ref of also) move(ref.type, ref.id, event);
    },
  });
  const kept = work.idempotency === undefined ? undefined : work.keep === undefined ? result : work.keep(result);
  return { queued, result, reads: [...reads], events, writes, kept, at: now };
}

/** One batch of all commands' effects: each stream checked once, at the version the database should have, and written once. */
export function batchOf(decided: readonly Decided[], view: View): AppendBatch {
  const expected = new Map<StreamId, number>();
  const last = new Map<StreamId, Write>();
  const events: NewEvent[] = [];
  const keys: AppendBatch['keys'][number][] = [];
  const checkpoints: CheckpointMove[] = [];
  for (const one of decided) {
    for (const stream of one.reads) expected.set(stream, view.get(stream)!.base);
    for (const [stream, write] of one.writes) last.set(stream, write);
    events.push(...one.events);
    const { idempotency, checkpoint } = one.queued.work;
    if (idempotency !== undefined) keys.push({ ...idempotency, answer: one.kept, at: one.at });
    if (checkpoint !== undefined) checkpoints.push(checkpoint);
  }
  const checks: AppendBatch['checks'][number][] = [];
  for (const [stream, version] of expected) checks.push({ stream, version });
  const writes: AppendBatch['writes'][number][] = [];
  for (const [stream, { version, state, dueAt }] of last) writes.push({ stream, version, state, dueAt });
  return { checks, events, writes, keys, checkpoints };
}
