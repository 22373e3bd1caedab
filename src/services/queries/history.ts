/**
 * The read model `history`: everything that happened to an order, in ordering, inventory and payments; for operators, also what the
 * audit found of it.
 */
import { HistoryView, OrderParams } from '#contracts/http.ts';
import type { QueryRequest } from '#contracts/routes.ts';
import { entityOf, type RecordedEvent } from '#cqrs/event-log.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { ReadTable } from '#cqrs/read-store.ts';
import { type ShownRow, shownColumn } from '#cqrs/shown-positions.ts';
import type { Database } from '#platform/postgres.ts';
import type { Applied } from './applied.ts';
import type { FindOrder } from './orders.ts';
import { orderNotFound, type ReadModel } from './read-model.ts';
import { rfc3339, utcTime } from './utc-time.ts';

/** An order has about ten events; one whose refund keeps failing shows the latest of its many. */
const eventsShownMax = 1_000;

export function historyReadModel(database: Database, applied: Applied, findOrder: FindOrder): ReadModel {
  return {
    projection,
    queries: [
      {
        method: 'GET',
        url: '/v1/orders/:orderId/history',
        searches: true,
        summary: 'What happened to an order, causes before effects',
        audience: 'customer',
        tag: 'orders',
        params: OrderParams,
        shows: ({ params: { orderId } }: QueryRequest<OrderParams>) => ({
          streams: [`order-${orderId}`, `reservation-${orderId}`, `payment-${orderId}`],
        }),
        answers: { 200: HistoryView },
        async read({ params: { orderId }, caller }: QueryRequest<OrderParams>) {
          if (!(await findOrder(orderId, caller))) return orderNotFound(orderId);
          const rows = await database.query<StoredEvent & { count: number } & ShownRow>(
            'read history',
            `select id, version, type, actor, causation, data, count(*) over () as count,
               ${rfc3339('at')} as at, ${shownColumn}
             from order_events where order_id = $1 and ($3 or id not like 'audit-%')
             order by order_events.at desc, id desc limit $2`,
            // What the audit found holds rows of tables, and what operators say of them.
            [orderId, eventsShownMax, caller.role === 'operator'],
          );
          return {
            bytes: `{"items":[${inCausalOrder(rows.map(eventRow)).map(itemOf).join(',')}]}`,
            etag: String(rows[0]?.count ?? 0),
            ...applied.shownBy(rows),
          };
        },
      },
    ],
  };
}

type StoredEvent = {
  /** `<service>-<shard>-<position>`. */
  readonly id: string;
  readonly version: number;
  readonly at: string;
  readonly type: string;
  readonly actor: string;
  readonly causation: string;
  /** JSON text. */
  readonly data: string;
};

const eventsTable: ReadTable<StoredEvent & { readonly order_id: string }> = {
  name: 'order_events',
  key: ['order_id', 'id'],
  columns: {
    order_id: 'text',
    id: 'text',
    version: 'integer',
    at: 'timestamptz',
    type: 'text',
    actor: 'text',
    causation: 'text',
    data: 'json',
  },
  once: true,
};

const projection: Projection = {
  name: 'history',
  version: 1,
  services: ['ordering', 'inventory', 'payments', 'audit'],
  tables: [eventsTable],
  async apply(_service, events, rows) {
    rows.put(
      eventsTable,
      events.flatMap((event) => {
        const orderId = orderOf(event);
        if (orderId === undefined) return [];
        const { id, version, at, type, origin, data } = event;
        return {
          order_id: orderId,
          id,
          version,
          at: utcTime(at),
          type,
          actor: origin.actor,
          causation: origin.causationId,
          data: JSON.stringify(data),
        };
      }),
    );
  },
};

/** What the audit has found of an order names it. */
function orderOf({ stream, data }: RecordedEvent): string | undefined {
  if (/^(order|reservation|payment)-/.test(stream)) return entityOf(stream);
  return stream.startsWith('divergence-') ? (data as { readonly orderId?: string }).orderId : undefined;
}

export type EventRow = StoredEvent & {
  readonly service: string;
  readonly position: number;
  readonly stream: string;
};

/** Of an order each service keeps one stream, and the audit one per divergence. */
function eventRow(event: StoredEvent): EventRow {
  const [service, , position] = event.id.split('-') as [string, string, string];
  const stream =
    service === 'audit' ? (JSON.parse(event.data) as { readonly divergenceId: string }).divergenceId : service;
  return { ...event, service, position: Number(position), stream };
}

/**
 * Causes before effects and each stream in its own order; what neither settles goes by time, then by
 * service and position. A cause that is not among `rows` counts as past.
 */
export function inCausalOrder<Row extends EventRow>(rows: readonly Row[]): Row[] {
  const byTime = [...rows].sort(
    (a, b) => compare(a.at, b.at) || compare(a.service, b.service) || a.position - b.position,
  );
  const ids = new Set(rows.map(({ id }) => id));
  const after = new Map<string, Row[]>();
  const waitsFor = new Map<Row, number>();
  const latest = new Map<string, Row>();
  for (const row of [...byTime].sort((a, b) => a.version - b.version)) {
    const before = new Set(
      [row.causation, latest.get(row.stream)?.id].filter((id) => id !== undefined && id !== row.id && ids.has(id)),
    );
    for (const id of before) after.set(id!, [...(after.get(id!) ?? []), row]);
    waitsFor.set(row, before.size);
    latest.set(row.stream, row);
  }
  const ordered: Row[] = [];
  const open = new Set(byTime);
  while (open.size > 0) {
    // Rows that name each other as causes cannot be: the earliest goes first, and an answer is given.
    const next: Row = open.values().find((row) => waitsFor.get(row) === 0) ?? open.values().next().value!;
    open.delete(next);
    ordered.push(next);
    for (const row of after.get(next.id) ?? []) waitsFor.set(row, waitsFor.get(row)! - 1);
  }
  return ordered;
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

const itemOf = ({ version, type, at, data, actor, causation, service, id }: EventRow): string => {
  const members = JSON.stringify({ version, type, at, actor, causation, service, id });
  // As it was stored, without parsing it.
  return `${members.slice(0, -1)},"data":${data}}`;
};
