/** A client of a running system, of the whole HTTP API, and waiting for what is to come. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { OrderPlacedAnswer, OrderView, PlaceOrderBody, StockLevel } from '#contracts/http.ts';

export type Reply<Body> = { readonly status: number; readonly headers: Headers; readonly body: Body };

export type Problem = {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly instance: string;
  readonly code: string;
  readonly traceId: string;
  readonly [member: string]: unknown;
};

export type RequestOptions = {
  /** Sent as JSON. */
  readonly json?: unknown;
  /** Sent as it is; of type JSON unless `headers` say otherwise. */
  readonly body?: string | Uint8Array<ArrayBuffer>;
  readonly headers?: Readonly<Record<string, string>>;
  /** Rejects with a TimeoutError when there is no answer by then. */
  readonly timeoutMs?: number;
};

export type OrderWish = Partial<PlaceOrderBody> & {
  readonly customerId: string;
  readonly sku?: string;
  readonly quantity?: number;
  readonly method?: PlaceOrderBody['payment']['method'];
};

export type Shop = ReturnType<typeof openShop>;

/** The client of a system. `headers` go with every request, such as the token of a customer. */
export function openShop(address: string, headers: Readonly<Record<string, string>> = {}) {
  async function request<Body = Problem>(
    method: string,
    path: string,
    {
      json,
      body = json === undefined ? undefined : JSON.stringify(json),
      headers: own,
      timeoutMs,
    }: RequestOptions = {},
  ): Promise<Reply<Body>> {
    const type: Record<string, string> = body === undefined ? {} : { 'content-type': 'application/json' };
    const answer = await fetch(`${address}${path}`, {
      method,
      headers: { ...type, ...headers, ...own },
      ...(body === undefined ? {} : { body }),
      ...(timeoutMs === undefined ? {} : { signal: AbortSignal.timeout(timeoutMs) }),
    });
    const text = await answer.text();
    const isJson = /json/.test(answer.headers.get('content-type') ?? '');
    return { status: answer.status, headers: answer.headers, body: (isJson ? JSON.parse(text) : text) as Body };
  }

  const get = <Body = Problem>(path: string, own: Readonly<Record<string, string>> = {}): Promise<Reply<Body>> =>
    request<Body>('GET', path, { headers: own });

  return {
    address,
    request,
    get,

    async putProduct(sku: string, price = { amount: 1_000, currency: 'EUR' }, name = `Product ${sku}`) {
      const reply = await request<{ sku: string; version: number }>('PUT', `/v1/products/${sku}`, {
        json: { name, price },
      });
      assert.ok(reply.status === 201 || reply.status === 200, JSON.stringify(reply.body));
      return reply;
    },

    async adjustStock(sku: string, quantity: number) {
      const json = { quantity, reason: 'delivery' };
      const reply = await request<StockLevel>('POST', `/v1/products/${sku}/stock-adjustments`, { json });
      assert.equal(reply.status, 201, JSON.stringify(reply.body));
      return reply;
    },

    async putCustomer(customerId: string) {
      const json = { name: `Customer ${customerId}`, country: 'Germany' };
      const reply = await request<{ version: number }>('PUT', `/v1/customers/${customerId}`, { json });
      assert.ok(reply.status === 201 || reply.status === 200, JSON.stringify(reply.body));
      return reply;
    },

    /** A new product with that many pieces, and a new customer. */
    async furnish(pieces: number): Promise<{ sku: string; customerId: string }> {
      const [sku, customerId] = [newId('sku'), newId('customer')];
      await Promise.all([this.putProduct(sku), this.putCustomer(customerId)]);
      if (pieces > 0) await this.adjustStock(sku, pieces);
      return { sku, customerId };
    },

    /** Sends an order, whatever the answer: one line of `sku` unless `lines` are given. */
    send<Body = OrderPlacedAnswer>(
      { sku = '', quantity = 1, method = 'pm_ok', ...wish }: OrderWish,
      own: Readonly<Record<string, string>> = {},
    ): Promise<Reply<Body>> {
      const json = { lines: [{ sku, quantity }], payment: { method }, ...wish };
      return request<Body>('POST', '/v1/orders', { json, headers: own });
    },

    /** Places an order and resolves to its id. */
    async place(wish: OrderWish, own: Readonly<Record<string, string>> = {}): Promise<string> {
      const reply = await this.send(wish, own);
      assert.equal(reply.status, 201, JSON.stringify(reply.body));
      return reply.body.orderId;
    },

    cancel: (orderId: string, own: Readonly<Record<string, string>> = {}) =>
      request<{ orderId: string; status: string; version: number; orderStatus?: string }>(
        'POST',
        `/v1/orders/${orderId}/cancel`,
        {
          json: {},
          headers: own,
        },
      ),

    /** Resolves once `isSo`. */
    async waitFor(what: string, isSo: () => Promise<boolean>): Promise<void> {
      await until(what, async () => ((await isSo()) ? true : null));
    },

    /** The order once it is as `awaited` says. */
    waitOrder(orderId: string, awaited: (order: OrderView) => boolean, timeoutMs = 60_000): Promise<OrderView> {
      return until(
        `order ${orderId} is as awaited`,
        async () => {
          const { status, body } = await get<OrderView>(`/v1/orders/${orderId}`);
          return status === 200 && awaited(body) ? body : null;
        },
        timeoutMs,
      );
    },

    /** The order once it is final and nothing about its payment is open. */
    waitFinal(orderId: string, timeoutMs = 60_000): Promise<OrderView> {
      return this.waitOrder(orderId, (order) => isFinal(order) && isSettled(order), timeoutMs);
    },
  };
}

const isFinal = (order: OrderView): boolean => !['pending', 'reserved'].includes(order.status);
const isSettled = (order: OrderView): boolean => !['pending', 'unknown'].includes(order.payment.status);

export const newId = (kind: string): string => `${kind}-${randomUUID().slice(0, 13)}`;

const lookEveryMs = 20;

/** What `look` finds, once that is not null. It may reject while it looks; rejects with its last word after `timeoutMs`. */
export async function until<T>(what: string, look: () => Promise<T | null>, timeoutMs = 60_000): Promise<T> {
  const giveUpAt = performance.now() + timeoutMs;
  for (;;) {
    let trouble: unknown;
    try {
      const found = await look();
      if (found !== null) return found;
    } catch (error) {
      trouble = error;
    }
    if (performance.now() > giveUpAt) throw new Error(`not within ${timeoutMs} ms: ${what}`, { cause: trouble });
    await delay(lookEveryMs);
  }
}
