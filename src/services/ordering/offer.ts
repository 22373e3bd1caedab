/** Ordering's copy of the catalogue: what each product costs at the moment of an order. */
import type { ProductOffered } from '#contracts/ordering.ts';
import type { Money, Sku } from '#contracts/values.ts';
import { accept, type Decider } from '#cqrs/decider.ts';

export type Offer =
  | { readonly status: 'none' }
  | { readonly status: 'offered'; readonly name: string; readonly price: Money };

export type OfferProduct = {
  readonly type: 'OfferProduct';
  readonly sku: Sku;
  readonly name: string;
  readonly price: Money;
};

export const offer: Decider<Offer, OfferProduct, ProductOffered, never> = {
  initial: { status: 'none' },

  evolve: (_state, event) => ({ status: 'offered', name: event.data.name, price: event.data.price }),

  decide({ sku, name, price }, state) {
    const same =
      state.status === 'offered' &&
      state.name === name &&
      state.price.amount === price.amount &&
      state.price.currency === price.currency;
    return same ? accept() : accept({ type: 'ProductOffered', data: { sku, name, price } });
  },
};
