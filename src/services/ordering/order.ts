/**
 * The rules of an order, and with them the saga: the order is the arbiter of its own fate. It moves
 * `pending → reserved → completed | failed | cancelled`; whoever comes second in a race finds it final
 * and compensates.
 */
import type { OrderStatus, PaymentStatus } from '#contracts/http.ts';
import type { Failure, OrderEvent, OrderFailed, OrderReserved } from '#contracts/ordering.ts';
import {
  type CustomerId,
  type Money,
  type OrderId,
  type PaymentId,
  type Sku,
  totalAmountMax,
} from '#contracts/values.ts';
import { accept, type Decider, type Decision, refuse } from '#cqrs/decider.ts';

type Placed = {
  readonly orderId: OrderId;
  readonly customerId: CustomerId;
  readonly placedAt: string;
  readonly total: Money;
  readonly method: string;
  readonly contentHash: string;
};

/** `payment` is what the order knows of it; after the end it may still be settling. */
export type Order =
  | { readonly status: 'none' }
  | (Placed & { readonly status: 'pending'; readonly deadline: string })
  | (Placed & { readonly status: 'reserved'; readonly deadline: string; readonly payment: 'pending' | 'unknown' })
  | (Placed & { readonly status: 'completed' })
  | (Placed & { readonly status: 'failed'; readonly payment: PaymentStatus })
  | (Placed & { readonly status: 'cancelled'; readonly payment: PaymentStatus });

export type PlaceOrder = {
  readonly type: 'PlaceOrder';
  readonly orderId: OrderId;
  readonly customerId: CustomerId;
  /** Null: nobody knows this customer. */
  readonly customer: { readonly name: string; readonly country?: string } | null;
  readonly lines: readonly {
    readonly sku: Sku;
    readonly quantity: number;
    /** Negotiated; otherwise the offer's price counts. */
    readonly unitPrice?: Money;
    /** What the catalogue says now; null: it does not have the product. */
    readonly offer: { readonly name: string; readonly price: Money } | null;
  }[];
  readonly payment: { readonly method: string };
  readonly placedAt: string;
  readonly deadline: string;
  readonly contentHash: string;
};

export type OrderCommand =
  | PlaceOrder
  | { readonly type: 'CancelOrder'; readonly reason?: string }
  | { readonly type: 'ConfirmReservation' }
  | { readonly type: 'RejectReservation'; readonly skus: readonly Sku[] }
  | { readonly type: 'ExpireReservation' }
  | { readonly type: 'CompleteOrder'; readonly paymentId: PaymentId }
  | { readonly type: 'DeclinePayment'; readonly reason: string }
  | { readonly type: 'DoubtPayment' }
  | { readonly type: 'VoidPayment' }
  | { readonly type: 'RefundPayment' }
  | { readonly type: 'TimeOutOrder'; readonly now: string };

type Early = Extract<Order, { status: 'pending' | 'reserved' }>;

export const order: Decider<Order, OrderCommand, OrderEvent> = {
  initial: { status: 'none' },

  evolve(state, event): Order {
    switch (event.type) {
      case 'OrderPlaced': {
        const { orderId, customerId, placedAt, total, payment, contentHash, deadline } = event.data;
        return {
          status: 'pending',
          orderId,
          customerId,
          placedAt,
          total,
          method: payment.method,
          contentHash,
          deadline,
        };
      }
      case 'OrderReserved':
        return state.status === 'pending' ? { ...state, status: 'reserved', payment: 'pending' } : state;
      case 'OrderCompleted':
        return { ...placedOf(state), status: 'completed' };
      case 'OrderFailed':
        return { ...placedOf(state), status: 'failed', payment: paymentAfterFailure(state, event) };
      case 'OrderCancelled':
        return {
          ...placedOf(state),
          status: 'cancelled',
          payment: state.status === 'reserved' ? state.payment : 'none',
        };
      case 'OrderPaymentInDoubt':
        return 'payment' in state ? { ...state, payment: 'unknown' } : state;
      case 'OrderRefunded':
        return state.status === 'failed' || state.status === 'cancelled' ? { ...state, payment: 'refunded' } : state;
      case 'OrderPaymentVoided':
        return state.status === 'failed' || state.status === 'cancelled' ? { ...state, payment: 'none' } : state;
    }
  },

  decide(command, state) {
    if (command.type === 'PlaceOrder') return place(command, state);
    switch (state.status) {
      case 'none':
        return refuse({ code: 'order-not-found', detail: 'No order has this id.' });
      case 'pending':
        return decidePending(command, state);
      case 'reserved':
        return decideReserved(command, state);
      case 'completed':
        return command.type === 'CancelOrder' ? notCancellable(state.status) : accept();
      case 'failed':
      case 'cancelled':
        return decideEnded(command, state);
    }
  },
};

/** When the order has to be looked at again; null: it is final. */
export const orderDueAt = (state: Order): string | null =>
  state.status === 'pending' || state.status === 'reserved' ? state.deadline : null;

function place(command: PlaceOrder, state: Order): Decision<OrderEvent> {
  const { orderId, customerId, customer, lines, payment, placedAt, deadline, contentHash } = command;
  if (state.status !== 'none') {
    if (state.contentHash === contentHash) return accept();
    return refuse({ code: 'order-exists', detail: `An order ${orderId} with other content exists.` });
  }
  if (customer === null)
    return refuse({ code: 'unknown-customer', detail: `No customer ${customerId} is registered.` });

  const skus = [...new Set(lines.filter((line) => line.offer === null).map((line) => line.sku))];
  if (skus.length > 0) {
    return refuse({
      code: 'unknown-product',
      detail: `The catalogue does not have: ${skus.slice(0, 10).join(', ')}.`,
      skus,
    });
  }
  const priced = lines.map((line) => ({ ...line, offer: line.offer!, price: line.unitPrice ?? line.offer!.price }));
  const currencies = [...new Set(priced.map((line) => line.price.currency))].sort();
  const currency = currencies[0];
  if (currency === undefined || currencies.length > 1) {
    return refuse({
      code: 'mixed-currencies',
      detail: `The lines are priced in ${currencies.join(' and ')}.`,
      currencies,
    });
  }
  const amount = priced.reduce((sum, line) => sum + BigInt(line.quantity) * BigInt(line.price.amount), 0n);
  if (amount > BigInt(totalAmountMax)) {
    return refuse({ code: 'total-too-large', detail: `The total would be ${amount} minor units of ${currency}.` });
  }
  return accept({
    type: 'OrderPlaced',
    data: {
      orderId,
      customerId,
      customerName: customer.name,
      ...(customer.country === undefined ? {} : { country: customer.country }),
      currency,
      lines: priced.map(({ sku, quantity, price, offer }) => ({
        sku,
        name: offer.name,
        quantity,
        unitPrice: price.amount,
      })),
      total: { amount: Number(amount), currency },
      payment,
      placedAt,
      deadline,
      contentHash,
    },
  });
}

type Later = Exclude<OrderCommand, PlaceOrder>;

function decidePending(command: Later, state: Extract<Order, { status: 'pending' }>): Decision<OrderEvent> {
  switch (command.type) {
    case 'CancelOrder':
      return accept(cancelled(command, state));
    case 'ConfirmReservation':
      return accept(reserved(state));
    case 'RejectReservation':
      return accept(failed(state, { code: 'out-of-stock', detail: shortOf(command.skus), skus: [...command.skus] }));
    case 'ExpireReservation':
      return accept(failed(state, { code: 'timed-out', detail: 'The reservation expired.' }));
    case 'TimeOutOrder':
      return timeOut(command.now, state);
    // Payments acts only on an order that holds its stock: its word proves the reservation, which has not been heard of here.
    case 'CompleteOrder':
    case 'DeclinePayment':
    case 'DoubtPayment':
    case 'VoidPayment': {
      const first = reserved(state);
      const then = decideReserved(command, { ...state, status: 'reserved', payment: 'pending' });
      return 'refused' in then ? then : accept(first, ...then.accepted);
    }
    case 'RefundPayment':
      return accept();
  }
}

function decideReserved(command: Later, state: Extract<Order, { status: 'reserved' }>): Decision<OrderEvent> {
  const { orderId } = state;
  switch (command.type) {
    case 'CancelOrder':
      return accept(cancelled(command, state));
    case 'CompleteOrder':
      return accept({ type: 'OrderCompleted', data: { orderId, paymentId: command.paymentId } });
    case 'DeclinePayment':
      return accept(failed(state, { code: 'payment-declined', detail: command.reason }));
    case 'DoubtPayment':
      return state.payment === 'unknown' ? accept() : accept({ type: 'OrderPaymentInDoubt', data: { orderId } });
    case 'VoidPayment':
      return accept<OrderEvent>(
        failed(state, { code: 'timed-out', detail: 'The payment could not be made in time.' }),
        {
          type: 'OrderPaymentVoided',
          data: { orderId },
        },
      );
    case 'ExpireReservation':
      return accept(failed(state, { code: 'timed-out', detail: 'The reservation expired.' }));
    case 'TimeOutOrder':
      return timeOut(command.now, state);
    case 'ConfirmReservation':
    case 'RejectReservation':
    case 'RefundPayment':
      return accept();
  }
}

/** The order has ended early; what remains is to note how its payment is settled. */
function decideEnded(command: Later, state: Extract<Order, { status: 'failed' | 'cancelled' }>): Decision<OrderEvent> {
  const { orderId } = state;
  const settling = state.payment === 'pending' || state.payment === 'unknown';
  switch (command.type) {
    case 'CancelOrder':
      return notCancellable(state.status);
    case 'DoubtPayment':
      return state.payment === 'pending' ? accept({ type: 'OrderPaymentInDoubt', data: { orderId } }) : accept();
    case 'DeclinePayment':
    case 'VoidPayment':
      return settling ? accept({ type: 'OrderPaymentVoided', data: { orderId } }) : accept();
    case 'RefundPayment':
      return state.payment === 'refunded' ? accept() : accept({ type: 'OrderRefunded', data: { orderId } });
    case 'ConfirmReservation':
    case 'RejectReservation':
    case 'ExpireReservation':
    case 'CompleteOrder':
    case 'TimeOutOrder':
      return accept();
  }
}

const reserved = (state: Early): OrderReserved => ({
  type: 'OrderReserved',
  data: { orderId: state.orderId, total: state.total, payment: { method: state.method } },
});

const failed = (state: Early, failure: Failure): OrderFailed => ({
  type: 'OrderFailed',
  data: { orderId: state.orderId, was: state.status, failure },
});

const cancelled = (command: { reason?: string }, state: Early): OrderEvent => ({
  type: 'OrderCancelled',
  data: {
    orderId: state.orderId,
    was: state.status,
    ...(command.reason === undefined ? {} : { reason: command.reason }),
  },
});

const timeOut = (now: string, state: Early): Decision<OrderEvent> =>
  now < state.deadline
    ? accept()
    : accept(failed(state, { code: 'timed-out', detail: `The order was not final by ${state.deadline}.` }));

const notCancellable = (orderStatus: OrderStatus) =>
  refuse({ code: 'order-not-cancellable', detail: `The order is ${orderStatus}.`, orderStatus });

const shortOf = (skus: readonly Sku[]): string =>
  `Not enough stock of: ${skus.slice(0, 10).join(', ')}${skus.length > 10 ? ' …' : ''}.`;

function placedOf(state: Order): Placed {
  if (state.status === 'none') throw new Error('an order that was never placed cannot move on');
  const { orderId, customerId, placedAt, total, method, contentHash } = state;
  return { orderId, customerId, placedAt, total, method, contentHash };
}

function paymentAfterFailure(state: Order, event: OrderFailed): PaymentStatus {
  if (event.data.failure.code === 'payment-declined') return 'declined';
  return state.status === 'reserved' ? state.payment : 'none';
}
