/** I15: which event may come after which, in the streams that have a status. */
import type { InventoryEvent } from '#contracts/inventory.ts';
import type { OrderEvent } from '#contracts/ordering.ts';
import type { PaymentEvent } from '#contracts/payments.ts';

type Arrows<Type extends string> = Readonly<Partial<Record<Type | 'none', readonly Type[]>>>;

const early: OrderEvent['type'][] = ['OrderFailed', 'OrderCancelled'];
const late: OrderEvent['type'][] = ['OrderPaymentInDoubt', 'OrderRefunded', 'OrderPaymentVoided'];

const order: Arrows<OrderEvent['type']> = {
  none: ['OrderPlaced'],
  OrderPlaced: ['OrderReserved', ...early],
  OrderReserved: ['OrderPaymentInDoubt', 'OrderCompleted', ...early],
  OrderCompleted: [],
  OrderFailed: late,
  OrderCancelled: late,
  OrderRefunded: late,
  OrderPaymentVoided: late,
};

const settling: PaymentEvent['type'][] = ['PaymentUnknown', 'PaymentCaptured', 'PaymentDeclined', 'PaymentVoided'];

const payment: Arrows<PaymentEvent['type']> = {
  none: ['PaymentRequested'],
  PaymentRequested: ['PaymentWithdrawn', ...settling],
  PaymentWithdrawn: settling,
  PaymentUnknown: ['PaymentWithdrawn', ...settling],
  PaymentCaptured: ['RefundRequested'],
  // The provider took its word back, and with it goes the money.
  PaymentDeclined: ['PaymentCaptured'],
  PaymentVoided: ['PaymentCaptured'],
  RefundRequested: ['RefundDelayed', 'PaymentRefunded'],
  RefundDelayed: ['RefundDelayed', 'PaymentRefunded'],
};

const reservation: Arrows<InventoryEvent['type']> = {
  none: ['StockReserved', 'StockRejected', 'ReservationBarred'],
  StockReserved: ['ReservationExpired', 'StockReleased', 'StockShipped'],
  ReservationExpired: ['StockReleased', 'StockShipped'],
};

const arrows: Readonly<Record<string, Readonly<Partial<Record<string, readonly string[]>>>>> = {
  order,
  payment,
  reservation,
};

/** Says something of the payment, and nothing of the status. */
const besides = 'OrderPaymentInDoubt' satisfies OrderEvent['type'];

/** The first event of a stream that may not come where it is; undefined: there is none. */
export function oddStep<Event extends { readonly type: string }>(
  streamType: string,
  events: readonly Event[],
): { readonly event: Event; readonly after: string } | undefined {
  const known = arrows[streamType];
  if (known === undefined) return undefined;
  let after = 'none';
  for (const event of events) {
    if (!(known[after] ?? []).includes(event.type)) return { event, after };
    if (event.type !== besides) after = event.type;
  }
  return undefined;
}
