/**
 * Messages that a consumer could not apply. They stand beside its checkpoint, written by the transaction
 * that moves it past them, so that of every position up to the checkpoint it is known whether it was
 * applied, waits here, or was discarded by somebody. The events themselves stay in the source's log.
 */

/** A message that waits. The later ones of its stream wait behind it, in order of position. */
export type ParkedMessage = {
  /** In the source's log. */
  readonly position: number;
  readonly stream: string;
  readonly eventId: string;
  readonly type: string;
  /** What messages with the same trouble have in common; `queuedBehind` when it has none of its own. */
  readonly cause: string;
  readonly detail: string;
  /** How often it has been tried. */
  readonly attempts: number;
  /** RFC 3339. */
  readonly parkedAt: string;
  /** `retry`: the consumer tries it again by itself, because it has attempts left or an operator said so. */
  readonly state: 'parked' | 'retry';
};

/** The cause of a message that waits for an earlier one of its stream. */
export const queuedBehind = 'queued-behind';

/** What a consumer parks, and what it takes back because it applies it now, or parks it anew. */
export type Parking = {
  readonly parks?: readonly ParkedMessage[];
  /** Positions that have to be waiting; otherwise the consumer was overtaken. */
  readonly unparks?: readonly number[];
};

/** Whether one of the messages is taken back to be applied: rows change, though the checkpoint may stay where it is. */
export const takesBack = ({ parks = [], unparks = [] }: Parking): boolean =>
  unparks.some((position) => !parks.some((message) => message.position === position));

/** What has been decided about a consumer and its parked messages, and how many they are. */
export type ConsumerDecisions = {
  readonly waiting: number;
  /** Of them, those in state `retry`. */
  readonly retries: number;
  /** What an operator has said last; null: nothing ever. */
  readonly pause: { readonly paused: boolean; readonly by: string; readonly at: string } | null;
};

/** Who decided, and when (RFC 3339). */
export type Decision = { readonly by: string; readonly at: string };

export type MessageName = { readonly consumer: string; readonly position: number };

/** A message as operators see it. */
export type DeadLetter = Omit<ParkedMessage, 'state'> & {
  readonly state: 'parked' | 'retry' | 'discarded';
  readonly decidedBy?: string;
  readonly decidedAt?: string;
  readonly reason?: string;
};

/** The messages of one consumer with one cause. */
export type DeadLetterGroup = {
  readonly consumer: string;
  readonly cause: string;
  readonly messages: number;
  readonly streams: number;
  readonly firstAt: string;
  readonly lastAt: string;
  /** By position, the first ones of those wanted. */
  readonly items: readonly DeadLetter[];
};

export type GroupsWanted = {
  readonly discarded: boolean;
  readonly consumer?: string | undefined;
  readonly cause?: string | undefined;
  /** The group before the first one, in order of consumer and cause. */
  readonly after: { readonly consumer: string; readonly cause: string } | null;
  readonly limit: number;
  /** Of each group, only messages after this position are shown; default: from the first. */
  readonly itemsAfter?: number;
  readonly itemsMax: number;
};

/** The parked messages of one database. */
export type ParkedMessages = {
  /** The waiting messages of a consumer by position, up to `parkedMessagesMax`. */
  waiting(consumer: string): Promise<readonly ParkedMessage[]>;
  /** The positions that a consumer has passed and not applied: those that wait, and those that were discarded. */
  positions(consumer: string): Promise<readonly number[]>;
  decisions(consumer: string): Promise<ConsumerDecisions>;
  groups(wanted: GroupsWanted): Promise<readonly DeadLetterGroup[]>;
  /**
   * Has the first message of each stream among those named tried again; the queue behind it follows by
   * itself. `messages`: how many wait in these streams.
   */
  retry(
    which: MessageName | { readonly consumer?: string | undefined; readonly cause?: string | undefined },
    decision: Decision,
  ): Promise<{ readonly messages: number; readonly consumers: readonly string[] }>;
  /**
   * Gives a message up for good: it stays on record, and its stream goes on without it. Resolves to the
   * decision that stands, which is an earlier one when there was one; null: there is no such message.
   */
  discard(which: MessageName, decision: Decision & { readonly reason: string }): Promise<DeadLetter | null>;
  /** Tells a consumer to pause, or to go on. It hears of it within a second. */
  setPause(consumer: string, paused: boolean, decision: Decision): Promise<void>;
};

/** A consumer with so many waiting messages pauses instead of parking more. */
export const parkedMessagesMax = 10_000;

const causeLengthMax = 200;
const detailLengthMax = 2_000;

/** The cause and the detail of what was thrown: its first line without ids and figures, and all of it. */
export function troubleOf(error: unknown): { readonly cause: string; readonly detail: string } {
  const text = error instanceof Error ? error.message || error.name : String(error);
  const [line = ''] = text.split('\n');
  // What has a digit in it differs from message to message.
  const cause = line.replaceAll(/[\w.-]*\d[\w.-]*/g, '#').slice(0, causeLengthMax);
  return { cause, detail: text.slice(0, detailLengthMax) };
}
