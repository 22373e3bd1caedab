/**
 * What inventory publishes. A reservation is one event however many products it holds: its home
 * stream is `reservation-<orderId>`, and it moves the state of every `stock-<sku>` it names.
 */
import Type, { type Static } from 'typebox';
import { Closed, OrderIdSchema, PiecesSchema, SkuSchema, TimeSchema } from './values.ts';

const pieces = Type.Array(PiecesSchema);

export const inventoryEvents = {
  /** Inventory has learned that catalog lists this product. Home: `listing-<sku>`. */
  ProductListed: Closed({ sku: SkuSchema }),
  /** Pieces received (positive) or written off (negative). Home: `stock-<sku>`. */
  StockAdjusted: Closed({ sku: SkuSchema, quantity: Type.Integer(), reason: Type.String() }),
  /** All demand of one order is held, one entry per product. */
  StockReserved: Closed({ orderId: OrderIdSchema, lines: pieces, expiresAt: TimeSchema }),
  /** Nothing is held, because these products are short. */
  StockRejected: Closed({ orderId: OrderIdSchema, skus: Type.Array(SkuSchema) }),
  /** Held for too long. The order decides: it fails, unless it has completed in the meantime. */
  ReservationExpired: Closed({ orderId: OrderIdSchema }),
  /** What was held is free again. */
  StockReleased: Closed({
    orderId: OrderIdSchema,
    lines: pieces,
    reason: Type.Union([Type.Literal('order-cancelled'), Type.Literal('order-failed')]),
  }),
  /** What was held has left the house. */
  StockShipped: Closed({ orderId: OrderIdSchema, lines: pieces }),
  /** The order ended before its demand arrived: nothing may be held for it any more. */
  ReservationBarred: Closed({ orderId: OrderIdSchema }),
} as const;

type Events = typeof inventoryEvents;
export type ProductListed = { readonly type: 'ProductListed'; readonly data: Static<Events['ProductListed']> };
export type StockAdjusted = { readonly type: 'StockAdjusted'; readonly data: Static<Events['StockAdjusted']> };
export type StockReserved = { readonly type: 'StockReserved'; readonly data: Static<Events['StockReserved']> };
export type StockRejected = { readonly type: 'StockRejected'; readonly data: Static<Events['StockRejected']> };
export type ReservationExpired = {
  readonly type: 'ReservationExpired';
  readonly data: Static<Events['ReservationExpired']>;
};
export type StockReleased = { readonly type: 'StockReleased'; readonly data: Static<Events['StockReleased']> };
export type StockShipped = { readonly type: 'StockShipped'; readonly data: Static<Events['StockShipped']> };
export type ReservationBarred = {
  readonly type: 'ReservationBarred';
  readonly data: Static<Events['ReservationBarred']>;
};
export type InventoryEvent =
  | ProductListed
  | StockAdjusted
  | StockReserved
  | StockRejected
  | ReservationExpired
  | StockReleased
  | StockShipped
  | ReservationBarred;
