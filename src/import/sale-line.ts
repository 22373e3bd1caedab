/** One line of an invoice file: the sale it stands for, or why it is none. */
import { ID_PATTERN, priceAmountMax, quantityMax } from '#contracts/values.ts';
import { columns } from './invoice-file.ts';
import { penceOf } from './pence.ts';

export type SaleLine = {
  readonly invoice: string;
  /** As in the file: not yet a SKU. */
  readonly code: string;
  readonly description: string;
  readonly quantity: number;
  readonly pence: number;
  /** False where the file's price was finer than a penny. */
  readonly exact: boolean;
  readonly atMs: number;
  /** Null where the line names no customer. */
  readonly customer: string | null;
  readonly country: string;
};

/** Every reason for which a line is left out, and what the report says about it. */
export const skipReasons = {
  'wrong-number-of-fields': `does not have ${columns.length} fields`,
  cancellation: 'the invoice begins with C: it takes back what was sold earlier',
  'malformed-invoice': 'the invoice number cannot be an order id',
  'no-stock-code': 'names no product',
  'malformed-quantity': 'the quantity is no integer',
  'malformed-time': 'the time is not of the form 2010-12-01 08:26:00',
  'malformed-price': 'the price is no decimal number',
  'malformed-customer': 'the customer is no number',
  'negative-quantity': 'the quantity is below zero',
  'zero-quantity': 'the quantity is zero',
  'quantity-too-large': `more than ${quantityMax} pieces`,
  'negative-price': 'the price is below zero',
  'price-too-large': 'the price is more than an order can carry',
  'too-many-lines': 'the invoice has more lines than an order may have',
  'total-too-large': 'the invoice comes to more than an order can carry',
} as const;
export type SkipReason = keyof typeof skipReasons;

/** The first reason that applies is the one reported. Total: any fields give an answer. */
export function saleLineOf(fields: readonly string[]): SaleLine | SkipReason {
  if (fields.length !== columns.length) return 'wrong-number-of-fields';
  const [invoice, code, description, quantityText, time, priceText, customerText, country] = fields as Fields;
  if (invoice.startsWith('C')) return 'cancellation';
  if (!ORDER_ID.test(invoice)) return 'malformed-invoice';
  if (code.trim() === '') return 'no-stock-code';
  if (!INTEGER.test(quantityText)) return 'malformed-quantity';
  const atMs = timeOf(time);
  if (atMs === null) return 'malformed-time';
  const price = penceOf(priceText);
  if (price === null) return 'malformed-price';
  const customer = CUSTOMER.exec(customerText);
  if (customer === null) return 'malformed-customer';
  const quantity = Number(quantityText);
  if (quantity < 0) return 'negative-quantity';
  if (quantity === 0) return 'zero-quantity';
  if (quantity > quantityMax) return 'quantity-too-large';
  if (price.negative) return 'negative-price';
  if (price.pence > priceAmountMax) return 'price-too-large';
  return {
    invoice,
    code,
    description: description.trim(),
    quantity,
    pence: price.pence,
    exact: price.exact,
    atMs,
    customer: customer[1] ?? null,
    country: country.trim(),
  };
}

type Fields = [string, string, string, string, string, string, string, string];

const ORDER_ID = new RegExp(ID_PATTERN);
const INTEGER = /^-?\d{1,15}$/;
/** A number as spreadsheets export it, `17850.0`, or nothing. */
const CUSTOMER = /^(?:(\d{1,20})(?:\.0)?)?$/;
const TIME = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/;

/** Milliseconds since 1970 of a time in UTC, null where there is no such time (2011-02-30). */
function timeOf(text: string): number | null {
  if (!TIME.test(text)) return null;
  const ms = Date.parse(`${text.replace(' ', 'T')}Z`);
  // Date.parse turns a 30th of February into the 2nd of March, and 24:00 into the next day.
  return new Date(ms).getUTCDate() === Number(text.slice(8, 10)) ? ms : null;
}
