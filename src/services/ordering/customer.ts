/** The rules of customers: who may order. */
import type { CustomerChanged, CustomerRegistered } from '#contracts/ordering.ts';
import type { CustomerId } from '#contracts/values.ts';
import { accept, type Decider } from '#cqrs/decider.ts';

type Details = { readonly name: string; readonly email?: string; readonly country?: string };

export type Customer = { readonly status: 'none' } | ({ readonly status: 'registered' } & Details);

export type RegisterCustomer = { readonly type: 'RegisterCustomer'; readonly customerId: CustomerId } & Details;

type Event = CustomerRegistered | CustomerChanged;

export const customer: Decider<Customer, RegisterCustomer, Event, never> = {
  initial: { status: 'none' },

  evolve(_state, event) {
    switch (event.type) {
      case 'CustomerRegistered':
      case 'CustomerChanged': {
        const { customerId: _id, ...details } = event.data;
        return { status: 'registered', ...details };
      }
    }
  },

  decide(command, state) {
    const { type: _type, ...data } = command;
    if (state.status === 'none') return accept({ type: 'CustomerRegistered', data });
    const same = state.name === data.name && state.email === data.email && state.country === data.country;
    return same ? accept() : accept({ type: 'CustomerChanged', data });
  },
};
