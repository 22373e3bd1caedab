/** What the tables beside ordering's log hold by the states of its streams, as `schema/101-ordering.sql` writes them. */
import type { OrderEvent } from '#contracts/ordering.ts';
import type { InlineTable } from '#cqrs/table-rows.ts';
import type { Customer } from './customer.ts';
import type { Offer } from './offer.ts';
import type { Order } from './order.ts';

export const orderingTables: readonly InlineTable[] = [
  {
    of: 'customer',
    table: {
      name: 'customers',
      key: ['customer_id'],
      columns: { customer_id: 'text', version: 'integer', name: 'text', email: 'text', country: 'text' },
    },
    rowsOf({ id, version, state }) {
      const customer = state as Customer;
      if (customer.status === 'none') return [];
      const { name, email = null, country = null } = customer;
      return [{ customer_id: id, version, name, email, country }];
    },
  },
  {
    of: 'offer',
    table: {
      name: 'products',
      key: ['sku'],
      columns: { sku: 'text', version: 'integer', name: 'text', price: 'bigint', currency: 'text' },
    },
    rowsOf({ id, version, state }) {
      const offer = state as Offer;
      if (offer.status === 'none') return [];
      const { name, price } = offer;
      return [{ sku: id, version, name, price: price.amount, currency: price.currency }];
    },
  },
  {
    of: 'order',
    table: {
      name: 'orders',
      key: ['order_id'],
      columns: {
        order_id: 'text',
        version: 'integer',
        customer_id: 'text',
        status: 'text',
        total: 'bigint',
        currency: 'text',
        placed_at: 'timestamptz',
      },
    },
    rowsOf({ id, version, state }) {
      const order = state as Order;
      if (order.status === 'none') return [];
      const { customerId, status, total, placedAt } = order;
      return [
        {
          order_id: id,
          version,
          customer_id: customerId,
          status,
          total: total.amount,
          currency: total.currency,
          placed_at: new Date(placedAt).toISOString(),
        },
      ];
    },
  },
  {
    of: 'order',
    table: {
      name: 'order_lines',
      key: ['order_id', 'line_no'],
      columns: { order_id: 'text', line_no: 'integer', sku: 'text', quantity: 'integer', unit_price: 'bigint' },
    },
    rowsOf({ id, events }) {
      const [placed] = events as unknown as readonly OrderEvent[];
      if (placed?.type !== 'OrderPlaced') return [];
      return placed.data.lines.map(({ sku, quantity, unitPrice }, n) => ({
        order_id: id,
        line_no: n + 1,
        sku,
        quantity,
        unit_price: unitPrice,
      }));
    },
  },
];
