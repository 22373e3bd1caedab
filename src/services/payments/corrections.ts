/** What operators and the audit may have payments decide out of turn. Each rejects when there is nothing to decide. */
import type { Money, OrderId } from '#contracts/values.ts';
import type { CommandBus } from '#cqrs/command-bus.ts';
import { correct, type Correction } from '#cqrs/correction.ts';
import type { Origin } from '#cqrs/event-log.ts';
import type { PaymentCommand } from './payment.ts';
import { createProviderClient, type ProviderClient } from './provider-client.ts';
import { later, tellPayment } from './reactions.ts';
import { paymentStream } from './streams.ts';

const timeoutMs = 10_000;
const concurrencyMax = 4;
/** A capture that nobody wants any more is given back by then at the latest. */
const settleWithinMs = 30_000;

/** With a client of its own, which connects on first use. */
export function paymentsCorrections(bus: CommandBus, providerUrl: string) {
  const provider = createProviderClient({ url: providerUrl, timeoutMs, concurrencyMax });

  return {
    /** Takes the provider's word for a payment that has no outcome. What is not charged by now never will be. */
    async settle(orderId: OrderId, origin: Origin): Promise<Correction> {
      const ref = { type: paymentStream, id: orderId };
      const { result: state } = await bus.execute({
        reads: [ref],
        origin,
        run: (scope) => scope.state(paymentStream, orderId),
      });
      if (state.status !== 'requested' && state.status !== 'refunding')
        throw new Error(`the payment of ${orderId} is ${state.status}`);
      const word =
        state.status === 'requested'
          ? await outcomeOf(provider, state.paymentId)
          : await refundOf(provider, state.paymentId, state.amount);
      return correct(bus, origin, ref, (scope) => {
        const settleBy = later(scope.now, settleWithinMs);
        tellPayment(scope, orderId, word.type === 'RecordCapture' ? { ...word, settleBy } : word);
      });
    },

    /** Has the provider give back what it has kept under the key `charge`; safe to repeat. */
    async giveBack(charge: string, amount: Money): Promise<{ readonly reference: string }> {
      const answer = await provider.refund({ key: `refund-${charge}`, charge, amount });
      if (answer.outcome === 'refunded') return { reference: answer.reference };
      throw new Error(`the provider has not given back ${charge}: ${answer.detail}`);
    },

    close: () => provider.close(),
  };
}

async function outcomeOf(provider: ProviderClient, paymentId: string): Promise<PaymentCommand> {
  const found = await provider.lookup(paymentId);
  const outcome = found.outcome === 'absent' ? await provider.void(paymentId) : found;
  switch (outcome.outcome) {
    case 'captured':
      return { type: 'RecordCapture', providerReference: outcome.reference, settleBy: '' };
    case 'declined':
      return { type: 'RecordDecline', reason: outcome.reason };
    case 'voided':
      return { type: 'RecordVoid' };
    case 'unknown':
      throw new Error(`the provider does not say what has become of ${paymentId}: ${outcome.detail}`);
  }
}

async function refundOf(provider: ProviderClient, paymentId: string, amount: Money): Promise<PaymentCommand> {
  const answer = await provider.refund({ key: `refund-${paymentId}`, charge: paymentId, amount });
  if (answer.outcome === 'refunded') return { type: 'RecordRefund', providerReference: answer.reference };
  throw new Error(`the provider has not given back ${paymentId}: ${answer.detail}`);
}
