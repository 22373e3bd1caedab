/** What operators see of the messages that consumers could not apply, and what they do about them. */
import {
  ConsumerParams,
  DeadLetterList,
  DeadLetterParams,
  DeadLetterQuery,
  DeadLetterView,
  DiscardBody,
  PauseAnswer,
  PauseBody,
  RetryAnswer,
  RetryBody,
  RetryGroupBody,
} from '#contracts/http.ts';
import type { CommandRequest, CommandRoute, QueryAnswer, QueryRequest, QueryRoute } from '#contracts/routes.ts';
import type { ClientAnswer } from '#cqrs/command-request.ts';
import type { Refusal } from '#cqrs/decider.ts';
import type { DeadLetter, Decision, GroupsWanted, MessageName, ParkedMessages } from '#cqrs/parked-messages.ts';
import { type Ports, timeNow } from '#platform/ports.ts';

export type DeadLettersOptions = {
  /** Of every database that this process has open. */
  readonly stores: readonly ParkedMessages[];
  /** Where the decisions about a consumer are kept; null: no such consumer is known here. */
  storeOf(consumer: string): ParkedMessages | null;
  /** Tells a consumer that runs in this process; others look every second. */
  wake(consumer: string): void;
  readonly ports: Ports;
};

const limitDefault = 20;
/** Of each group. */
const itemsMax = 20;

export function deadLetterRoutes(options: DeadLettersOptions): (CommandRoute | QueryRoute)[] {
  const shared = { tag: 'operations', audience: 'operator', caughtUp: async () => true } as const;
  return [
    {
      ...shared,
      method: 'GET',
      url: '/v1/ops/dead-letters',
      summary: 'Parked messages, grouped by consumer and cause',
      query: DeadLetterQuery,
      answers: { 200: DeadLetterList },
      positions: () => nowhere,
      read: (request) => list(options, request),
    },
    {
      ...shared,
      method: 'POST',
      url: '/v1/ops/dead-letters/:id/retry',
      summary: 'Try a parked message again, and after it the ones of its stream',
      params: DeadLetterParams,
      body: RetryBody,
      answers: { 202: RetryAnswer },
      handle: (request) => retryOne(options, request),
    },
    {
      ...shared,
      method: 'POST',
      url: '/v1/ops/dead-letters/retry',
      summary: 'Try all parked messages of a cause or a consumer again',
      body: RetryGroupBody,
      answers: { 202: RetryAnswer },
      handle: (request) => retryGroup(options, request),
    },
    {
      ...shared,
      method: 'POST',
      url: '/v1/ops/dead-letters/:id/discard',
      summary: 'Give up a parked message for good; its stream goes on without it',
      params: DeadLetterParams,
      body: DiscardBody,
      answers: { 200: DeadLetterView },
      handle: (request) => discard(options, request),
    },
    {
      ...shared,
      method: 'POST',
      url: '/v1/ops/consumers/:name/pause',
      summary: 'Have a consumer take no further events',
      params: ConsumerParams,
      body: PauseBody,
      answers: { 200: PauseAnswer },
      handle: (request) => setPause(options, request, true),
    },
    {
      ...shared,
      method: 'POST',
      url: '/v1/ops/consumers/:name/resume',
      summary: 'Have a consumer go on; one that has paused by itself then parks what it cannot apply',
      params: ConsumerParams,
      body: PauseBody,
      answers: { 200: PauseAnswer },
      handle: (request) => setPause(options, request, false),
    },
  ];
}

async function list(
  { stores }: DeadLettersOptions,
  { query }: QueryRequest<Record<string, never>, DeadLetterQuery>,
): Promise<QueryAnswer> {
  const { state, consumer, cause, limit = limitDefault, cursor } = query;
  const after = cursor === undefined ? null : groupAt(cursor);
  if (after === undefined) return malformedCursor;
  // One more than is shown: whether there is a next page.
  const wanted = { discarded: state === 'discarded', consumer, cause, after, limit: limit + 1, itemsMax };
  const found = (await Promise.all(stores.map((store) => store.groups(wanted)))).flat().sort(byName);
  const shown = found.slice(0, limit);
  const last = shown.at(-1);
  const answer: DeadLetterList = {
    groups: shown.map((group) => ({ ...group, items: group.items.map((letter) => viewOf(group.consumer, letter)) })),
    nextCursor: last !== undefined && found.length > limit ? cursorAt(last) : null,
  };
  return { bytes: JSON.stringify(answer) };
}

async function retryOne(
  options: DeadLettersOptions,
  { params: { id }, origin }: CommandRequest<DeadLetterParams>,
): Promise<ClientAnswer> {
  const messages = await retry(options, messageOf(id), origin);
  return messages === 0 ? refused(letterNotFound(id), origin) : done(202, { messages });
}

async function retryGroup(
  options: DeadLettersOptions,
  { body, origin }: CommandRequest<Record<string, never>, RetryGroupBody>,
): Promise<ClientAnswer> {
  return done(202, { messages: await retry(options, body, origin) });
}

async function retry(
  options: DeadLettersOptions,
  which: MessageName | RetryGroupBody,
  origin: CommandRequest['origin'],
): Promise<number> {
  const decision = decisionOf(options, origin);
  const retried = await Promise.all(options.stores.map((store) => store.retry(which, decision)));
  for (const consumer of retried.flatMap(({ consumers }) => consumers)) options.wake(consumer);
  return retried.reduce((sum, { messages }) => sum + messages, 0);
}

async function discard(
  options: DeadLettersOptions,
  { params: { id }, body: { reason }, origin }: CommandRequest<DeadLetterParams, DiscardBody>,
): Promise<ClientAnswer> {
  const name = messageOf(id);
  const decision = { ...decisionOf(options, origin), reason };
  const found = await Promise.all(options.stores.map((store) => store.discard(name, decision)));
  const letter = found.find((one) => one !== null);
  if (letter === undefined) return refused(letterNotFound(id), origin);
  options.wake(name.consumer);
  return done(200, viewOf(name.consumer, letter));
}

async function setPause(
  options: DeadLettersOptions,
  { params: { name }, origin }: CommandRequest<ConsumerParams>,
  paused: boolean,
): Promise<ClientAnswer> {
  const store = options.storeOf(name);
  if (store === null) {
    return refused({ code: 'consumer-not-found', detail: `No consumer ${name} is known here.` }, origin);
  }
  await store.setPause(name, paused, decisionOf(options, origin));
  options.wake(name);
  return done(200, { consumer: name, paused });
}

const decisionOf = ({ ports }: DeadLettersOptions, { actor }: CommandRequest['origin']): Decision => ({
  by: actor,
  at: timeNow(ports),
});

/** What operators do here moves no log. */
const nowhere = {};
const done = (status: number, body: object): ClientAnswer => ({
  kept: { status, body },
  replayed: false,
  positions: nowhere,
});
const refused = (refusal: Refusal, { correlationId }: CommandRequest['origin']): ClientAnswer => ({
  refused: refusal,
  replayed: false,
  traceId: correlationId,
});
const letterNotFound = (id: string): Refusal => ({
  code: 'dead-letter-not-found',
  detail: `No parked message ${id} waits here.`,
});

const viewOf = (consumer: string, letter: DeadLetter): DeadLetterView => ({
  id: `${consumer}-${letter.position}`,
  consumer,
  ...letter,
});

/** The reverse of the id that `viewOf` makes. */
function messageOf(id: string): MessageName {
  const dash = id.lastIndexOf('-');
  return { consumer: id.slice(0, dash), position: Number(id.slice(dash + 1)) };
}

type GroupName = NonNullable<GroupsWanted['after']>;

const cursorAt = ({ consumer, cause }: GroupName): string =>
  Buffer.from(JSON.stringify([consumer, cause])).toString('base64url');

const malformedCursor: QueryAnswer = {
  refused: {
    code: 'malformed-cursor',
    detail: 'The cursor is not one of this list.',
    errors: [{ pointer: '/cursor', detail: 'is not one of this list' }],
  },
};

/** Undefined: it is none of ours. */
function groupAt(cursor: string): GroupName | undefined {
  try {
    const parts: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString());
    if (!Array.isArray(parts) || parts.length !== 2 || !parts.every((part) => typeof part === 'string')) return;
    const [consumer, cause] = parts as [string, string];
    return cursorAt({ consumer, cause }) === cursor ? { consumer, cause } : undefined;
  } catch {
    return undefined;
  }
}

/** As the stores sort: by code units. */
function byName(a: GroupName, b: GroupName): number {
  if (a.consumer !== b.consumer) return a.consumer < b.consumer ? -1 : 1;
  if (a.cause === b.cause) return 0;
  return a.cause < b.cause ? -1 : 1;
}
