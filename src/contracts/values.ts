/** The words and value shapes that every part of the system shares: ids, money, times. */
import Type, { type Static, type TSchema } from 'typebox';

/**
 * Ids carry a flavour so that an `OrderId` cannot be passed where a `Sku` is meant, while a plain
 * string from the edge still fits.
 */
export type OrderId = string & { readonly flavour?: 'OrderId' };
export type CustomerId = string & { readonly flavour?: 'CustomerId' };
export type PaymentId = string & { readonly flavour?: 'PaymentId' };
export type Sku = string & { readonly flavour?: 'Sku' };

/** What a client may choose as an id. */
export const ID_PATTERN = '^[A-Za-z0-9_-]{1,64}$';
export const SKU_PATTERN = '^[A-Za-z0-9._-]{1,64}$';

/** More than blanks. */
export const NOT_BLANK = '\\S';

export const quantityMax = 1_000_000;
export const linesPerOrderMax = 2_000;
/** The largest price of one piece, in minor units. */
export const priceAmountMax = 1_000_000_000_000;
/** The largest total of one order, in minor units: what a JSON number carries exactly. */
export const totalAmountMax = Number.MAX_SAFE_INTEGER;

const closed = { additionalProperties: false } as const;

/** An object that takes the named fields and no others. */
export const Closed = <T extends Record<string, TSchema>>(fields: T, options: Record<string, unknown> = {}) =>
  Type.Object(fields, { ...closed, ...options });

export const OrderIdSchema = Type.Unsafe<OrderId>(Type.String({ pattern: ID_PATTERN }));
export const CustomerIdSchema = Type.Unsafe<CustomerId>(Type.String({ pattern: ID_PATTERN }));
export const PaymentIdSchema = Type.Unsafe<PaymentId>(Type.String({ pattern: '^[A-Za-z0-9_-]{1,80}$' }));
export const SkuSchema = Type.Unsafe<Sku>(Type.String({ pattern: SKU_PATTERN }));
export const CurrencySchema = Type.String({ pattern: '^[A-Z]{3}$', description: 'ISO 4217' });
export const QuantitySchema = Type.Integer({ minimum: 1, maximum: quantityMax });
/** In an address: one that nothing can have is not found, as any other that nothing has. */
export const AddressedIdSchema = Type.String({ pattern: '^[A-Za-z0-9._-]{1,200}$' });
export const TimeSchema = Type.String({ format: 'date-time', description: 'RFC 3339' });

/** A price of one piece: an integer of minor units with its currency. */
export const PriceSchema = Closed({
  amount: Type.Integer({ minimum: 0, maximum: priceAmountMax, description: 'minor units' }),
  currency: CurrencySchema,
});

/** An amount of money: an integer of minor units with its currency. */
export const MoneySchema = Closed({
  amount: Type.Integer({ minimum: 0, maximum: totalAmountMax, description: 'minor units' }),
  currency: CurrencySchema,
});
export type Money = Static<typeof MoneySchema>;

/** One product and how many pieces of it. */
export const PiecesSchema = Closed({ sku: SkuSchema, quantity: Type.Integer({ minimum: 1 }) });
export type Pieces = Static<typeof PiecesSchema>;
