/** What an invoice file asks for: customers, products with their demand, and one order per invoice in time order. */
import type { PlaceOrderBody } from '#contracts/http.ts';
import { linesPerOrderMax, SKU_PATTERN, totalAmountMax } from '#contracts/values.ts';
import { readInvoiceFile } from './invoice-file.ts';
import { poundsOf } from './pence.ts';
import { type SaleLine, saleLineOf, type SkipReason } from './sale-line.ts';

export const currency = 'GBP';

export type PlannedCustomer = { readonly customerId: string; readonly name: string; readonly country: string };
export type PlannedProduct = {
  readonly sku: string;
  readonly name: string;
  /** The latest price above zero at which it was sold, else zero. */
  readonly pence: number;
  /** Pieces that all orders of the file ask for. */
  readonly demand: number;
};
type PlannedLine = {
  readonly product: { sku: string };
  readonly quantity: number;
  readonly pence: number;
  readonly line: number;
};
export type PlannedOrder = {
  readonly orderId: string;
  readonly customerId: string;
  readonly placedAtMs: number;
  readonly lines: readonly PlannedLine[];
  readonly units: number;
  readonly totalPence: number;
};

export type SkippedLine = {
  readonly line: number;
  readonly invoice: string;
  readonly sku: string;
  readonly quantity: string;
  readonly price: string;
  readonly reason: SkipReason;
};

export type ImportPlan = {
  /** Of the CSV text: what the idempotency keys are derived from. */
  readonly sha256: string;
  readonly lines: number;
  readonly orders: readonly PlannedOrder[];
  readonly customers: readonly PlannedCustomer[];
  readonly products: readonly PlannedProduct[];
  readonly skipped: readonly SkippedLine[];
  /** Codes that are no valid SKU. */
  readonly mappedSkus: readonly { readonly code: string; readonly sku: string }[];
  readonly roundedPrices: readonly { readonly line: number; readonly invoice: string; readonly pence: number }[];
  /** Invoices whose lines disagree on it: the first line counts. */
  readonly severalCustomers: readonly string[];
  readonly severalTimes: readonly string[];
};

/** Reads and plans the whole file before anything is sent, so that a damaged file imports nothing. */
export async function planImport(path: string): Promise<ImportPlan> {
  const draft = new Draft();
  const sha256 = await readInvoiceFile(path, (fields, line) => draft.add(fields, line));
  return draft.finish(sha256);
}

/** The order of an invoice as the contract wants it. Paid by the sandbox's method that always works. */
export function orderBody(order: PlannedOrder): PlaceOrderBody {
  return {
    orderId: order.orderId,
    customerId: order.customerId,
    lines: order.lines.map(({ product, quantity, pence }) => ({
      sku: product.sku,
      quantity,
      unitPrice: { amount: pence, currency },
    })),
    payment: { method: 'pm_ok' },
    placedAt: new Date(order.placedAtMs).toISOString(),
  };
}

type DraftProduct = {
  readonly code: string;
  sku: string;
  /** Times a description came with a price above zero, and with any price. */
  readonly names: Map<string, { paid: number; any: number }>;
  pence: number;
  demand: number;
};
type DraftOrder = {
  readonly orderId: string;
  readonly buyer: { readonly customer: string | null; readonly country: string };
  readonly placedAtMs: number;
  readonly lines: (PlannedLine & { readonly product: DraftProduct })[];
  severalCustomers: boolean;
  severalTimes: boolean;
  units: number;
  totalPence: number;
};

class Draft {
  #lines = 0;
  readonly #orders = new Map<string, DraftOrder>();
  readonly #products = new Map<string, DraftProduct>();
  readonly #skipped: SkippedLine[] = [];
  readonly #rounded: { line: number; invoice: string; pence: number }[] = [];

  add(fields: readonly string[], line: number): void {
    this.#lines += 1;
    const sale = saleLineOf(fields);
    if (typeof sale === 'string') {
      const [invoice = '', sku = '', , quantity = '', , price = ''] = fields;
      this.#skipped.push({ line, invoice, sku, quantity, price, reason: sale });
      return;
    }
    if (!sale.exact) this.#rounded.push({ line, invoice: sale.invoice, pence: sale.pence });
    const product = this.#productOf(sale);
    const order = this.#orderOf(sale);
    order.lines.push({ product, quantity: sale.quantity, pence: sale.pence, line });
    order.units += sale.quantity;
    order.totalPence += sale.quantity * sale.pence;
  }

  finish(sha256: string): ImportPlan {
    const drafts = [...this.#orders.values()]
      .filter((order) => this.#fits(order))
      .sort((a, b) => a.placedAtMs - b.placedAtMs);
    for (const { lines } of drafts) for (const { product, quantity } of lines) product.demand += quantity;
    const needed = [...this.#products.values()].filter((product) => product.demand > 0);
    const mappedSkus = nameSkus(needed);
    const customers = new Map<string, PlannedCustomer>();
    const orders = drafts.map(({ orderId, buyer, placedAtMs, lines, units, totalPence }): PlannedOrder => {
      const customer = customerOf(buyer);
      if (!customers.has(customer.customerId)) customers.set(customer.customerId, customer);
      return { orderId, customerId: customer.customerId, placedAtMs, lines, units, totalPence };
    });
    return {
      sha256,
      lines: this.#lines,
      orders,
      customers: [...customers.values()],
      products: needed.map((product) => ({
        sku: product.sku,
        name: nameOf(product),
        pence: product.pence,
        demand: product.demand,
      })),
      skipped: this.#skipped.sort((a, b) => a.line - b.line),
      mappedSkus,
      roundedPrices: this.#rounded,
      severalCustomers: drafts.filter((order) => order.severalCustomers).map((order) => order.orderId),
      severalTimes: drafts.filter((order) => order.severalTimes).map((order) => order.orderId),
    };
  }

  #productOf({ code, description, pence }: SaleLine): DraftProduct {
    let product = this.#products.get(code);
    if (product === undefined) {
      product = { code, sku: code, names: new Map(), pence: 0, demand: 0 };
      this.#products.set(code, product);
    }
    if (pence > 0) product.pence = pence;
    if (description !== '') {
      const seen = product.names.get(description) ?? { paid: 0, any: 0 };
      seen.any += 1;
      if (pence > 0) seen.paid += 1;
      product.names.set(description, seen);
    }
    return product;
  }

  #orderOf({ invoice, customer, country, atMs }: SaleLine): DraftOrder {
    let order = this.#orders.get(invoice);
    if (order === undefined) {
      order = {
        orderId: invoice,
        buyer: { customer, country },
        placedAtMs: atMs,
        lines: [],
        severalCustomers: false,
        severalTimes: false,
        units: 0,
        totalPence: 0,
      };
      this.#orders.set(invoice, order);
    }
    const { buyer } = order;
    if (buyer.customer !== customer || (customer === null && buyer.country !== country)) order.severalCustomers = true;
    if (order.placedAtMs !== atMs) order.severalTimes = true;
    return order;
  }

  /** An order that the contract does not take is left out whole, each of its lines with the reason. */
  #fits({ orderId, lines, totalPence }: DraftOrder): boolean {
    const reason: SkipReason | null =
      lines.length > linesPerOrderMax ? 'too-many-lines' : totalPence > totalAmountMax ? 'total-too-large' : null;
    if (reason === null) return true;
    for (const { line, product, quantity, pence } of lines) {
      const price = poundsOf(pence);
      this.#skipped.push({ line, invoice: orderId, sku: product.code, quantity: String(quantity), price, reason });
    }
    return false;
  }
}

/**
 * The description seen most often, the first of them on a tie. Remarks such as `damaged` or `found`
 * come with a price of zero, so descriptions that were paid for go first.
 */
function nameOf({ names, sku }: DraftProduct): string {
  let best = { name: sku, paid: 0, any: 0 };
  for (const [name, { paid, any }] of names) {
    if (paid > best.paid || (paid === best.paid && any > best.any)) best = { name, paid, any };
  }
  return best.name.slice(0, 300);
}

function customerOf({ customer, country }: DraftOrder['buyer']): PlannedCustomer {
  const known = country.slice(0, 100);
  if (customer !== null) return { customerId: customer, name: `Customer ${customer}`, country: known };
  const slug = country
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '')
    .slice(0, 58);
  return { customerId: `guest-${slug || 'unspecified'}`, name: `Guest (${known || 'Unspecified'})`, country: known };
}

const SKU = new RegExp(SKU_PATTERN);
const skuCharactersMax = 64;

/** Gives every code that is no valid SKU one that no other code has; valid ones keep theirs. */
function nameSkus(products: readonly DraftProduct[]): { code: string; sku: string }[] {
  const taken = new Set(products.map((product) => product.code).filter((code) => SKU.test(code)));
  const mapped: { code: string; sku: string }[] = [];
  for (const product of products) {
    if (SKU.test(product.code)) continue;
    const plain = product.code.replaceAll(/[^A-Za-z0-9._-]/g, '-').slice(0, skuCharactersMax);
    let sku = plain;
    for (let n = 2; taken.has(sku); n++) sku = `${plain.slice(0, skuCharactersMax - 1 - String(n).length)}-${n}`;
    taken.add(sku);
    product.sku = sku;
    mapped.push({ code: product.code, sku });
  }
  return mapped;
}
