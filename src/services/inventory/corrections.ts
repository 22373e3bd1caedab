/** What operators and the audit may have inventory decide out of turn. Each rejects when there is nothing to decide. */
import type { OrderId } from '#contracts/values.ts';
import type { CommandBus } from '#cqrs/command-bus.ts';
import { correct, type Correction } from '#cqrs/correction.ts';
import type { Origin } from '#cqrs/event-log.ts';
import { tellReservation } from './reactions.ts';
import { reservationStream } from './streams.ts';

export function inventoryCorrections(bus: CommandBus) {
  return {
    /** Frees what is held for an order that is over, or that there is not. */
    releaseStock: (orderId: OrderId, origin: Origin): Promise<Correction> =>
      correct(bus, origin, { type: reservationStream, id: orderId }, (scope) =>
        tellReservation(scope, orderId, { type: 'ReleaseStock', reason: 'order-failed' }),
      ),

    /** Says that a reservation has been held for too long. */
    expireReservation: (orderId: OrderId, origin: Origin): Promise<Correction> =>
      correct(bus, origin, { type: reservationStream, id: orderId }, (scope) =>
        tellReservation(scope, orderId, { type: 'ExpireReservation', now: scope.now }),
      ),
  };
}
