/**
 * `GET /v1/live`: everything that happens, in all services, for operators. The order within a service is
 * kept. The id of an event says how far each log had been sent, so it is a Consistency-Token too, and
 * whoever resumes reads the logs from there, as fast as it takes what it reads.
 */
import { LRUCache } from 'lru-cache';
import Type, { type Static } from 'typebox';
import { eventFrame, idFrame } from '#contracts/event-stream.ts';
import { LiveEventView } from '#contracts/http.ts';
import { publishedEvents } from '#contracts/event-types.ts';
import type { EventSink, LiveStream, StreamRequest } from '#contracts/routes.ts';
import { Closed, CustomerIdSchema } from '#contracts/values.ts';
import { decodeToken, encodeToken, type Positions } from '#cqrs/consistency-token.ts';
import type { Refusal } from '#cqrs/decider.ts';
import { entityOf, type RecordedEvent } from '#cqrs/event-log.ts';
import type { Feed } from '#cqrs/feed.ts';
import { createFollower } from '#cqrs/follower.ts';
import { askAgainMs, inOrder } from '#cqrs/in-order.ts';
import type { Progress } from '#cqrs/progress.ts';
import { sleep, systemPorts } from '#platform/ports.ts';
import type { Database } from '#platform/postgres.ts';
import type { LiveParts, Streams } from './live.ts';

const readEventsMax = 200;
/** Of all streams that resume together: the logs' connections are there for commands. */
const readsUnderWayMax = 2;
const ownersKept = 50_000;
/** How long the owner of an order may take to become known, and a resumed position to be reached here. */
const ownersWaitMs = 1_000;
const reachWaitMs = 1_000;

const eventTypes = Object.values(publishedEvents).flatMap(({ newest }) => Object.keys(newest));

const EventStreamQuery = Closed({
  type: Type.Optional(Type.Unsafe<string>(Type.String({ enum: eventTypes }))),
  customerId: Type.Optional(CustomerIdSchema),
  lastEventId: Type.Optional(
    Type.String({ minLength: 1, maxLength: 2_048, description: 'stands in for the Last-Event-ID header' }),
  ),
});
type EventStreamQuery = Static<typeof EventStreamQuery>;

type Filter = Pick<EventStreamQuery, 'type' | 'customerId'>;
/** All streams with one filter that have come as far as the followers. */
type Topic = { readonly filter: Filter; readonly sinks: Set<EventSink>; readonly frames: Buffer[] };
/** Customer by order; an order that is not in it has none. */
type Owners = ReadonlyMap<string, string>;

export function eventStreams(
  database: Database,
  { feeds, headOf, caughtUp, reportTrouble, ports = systemPorts }: LiveParts,
): Streams {
  const topics = new Map<string, Topic>();
  let topicsByCustomer = 0;
  const known = new LRUCache<string, string>({ max: ownersKept });
  const readInTurn = turns(readsUnderWayMax);
  const reads = new Map<string, Promise<readonly RecordedEvent[]>>();

  const followers = feeds.map((feed) => ({
    feed,
    ...createFollower({ feed, ports, reportTrouble, start: () => headOf(feed.source), deliver }),
  }));

  async function deliver(events: readonly RecordedEvent[], progress: Progress): Promise<void> {
    let owners: Owners | undefined;
    while (owners === undefined && topicsByCustomer > 0) {
      owners = (await ownersOf(events)) ?? undefined;
      // Whoever looks at everything is not kept waiting any longer.
      if (owners === undefined) failStreamsByCustomer();
    }
    // Nothing is awaited from here on: a stream is among those that are sent to, or sees that it has missed something.
    const touched = new Set<Topic>();
    for (const event of events) {
      progress.advance(event.position);
      let frame: Buffer | null = null;
      for (const key of keysOf(event, owners)) {
        const topic = topics.get(key);
        if (topic === undefined) continue;
        frame ??= frameOf(event, current());
        topic.frames.push(frame);
        touched.add(topic);
      }
    }
    for (const { frames, sinks } of touched) {
      const bytes = Buffer.concat(frames.splice(0));
      for (const sink of sinks) sink.write(bytes);
    }
  }

  function failStreamsByCustomer(): void {
    for (const { filter, sinks } of topics.values()) {
      if (filter.customerId === undefined) continue;
      for (const sink of sinks) {
        part(filter, sink);
        sink.fail({ code: 'read-model-behind' });
      }
    }
  }

  /** How far everything has been sent to those who are not behind. */
  const current = (): Positions =>
    Object.fromEntries(followers.map(({ source, progress }) => [source, progress.position]));

  /** Who has placed the orders that `events` are about; null: the read side does not know yet. */
  async function ownersOf(events: readonly RecordedEvent[]): Promise<Owners | null> {
    const owners = new Map<string, string>();
    const orderIds = new Set(events.flatMap((event) => orderOf(event) ?? []));
    const learn = async (): Promise<void> => {
      const rows = await database.query<{ order_id: string; customer_id: string }>(
        'read owners',
        'select order_id, customer_id from orders where order_id = any($1)',
        [[...orderIds]],
      );
      for (const { order_id: orderId, customer_id: customerId } of rows) {
        known.set(orderId, customerId);
        owners.set(orderId, customerId);
        orderIds.delete(orderId);
      }
    };
    for (const event of events) {
      if (event.type === 'OrderPlaced')
        known.set(entityOf(event.stream), (event.data as { customerId: string }).customerId);
    }
    for (const orderId of orderIds) {
      const owner = known.get(orderId);
      if (owner === undefined) continue;
      owners.set(orderId, owner);
      orderIds.delete(orderId);
    }
    if (orderIds.size > 0) await learn();
    if (orderIds.size > 0) {
      // Each of them was placed before anything happened to it: once the read side is there, it knows.
      const { source } = feeds.find((feed) => feed.source.startsWith('ordering.'))!;
      if (!(await caughtUp({ [source]: await headOf(source) }, ownersWaitMs))) return null;
      await learn();
    }
    return owners;
  }

  /** Sends what has happened after `own`, then joins those who hear what happens. */
  async function resume(filter: Filter, own: Record<string, number>, sink: EventSink): Promise<void> {
    while (!sink.closed) {
      const behind = followers.filter(({ source, progress }) => own[source] !== progress.position);
      // In the turn in which it was compared: nothing can have been sent to the others in between.
      if (behind.length === 0) return join(filter, sink);
      for (const { source, feed, progress } of behind) {
        const missing = progress.position - own[source]!;
        // Another process has sent it more than this one has heard of yet.
        if (missing < 0) await progress.reach(own[source]!, reachWaitMs);
        else await sendFrom(feed, filter, own, missing, sink);
        await sink.drained();
        if (sink.closed) return;
      }
    }
  }

  /** After a restart thousands come back at once, most of them to the same position: they share one read. */
  function readFrom(feed: Feed, position: number): Promise<readonly RecordedEvent[]> {
    const key = `${feed.source} ${position}`;
    const reading = reads.get(key) ?? readInTurn(() => feed.next(position, readEventsMax, 0));
    if (!reads.has(key)) {
      reads.set(key, reading);
      const forget = (): void => void reads.delete(key);
      reading.then(forget, forget);
    }
    return reading;
  }

  async function sendFrom(
    feed: Feed,
    filter: Filter,
    own: Record<string, number>,
    missing: number,
    sink: EventSink,
  ): Promise<void> {
    const from = own[feed.source]!;
    const events = inOrder(await readFrom(feed, from), from).slice(0, missing);
    const owners = filter.customerId === undefined ? undefined : await ownersOf(events);
    if (owners === null) return sink.fail({ code: 'read-model-behind' });
    if (events.length === 0) await sleep(ports, askAgainMs);
    const frames: Buffer[] = [];
    const key = keyOf(filter);
    for (const event of events) {
      own[feed.source] = event.position;
      if (keysOf(event, owners).includes(key)) frames.push(frameOf(event, own));
    }
    if (frames.length > 0) sink.write(Buffer.concat(frames));
  }

  function join(filter: Filter, sink: EventSink): void {
    const key = keyOf(filter);
    const topic = topics.get(key);
    if (topic !== undefined) return void topic.sinks.add(sink);
    topics.set(key, { filter, sinks: new Set([sink]), frames: [] });
    if (filter.customerId !== undefined) topicsByCustomer += 1;
  }

  function part(filter: Filter, sink: EventSink): void {
    const key = keyOf(filter);
    const topic = topics.get(key);
    if (!topic?.sinks.delete(sink) || topic.sinks.size > 0) return;
    topics.delete(key);
    if (filter.customerId !== undefined) topicsByCustomer -= 1;
  }

  /** null: it cannot be resumed from. A source that the id does not name is new: all of it comes after. */
  async function positionsAfter(lastEventId: string): Promise<Record<string, number> | null> {
    const positions = decodeToken(lastEventId);
    if (positions === null || Object.keys(positions).some((source) => feeds.every((feed) => feed.source !== source)))
      return null;
    const own: Record<string, number> = {};
    for (const { source, progress } of followers) {
      own[source] = positions[source] ?? 0;
      if (own[source] > progress.position && own[source] > (await headOf(source))) return null;
    }
    return own;
  }

  function leave(): void {
    for (const follower of followers) follower.leave();
  }

  async function open({
    query: { type, customerId },
    lastEventId,
  }: StreamRequest<object, EventStreamQuery>): Promise<LiveStream | { readonly refused: Refusal }> {
    const filter: Filter = {
      ...(type === undefined ? {} : { type }),
      ...(customerId === undefined ? {} : { customerId }),
    };
    const after = lastEventId === undefined ? undefined : await positionsAfter(lastEventId);
    if (after === null) {
      return { refused: { code: 'malformed-event-id', detail: 'It is not the id of an event that was sent here.' } };
    }
    const own = after;
    let sink: EventSink | null = null;
    let entered = false;

    async function enter(): Promise<void> {
      entered = true;
      await Promise.all(followers.map((follower) => follower.enter()));
    }

    async function run(to: EventSink): Promise<void> {
      if (own !== undefined) {
        await enter();
        await resume(filter, own, to);
      } else if (!to.closed) join(filter, to);
      // Also when nothing has happened yet, the client can resume from here.
      if (isLive(to)) to.write(idFrame(encodeToken(current())));
    }

    // A stream without a past has begun when it is answered: its client sees what it does then.
    if (own === undefined)
      await enter().catch((error: unknown) => {
        leave();
        throw error;
      });

    const isLive = (to: EventSink): boolean => topics.get(keyOf(filter))?.sinks.has(to) ?? false;

    return {
      start(to) {
        sink = to;
        run(to).catch((error: unknown) => to.fail(error));
      },
      resumeId() {
        if (sink !== null && isLive(sink)) return encodeToken(current());
        return own === undefined ? null : encodeToken(own);
      },
      close() {
        if (sink !== null) part(filter, sink);
        if (entered) leave();
      },
    };
  }

  return {
    routes: [
      {
        method: 'GET',
        url: '/v1/live',
        summary: 'Everything that happens, as it happens',
        audience: 'operator',
        tag: 'operations',
        query: EventStreamQuery,
        answers: { 200: LiveEventView },
        open,
        caughtUp,
      },
    ],
    async stop() {
      await Promise.all(followers.map((follower) => follower.stop()));
    },
  };
}

const keyOf = ({ type = '', customerId = '' }: Filter): string => `${type} ${customerId}`;

/** The keys of all filters that let `event` through. */
function keysOf(event: RecordedEvent, owners: Owners | undefined): string[] {
  const { type } = event;
  const keys = [keyOf({}), keyOf({ type })];
  const customerId = owners && customerOf(event, owners);
  return customerId === undefined ? keys : [...keys, keyOf({ customerId }), keyOf({ type, customerId })];
}

const customerOf = (event: RecordedEvent, owners: Owners): string | undefined => {
  const orderId = orderOf(event);
  if (orderId !== null) return owners.get(orderId);
  return event.stream.startsWith('customer-') ? entityOf(event.stream) : undefined;
};

const orderOf = ({ stream }: RecordedEvent): string | null =>
  /^(?:order|reservation|payment)-/.test(stream) ? entityOf(stream) : null;

function frameOf(
  { id, type, at, stream, version, data, origin, unreadable }: RecordedEvent,
  positions: Positions,
): Buffer {
  const service = id.replace(/-\d+-\d+$/, '');
  const said = { id, service, stream, version, type, at, data, actor: origin.actor, causation: origin.causationId };
  return eventFrame(encodeToken(positions), null, JSON.stringify({ ...said, ...(unreadable && { unreadable }) }));
}

/** At most `max` at once; the others wait for their turn, first come, first served. */
function turns(max: number): <T>(work: () => Promise<T>) => Promise<T> {
  let free = max;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (free > 0) free -= 1;
    else await new Promise<void>((resolve) => void waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next === undefined) free += 1;
      else next();
    }
  };
}
