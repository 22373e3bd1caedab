/** What the table beside payments' log holds by the states of its streams, as `schema/101-payments.sql` writes it. */
import type { InlineTable } from '#cqrs/table-rows.ts';
import type { Payment } from './payment.ts';

const taken: readonly Payment['status'][] = ['captured', 'refunding', 'refunded'];

export const paymentsTables: readonly InlineTable[] = [
  {
    of: 'payment',
    table: {
      name: 'payments',
      key: ['order_id'],
      columns: {
        order_id: 'text',
        payment_id: 'text',
        version: 'integer',
        status: 'text',
        amount: 'bigint',
        currency: 'text',
        captured: 'bigint',
        refunded: 'bigint',
      },
    },
    rowsOf({ version, state }) {
      const payment = state as Payment;
      if (payment.status === 'none') return [];
      const { orderId, paymentId, status, amount } = payment;
      return [
        {
          order_id: orderId,
          payment_id: paymentId,
          version,
          status,
          amount: amount.amount,
          currency: amount.currency,
          captured: taken.includes(status) ? amount.amount : 0,
          refunded: status === 'refunded' ? amount.amount : 0,
        },
      ];
    },
  },
];
