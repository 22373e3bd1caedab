/** What inventory does about what happens elsewhere: holds, ships and frees what orders ask for. */
import type { ProductAdded } from '#contracts/catalog.ts';
import type { OrderCancelled, OrderCompleted, OrderFailed, OrderPlaced } from '#contracts/ordering.ts';
import type { OrderId } from '#contracts/values.ts';
import type { Scope, StreamRef } from '#cqrs/command-bus.ts';
import type { Reaction, Reactions } from '#cqrs/reactions.ts';
import { addUp, reservation, type ReservationCommand } from './stock.ts';
import { listingStream, reservationStream, stockOf, stockStream } from './streams.ts';

export const toCatalog: Reactions = {
  ProductAdded: {
    reads: (event: ProductAdded) => [{ type: listingStream, id: event.data.sku }],
    react({ data: { sku } }: ProductAdded, scope) {
      if (scope.state(listingStream, sku).listed) return;
      scope.record(listingStream, sku, { type: 'ProductListed', data: { sku } });
    },
  } satisfies Reaction,
};

export const toOrdering = (reservationTtlSeconds: number): Reactions => ({
  OrderPlaced: {
    reads: (event: OrderPlaced) => [
      { type: reservationStream, id: event.data.orderId, likelyNew: true },
      ...stockOf(addUp(event.data.lines)),
    ],
    react({ data: { orderId, lines } }: OrderPlaced, scope) {
      const expiresAt = new Date(Date.parse(scope.now) + reservationTtlSeconds * 1_000).toISOString();
      tellReservation(scope, orderId, { type: 'ReserveStock', lines, expiresAt });
    },
  },
  OrderCompleted: onHeld<OrderCompleted>(() => ({ type: 'ShipStock' })),
  OrderCancelled: onHeld<OrderCancelled>(() => ({ type: 'ReleaseStock', reason: 'order-cancelled' })),
  OrderFailed: onHeld<OrderFailed>(() => ({ type: 'ReleaseStock', reason: 'order-failed' })),
});

/** Puts `command` to the reservation of an order; what it decides moves the stock of its pieces too. */
export function tellReservation(scope: Scope, orderId: OrderId, command: ReservationCommand): void {
  const wanted = command.type === 'ReserveStock' ? command.lines : [];
  const decision = reservation.decide(command, {
    orderId,
    reservation: scope.state(reservationStream, orderId),
    levels: new Map(wanted.map(({ sku }) => [sku, scope.state(stockStream, sku)])),
  });
  if ('refused' in decision) return;
  for (const event of decision.accepted) {
    scope.record(reservationStream, orderId, event, 'lines' in event.data ? stockOf(event.data.lines) : []);
  }
}

type OrderMessage = OrderCompleted | OrderCancelled | OrderFailed;

/** The order's word about what is held for it. */
function onHeld<Event extends OrderMessage>(command: (event: Event) => ReservationCommand): Reaction {
  return {
    reads: (event: Event): StreamRef[] => [{ type: reservationStream, id: event.data.orderId }],
    react: (event: Event, scope: Scope) => tellReservation(scope, event.data.orderId, command(event)),
  };
}
