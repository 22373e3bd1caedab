/**
 * The log of one shard of one service: what happened, in an order without holes. It is the service's
 * only outbox; whoever wants to know reads it from a position.
 */
import type { DomainEvent } from './decider.ts';
import type { Unreadable } from './event-types.ts';
import type { ParkedMessages, Parking } from './parked-messages.ts';
import { slotOf } from './slots.ts';
import type { RememberSource } from './source-epoch.ts';
import type { Tail } from './tail.ts';

/** Who asked, why, and within which trace. Recorded with every event. */
export type Origin = {
  /** `operator`, `customer:<id>`, or the name of the consumer or timer that reacted. */
  readonly actor: string;
  /** The same for everything that follows from one request. */
  readonly correlationId: string;
  /** The request or event that this follows from. */
  readonly causationId: string;
  readonly traceparent?: string;
  /** Why somebody has intervened. */
  readonly reason?: string;
};

export type RecordedEvent<Event extends DomainEvent = DomainEvent> = Event & {
  /** `<service>-<shard>-<position>`: what the causation of a later event names. */
  readonly id: string;
  /** 1, 2, 3 … per shard, in commit order. */
  readonly position: number;
  readonly stream: string;
  /** 1, 2, 3 … per home stream. */
  readonly version: number;
  readonly slot: number;
  /** RFC 3339, by the writer's clock. */
  readonly at: string;
  readonly origin: Origin;
  /** `type` and `data` are as stored, and this program cannot take them: never applied, never dropped, but parked. */
  readonly unreadable?: Unreadable;
};

/** `<type>-<id>`; streams of one entity share their id, hence their slot. */
export type StreamId = string;

export type StreamRow = {
  readonly stream: StreamId;
  readonly version: number;
  /** fold(events) of the stream; plain JSON. */
  readonly state: unknown;
};

export type NewEvent = {
  readonly stream: StreamId;
  /** Of the home stream. */
  readonly version: number;
  readonly type: string;
  readonly data: object;
  readonly at: string;
  readonly origin: Origin;
};

/**
 * One batch of commands' effects: all of it is recorded in one transaction, or none. `checks` are the
 * streams that were read, at the versions they were read at (0: absent); `writes` the final state of
 * each stream that changed. A stream moved by events of another home counts them in its version.
 */
export type AppendBatch = {
  readonly checks: readonly { readonly stream: StreamId; readonly version: number }[];
  readonly events: readonly NewEvent[];
  readonly writes: readonly {
    readonly stream: StreamId;
    readonly version: number;
    readonly state: unknown;
    readonly dueAt: string | null;
  }[];
  /** A key without an answer is checked, and not taken. */
  readonly keys: readonly {
    readonly caller: string;
    readonly key: string;
    readonly fingerprint: string;
    readonly answer: unknown;
    readonly at: string;
  }[];
  readonly checkpoints: readonly CheckpointMove[];
};

/** How far a consumer has come, from what it knew last; with the messages that it passed without applying them. */
export type CheckpointMove = Parking & { readonly consumer: string; readonly from: number; readonly to: number };

export type AppendResult =
  | { readonly appended: readonly RecordedEvent[]; readonly head: number }
  /** Nothing was recorded. What stood against it: */
  | {
      readonly conflicts: readonly StreamId[];
      readonly duplicates: readonly {
        readonly caller: string;
        readonly key: string;
        readonly fingerprint: string;
        readonly answer: unknown;
        readonly head: number;
      }[];
      /** Consumers whose checkpoint another worker has moved, or whose parked messages are no longer there. */
      readonly fenced: readonly string[];
      readonly head: number;
    };

/** Where a log stands, with the proof of all that is before: whoever keeps one can tell later whether that is still so. */
export type Anchor = {
  /** Of the log's life: another one after it was taken back to a backup. */
  readonly epoch: string;
  /** Of the last event; 0 when there is none. */
  readonly position: number;
  /** That of the last batch, chained to all before it: 64 hexadecimal digits, zeros when there is none. */
  readonly hash: string;
};

export type DueStream = {
  readonly stream: StreamId;
  /** RFC 3339. */
  readonly dueAt: string;
  /** The event that brought the stream to its version; null: one that is at home in another stream. */
  readonly last: Pick<RecordedEvent, 'id' | 'origin'> | null;
};

export type EventLog = {
  /** `<service>.<shard>`. */
  readonly source: string;
  /** Appends at the expected versions. Positions are dense. Rejects with LogUnavailable when the database does not answer in time. */
  append(batch: AppendBatch): Promise<AppendResult>;
  /**
   * Loads `streams`, has `decide` make a batch of them and appends it, all while nobody else can append:
   * the slow way that always succeeds, for streams on which others keep being faster. `decide` runs
   * synchronously, perhaps again; what it throws rejects, and nothing is recorded.
   */
  appendAlone(streams: readonly StreamId[], decide: (rows: readonly StreamRow[]) => AppendBatch): Promise<AppendResult>;
  /** The stored rows of those of `streams` that exist. */
  load(streams: readonly StreamId[]): Promise<StreamRow[]>;
  /** Up to `limit` events after `position`, without holes. */
  read(position: number, limit: number): Promise<RecordedEvent[]>;
  /** The position of the last event; 0 when there is none. */
  head(): Promise<number>;
  /** The head, always the end of a batch, with the hash of all up to there. */
  anchor(): Promise<Anchor>;
  /** Up to `limit` streams whose `dueAt` is not after `now`, the most overdue first. */
  due(now: string, limit: number): Promise<DueStream[]>;
  /** How far a consumer of this service has come; 0 before its first event. */
  checkpoint(consumer: string): Promise<number>;
  /** Which epoch of their source the consumers of this service go by. */
  readonly rememberSource: RememberSource;
  /** What the consumers of this service could not apply. */
  readonly parked: ParkedMessages;
  /** What this process has appended last, in commit order, as soon as it is committed. */
  readonly tail: Tail;
};

/** What a consumer in another process needs of a log. */
export type LogReader = Pick<EventLog, 'source' | 'read' | 'head' | 'anchor'>;

/**
 * `order-42` of type `order`, id `42`.
 *
 * Promises:
 * - a stream is named after its type and the id of its entity, which may have dashes
 */
export const streamId = (type: string, id: string): StreamId => `${type}-${id}`;

/**
 * The id within a stream's name.
 *
 * Promises:
 * - a stream is named after its type and the id of its entity, which may have dashes
 */
export const entityOf = (stream: StreamId): string => stream.slice(stream.indexOf('-') + 1);

/**
 * The slot of a stream: that of its entity, so that all streams of an order are neighbours.
 *
 * Promises:
 * - the streams of one entity are in one slot
 * - the slot of an id never changes: stored events depend on it
 */
export const slotOfStream = (stream: StreamId): number => slotOf(entityOf(stream));

/**
 * The service that writes the log `source`.
 *
 * Promises:
 * - a log is named after its service and its shard
 */
export const serviceOf = (source: string): string => source.slice(0, source.indexOf('.'));

/**
 * `<service>-<shard>-<position>`.
 *
 * Promises:
 * - an event is named after its log and its position in it
 */
export const eventId = (source: string, position: number): string => `${source.replace('.', '-')}-${position}`;
