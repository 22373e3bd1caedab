/** What catalog publishes. Home stream of each: `product-<sku>`. */
import Type, { type Static } from 'typebox';
import { Closed, PriceSchema, SkuSchema } from './values.ts';

const product = {
  sku: SkuSchema,
  name: Type.String(),
  description: Type.Optional(Type.String()),
  price: PriceSchema,
};

export const catalogEvents = {
  ProductAdded: Closed(product),
  ProductChanged: Closed(product),
} as const;

export type ProductAdded = { readonly type: 'ProductAdded'; readonly data: Static<typeof catalogEvents.ProductAdded> };
export type ProductChanged = {
  readonly type: 'ProductChanged';
  readonly data: Static<typeof catalogEvents.ProductChanged>;
};
export type CatalogEvent = ProductAdded | ProductChanged;
