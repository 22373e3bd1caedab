/** An order as its customer sees it, after each of its events. */
import type { OrderView } from '#contracts/http.ts';
import type { OrderEvent } from '#contracts/ordering.ts';
import type { RecordedEvent } from '#cqrs/event-log.ts';
import { utcTime } from './utc-time.ts';

/** What an order comes to is in here once; `bodyOf` puts it together. */
export type OrderRow = {
  readonly order_id: string;
  readonly version: number;
  readonly customer_id: string;
  readonly status: OrderView['status'];
  /** JSON text. */
  readonly failure: string | null;
  /** JSON text, as OrderView has it. */
  readonly lines: string;
  readonly units: number;
  readonly country: string | null;
  readonly total: number;
  readonly currency: string;
  readonly payment_status: OrderView['payment']['status'];
  /** JSON text of a string. */
  readonly payment_method: string;
  readonly placed_at: string;
  readonly updated_at: string;
};

export type OrderEventRecord = RecordedEvent<OrderEvent>;
type OrderPlaced = Extract<OrderEvent, { type: 'OrderPlaced' }>['data'];

/** What the order looks like after `event`. Its version and `updated_at` are the event's. */
export function evolve(before: OrderRow | undefined, event: OrderEventRecord): OrderRow {
  const now = { updated_at: utcTime(event.at), version: event.version };
  if (event.type === 'OrderPlaced') return { ...placedRow(event.data), ...now };
  if (!before) throw new Error(`${event.id} (${event.type}) is the first event of ${event.stream}`);
  switch (event.type) {
    case 'OrderReserved':
      return { ...before, status: 'reserved', payment_status: 'pending', ...now };
    case 'OrderPaymentInDoubt':
      return { ...before, payment_status: 'unknown', ...now };
    case 'OrderCompleted':
      return { ...before, status: 'completed', payment_status: 'captured', ...now };
    case 'OrderFailed':
      return {
        ...before,
        status: 'failed',
        failure: JSON.stringify(event.data.failure),
        payment_status: paymentAfterFailure(before, event.data),
        ...now,
      };
    case 'OrderCancelled':
      // Reserved: payments may be charging at this moment. The refund or the void will tell.
      return {
        ...before,
        status: 'cancelled',
        payment_status: event.data.was === 'pending' ? 'none' : before.payment_status,
        ...now,
      };
    case 'OrderRefunded':
      return { ...before, payment_status: 'refunded', ...now };
    case 'OrderPaymentVoided':
      return { ...before, payment_status: 'none', ...now };
  }
}

/** The order as it is placed. Its version is 0: `evolve` gives it that of the event. */
export function placedRow({ orderId, customerId, lines, total, payment, ...placed }: OrderPlaced): OrderRow {
  const { currency } = placed;
  return {
    order_id: orderId,
    version: 0,
    customer_id: customerId,
    status: 'pending',
    failure: null,
    lines: JSON.stringify(
      lines.map(({ sku, name, quantity, unitPrice }) => ({
        sku,
        name,
        quantity,
        unitPrice: { amount: unitPrice, currency },
      })),
    ),
    units: unitsOf(lines),
    country: placed.country === undefined ? null : storable(placed.country),
    total: total.amount,
    currency: total.currency,
    payment_status: 'none',
    payment_method: JSON.stringify(payment.method),
    placed_at: utcTime(placed.placedAt),
    updated_at: utcTime(placed.placedAt),
  };
}

const unitsOf = (lines: OrderPlaced['lines']): number => lines.reduce((sum, { quantity }) => sum + quantity, 0);

/** PostgreSQL's text holds no NUL and no half characters. */
const storable = (text: string): string => text.replaceAll('\0', '').toWellFormed();

function paymentAfterFailure(
  before: OrderRow,
  { was, failure }: Extract<OrderEvent, { type: 'OrderFailed' }>['data'],
): OrderRow['payment_status'] {
  switch (failure.code) {
    case 'payment-declined':
      return 'declined';
    case 'out-of-stock':
      return 'none';
    case 'timed-out':
      return was === 'pending' ? 'none' : before.payment_status;
  }
}

/** The JSON text of its OrderView. */
export function bodyOf(row: OrderRow): string {
  const head = JSON.stringify({ orderId: row.order_id, customerId: row.customer_id, status: row.status });
  const failure = row.failure === null ? '' : `,"failure":${row.failure}`;
  const total = JSON.stringify({ amount: row.total, currency: row.currency });
  const payment = `{"status":"${row.payment_status}","method":${row.payment_method}}`;
  const times = `"placedAt":"${row.placed_at}","updatedAt":"${row.updated_at}"`;
  return `${head.slice(0, -1)}${failure},"lines":${row.lines},"total":${total},"payment":${payment},${times},"version":${row.version}}`;
}

/** What a body has beside its ids, lines, failure and method: names, numbers and times. */
const membersBytesMax = 320;

/** How many bytes `bodyOf` has, at most. */
export const bodyBytesMax = ({
  order_id: orderId,
  customer_id: customerId,
  lines,
  failure,
  ...row
}: OrderRow): number =>
  membersBytesMax +
  orderId.length +
  customerId.length +
  Buffer.byteLength(lines) +
  Buffer.byteLength(failure ?? '') +
  Buffer.byteLength(row.payment_method);
