/**
 * What a service offers over HTTP, as data. A service lists its routes; the gateway mounts them and
 * does for all of them what is the same for all: access, limits, validation, idempotency, entity
 * tags, consistency tokens, problem bodies.
 */
import type { TSchema } from 'typebox';
import type { ClientAnswer, IfMatch } from '#cqrs/command-request.ts';
import type { Positions } from '#cqrs/consistency-token.ts';
import type { Refusal } from '#cqrs/decider.ts';
import type { Origin } from '#cqrs/event-log.ts';

/** `customer`: operators and customers; `operator`: operators only. */
export type Audience = 'customer' | 'operator';

export type Caller = { readonly role: 'operator' } | { readonly role: 'customer'; readonly customerId: string };

type RouteBase = {
  readonly url: string;
  readonly summary: string;
  /** Names the operation in the API description; default: made of method and address. */
  readonly operationId?: string;
  readonly audience: Audience;
  readonly tag: string;
  readonly params?: TSchema;
  /** By status. */
  readonly answers: Readonly<Record<number, TSchema>>;
};

export type CommandRequest<Params = Record<string, string>, Body = unknown> = {
  readonly params: Params;
  readonly body: Body;
  readonly caller: Caller;
  readonly ifMatch: IfMatch;
  /** Scoped by caller; undefined: the header was not sent. */
  readonly idempotency: { readonly caller: string; readonly key: string; readonly fingerprint: string } | undefined;
  readonly origin: Origin;
};

export type CommandRoute = RouteBase & {
  readonly method: 'POST' | 'PUT' | 'DELETE';
  readonly body: TSchema;
  /** Which number of a tag `"<version>.<revision>"` If-Match compares; default: the first. */
  readonly ifMatchPart?: 1 | 2;
  handle(request: CommandRequest<never, never>): Promise<ClientAnswer>;
  /** Resolves once this side has applied `positions`, or to false after `waitMs`. */
  caughtUp(positions: Positions, waitMs: number): Promise<boolean>;
  /** The dead letter for which the command might not be decided on `positions`, or null. To be asked once they are reached. */
  heldBack?(request: CommandRequest<never, never>, positions: Positions): string | null;
};

export type QueryRequest<Params = Record<string, string>, Query = Record<string, unknown>> = {
  readonly params: Params;
  readonly query: Query;
  readonly caller: Caller;
  /** It came with a Consistency-Token, which has been reached: nothing may answer that might be behind. */
  readonly underToken?: boolean;
};

/**
 * `bytes` are JSON, ready to send. A single resource has an `etag` (without quotes); its first part,
 * up to a dot, is the version that If-Match compares. `shows`: what it includes, where that may be less
 * than what the read side has applied.
 */
export type QueryAnswer = Shown | { readonly refused: Refusal };

export type Shown = { readonly bytes: Buffer | string; readonly etag?: string; readonly shows?: Positions };

export type QueryRoute = RouteBase & {
  readonly method: 'GET';
  readonly query?: TSchema;
  /** Every answer is asked of the database: so many at once, others wait for them. */
  readonly searches?: true;
  read(request: QueryRequest<never, never>): QueryAnswer | Promise<QueryAnswer>;
  /**
   * Where the address ends in the only parameter: what `read` would answer without a query and a token, if that is in memory.
   * `id` is that parameter as it stands in the address, whatever it is.
   */
  kept?(id: string, caller: Caller): Shown | undefined;
  caughtUp(positions: Positions, waitMs: number): Promise<boolean>;
  /** The dead letter for which the answer might not include `positions`, or null. To be asked once they are reached. */
  heldBack?(request: QueryRequest<never, never>, positions: Positions): Promise<string | null>;
  /** What the read side has applied: the token of what an answer shows. Taken before the read. */
  positions(): Positions;
};

export type StreamRequest<Params = Record<string, string>, Query = Record<string, unknown>> = QueryRequest<
  Params,
  Query
> & {
  /** The id after which the client resumes; undefined: it begins. */
  readonly lastEventId: string | undefined;
};

/** Where the events of one stream go. */
export type EventSink = {
  /** Sends whole frames, unless the stream is closed. Bytes may be shared among streams: nobody changes them. */
  write(frames: Buffer): void;
  /** Resolves once little waits to be sent, or the stream is closed: for those who read as fast as the client does. */
  drained(): Promise<void>;
  /** Ends the stream with an event that says why. */
  fail(error: unknown): void;
  readonly closed: boolean;
};

/** One open stream. Everything that it has goes to its sink until it is closed. */
export type LiveStream = {
  start(sink: EventSink): void;
  /** From where a client may resume that has received all that was written; null: from the id of its last event. */
  resumeId(): string | null;
  close(): void;
};

/** Server-sent events. `answers` describes the data of each. */
export type StreamRoute = RouteBase & {
  readonly method: 'GET';
  /** `lastEventId` of it stands in for the header. */
  readonly query: TSchema;
  /** Checks what has to be right before the stream begins. */
  open(request: StreamRequest<never, never>): Promise<LiveStream | { readonly refused: Refusal }>;
  caughtUp(positions: Positions, waitMs: number): Promise<boolean>;
};

export type Route = CommandRoute | QueryRoute | StreamRoute;
