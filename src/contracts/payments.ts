/** What payments publishes. One payment per order; home stream `payment-<orderId>`. */
import Type, { type Static } from 'typebox';
import { Closed, MoneySchema, OrderIdSchema, PaymentIdSchema, TimeSchema } from './values.ts';

const payment = { paymentId: PaymentIdSchema, orderId: OrderIdSchema };

export const paymentEvents = {
  /** The intent, recorded before the provider hears of it. */
  PaymentRequested: Closed({ ...payment, amount: MoneySchema, method: Type.String(), settleBy: TimeSchema }),
  PaymentCaptured: Closed({ ...payment, amount: MoneySchema, providerReference: Type.String() }),
  PaymentDeclined: Closed({ ...payment, reason: Type.String() }),
  /** The provider did not answer, or not clearly: it is asked again at `nextTryAt`, under the same key. */
  PaymentUnknown: Closed({
    ...payment,
    attempt: Type.Integer({ minimum: 1 }),
    detail: Type.String(),
    nextTryAt: TimeSchema,
  }),
  /** The order has ended: the money is no longer wanted. */
  PaymentWithdrawn: Closed({ ...payment, settleBy: TimeSchema }),
  /** The provider confirms that nothing was charged under this key and nothing ever will be. */
  PaymentVoided: Closed({ ...payment, reason: Type.Union([Type.Literal('withdrawn'), Type.Literal('timed-out')]) }),
  RefundRequested: Closed({ ...payment, amount: MoneySchema, settleBy: TimeSchema }),
  /** The provider did not confirm the refund: it is asked again at `nextTryAt`, under the same key. */
  RefundDelayed: Closed({
    ...payment,
    attempt: Type.Integer({ minimum: 1 }),
    detail: Type.String(),
    nextTryAt: TimeSchema,
  }),
  PaymentRefunded: Closed({ ...payment, amount: MoneySchema, providerReference: Type.String() }),
} as const;

type Events = typeof paymentEvents;
export type PaymentRequested = { readonly type: 'PaymentRequested'; readonly data: Static<Events['PaymentRequested']> };
export type PaymentCaptured = { readonly type: 'PaymentCaptured'; readonly data: Static<Events['PaymentCaptured']> };
export type PaymentDeclined = { readonly type: 'PaymentDeclined'; readonly data: Static<Events['PaymentDeclined']> };
export type PaymentUnknown = { readonly type: 'PaymentUnknown'; readonly data: Static<Events['PaymentUnknown']> };
export type PaymentWithdrawn = { readonly type: 'PaymentWithdrawn'; readonly data: Static<Events['PaymentWithdrawn']> };
export type PaymentVoided = { readonly type: 'PaymentVoided'; readonly data: Static<Events['PaymentVoided']> };
export type RefundRequested = { readonly type: 'RefundRequested'; readonly data: Static<Events['RefundRequested']> };
export type RefundDelayed = { readonly type: 'RefundDelayed'; readonly data: Static<Events['RefundDelayed']> };
export type PaymentRefunded = { readonly type: 'PaymentRefunded'; readonly data: Static<Events['PaymentRefunded']> };
export type PaymentEvent =
  | PaymentRequested
  | PaymentCaptured
  | PaymentDeclined
  | PaymentUnknown
  | PaymentWithdrawn
  | PaymentVoided
  | RefundRequested
  | RefundDelayed
  | PaymentRefunded;
