/** What payments does about orders: requests the money once stock is held, withdraws it when the order ends early. */
import type { OrderCancelled, OrderFailed, OrderReserved } from '#contracts/ordering.ts';
import type { OrderId } from '#contracts/values.ts';
import type { Scope } from '#cqrs/command-bus.ts';
import type { Reaction, Reactions } from '#cqrs/reactions.ts';
import { payment, type PaymentCommand, paymentIdOf } from './payment.ts';
import { paymentStream } from './streams.ts';

/** `settleWithinMs`: after a crash, how long until a payment that was under way is taken up again. */
export const toOrdering = (settleWithinMs: number): Reactions => ({
  OrderReserved: {
    reads: (event: OrderReserved) => [{ type: paymentStream, id: event.data.orderId, likelyNew: true }],
    react({ data: { orderId, total, payment: chosen } }: OrderReserved, scope) {
      tellPayment(scope, orderId, {
        type: 'RequestPayment',
        paymentId: paymentIdOf(orderId),
        orderId,
        amount: total,
        method: chosen.method,
        settleBy: later(scope.now, settleWithinMs),
      });
    },
  },
  OrderCancelled: onEnd<OrderCancelled>(),
  OrderFailed: onEnd<OrderFailed>(),
});

/** Puts `command` to the payment of an order; what it decides is recorded. */
export function tellPayment(scope: Scope, orderId: OrderId, command: PaymentCommand): void {
  const decision = payment.decide(command, scope.state(paymentStream, orderId));
  if ('refused' in decision) return;
  for (const event of decision.accepted) scope.record(paymentStream, orderId, event);
}

/** RFC 3339, `ms` after `now`. */
export const later = (now: string, ms: number): string => new Date(Date.parse(now) + ms).toISOString();

/** An order that never held its stock was never to be charged. */
function onEnd<Event extends OrderCancelled | OrderFailed>(): Reaction {
  return {
    reads: (event: Event) => (event.data.was === 'reserved' ? [{ type: paymentStream, id: event.data.orderId }] : []),
    react(event: Event, scope) {
      if (event.data.was !== 'reserved') return;
      tellPayment(scope, event.data.orderId, { type: 'WithdrawPayment', settleBy: scope.now });
    },
  };
}
