/** What the table beside catalog's log holds by the states of its streams, as `schema/101-catalog.sql` writes it. */
import type { InlineTable } from '#cqrs/table-rows.ts';
import type { Product } from './product.ts';

export const catalogTables: readonly InlineTable[] = [
  {
    of: 'product',
    table: {
      name: 'products',
      key: ['sku'],
      columns: {
        sku: 'text',
        version: 'integer',
        name: 'text',
        description: 'text',
        price: 'bigint',
        currency: 'text',
      },
    },
    rowsOf({ id, version, state }) {
      const product = state as Product;
      if (product.status === 'none') return [];
      const { name, description = null, price } = product;
      return [{ sku: id, version, name, description, price: price.amount, currency: price.currency }];
    },
  },
];
