/** Reads the imported orders, and what the reports make of them, back from the server. */
import type { OrderStatus, OrderView, SalesReport } from '#contracts/http.ts';
import { monthSpan, type MonthSum } from './month-sums.ts';
import { currency, type ImportPlan, type PlannedOrder } from './order-plan.ts';
import { accepted, type ShopClient } from './shop-client.ts';

export type FoundOrder = {
  readonly status: OrderStatus;
  readonly failureCode: string | null;
  readonly placedAtMs: number;
  readonly lines: { readonly length: number };
  readonly units: number;
  readonly totalPence: number;
  /** The first thing in which it is not the order of the file. */
  readonly differs: string | null;
};

export type Found = {
  readonly orders: ReadonlyMap<string, FoundOrder>;
  /** Orders of the same months that the file does not have. */
  readonly foreignOrders: number;
};

/** How far the server is, at the cost of three short answers. */
export type Glance = {
  readonly completed: number;
  /** The oldest orders of these months that are not final yet; empty once all are. */
  readonly oldestOpen: readonly string[];
};

const pageSize = 100;
const glanceSize = 20;

type Page = { readonly items: readonly OrderView[]; readonly nextCursor: string | null };

export class OrderReader {
  readonly #shop: ShopClient;
  readonly #planned: ReadonlyMap<string, PlannedOrder>;
  readonly #span: { readonly from: string; readonly to: string };
  /** Of the last answer: what is read never goes back. */
  #token: string | undefined;

  constructor(shop: ShopClient, plan: ImportPlan, consistencyToken: string | undefined) {
    this.#shop = shop;
    this.#planned = new Map(plan.orders.map((order) => [order.orderId, order]));
    this.#span = monthSpan(plan.orders);
    this.#token = consistencyToken;
  }

  async glance(): Promise<Glance> {
    const oldestOpen: string[] = [];
    for (const status of ['pending', 'reserved']) {
      const { items } = await this.#orders({ status, limit: String(glanceSize) });
      oldestOpen.push(...items.map((order) => `${order.orderId} ${status}`));
    }
    const sums = await this.salesReport();
    return { completed: sums.reduce((orders, sum) => orders + sum.orders, 0), oldestOpen };
  }

  async readAll(onPage: (orders: number) => void): Promise<Found> {
    const orders = new Map<string, FoundOrder>();
    let foreignOrders = 0;
    let cursor: string | null = null;
    do {
      const page: Page = await this.#orders({ limit: String(pageSize), ...(cursor !== null && { cursor }) });
      for (const view of page.items) {
        const planned = this.#planned.get(view.orderId);
        if (planned === undefined) foreignOrders += 1;
        else orders.set(view.orderId, foundOrder(view, planned));
      }
      onPage(orders.size);
      cursor = page.nextCursor;
    } while (cursor !== null);
    return { orders, foreignOrders };
  }

  /** Completed orders by month as the report has them; it counts no lines. */
  async salesReport(): Promise<Omit<MonthSum, 'lines'>[]> {
    const query = new URLSearchParams({ bucket: 'month', ...this.#span });
    const { buckets } = await this.#get<SalesReport>(`/v1/reports/sales?${query.toString()}`);
    return buckets.map(({ start, orders, units, revenue }) => ({
      month: start.slice(0, 7),
      orders,
      units,
      revenuePence: revenue.find((money) => money.currency === currency)?.amount ?? 0,
    }));
  }

  #orders(filter: Readonly<Record<string, string>>): Promise<Page> {
    const { from, to } = this.#span;
    const query = new URLSearchParams({ placedFrom: from, placedTo: to, sort: 'placedAt', ...filter });
    return this.#get<Page>(`/v1/orders?${query.toString()}`);
  }

  async #get<Body>(path: string): Promise<Body> {
    const answer = await this.#shop.send({ method: 'GET', path, consistencyToken: this.#token });
    accepted(answer, `GET ${path}`);
    this.#token = answer.consistencyToken ?? this.#token;
    return answer.body as Body;
  }
}

function foundOrder(view: OrderView, planned: PlannedOrder): FoundOrder {
  return {
    status: view.status,
    failureCode: view.failure?.code ?? null,
    placedAtMs: Date.parse(view.placedAt),
    lines: { length: view.lines.length },
    units: view.lines.reduce((units, line) => units + line.quantity, 0),
    totalPence: view.total.amount,
    differs: differenceOf(view, planned),
  };
}

function differenceOf(view: OrderView, planned: PlannedOrder): string | null {
  if (view.customerId !== planned.customerId) return `customer ${view.customerId}`;
  if (Date.parse(view.placedAt) !== planned.placedAtMs) return `placed at ${view.placedAt}`;
  if (view.total.currency !== currency) return `total in ${view.total.currency}`;
  if (view.total.amount !== planned.totalPence) return `total ${view.total.amount}`;
  if (view.lines.length !== planned.lines.length) return `${view.lines.length} lines`;
  const at = view.lines.findIndex(({ sku, quantity, unitPrice }, index) => {
    const line = planned.lines[index]!;
    return sku !== line.product.sku || quantity !== line.quantity || unitPrice.amount !== line.pence;
  });
  return at < 0 ? null : `line ${at + 1}: ${JSON.stringify(view.lines[at])}`;
}
