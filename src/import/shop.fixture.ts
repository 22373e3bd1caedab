/**
 * A shop for the tests: the part of the HTTP contract that an import uses, in memory, on a real socket.
 * Orders become final as somebody looks, so that waiting has something to wait for.
 */
import type { OrderView, PlaceOrderBody } from '#contracts/http.ts';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export type ShopFault =
  /** Closes the connection before anything happens. */
  | 'cut-before'
  /** Closes it after the effect: the client cannot know. */
  | 'cut-after'
  /** Answers so instead. */
  | { readonly status: number; readonly code?: string; readonly retryAfter?: number; readonly html?: string };

export type Request = { readonly method: string; readonly url: URL; readonly headers: IncomingMessage['headers'] };

type Reply = { readonly status: number; readonly body: unknown };
type StoredOrder = { view: OrderView; readonly content: string };

const finalPerLook = 300;

export class MemoryShop {
  readonly orders = new Map<string, StoredOrder>();
  readonly customers = new Map<string, unknown>();
  readonly products = new Map<string, { readonly body: unknown; onHand: number }>();
  /** Orders that took effect, in the order in which they came; retries and replays are not among them. */
  readonly placed: string[] = [];
  /** Every request that reached the shop. */
  readonly requests: Request[] = [];
  /** What goes wrong with a request, asked for each. */
  fault: (request: Request) => ShopFault | undefined = () => undefined;
  /** Called before an answer leaves. */
  onAnswer: (request: Request) => void | Promise<void> = () => undefined;
  readonly #kept = new Map<string, Reply & { readonly fingerprint: string }>();
  readonly #server = createServer((request, response) => void this.#serve(request, response));

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return this.address;
  }

  get address(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  /** Another shop at the same address: everything is gone. */
  wipe(): void {
    for (const all of [this.orders, this.customers, this.products, this.#kept]) all.clear();
    this.placed.length = 0;
  }

  statusCounts(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { view } of this.orders.values()) counts[view.status] = (counts[view.status] ?? 0) + 1;
    return counts;
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of incoming) parts.push(part as Buffer);
    const { method = 'GET', headers } = incoming;
    const request: Request = { method, url: new URL(incoming.url ?? '/', this.address), headers };
    this.requests.push(request);
    const fault = this.fault(request);
    if (fault === 'cut-before') return void response.destroy();
    if (typeof fault === 'object') return answerFault(response, fault);
    const { status, body } = this.#once(request, Buffer.concat(parts).toString());
    await this.onAnswer(request);
    if (fault === 'cut-after') return void response.destroy();
    response.setHeader('content-type', 'application/json');
    response.setHeader('consistency-token', `seen-${this.requests.length}`);
    response.writeHead(status).end(JSON.stringify(body));
  }

  /** The first answer again for the same key. */
  #once(request: Request, text: string): Reply {
    const { method, url, headers } = request;
    const key = headers['idempotency-key'];
    if (method === 'GET' || typeof key !== 'string') return this.#handle(method, url, text);
    const fingerprint = `${method} ${url.pathname} ${text}`;
    const kept = this.#kept.get(key);
    if (kept !== undefined) return kept.fingerprint === fingerprint ? kept : refusal(422, 'idempotency-key-reused');
    const reply = this.#handle(method, url, text);
    if (reply.status < 300) this.#kept.set(key, { ...reply, fingerprint });
    return reply;
  }

  #handle(method: string, url: URL, text: string): Reply {
    const [, , kind, id = '', action] = url.pathname.split('/').map(decodeURIComponent);
    switch (`${method} ${kind}${id === '' ? '' : '/id'}${action === undefined ? '' : `/${action}`}`) {
      case 'PUT customers/id':
        this.customers.set(id, JSON.parse(text));
        return { status: 201, body: { customerId: id, version: 1 } };
      case 'PUT products/id':
        this.products.set(id, { body: JSON.parse(text), onHand: this.products.get(id)?.onHand ?? 0 });
        return { status: 201, body: { sku: id, version: 1 } };
      case 'POST products/id/stock-adjustments':
        return this.#adjust(id, JSON.parse(text));
      case 'POST orders':
        return this.#place(JSON.parse(text), text);
      case 'GET orders':
        return this.#list(url.searchParams);
      case 'GET orders/id': {
        const order = this.orders.get(id);
        return order === undefined ? refusal(404, 'order-not-found') : { status: 200, body: order.view };
      }
      case 'GET products':
        return { status: 200, body: { items: [], nextCursor: null } };
      case 'GET reports/id':
        return this.#sales(url.searchParams);
      default:
        return refusal(404, 'not-found');
    }
  }

  #adjust(sku: string, { quantity }: { quantity: number }): Reply {
    const product = this.products.get(sku);
    if (product === undefined) return refusal(404, 'product-not-found');
    product.onHand += quantity;
    return { status: 201, body: { sku, onHand: product.onHand, reserved: 0, available: product.onHand, version: 1 } };
  }

  #place(body: PlaceOrderBody, content: string): Reply {
    const { orderId = '', customerId, lines, payment, placedAt = '' } = body;
    const answer = (view: OrderView): Reply => ({
      status: 201,
      body: { orderId, status: 'pending', total: view.total, version: 1 },
    });
    const existing = this.orders.get(orderId);
    if (existing !== undefined)
      return existing.content === content ? answer(existing.view) : refusal(409, 'order-exists');
    if (!this.customers.has(customerId)) return refusal(422, 'unknown-customer');
    if (lines.some(({ sku }) => !this.products.has(sku))) return refusal(422, 'unknown-product');
    const view: OrderView = {
      orderId,
      customerId,
      status: 'pending',
      lines: lines.map(({ sku, quantity, unitPrice }) => ({ sku, name: sku, quantity, unitPrice: unitPrice! })),
      total: { amount: lines.reduce((sum, line) => sum + line.quantity * line.unitPrice!.amount, 0), currency: 'GBP' },
      payment: { status: 'none', method: payment.method },
      placedAt,
      updatedAt: placedAt,
      version: 1,
    };
    this.orders.set(orderId, { view, content });
    this.placed.push(orderId);
    return answer(view);
  }

  /** Takes the oldest open orders to their end: completed where there is stock for all lines, else failed. */
  #progress(): void {
    const open = [...this.orders.values()].filter(({ view }) => view.status === 'pending').slice(0, finalPerLook);
    for (const order of open) {
      const wanted = new Map<string, number>();
      for (const { sku, quantity } of order.view.lines) wanted.set(sku, (wanted.get(sku) ?? 0) + quantity);
      const short = [...wanted].filter(([sku, quantity]) => this.products.get(sku)!.onHand < quantity);
      if (short.length === 0) {
        for (const [sku, quantity] of wanted) this.products.get(sku)!.onHand -= quantity;
        order.view = { ...order.view, status: 'completed' };
      } else {
        const failure = { code: 'out-of-stock', detail: 'not enough', skus: short.map(([sku]) => sku) } as const;
        order.view = { ...order.view, status: 'failed', failure };
      }
    }
  }

  #within(query: URLSearchParams, from: string, to: string): OrderView[] {
    const fromMs = Date.parse(query.get(from) ?? '1970-01-01');
    const toMs = Date.parse(query.get(to) ?? '2100-01-01');
    return [...this.orders.values()]
      .map(({ view }) => view)
      .filter(({ placedAt }) => Date.parse(placedAt) >= fromMs && Date.parse(placedAt) < toMs)
      .sort((a, b) => Date.parse(a.placedAt) - Date.parse(b.placedAt));
  }

  #list(query: URLSearchParams): Reply {
    this.#progress();
    const status = query.get('status');
    const all = this.#within(query, 'placedFrom', 'placedTo').filter(
      (view) => status === null || view.status === status,
    );
    const from = Number(query.get('cursor') ?? 0);
    const to = from + Number(query.get('limit') ?? 20);
    return { status: 200, body: { items: all.slice(from, to), nextCursor: to < all.length ? String(to) : null } };
  }

  #sales(query: URLSearchParams): Reply {
    const months = new Map<string, { orders: number; units: number; amount: number }>();
    for (const view of this.#within(query, 'from', 'to')) {
      if (view.status !== 'completed') continue;
      const start = `${view.placedAt.slice(0, 7)}-01T00:00:00.000Z`;
      const sum = months.get(start) ?? { orders: 0, units: 0, amount: 0 };
      sum.orders += 1;
      sum.units += view.lines.reduce((units, line) => units + line.quantity, 0);
      sum.amount += view.total.amount;
      months.set(start, sum);
    }
    const buckets = [...months].map(([start, { orders, units, amount }]) => {
      return { start, orders, units, revenue: [{ amount, currency: 'GBP' }] };
    });
    return { status: 200, body: { buckets } };
  }
}

function refusal(status: number, code: string): Reply {
  return { status, body: { type: `/problems/${code}`, title: code, status, detail: `because of ${code}`, code } };
}

function answerFault(response: ServerResponse, { status, code, retryAfter, html }: Exclude<ShopFault, string>): void {
  if (retryAfter !== undefined) response.setHeader('retry-after', String(retryAfter));
  response.setHeader('content-type', html === undefined ? 'application/problem+json' : 'text/html');
  response.writeHead(status).end(html ?? JSON.stringify(refusal(status, code ?? 'internal').body));
}
