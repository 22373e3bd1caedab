/** What operators and the audit may have ordering decide out of turn. Each rejects when there is nothing to decide. */
import type { Money, OrderId, Sku } from '#contracts/values.ts';
import type { CommandBus } from '#cqrs/command-bus.ts';
import { correct, type Correction } from '#cqrs/correction.ts';
import type { Origin } from '#cqrs/event-log.ts';
import { offer } from './offer.ts';
import { tellOrder } from './reactions.ts';
import { offerStream, orderStream } from './streams.ts';

export function orderingCorrections(bus: CommandBus) {
  return {
    /** Fails an order that is open beyond its deadline. */
    failOverdueOrder: (orderId: OrderId, origin: Origin): Promise<Correction> =>
      correct(bus, origin, { type: orderStream, id: orderId }, (scope) =>
        tellOrder(scope, orderId, { type: 'TimeOutOrder', now: scope.now }),
      ),

    /** Offers a product as the catalogue has it. */
    offerProduct: (
      sku: Sku,
      offered: { readonly name: string; readonly price: Money },
      origin: Origin,
    ): Promise<Correction> =>
      correct(bus, origin, { type: offerStream, id: sku }, (scope) => {
        const decision = offer.decide({ type: 'OfferProduct', sku, ...offered }, scope.state(offerStream, sku));
        if ('accepted' in decision) for (const event of decision.accepted) scope.record(offerStream, sku, event);
      }),
  };
}
