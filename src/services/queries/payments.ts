/** The read model `payments`: what was tried, captured and given back for an order. */
import { OrderParams, OrderPaymentsView } from '#contracts/http.ts';
import type { PaymentEvent } from '#contracts/payments.ts';
import type { QueryRequest } from '#contracts/routes.ts';
import { entityOf, type RecordedEvent } from '#cqrs/event-log.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { Database, Sql } from '#platform/postgres.ts';
import type { FindOrder } from './orders.ts';
import { foldViews, orderNotFound, type ReadModel } from './read-model.ts';
import { utcTime } from './utc-time.ts';

/** A provider that is down for days is asked thousands of times: the latest attempts are shown. */
const attemptsShownMax = 200;

export function paymentsReadModel(database: Database, findOrder: FindOrder): ReadModel {
  return {
    projection,
    queries: [
      {
        method: 'GET',
        url: '/v1/orders/:orderId/payments',
        summary: 'Attempts, captures and refunds of an order',
        audience: 'customer',
        tag: 'orders',
        params: OrderParams,
        answers: { 200: OrderPaymentsView },
        async read({ params: { orderId }, caller }: QueryRequest<OrderParams>) {
          if (!(await findOrder(orderId, caller))) return orderNotFound(orderId);
          const [row] = await readRows(database, [orderId]);
          return row
            ? { bytes: row.body, etag: String(row.version) }
            : { bytes: JSON.stringify(nothingYet(orderId)), etag: '0' };
        },
      },
    ],
  };
}

const projection: Projection = {
  name: 'payments',
  services: ['payments'],
  async apply(_service, events, sql) {
    const views = await foldViews(
      events as readonly RecordedEvent<PaymentEvent>[],
      ({ stream }) => entityOf(stream),
      async (begun) =>
        new Map(
          (await readRows(sql, [...begun.keys()])).map((row) => [
            row.order_id,
            JSON.parse(row.body) as OrderPaymentsView,
          ]),
        ),
      evolve,
    );
    if (views.size === 0) return;
    await sql.query(
      'write payments',
      `insert into order_payments (order_id, version, body)
       select * from unnest($1::text[], $2::integer[], string_to_array($3, E'\\n'))
       on conflict (order_id) do update set version = excluded.version, body = excluded.body
         where order_payments.version < excluded.version`,
      [
        [...views.keys()],
        [...views.values()].map(({ version }) => version),
        [...views.values()].map((view) => JSON.stringify(view)).join('\n'),
      ],
    );
  },
};

const readRows = (
  sql: Sql,
  orderIds: readonly string[],
): Promise<{ order_id: string; version: number; body: string }[]> =>
  sql.query('read payments', 'select order_id, version, body from order_payments where order_id = any($1)', [orderIds]);

const nothingYet = (orderId: string): OrderPaymentsView => ({
  orderId,
  status: 'none',
  attempts: [],
  captures: [],
  refunds: [],
  version: 0,
});

/** What the order's payments look like after `event`. */
function evolve(before: OrderPaymentsView | undefined, event: RecordedEvent<PaymentEvent>): OrderPaymentsView {
  const { orderId, paymentId } = event.data;
  const at = utcTime(event.at);
  const view: OrderPaymentsView = { ...(before ?? nothingYet(orderId)), paymentId, version: event.version };
  const tried = (outcome: string, detail?: string): Pick<OrderPaymentsView, 'attempts'> => ({
    attempts: [...view.attempts, { at, outcome, ...(detail === undefined ? {} : { detail }) }].slice(-attemptsShownMax),
  });
  switch (event.type) {
    case 'PaymentRequested':
      return {
        ...view,
        status: 'pending',
        amount: event.data.amount,
        method: event.data.method,
        ...tried('requested'),
      };
    case 'PaymentCaptured': {
      const { amount, providerReference } = event.data;
      return {
        ...view,
        status: 'captured',
        ...tried('captured'),
        captures: [...view.captures, { at, amount, providerReference }],
      };
    }
    case 'PaymentDeclined':
      return { ...view, status: 'declined', ...tried('declined', event.data.reason) };
    case 'PaymentUnknown':
      return { ...view, status: 'unknown', ...tried('unknown', event.data.detail) };
    case 'PaymentWithdrawn':
      return { ...view, ...tried('withdrawn') };
    case 'PaymentVoided':
      return { ...view, status: 'none', ...tried('voided', event.data.reason) };
    case 'RefundRequested':
      return { ...view, ...tried('refund-requested') };
    case 'RefundDelayed':
      return { ...view, ...tried('refund-delayed', event.data.detail) };
    case 'PaymentRefunded': {
      const { amount, providerReference } = event.data;
      return {
        ...view,
        status: 'refunded',
        ...tried('refunded'),
        refunds: [...view.refunds, { at, amount, providerReference }],
      };
    }
  }
}
