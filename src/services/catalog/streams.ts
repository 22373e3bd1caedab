/** The stream that catalog keeps: one per product. */
import type { StreamType } from '#cqrs/command-bus.ts';
import { type Product, product } from './product.ts';

export const productStream: StreamType<Product> = {
  name: 'product',
  initial: product.initial,
  evolve: (state, event) => product.evolve(state, event as never),
};
