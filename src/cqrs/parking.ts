/**
 * Applies the events of a feed in order, and parks the ones that cannot be applied, each with its stream,
 * so that one bad message holds up nobody else and none is ever skipped. What failed is first kept in
 * memory, before the checkpoint: it is parked by the transaction in which another stream succeeds, for
 * then the message is to blame and not the handler. When several streams fail and none succeeds in
 * between, the handler is broken: the consumer pauses where it stands, and parks nothing.
 */
import { type Ports, sleep, timeNow } from '#platform/ports.ts';
import { DatabaseUnavailable, sqlStateOf } from '#platform/postgres.ts';
import { EngineError } from './errors.ts';
import type { CheckpointMove, RecordedEvent } from './event-log.ts';
import type { Feed } from './feed.ts';
import { askAgainMs, inOrder } from './in-order.ts';
import {
  type ParkedMessage,
  type ParkedMessages,
  parkedMessagesMax,
  queuedBehind,
  troubleOf,
} from './parked-messages.ts';
import { WaitingMessages } from './waiting-messages.ts';

export type ParkingOptions = {
  readonly consumer: string;
  readonly feed: Feed;
  readonly ports: Ports;
  readonly parked: ParkedMessages;
  /** Told of every message that is parked. */
  reportTrouble(consumer: string, error: unknown): void;
  readonly batchEventsMax: number;
  /** How long it waits for events. */
  waitForEventsMs(): number;
  checkpoint(): Promise<number>;
  /** Called in the turn in which it takes note that others may have parked messages, or taken them back. */
  onOthers?(): void;
  /** Whether the consumer does anything about events of this type. */
  concerns(type: string): boolean;
  /**
   * Applies `events` and moves the checkpoint, parking and unparking what `move` says: all of it or
   * nothing. Rejects with MessageFailed where it is known which event was to blame.
   */
  apply(events: readonly RecordedEvent[], move: CheckpointMove): Promise<void>;
};

/** A handler could not take this event. */
export class MessageFailed extends Error {
  override readonly name = 'MessageFailed';
  readonly position: number;

  constructor(position: number, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.position = position;
  }
}

/** What a consumer with parking does: see `startConsumer`. */
export type ParkingSteps = {
  start(): Promise<number>;
  step(): Promise<number>;
  /** Why it takes no events, or null. */
  paused(): string | null;
  /** How many messages wait, as far as known. */
  parked(): number;
  /** The first message of each stream that waits, as far as known. */
  firstParked(): readonly ParkedMessage[];
  /** Has the next step look at what operators have decided. */
  wake(): void;
};

/** How often a message is tried before it waits for an operator: within about 2 s, growing pauses between. */
export const attemptsMax = 5;
const retryFirstMs = 100;
/** When so many streams in a row have failed and none has succeeded in between, the handler is to blame. */
export const streamsFailingMax = 5;
/** A checkpoint may lag this far behind when nothing in between had an effect. */
const idleEventsMax = 1_000;
/** How often a consumer looks at what operators have decided. */
const lookEveryMs = 1_000;
/** Parked messages tried again per step, so that newer events do not wait for all of them. */
const replaysPerStepMax = 100;

type Failure = { readonly cause: string; readonly detail: string };
type Suspect = { readonly event: RecordedEvent; readonly error: unknown };

export function createParking(options: ParkingOptions): ParkingSteps {
  const { consumer, feed, ports, parked, reportTrouble, apply, batchEventsMax } = options;
  let stored = 0;
  let position = 0;
  let waiting = new WaitingMessages([]);

  /** How often events that are not parked yet have been tried, by position. */
  const tried = new Map<number, number>();
  /** Streams that have failed since the last success. */
  const failing = new Set<string>();
  /** Parked without a success of another stream: tried once more should it turn out that the handler was to blame. */
  const unproven = new Set<number>();
  /** When a parked message may be tried again, by position, in milliseconds of `ports.elapsed`. */
  const notBefore = new Map<number, number>();

  let lookedAt = -Infinity;
  let woken = new AbortController();
  let pausedBy: string | null = null;
  let pausedBecause: string | null = null;
  let lastDecisionAt: string | null = null;
  /** An operator wants a consumer that has paused by itself to go on: what fails is parked. */
  let goOn = false;

  async function start(): Promise<number> {
    // In this order: whoever has moved the checkpoint in between is seen when it is moved again.
    stored = await options.checkpoint();
    await loadWaiting();
    for (const of of tried.keys()) if (of <= stored) tried.delete(of);
    position = stored;
    return position;
  }

  async function step(): Promise<number> {
    await look();
    if (pausedBy !== null) {
      await sleep(ports, lookEveryMs, woken.signal);
      return position;
    }
    await replay();
    await goForward();
    pausedBecause = null;
    return position;
  }

  async function goForward(): Promise<void> {
    const delivered = await feed.next(position, batchEventsMax, waitMs());
    const events = inOrder(delivered, position);
    const last = events.at(-1);
    if (last === undefined) {
      if (delivered.length > 0) await sleep(ports, askAgainMs, woken.signal);
      return;
    }
    const concerned = events.filter(isConcerned);
    if (concerned.length > 0) await applyOrPark(concerned, last.position);
    else if (last.position - stored >= idleEventsMax) await commit([], last.position, []);
    position = last.position;
  }

  /** An unknown type may be one that it should do something about; of the others it is known. */
  function isConcerned({ type, unreadable }: RecordedEvent): boolean {
    if (unreadable === undefined) return options.concerns(type);
    return unreadable.reason === 'unknown-type' || options.concerns(type.split('.', 1)[0]!);
  }

  /** Looks, every second or when woken, at what operators have decided. */
  async function look(): Promise<void> {
    const isWoken = woken.signal.aborted;
    if (!isWoken && ports.elapsed() - lookedAt < lookEveryMs) return;
    if (isWoken) woken = new AbortController();
    const { waiting: count, retries, pause } = await parked.decisions(consumer);
    lookedAt = ports.elapsed();
    pausedBy = pause?.paused === true ? `by ${pause.by} since ${pause.at}` : null;
    const decidedAt = pause?.at ?? null;
    if (pausedBecause !== null && pause?.paused === false && decidedAt !== lastDecisionAt) goOn = true;
    lastDecisionAt = decidedAt;
    if (count !== waiting.size || retries !== waiting.retries) await loadWaiting();
  }

  async function loadWaiting(): Promise<void> {
    const messages = await parked.waiting(consumer);
    options.onOthers?.();
    waiting = new WaitingMessages(messages);
    const positions = new Set(messages.map((message) => message.position));
    for (const of of notBefore.keys()) if (!positions.has(of)) notBefore.delete(of);
  }

  function waitMs(): number {
    if (woken.signal.aborted) return 0;
    const now = ports.elapsed();
    const next = waiting.candidates().map((message) => (notBefore.get(message.position) ?? now) - now);
    const longestMs = waiting.size > 0 ? lookEveryMs : Infinity;
    return Math.max(0, Math.min(longestMs, options.waitForEventsMs(), ...next));
  }

  // What is applied for the first time

  /**
   * Applies as many events at once as possible. Where that fails it takes fewer, until the guilty one
   * stands alone: a suspect, behind which its stream waits.
   */
  async function applyOrPark(events: readonly RecordedEvent[], to: number): Promise<void> {
    const suspects = new Map<string, Suspect>();
    let rest = events;
    let size = rest.length;
    while (rest.length > 0) {
      const chunk = rest.slice(0, size);
      const { able, parks } = sort(chunk, suspects);
      if (able.length === 0 && size < rest.length) {
        size = rest.length;
        continue;
      }
      if (able.length === 0) return parkUnproven(suspects, parks, to);
      try {
        await commit(able, size === rest.length ? to : chunk.at(-1)!.position, parks);
        succeeded(suspects);
        rest = rest.slice(size);
        size = rest.length;
      } catch (error) {
        if (!blamesMessage(error)) throw error;
        const guilty = error instanceof MessageFailed ? able.findIndex((one) => one.position === error.position) : -1;
        if (guilty > 0) size = chunk.indexOf(able[guilty]!);
        else if (guilty < 0 && able.length > 1) size = chunk.indexOf(able[able.length >> 1]!);
        else suspect(able[0]!, error, suspects);
      }
    }
  }

  /** What can be applied of these events, and what has to wait: the guilty, the unreadable, and their streams. */
  function sort(
    events: readonly RecordedEvent[],
    suspects: ReadonlyMap<string, Suspect>,
  ): { able: RecordedEvent[]; parks: ParkedMessage[] } {
    const able: RecordedEvent[] = [];
    const parks: ParkedMessage[] = [];
    const held = new Map<string, string>();
    for (const event of events) {
      const { stream, unreadable } = event;
      const suspected = suspects.get(stream);
      const before = held.get(stream) ?? waiting.headOf(stream)?.eventId ?? suspected?.event.id;
      if (suspected?.event.position === event.position) {
        const attempts = tried.get(event.position) ?? 1;
        parks.push(messageOf(event, troubleOf(suspected.error), attempts, attempts < attemptsMax));
      } else if (before !== undefined) {
        parks.push(messageOf(event, { cause: queuedBehind, detail: `waits for ${before}` }, 0, false));
      } else if (unreadable !== undefined) {
        parks.push(messageOf(event, { cause: unreadable.reason, detail: unreadable.detail }, 1, false));
      } else {
        able.push(event);
        continue;
      }
      held.set(stream, before ?? event.id);
    }
    return { able, parks };
  }

  function suspect(event: RecordedEvent, error: unknown, suspects: Map<string, Suspect>): void {
    suspects.set(event.stream, { event, error });
    failing.add(event.stream);
    tried.set(event.position, (tried.get(event.position) ?? 0) + 1);
    if (suspects.size >= streamsFailingMax && !goOn) throw allFailing(error);
  }

  const allFailing = (error: unknown): ConsumerPaused =>
    pausing(`${failing.size} streams in a row have failed, and none has succeeded since`, error);

  /** Nothing is left that could succeed: the suspects wait in memory until their attempts are used up. */
  async function parkUnproven(
    suspects: ReadonlyMap<string, Suspect>,
    parks: readonly ParkedMessage[],
    to: number,
  ): Promise<void> {
    const [first] = suspects.values();
    if (first !== undefined && !goOn) {
      if (failing.size >= streamsFailingMax) throw allFailing(first.error);
      if ((tried.get(first.event.position) ?? 0) < attemptsMax) throw first.error;
    }
    await commit([], to, parks);
    for (const { event } of suspects.values()) unproven.add(event.position);
    if (goOn) failing.clear();
    goOn = false;
    settled(suspects);
  }

  async function commit(events: readonly RecordedEvent[], to: number, parks: readonly ParkedMessage[]): Promise<void> {
    if (parks.length > 0 && waiting.size + parks.length > parkedMessagesMax) {
      throw pausing(`${waiting.size} messages are parked, and no more than ${parkedMessagesMax} may be`);
    }
    await apply(events, { consumer, from: stored, to, ...(parks.length === 0 ? {} : { parks }) });
    stored = to;
    for (const message of parks) {
      waiting.add(message);
      if (message.state === 'retry') delay(message);
      if (message.cause !== queuedBehind)
        reportTrouble(consumer, new Error(`${message.eventId} is parked with its stream: ${message.detail}`));
    }
  }

  /** Something was applied: the handler works, and what has failed since is parked for its own fault. */
  function succeeded(suspects: Map<string, Suspect>): void {
    if (pausedBecause !== null) for (const one of unproven) waiting.tryAgain(one);
    pausedBecause = null;
    goOn = false;
    failing.clear();
    unproven.clear();
    settled(suspects);
    suspects.clear();
  }

  function settled(suspects: ReadonlyMap<string, Suspect>): void {
    for (const { event } of suspects.values()) tried.delete(event.position);
  }

  function pausing(why: string, cause?: unknown): ConsumerPaused {
    const detail = cause === undefined ? '' : `: ${troubleOf(cause).detail}`;
    pausedBecause = `${why}${detail}`;
    return new ConsumerPaused(pausedBecause, cause);
  }

  // What is applied again

  /** Tries the first message of each queue that is due, and what waits behind it. */
  async function replay(): Promise<void> {
    let replays = 0;
    for (const head of waiting.candidates()) {
      if ((notBefore.get(head.position) ?? -Infinity) > ports.elapsed()) continue;
      let next: ParkedMessage | undefined = head;
      while (next !== undefined && replays < replaysPerStepMax) {
        replays += 1;
        next = (await applyAgain(next)) ? waiting.candidateOf(head.stream) : undefined;
      }
    }
  }

  /** Whether `message` was applied; else it is parked anew. Either way by one append that finds it parked. */
  async function applyAgain(message: ParkedMessage): Promise<boolean> {
    const [event] = inOrder(await feed.next(message.position - 1, 1, 0), message.position - 1);
    if (event === undefined) throw new Error(`${message.eventId} cannot be read again`);
    const move = { consumer, from: stored, to: stored, unparks: [message.position] };
    const failure = await failureOf(event, move);
    notBefore.delete(message.position);
    if (failure === null) {
      waiting.remove(message);
      succeeded(new Map());
      return true;
    }
    const attempts = message.attempts + 1;
    const retried = event.unreadable === undefined && attempts < attemptsMax;
    const again: ParkedMessage = { ...message, ...failure, attempts, state: retried ? 'retry' : 'parked' };
    await apply([], { ...move, parks: [again] });
    waiting.add(again);
    if (retried) delay(again);
    return false;
  }

  async function failureOf(event: RecordedEvent, move: CheckpointMove): Promise<Failure | null> {
    const { unreadable } = event;
    if (unreadable !== undefined) return { cause: unreadable.reason, detail: unreadable.detail };
    try {
      await apply(options.concerns(event.type) ? [event] : [], move);
      return null;
    } catch (error) {
      if (!blamesMessage(error)) throw error;
      return troubleOf(error);
    }
  }

  function delay({ position: of, attempts }: ParkedMessage): void {
    notBefore.set(of, ports.elapsed() + retryFirstMs * 2 ** (attempts - 1));
  }

  const messageOf = (event: RecordedEvent, failure: Failure, attempts: number, retried: boolean): ParkedMessage => ({
    position: event.position,
    stream: event.stream,
    eventId: event.id,
    type: event.type,
    ...failure,
    attempts,
    parkedAt: timeNow(ports),
    state: retried ? 'retry' : 'parked',
  });

  return {
    start,
    step,
    paused: () => pausedBy ?? pausedBecause,
    parked: () => waiting.size,
    firstParked: () => waiting.heads(),
    wake: () => woken.abort(),
  };
}

/** The consumer takes nothing further until its handler works again, or until there is room. */
class ConsumerPaused extends Error {
  override readonly name = 'ConsumerPaused';

  constructor(why: string, cause: unknown) {
    super(`paused: ${why}`, { cause });
  }
}

/**
 * Whether a message is to blame, or its handler. Not when the log, the database or another worker stood in
 * the way; the database refuses a message for its values (22), for a constraint (23), or by a trigger (P0).
 */
function blamesMessage(error: unknown): boolean {
  if (error instanceof MessageFailed) return true;
  if (error instanceof EngineError || error instanceof DatabaseUnavailable || error instanceof ConsumerPaused) {
    return false;
  }
  const sqlState = sqlStateOf(error);
  return sqlState === null || /^(?:22|23|P0)/.test(sqlState);
}
