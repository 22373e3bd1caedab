/**
 * `GET /v1/orders/:orderId/live`: the order as it is, then each of its versions. A version is sent once
 * the read side shows it, so that whoever hears of it and asks sees it. Its id is the version.
 */
import Type, { type Static } from 'typebox';
import { eventFrame } from '#contracts/event-stream.ts';
import { OrderParams, OrderView } from '#contracts/http.ts';
import type { Caller, EventSink, LiveStream, StreamRequest } from '#contracts/routes.ts';
import { Closed } from '#contracts/values.ts';
import type { Refusal } from '#cqrs/decider.ts';
import { entityOf, type RecordedEvent } from '#cqrs/event-log.ts';
import { createFollower } from '#cqrs/follower.ts';
import { systemPorts } from '#platform/ports.ts';
import type { Database } from '#platform/postgres.ts';
import type { LiveParts, Streams } from './live.ts';
import { versionsOf } from './order-then.ts';
import { bodyOf } from './order-view.ts';
import type { FindOrder } from './orders.ts';
import { orderNotFound } from './read-model.ts';

/** An event may have been parked, and applied later without a further one: that is seen by looking. */
const lookEveryMs = 15_000;
const lookAtOrdersMax = 1_000;
const appliedWaitMs = 500;

const OrderStreamQuery = Closed({
  lastEventId: Type.Optional(
    Type.String({ minLength: 1, maxLength: 20, description: 'stands in for the Last-Event-ID header' }),
  ),
});
type OrderStreamQuery = Static<typeof OrderStreamQuery>;

/** Infinity: it has not begun. */
type Reader = { readonly sink: EventSink; version: number };
/** All readers of one order. What is sent to them is sent in turn. */
type Topic = { readonly readers: Set<Reader>; turn: Promise<void> };
type Frame = { readonly version: number; readonly bytes: Buffer };

const operator: Caller = { role: 'operator' };

export function orderStreams(
  database: Database,
  find: FindOrder,
  { feeds, caughtUp, positions, reportTrouble, ports = systemPorts }: LiveParts,
): Streams {
  const feed = feeds.find(({ source }) => source.startsWith('ordering.'))!;
  const topics = new Map<string, Topic>();
  const stopping = new AbortController();

  const follower = createFollower({
    feed,
    ports,
    reportTrouble,
    // Not from the head: what the read side has yet to apply is still to be heard.
    start: () => positions()[feed.source] ?? 0,
    async deliver(events, progress) {
      const last = events.at(-1)!.position;
      const applied = { [feed.source]: last };
      while (!stopping.signal.aborted && !(await caughtUp(applied, appliedWaitMs)));
      // Looked up only now: who has begun meanwhile may have read the order as it was before.
      await Promise.all(changedOrders(events).map(refresh));
      progress.advance(last);
    },
  });

  const stopLooking = ports.every(lookEveryMs, () => {
    look().catch((error: unknown) => reportTrouble('streams-of-orders', error));
  });

  async function look(): Promise<void> {
    const orderIds = [...topics.keys()];
    for (let n = 0; n < orderIds.length; n += lookAtOrdersMax) {
      const rows = await database.query<{ order_id: string; version: number }>(
        'look at orders',
        'select order_id, version from orders where order_id = any($1)',
        [orderIds.slice(n, n + lookAtOrdersMax)],
      );
      for (const { order_id: orderId, version } of rows) {
        const topic = topics.get(orderId);
        if (topic !== undefined && leastOf(topic) < version) void refresh(orderId);
      }
    }
  }

  async function refresh(orderId: string): Promise<void> {
    const topic = topics.get(orderId);
    if (topic !== undefined) await inTurn(topic, () => publish(orderId, topic));
  }

  /** Sends every reader what it has not had. */
  async function publish(orderId: string, topic: Topic): Promise<void> {
    const least = leastOf(topic);
    if (least === Infinity) return;
    try {
      const frames = await framesAfter(orderId, least);
      for (const reader of topic.readers) send(reader, frames);
    } catch (error) {
      // They come back, and resume after what they have had.
      for (const reader of topic.readers) reader.sink.fail(error);
    }
  }

  /** Every version after `version`, as a GET has shown it or would have. */
  async function framesAfter(orderId: string, version: number): Promise<Frame[]> {
    const order = await find(orderId, operator);
    if (order === undefined || order.revision <= version) return [];
    const missing = order.revision > version + 1 ? await foldedVersions(orderId, version, order.revision) : [];
    return [...missing, { version: order.revision, bytes: eventFrame(order.etag, 'order', order.bytes) }];
  }

  /** The versions between, from the events. */
  async function foldedVersions(orderId: string, after: number, before: number): Promise<Frame[]> {
    const rows = await versionsOf(database, orderId);
    return rows
      .filter((row) => row.version > after && row.version < before)
      .map((row) => ({ version: row.version, bytes: eventFrame(String(row.version), 'order', bodyOf(row)) }));
  }

  function begin(orderId: string, after: number | null, reader: Reader): void {
    const topic = topics.get(orderId) ?? { readers: new Set(), turn: Promise.resolve() };
    topics.set(orderId, topic);
    // From now on the topic is kept, and its changes are heard: what comes while this reader begins waits for its turn.
    topic.readers.add(reader);
    const begun = follower.enter().then(() =>
      inTurn(topic, async () => {
        const order = after === null ? await find(orderId, operator) : undefined;
        const from = order === undefined ? (after ?? 0) : order.revision - 1;
        const frames = await framesAfter(orderId, from);
        reader.version = from;
        send(reader, frames);
      }),
    );
    begun.catch((error: unknown) => reader.sink.fail(error));
  }

  function end(orderId: string, reader: Reader): void {
    follower.leave();
    const topic = topics.get(orderId);
    topic?.readers.delete(reader);
    if (topic?.readers.size === 0) topics.delete(orderId);
  }

  async function open({
    params: { orderId },
    caller,
    lastEventId,
  }: StreamRequest<OrderParams, OrderStreamQuery>): Promise<LiveStream | { readonly refused: Refusal }> {
    const order = await find(orderId, caller);
    if (order === undefined) return orderNotFound(orderId);
    const after = lastEventId === undefined ? null : VERSION.test(lastEventId) ? Number(lastEventId) : NaN;
    if (Number.isNaN(after)) {
      return { refused: { code: 'malformed-event-id', detail: 'The id of an event here is a version of the order.' } };
    }
    if (after !== null && after > order.revision) {
      const detail = `The order is shown in version ${order.revision} here, and the client has seen ${after}.`;
      return { refused: { code: 'read-model-behind', detail } };
    }
    let reader: Reader | null = null;
    return {
      start(sink) {
        reader = { sink, version: Infinity };
        begin(orderId, after, reader);
      },
      // That of the last event.
      resumeId: () => null,
      close() {
        if (reader !== null) end(orderId, reader);
      },
    };
  }

  return {
    routes: [
      {
        method: 'GET',
        url: '/v1/orders/:orderId/live',
        summary: 'One order as it changes: now, then each version',
        audience: 'customer',
        tag: 'orders',
        params: OrderParams,
        query: OrderStreamQuery,
        answers: { 200: OrderView },
        open,
        caughtUp,
      },
    ],
    async stop() {
      stopping.abort();
      stopLooking();
      await follower.stop();
    },
  };
}

const VERSION = /^[1-9]\d{0,8}$/;

const changedOrders = (events: readonly RecordedEvent[]): string[] => [
  ...new Set(events.flatMap(({ stream }) => (stream.startsWith('order-') ? [entityOf(stream)] : []))),
];

/** Up to where all of its readers have come that have begun. */
const leastOf = (topic: Topic): number =>
  topic.readers.values().reduce((least, { version }) => Math.min(least, version), Infinity);

function send(reader: Reader, frames: readonly Frame[]): void {
  for (const { version, bytes } of frames) {
    if (version <= reader.version) continue;
    reader.sink.write(bytes);
    reader.version = version;
  }
}

function inTurn(topic: Topic, work: () => Promise<void>): Promise<void> {
  const turn = topic.turn.then(work);
  topic.turn = turn.catch(() => {});
  return turn;
}
