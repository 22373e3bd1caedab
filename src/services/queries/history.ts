/** The read model `history`: everything that happened to an order, in ordering, inventory and payments. */
import { HistoryView, OrderParams } from '#contracts/http.ts';
import type { QueryRequest } from '#contracts/routes.ts';
import { entityOf, type RecordedEvent } from '#cqrs/event-log.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { Database } from '#platform/postgres.ts';
import type { FindOrder } from './orders.ts';
import { orderNotFound, type ReadModel } from './read-model.ts';
import { utcTime } from './utc-time.ts';

/** An order has about ten events; one whose refund keeps failing shows the latest of its many. */
const eventsShownMax = 1_000;

export function historyReadModel(database: Database, findOrder: FindOrder): ReadModel {
  return {
    projection,
    queries: [
      {
        method: 'GET',
        url: '/v1/orders/:orderId/history',
        summary: 'What happened to an order, causes before effects',
        audience: 'customer',
        tag: 'orders',
        params: OrderParams,
        answers: { 200: HistoryView },
        async read({ params: { orderId }, caller }: QueryRequest<OrderParams>) {
          if (!(await findOrder(orderId, caller))) return orderNotFound(orderId);
          const rows = await database.query<EventRow & { count: number }>(
            'read history',
            `select id, service, position, stream, version, type, actor, causation, data, count(*) over () as count,
               to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at
             from order_events where order_id = $1 order by order_events.at desc, position desc limit $2`,
            [orderId, eventsShownMax],
          );
          return {
            bytes: `{"items":[${inCausalOrder(rows).map(itemOf).join(',')}]}`,
            etag: String(rows[0]?.count ?? 0),
          };
        },
      },
    ],
  };
}

const projection: Projection = {
  name: 'history',
  services: ['ordering', 'inventory', 'payments'],
  async apply(service, events, sql) {
    const ofOrders = events.filter(({ stream }) => /^(order|reservation|payment)-/.test(stream));
    if (ofOrders.length === 0) return;
    const column = (of: (event: RecordedEvent) => string | number): unknown[] => ofOrders.map(of);
    await sql.query(
      'write history',
      `insert into order_events (service, order_id, id, position, stream, version, type, at, actor, causation, data)
       select $1, * from unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::integer[], $7::text[], $8::timestamptz[],
         $9::text[], $10::text[], string_to_array($11, E'\\n'))
       on conflict (order_id, id) do nothing`,
      [
        service,
        column(({ stream }) => entityOf(stream)),
        column(({ id }) => id),
        column(({ position }) => position),
        column(({ stream }) => stream),
        column(({ version }) => version),
        column(({ type }) => type),
        column(({ at }) => utcTime(at)),
        column(({ origin }) => origin.actor),
        column(({ origin }) => origin.causationId),
        ofOrders.map(({ data }) => JSON.stringify(data)).join('\n'),
      ],
    );
  },
};

export type EventRow = {
  readonly id: string;
  readonly service: string;
  readonly position: number;
  readonly stream: string;
  readonly version: number;
  readonly type: string;
  readonly at: string;
  readonly actor: string;
  readonly causation: string;
  /** JSON text. */
  readonly data: string;
};

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
