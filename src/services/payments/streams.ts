/** The stream that payments keeps: one per order. */
import type { StreamType } from '#cqrs/command-bus.ts';
import { type Payment, payment, paymentDueAt } from './payment.ts';

export const paymentStream: StreamType<Payment> = {
  name: 'payment',
  initial: payment.initial,
  evolve: (state, event) => payment.evolve(state, event as never),
  dueAt: paymentDueAt,
  // One that is declined hears that its order has failed.
  isOver: ({ status }) => status === 'captured' || status === 'refunded',
};
