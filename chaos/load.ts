/**
 * Clients of a shop whose server dies under them: they place, pay in every way, cancel, repeat and change
 * things, and write down what they were told. What they wrote down is what the auditor holds the logs against.
 */
import { randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Journal, KeptAnswer } from '../tests/invariants.ts';
import { newId, type Problem, type Reply, type Shop } from '../tests/shop-client.ts';

export type Load = {
  /** Orders of which the clients know the fate, so far. */
  settled(): number;
  /** Requests so far, and how many of them had no answer. */
  requests(): { readonly sent: number; readonly unanswered: number };
  /** A client was not treated as promised; `stop` says how. */
  failed(): boolean;
  /** Lets every client come to the end of what it is doing. Rejects with what was not as promised. */
  stop(): Promise<Journal>;
  /** Lets go of everything: nobody asks again, and nobody wants to know. */
  abandon(): void;
};

export type LoadOptions = {
  /** Of the server as it is now; clients ask for it before each request. */
  shop(): Shop;
  /** Another server on the same databases that changes the same products; without one they are changed by the first only. */
  readonly rival?: Shop;
  readonly clients?: number;
};

const stock = 1_000_000;
const retryPauseMs = 25;
/** Between two things that one client does. */
const thinkMs = 4;
/** Longer than any restart takes: a client that gets no answer for so long fails the load. */
const patienceMs = 60_000;
const requestTimeoutMs = 5_000;

// pm_down is rare: each takes its payment attempts to end.
const methods = ['pm_ok', 'pm_ok', 'pm_ok', 'pm_ok', 'pm_declined', 'pm_slow', 'pm_reply_lost', 'pm_flaky'] as const;
type Method = (typeof methods)[number] | 'pm_down';

type Request = {
  readonly method: 'POST' | 'PUT';
  readonly path: string;
  readonly json: object;
  readonly key: string;
};
type Outcome = Reply<Record<string, unknown>>;

/** Starts the clients; they furnish the shop first. */
export function startLoad({ shop, rival, clients = 16 }: LoadOptions): Load {
  const placed: string[] = [];
  const refused: string[] = [];
  const unknown: string[] = [];
  const cancelled: string[] = [];
  const notCancelled: string[] = [];
  const answers: KeptAnswer[] = [];
  const counts = { sent: 0, unanswered: 0 };
  const [sku, customerId] = [newId('sku'), newId('customer')];
  const scarce = newId('scarce');
  let stopping = false;
  let abandoned = false;

  /** One attempt; null: there was no answer, or none that says what became of it. */
  async function attempt(at: Shop, { method, path, json, key }: Request): Promise<Outcome | null> {
    counts.sent += 1;
    try {
      const reply = await at.request<Record<string, unknown>>(method, path, {
        json,
        headers: { 'idempotency-key': key },
        timeoutMs: requestTimeoutMs,
      });
      if (reply.status < 500 && reply.body['code'] !== 'idempotency-key-in-flight') return reply;
    } catch (error) {
      if (!isBroken(error)) throw error;
    }
    counts.unanswered += 1;
    return null;
  }

  /** The same request under the same key until it is answered. */
  async function persist(request: Request, at: () => Shop = shop): Promise<Outcome> {
    const giveUpAt = performance.now() + patienceMs;
    for (;;) {
      const outcome = await attempt(at(), request);
      if (outcome !== null) {
        if (outcome.status < 300) answers.push({ key: request.key, status: outcome.status, body: outcome.body });
        return outcome;
      }
      if (abandoned || performance.now() > giveUpAt)
        throw new Error(`${request.path} was not answered within ${patienceMs} ms`);
      await delay(retryPauseMs);
    }
  }

  async function put(path: string, json: object, at?: () => Shop): Promise<void> {
    expect(await persist({ method: 'PUT', path, json, key: newId('key') }, at), [200, 201]);
  }

  const putProduct = (id: string, at?: () => Shop): Promise<void> =>
    put(`/v1/products/${id}`, { name: newId('name'), price: { amount: 1_000, currency: 'EUR' } }, at);
  const putCustomer = (): Promise<void> => put(`/v1/customers/${customerId}`, { name: newId('name') });

  async function adjustStock(id: string, quantity: number): Promise<void> {
    const path = `/v1/products/${id}/stock-adjustments`;
    expect(await persist({ method: 'POST', path, json: { quantity, reason: 'delivery' }, key: newId('key') }), [201]);
  }

  function orderOf(orderId: string, skus: readonly string[], method: Method): Request {
    const lines = skus.map((one) => ({ sku: one, quantity: 1 }));
    const json = { orderId, customerId, lines, payment: { method } };
    return { method: 'POST', path: '/v1/orders', json, key: newId('key') };
  }

  async function placeOrder(): Promise<void> {
    const orderId = newId('order');
    const method = oneIn(60) ? 'pm_down' : methods[randomInt(methods.length)]!;
    const request = orderOf(orderId, oneIn(10) ? [sku, scarce] : [sku], method);
    const first = await attempt(shop(), request);
    // Some clients never ask again.
    if (first === null && oneIn(2)) {
      unknown.push(orderId);
      return;
    }
    const outcome = first ?? (await persist(request));
    expect(outcome, [201]);
    placed.push(orderId);
    answers.push({ key: request.key, status: outcome.status, body: outcome.body });
    if (oneIn(6)) same(outcome, await persist(request));
    if (oneIn(20)) {
      const other = {
        ...request,
        json: { ...request.json, payment: { method: 'pm_declined' }, placedAt: '2020-01-01T00:00:00Z' },
      };
      expect(await persist(other), [422], 'idempotency-key-reused');
    }
    if (oneIn(4)) await cancel(orderId);
  }

  async function cancel(orderId: string): Promise<void> {
    await delay(randomInt(60));
    const path = `/v1/orders/${orderId}/cancel`;
    const outcome = await persist({ method: 'POST', path, json: { reason: 'changed my mind' }, key: newId('key') });
    if (outcome.status === 200) cancelled.push(orderId);
    else {
      expect(outcome, [409], 'order-not-cancellable');
      notCancelled.push(orderId);
    }
  }

  async function placeRefused(): Promise<void> {
    const orderId = newId('order');
    expect(await persist(orderOf(orderId, [newId('no-such')], 'pm_ok')), [422], 'unknown-product');
    refused.push(orderId);
  }

  async function furnish(): Promise<void> {
    await putCustomer();
    await Promise.all([putProduct(sku), putProduct(scarce)]);
    await Promise.all([adjustStock(sku, stock), adjustStock(scarce, 5)]);
  }

  async function client(n: number): Promise<void> {
    while (!stopping) {
      const dice = randomInt(100);
      if (rival !== undefined && n % 2 === 1) await putProduct(sku, n % 4 === 1 ? () => rival : shop);
      else if (dice < 88) await placeOrder();
      else if (dice < 92) await placeRefused();
      else if (dice < 95) await adjustStock(scarce, 1);
      else if (dice < 98) await putProduct(sku);
      else await putCustomer();
      if (rival === undefined) await delay(thinkMs);
    }
  }

  const running = furnish().then(() => Promise.all(Array.from({ length: clients }, (_, n) => client(n))));
  let failed = false;
  // Heard when it is stopped.
  running.catch(() => (failed = true));
  return {
    failed: () => failed,
    settled: () => placed.length + refused.length + unknown.length,
    requests: () => ({ ...counts }),
    async stop() {
      stopping = true;
      await running;
      return { placed, refused, unknown, cancelled, notCancelled, answers };
    },
    abandon() {
      stopping = true;
      abandoned = true;
    },
  };
}

const oneIn = (n: number): boolean => randomInt(n) === 0;

function expect(outcome: Outcome, statuses: readonly number[], code?: string): void {
  const { code: found, detail } = outcome.body as Partial<Problem>;
  if (statuses.includes(outcome.status) && found === code) return;
  throw new Error(
    `expected ${statuses.join(' or ')} ${code ?? ''}, was answered ${outcome.status} ${found}: ${detail}`,
  );
}

/** Asked again under its key, a request has its first answer. */
function same(first: Outcome, second: Outcome): void {
  const [a, b] = [first, second].map(({ status, body }) => JSON.stringify([status, body]));
  if (a === b && second.headers.get('idempotent-replayed') === 'true') return;
  throw new Error(`one key was answered ${a}, and then ${a === b ? 'the same, as if for the first time' : b}`);
}

/** What `fetch` rejects with when there is no connection, when it breaks, or when nothing comes. */
const isBroken = (error: unknown): boolean =>
  error instanceof TypeError || (error instanceof DOMException && error.name === 'TimeoutError');
