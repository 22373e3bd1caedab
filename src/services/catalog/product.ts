/** The rules of the catalogue: what a product is called and what a piece of it costs. */
import type { ProductAdded, ProductChanged } from '#contracts/catalog.ts';
import type { Money, Sku } from '#contracts/values.ts';
import { accept, type Decider } from '#cqrs/decider.ts';

type Details = { readonly name: string; readonly description?: string; readonly price: Money };

export type Product = { readonly status: 'none' } | ({ readonly status: 'listed' } & Details);

export type PutProduct = { readonly type: 'PutProduct'; readonly sku: Sku } & Details;

type Event = ProductAdded | ProductChanged;

export const product: Decider<Product, PutProduct, Event, never> = {
  initial: { status: 'none' },

  evolve(_state, event) {
    switch (event.type) {
      case 'ProductAdded':
      case 'ProductChanged': {
        const { sku: _sku, ...details } = event.data;
        return { status: 'listed', ...details };
      }
    }
  },

  decide(command, state) {
    const { type: _type, ...data } = command;
    if (state.status === 'none') return accept({ type: 'ProductAdded', data });
    return isSame(state, command) ? accept() : accept({ type: 'ProductChanged', data });
  },
};

const isSame = (a: Details, b: Details): boolean =>
  a.name === b.name &&
  a.description === b.description &&
  a.price.amount === b.price.amount &&
  a.price.currency === b.price.currency;
