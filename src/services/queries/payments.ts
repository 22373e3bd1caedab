/** The read model `payments`: what was tried, captured and given back for an order. */
import { OrderParams, OrderPaymentsView } from '#contracts/http.ts';
import type { PaymentEvent } from '#contracts/payments.ts';
import type { QueryRequest } from '#contracts/routes.ts';
import type { RecordedEvent } from '#cqrs/event-log.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { ReadTable } from '#cqrs/read-store.ts';
import { type ShownRow, shownColumn } from '#cqrs/shown-positions.ts';
import type { Database } from '#platform/postgres.ts';
import type { Applied } from './applied.ts';
import type { FindOrder } from './orders.ts';
import { foldRows, orderNotFound, type ReadModel } from './read-model.ts';
import { utcTime } from './utc-time.ts';

/** A provider that is down for days is asked thousands of times: the latest attempts are shown. */
const attemptsShownMax = 200;

export function paymentsReadModel(database: Database, applied: Applied, findOrder: FindOrder): ReadModel {
  return {
    projection,
    queries: [
      {
        method: 'GET',
        url: '/v1/orders/:orderId/payments',
        searches: true,
        summary: 'Attempts, captures and refunds of an order',
        audience: 'customer',
        tag: 'orders',
        params: OrderParams,
        shows: ({ params: { orderId } }: QueryRequest<OrderParams>) => ({
          streams: [`order-${orderId}`, `payment-${orderId}`],
        }),
        answers: { 200: OrderPaymentsView },
        async read({ params: { orderId }, caller }: QueryRequest<OrderParams>) {
          if (!(await findOrder(orderId, caller))) return orderNotFound(orderId);
          const [row] = await database.query<PaymentsRow & ShownRow>(
            'read payments',
            `select order_id, version, body, ${shownColumn} from order_payments where order_id = $1`,
            [orderId],
          );
          return row
            ? { bytes: row.body, etag: String(row.version), ...applied.shownBy([row]) }
            : { bytes: JSON.stringify(nothingYet(orderId)), etag: '0' };
        },
      },
    ],
  };
}

/** `body` is the OrderPaymentsView as JSON text, ready to send. */
type PaymentsRow = { readonly order_id: string; readonly version: number; readonly body: string };

const paymentsTable: ReadTable<PaymentsRow> = {
  name: 'order_payments',
  key: ['order_id'],
  columns: { order_id: 'text', version: 'integer', body: 'json' },
  version: 'version',
};

const projection: Projection = {
  name: 'payments',
  version: 1,
  services: ['payments'],
  tables: [paymentsTable],
  async apply(_service, events, rows) {
    const folded = await foldRows(
      events as readonly RecordedEvent<PaymentEvent>[],
      (orderIds) =>
        rows.load(
          paymentsTable,
          orderIds.map((orderId) => [orderId]),
        ),
      (before, event): PaymentsRow => {
        const view = evolve(before && (JSON.parse(before.body) as OrderPaymentsView), event);
        return { order_id: view.orderId, version: view.version, body: JSON.stringify(view) };
      },
    );
    rows.put(
      paymentsTable,
      folded.map(({ row }) => row),
    );
  },
};

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
