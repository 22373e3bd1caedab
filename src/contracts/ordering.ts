/** What ordering publishes. Home streams: `customer-<id>`, `offer-<sku>`, `order-<orderId>`. */
import Type, { type Static } from 'typebox';
import {
  Closed,
  CurrencySchema,
  CustomerIdSchema,
  MoneySchema,
  OrderIdSchema,
  PaymentIdSchema,
  PriceSchema,
  QuantitySchema,
  SkuSchema,
  TimeSchema,
} from './values.ts';

const customer = {
  customerId: CustomerIdSchema,
  name: Type.String(),
  email: Type.Optional(Type.String()),
  country: Type.Optional(Type.String()),
};

export const FailureSchema = Closed({
  code: Type.Union([Type.Literal('out-of-stock'), Type.Literal('payment-declined'), Type.Literal('timed-out')]),
  detail: Type.String(),
  skus: Type.Optional(Type.Array(SkuSchema)),
});
export type Failure = Static<typeof FailureSchema>;

/** Where the order stood when it ended early: payments has work to do only after `reserved`. */
const was = Type.Union([Type.Literal('pending'), Type.Literal('reserved')]);

export const orderingEvents = {
  CustomerRegistered: Closed(customer),
  CustomerChanged: Closed(customer),
  /** Ordering's copy of a catalogue entry: what a piece costs from now on. */
  ProductOffered: Closed({ sku: SkuSchema, name: Type.String(), price: PriceSchema }),
  OrderPlaced: Closed({
    orderId: OrderIdSchema,
    customerId: CustomerIdSchema,
    /** As it was when the order was placed: what the order is found by. */
    customerName: Type.Optional(Type.String()),
    country: Type.Optional(Type.String()),
    currency: CurrencySchema,
    /** As the client sent them, in order; `unitPrice` in minor units of `currency`. */
    lines: Type.Array(
      Closed({
        sku: SkuSchema,
        name: Type.String(),
        quantity: QuantitySchema,
        unitPrice: Type.Integer({ minimum: 0 }),
      }),
    ),
    total: MoneySchema,
    payment: Closed({ method: Type.String() }),
    placedAt: TimeSchema,
    /** Whatever happens, the order is final by then. */
    deadline: TimeSchema,
    /** Of the request: tells the same order sent again from another one under its id. */
    contentHash: Type.String(),
  }),
  /** The order holds its stock; payments may charge. */
  OrderReserved: Closed({ orderId: OrderIdSchema, total: MoneySchema, payment: Closed({ method: Type.String() }) }),
  OrderCompleted: Closed({ orderId: OrderIdSchema, paymentId: PaymentIdSchema }),
  OrderFailed: Closed({ orderId: OrderIdSchema, was, failure: FailureSchema }),
  OrderCancelled: Closed({ orderId: OrderIdSchema, was, reason: Type.Optional(Type.String()) }),
  /** The provider has not said yet whether it charged. */
  OrderPaymentInDoubt: Closed({ orderId: OrderIdSchema }),
  /** The order had ended; what was charged has been given back. */
  OrderRefunded: Closed({ orderId: OrderIdSchema }),
  /** The order had ended; the provider confirms that nothing was charged. */
  OrderPaymentVoided: Closed({ orderId: OrderIdSchema }),
} as const;

type Events = typeof orderingEvents;
export type CustomerRegistered = {
  readonly type: 'CustomerRegistered';
  readonly data: Static<Events['CustomerRegistered']>;
};
export type CustomerChanged = { readonly type: 'CustomerChanged'; readonly data: Static<Events['CustomerChanged']> };
export type ProductOffered = { readonly type: 'ProductOffered'; readonly data: Static<Events['ProductOffered']> };
export type OrderPlaced = { readonly type: 'OrderPlaced'; readonly data: Static<Events['OrderPlaced']> };
export type OrderReserved = { readonly type: 'OrderReserved'; readonly data: Static<Events['OrderReserved']> };
export type OrderCompleted = { readonly type: 'OrderCompleted'; readonly data: Static<Events['OrderCompleted']> };
export type OrderFailed = { readonly type: 'OrderFailed'; readonly data: Static<Events['OrderFailed']> };
export type OrderCancelled = { readonly type: 'OrderCancelled'; readonly data: Static<Events['OrderCancelled']> };
export type OrderPaymentInDoubt = {
  readonly type: 'OrderPaymentInDoubt';
  readonly data: Static<Events['OrderPaymentInDoubt']>;
};
export type OrderRefunded = { readonly type: 'OrderRefunded'; readonly data: Static<Events['OrderRefunded']> };
export type OrderPaymentVoided = {
  readonly type: 'OrderPaymentVoided';
  readonly data: Static<Events['OrderPaymentVoided']>;
};
export type OrderEvent =
  | OrderPlaced
  | OrderReserved
  | OrderCompleted
  | OrderFailed
  | OrderCancelled
  | OrderPaymentInDoubt
  | OrderRefunded
  | OrderPaymentVoided;
export type OrderingEvent = CustomerRegistered | CustomerChanged | ProductOffered | OrderEvent;
