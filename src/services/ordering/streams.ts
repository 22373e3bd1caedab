/** The streams that ordering keeps, and how the state of each follows from its events. */
import type { StreamType } from '#cqrs/command-bus.ts';
import { type Customer, customer } from './customer.ts';
import { type Offer, offer } from './offer.ts';
import { type Order, order, orderDueAt } from './order.ts';

export const customerStream: StreamType<Customer> = {
  name: 'customer',
  initial: customer.initial,
  evolve: (state, event) => customer.evolve(state, event as never),
};

export const offerStream: StreamType<Offer> = {
  name: 'offer',
  initial: offer.initial,
  evolve: (state, event) => offer.evolve(state, event as never),
};

export const orderStream: StreamType<Order> = {
  name: 'order',
  initial: order.initial,
  evolve: (state, event) => order.evolve(state, event as never),
  dueAt: orderDueAt,
  // Of one that has ended otherwise, inventory or payments may not have heard yet.
  isOver: ({ status }) => status === 'completed',
};
