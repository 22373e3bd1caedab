/** What a consumer keeps in memory of its parked messages. */
import { type ParkedMessage, queuedBehind } from './parked-messages.ts';

/** The parked messages of one consumer as it knows them: a queue per stream. */
export class WaitingMessages {
  readonly #queues = new Map<string, Map<number, ParkedMessage>>();
  /** Streams whose first message may be tried again. */
  readonly #candidates = new Set<string>();
  readonly #again = new Set<number>();
  #size = 0;
  #retries = 0;

  /** `messages` by position. */
  constructor(messages: readonly ParkedMessage[]) {
    for (const message of messages) this.add(message);
  }

  get size(): number {
    return this.#size;
  }

  get retries(): number {
    return this.#retries;
  }

  headOf(stream: string): ParkedMessage | undefined {
    return this.#queues.get(stream)?.values().next().value;
  }

  /** The first message of each stream. */
  heads(): ParkedMessage[] {
    return [...this.#queues.keys()].map((stream) => this.headOf(stream)!);
  }

  /** The first message of the stream, if it may be tried again. */
  candidateOf(stream: string): ParkedMessage | undefined {
    return this.#candidates.has(stream) ? this.headOf(stream) : undefined;
  }

  candidates(): ParkedMessage[] {
    return [...this.#candidates].map((stream) => this.headOf(stream)!);
  }

  /** Puts `message` at the end of its queue, or in the place of what was known of it. */
  add(message: ParkedMessage): void {
    const queue = this.#queues.get(message.stream) ?? new Map<number, ParkedMessage>();
    this.#queues.set(message.stream, queue);
    this.#count(queue.get(message.position), -1);
    this.#count(message, 1);
    this.#again.delete(message.position);
    queue.set(message.position, message);
    this.#consider(message.stream);
  }

  remove(message: ParkedMessage): void {
    const queue = this.#queues.get(message.stream);
    this.#count(queue?.get(message.position), -1);
    queue?.delete(message.position);
    if (queue?.size === 0) this.#queues.delete(message.stream);
    this.#consider(message.stream);
  }

  /** Has a message tried once more that has no attempts left. */
  tryAgain(position: number): void {
    for (const [stream, queue] of this.#queues) {
      if (!queue.has(position)) continue;
      this.#again.add(position);
      this.#consider(stream);
    }
  }

  #count(message: ParkedMessage | undefined, by: 1 | -1): void {
    if (message === undefined) return;
    this.#size += by;
    if (message.state === 'retry') this.#retries += by;
  }

  /** A message that only waits for earlier ones may be tried once it is the first. */
  #consider(stream: string): void {
    const head = this.headOf(stream);
    const may =
      head !== undefined && (head.state === 'retry' || head.cause === queuedBehind || this.#again.has(head.position));
    if (may) this.#candidates.add(stream);
    else this.#candidates.delete(stream);
  }
}
