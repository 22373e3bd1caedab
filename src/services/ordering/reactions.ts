/** What ordering does about what happens elsewhere: its side of the saga, step by step. */
import type { ProductAdded, ProductChanged } from '#contracts/catalog.ts';
import type { ReservationExpired, StockRejected, StockReserved } from '#contracts/inventory.ts';
import type {
  PaymentCaptured,
  PaymentDeclined,
  PaymentRefunded,
  PaymentUnknown,
  PaymentVoided,
} from '#contracts/payments.ts';
import type { OrderId } from '#contracts/values.ts';
import type { Scope } from '#cqrs/command-bus.ts';
import type { Reaction, Reactions } from '#cqrs/reactions.ts';
import type { DomainEvent } from '#cqrs/decider.ts';
import { offer } from './offer.ts';
import { order, type OrderCommand } from './order.ts';
import { offerStream, orderStream } from './streams.ts';

type OrderMessage = DomainEvent & { readonly data: { readonly orderId: OrderId } };

/** Puts `command` to the order; what it decides is recorded. A refusal leaves the order as it is: the other side compensates. */
export function tellOrder(scope: Scope, orderId: OrderId, command: OrderCommand): void {
  const decision = order.decide(command, scope.state(orderStream, orderId));
  if ('refused' in decision) {
    throw new Error(`order ${orderId} refused ${command.type}: ${decision.refused.detail}`);
  }
  for (const event of decision.accepted) scope.record(orderStream, orderId, event);
}

const onOrder = <Event extends OrderMessage>(command: (event: Event) => OrderCommand): Reaction => ({
  reads: (event: Event) => [{ type: orderStream, id: event.data.orderId }],
  react: (event: Event, scope: Scope) => tellOrder(scope, event.data.orderId, command(event)),
});

const copyOffer: Reaction = {
  reads: (event: ProductAdded | ProductChanged) => [{ type: offerStream, id: event.data.sku }],
  react({ data: { sku, name, price } }: ProductAdded | ProductChanged, scope) {
    const decision = offer.decide({ type: 'OfferProduct', sku, name, price }, scope.state(offerStream, sku));
    if ('accepted' in decision) for (const event of decision.accepted) scope.record(offerStream, sku, event);
  },
};

export const toCatalog: Reactions = { ProductAdded: copyOffer, ProductChanged: copyOffer };

export const toInventory: Reactions = {
  StockReserved: onOrder<StockReserved>(() => ({ type: 'ConfirmReservation' })),
  StockRejected: onOrder<StockRejected>((event) => ({ type: 'RejectReservation', skus: event.data.skus })),
  ReservationExpired: onOrder<ReservationExpired>(() => ({ type: 'ExpireReservation' })),
};

export const toPayments: Reactions = {
  PaymentCaptured: onOrder<PaymentCaptured>((event) => ({ type: 'CompleteOrder', paymentId: event.data.paymentId })),
  PaymentDeclined: onOrder<PaymentDeclined>((event) => ({ type: 'DeclinePayment', reason: event.data.reason })),
  PaymentUnknown: onOrder<PaymentUnknown>(() => ({ type: 'DoubtPayment' })),
  PaymentVoided: onOrder<PaymentVoided>(() => ({ type: 'VoidPayment' })),
  PaymentRefunded: onOrder<PaymentRefunded>(() => ({ type: 'RefundPayment' })),
};
