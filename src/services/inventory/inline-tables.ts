/** What the tables beside inventory's log hold by the states of its streams, as `schema/101-inventory.sql` writes them. */
import type { InlineTable } from '#cqrs/table-rows.ts';
import type { Level, Reservation } from './stock.ts';

export const inventoryTables: readonly InlineTable[] = [
  {
    of: 'stock',
    table: {
      name: 'stock',
      key: ['sku'],
      columns: { sku: 'text', version: 'integer', on_hand: 'bigint', reserved: 'bigint' },
    },
    rowsOf({ id, version, state }) {
      const { onHand, reserved } = state as Level;
      return [{ sku: id, version, on_hand: onHand, reserved }];
    },
  },
  {
    of: 'reservation',
    table: {
      name: 'reservations',
      key: ['order_id'],
      columns: { order_id: 'text', version: 'integer', status: 'text' },
    },
    rowsOf: ({ id, version, state }) => [{ order_id: id, version, status: (state as Reservation).status }],
  },
];
