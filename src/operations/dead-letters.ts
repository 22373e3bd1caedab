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
import type {
  DeadLetter,
  DeadLetterGroup,
  Decision,
  GroupsWanted,
  MessageName,
  ParkedMessages,
} from '#cqrs/parked-messages.ts';
import { cursorsOf } from '#platform/cursors.ts';
import { type Ports, timeNow } from '#platform/ports.ts';
import type { AnsweredOnce } from './kept-answers.ts';

export type DeadLettersOptions = {
  /** Of every database that this process has open. */
  readonly stores: readonly ParkedMessages[];
  /** Where the decisions about a consumer are kept; null: no such consumer is known here. */
  storeOf(consumer: string): ParkedMessages | null;
  /** Tells a consumer that runs in this process; others look every second. */
  wake(consumer: string): void;
  readonly answeredOnce: AnsweredOnce;
  readonly ports: Ports;
};

const limitDefault = 20;
/** Of each group, where several are listed. */
const itemsMax = 20;

export function deadLetterRoutes(options: DeadLettersOptions): (CommandRoute | QueryRoute)[] {
  const shared = { tag: 'operations', audience: 'operator', caughtUp: async () => true } as const;
  const { answeredOnce } = options;
  return [
    {
      ...shared,
      method: 'GET',
      url: '/v1/ops/dead-letters',
      summary: 'Parked messages, grouped by consumer and cause; where both are given, all of that group, page by page',
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
      handle: (request) => answeredOnce(request, () => retryOne(options, request)),
    },
    {
      ...shared,
      method: 'POST',
      url: '/v1/ops/dead-letters/retry',
      summary: 'Try all parked messages of a cause or a consumer again',
      body: RetryGroupBody,
      answers: { 202: RetryAnswer },
      handle: (request) => answeredOnce(request, () => retryGroup(options, request)),
    },
    {
      ...shared,
      method: 'POST',
      url: '/v1/ops/dead-letters/:id/discard',
      summary: 'Give up a parked message for good; its stream goes on without it',
      params: DeadLetterParams,
      body: DiscardBody,
      answers: { 200: DeadLetterView },
      handle: (request) => answeredOnce(request, () => discard(options, request)),
    },
    {
      ...shared,
      method: 'POST',
      url: '/v1/ops/consumers/:name/pause',
      summary: 'Have a consumer take no further events',
      params: ConsumerParams,
      body: PauseBody,
      answers: { 200: PauseAnswer },
      handle: (request) => answeredOnce(request, () => setPause(options, request, true)),
    },
    {
      ...shared,
      method: 'POST',
      url: '/v1/ops/consumers/:name/resume',
      summary: 'Have a consumer go on; one that has paused by itself then parks what it cannot apply',
      params: ConsumerParams,
      body: PauseBody,
      answers: { 200: PauseAnswer },
      handle: (request) => answeredOnce(request, () => setPause(options, request, false)),
    },
  ];
}

const list = (options: DeadLettersOptions, { query }: ListRequest): Promise<QueryAnswer> =>
  query.consumer !== undefined && query.cause !== undefined ? listOne(options, query) : listAll(options, query);

async function listAll({ stores }: DeadLettersOptions, query: DeadLetterQuery): Promise<QueryAnswer> {
  const { state = 'waiting', consumer, cause, limit = limitDefault, cursor } = query;
  const cursors = cursorsOf(['dead letters', state, consumer, cause], isGroup);
  const after = cursors.read(cursor);
  if (after === 'malformed') return malformedCursor;
  const found = await groupsIn(stores, {
    discarded: state === 'discarded',
    consumer,
    cause,
    after: after && { consumer: after[0], cause: after[1] },
    // One more than is shown: whether there is a next page.
    limit: limit + 1,
    itemsMax,
  });
  const shown = found.slice(0, limit);
  const last = shown.at(-1);
  return listOf(shown, last && found.length > limit ? cursors.write([last.consumer, last.cause]) : null);
}

/** The messages of the one group that is named: those of a consumer are all in one database. */
async function listOne({ stores }: DeadLettersOptions, query: DeadLetterQuery): Promise<QueryAnswer> {
  const { state = 'waiting', consumer, cause, limit = limitDefault, cursor } = query;
  const cursors = cursorsOf(['messages', state, consumer, cause], isPosition);
  const after = cursors.read(cursor);
  if (after === 'malformed') return malformedCursor;
  const found = await groupsIn(stores, {
    discarded: state === 'discarded',
    consumer,
    cause,
    after: null,
    limit: 1,
    itemsAfter: after?.[0] ?? 0,
    itemsMax: limit + 1,
  });
  const shown = found.map((group) => ({ ...group, items: group.items.slice(0, limit) }));
  const hasMore = found.some(({ items }) => items.length > limit);
  return listOf(shown, hasMore ? cursors.write([shown[0]!.items.at(-1)!.position]) : null);
}

const groupsIn = async (stores: readonly ParkedMessages[], wanted: GroupsWanted): Promise<DeadLetterGroup[]> =>
  (await Promise.all(stores.map((store) => store.groups(wanted)))).flat().sort(byName);

function listOf(shown: readonly DeadLetterGroup[], nextCursor: string | null): QueryAnswer {
  const groups = shown.map((group) => ({
    ...group,
    items: group.items.map((letter) => viewOf(group.consumer, letter)),
  }));
  return { bytes: JSON.stringify({ groups, nextCursor } satisfies DeadLetterList) };
}

async function retryOne(
  options: DeadLettersOptions,
  { params: { id }, origin }: CommandRequest<DeadLetterParams>,
): Promise<ClientAnswer> {
  const name = messageOf(id);
  const messages = name === null ? 0 : await retry(options, name, origin);
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
  if (name === null) return refused(letterNotFound(id), origin);
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
  isKept: true,
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

/** The reverse of the id that `viewOf` makes; null: it is none. */
function messageOf(id: string): MessageName | null {
  const [, consumer, digits] = /^(.+)-([1-9]\d*)$/.exec(id) ?? [];
  const position = Number(digits);
  return consumer !== undefined && Number.isSafeInteger(position) ? { consumer, position } : null;
}

type ListRequest = QueryRequest<Record<string, never>, DeadLetterQuery>;
type GroupName = NonNullable<GroupsWanted['after']>;

/** PostgreSQL takes no text with U+0000. */
const isGroup = (end: readonly unknown[]): end is [consumer: string, cause: string] =>
  end.length === 2 && end.every((name) => typeof name === 'string' && !name.includes('\0'));

const isPosition = (end: readonly unknown[]): end is [position: number] =>
  end.length === 1 && Number.isSafeInteger(end[0]) && (end[0] as number) > 0;

const malformedCursor: QueryAnswer = {
  refused: {
    code: 'malformed-cursor',
    detail: 'The cursor is not one of this list: send it with the filters of the page before.',
    errors: [{ pointer: '/cursor', detail: 'is not one of this list' }],
  },
};

/** As the stores sort: by code units. */
function byName(a: GroupName, b: GroupName): number {
  if (a.consumer !== b.consumer) return a.consumer < b.consumer ? -1 : 1;
  if (a.cause === b.cause) return 0;
  return a.cause < b.cause ? -1 : 1;
}
