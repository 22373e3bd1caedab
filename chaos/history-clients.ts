/** Concurrent clients on few streams, who write down what they asked, when, and what they were told. */
import { randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { newId, openShop, type Reply } from '../tests/shop-client.ts';
import type { HistoryLine, Operation, Outcome } from './history.ts';

export type HistoryClients = {
  /** Operations so far. */
  begun(): number;
  /** A server was killed. */
  noteKill(server: string): void;
  /** Lets every client end what it is doing; resolves to the history, in the order of time. */
  stop(): Promise<HistoryLine[]>;
};

export type HistoryClientsOptions = {
  /** Addresses of the servers as they are now. A client asks any of them. */
  addresses(): readonly string[];
  readonly clients: number;
  /** What the orders are of. */
  readonly customerId: string;
  readonly sku: string;
};

/** All clients work on so few streams, for so many operations; then on others, so that no history grows too long to be checked. */
const streamsAtOnce = { product: 2, customer: 2, order: 6 } as const;
const operationsPerGeneration = 500;
const thinkMsMax = 12;
const retryPauseMs = 20;
/** After a server that was not there. */
const absentPauseMs = 60;
const requestTimeoutMs = 3_000;
/** Who has had no answer for so long gives up: it stays unknown. */
const patienceMs = 15_000;

export function startHistoryClients({ addresses, clients, customerId, sku }: HistoryClientsOptions): HistoryClients {
  const lines: HistoryLine[] = [];
  const versions = new Map<string, number>();
  const run = newId('h');
  const startedAt = process.hrtime.bigint();
  const now = (): number => Number(process.hrtime.bigint() - startedAt);
  let ids = 0;
  let processes = 0;
  let stopping = false;

  async function client(): Promise<void> {
    let number = ++processes;
    while (!stopping) {
      const outcome = await perform(number);
      // For all that is known it is still at it: its client goes on under a new number.
      if (outcome.type === 'info') number = ++processes;
      await delay(isNotSent(outcome) ? absentPauseMs : randomInt(thinkMsMax));
    }
  }

  /** One operation from its invocation to its end. */
  async function perform(number: number): Promise<Outcome> {
    const kind = (['product', 'customer', 'order', 'order'] as const)[randomInt(4)]!;
    const id = ++ids;
    const generation = Math.floor(id / operationsPerGeneration);
    const stream = `${kind}-${run}-${generation}-${randomInt(streamsAtOnce[kind])}`;
    const operation = operationOn(stream, id);
    const moment = { process: number, id, stream };
    lines.push({ type: 'invoke', ...moment, time: now(), ...operation });
    const outcome = await (oneIn(2) ? untilAnswered : once)(stream, operation);
    lines.push({ ...moment, time: now(), ...outcome });
    if ('version' in outcome) versions.set(stream, outcome.version);
    return outcome;
  }

  function operationOn(stream: string, id: number): Operation {
    if (stream.startsWith('order-')) {
      return oneIn(3) ? { operation: 'place', value: id } : { operation: 'cancel', value: `cancel-${id}` };
    }
    const known = versions.get(stream);
    return { operation: 'put', value: `put-${id}`, expect: known === undefined || oneIn(2) ? null : known };
  }

  /** Asks once, under a key or without one. */
  async function once(stream: string, operation: Operation): Promise<Outcome> {
    const outcome = await ask(stream, operation, oneIn(2) ? newId('key') : null);
    return outcome === 'in-flight' ? { type: 'info', code: outcome } : outcome;
  }

  /** Asks under one key until there is an answer. */
  async function untilAnswered(stream: string, operation: Operation): Promise<Outcome> {
    const key = newId('key');
    const giveUpAt = performance.now() + patienceMs;
    let asked = false;
    for (;;) {
      const outcome = await ask(stream, operation, key);
      const settled = outcome !== 'in-flight' && outcome.type !== 'info' && !isNotSent(outcome);
      if (settled) return outcome;
      asked ||= outcome === 'in-flight' || !isNotSent(outcome);
      if (performance.now() > giveUpAt) {
        return asked ? { type: 'info', code: 'given-up' } : { type: 'fail', code: 'not-sent' };
      }
      await delay(retryPauseMs);
    }
  }

  async function ask(stream: string, operation: Operation, key: string | null): Promise<Outcome | 'in-flight'> {
    const servers = addresses();
    const shop = openShop(servers[randomInt(servers.length)]!);
    const { method, path, json, headers } = requestFor(stream, operation);
    const own = { ...headers, ...(key === null ? {} : { 'idempotency-key': key }) };
    try {
      const options = { json, headers: own, timeoutMs: requestTimeoutMs };
      return outcomeOf(await shop.request<Record<string, unknown>>(method, path, options));
    } catch (error) {
      return unanswered(error);
    }
  }

  function requestFor(stream: string, operation: Operation) {
    const id = stream.slice(stream.indexOf('-') + 1);
    switch (operation.operation) {
      case 'put': {
        const headers = operation.expect === null ? {} : { 'if-match': `"${operation.expect}"` };
        const price = { amount: 100, currency: 'EUR' };
        return stream.startsWith('product-')
          ? { method: 'PUT', path: `/v1/products/${id}`, json: { name: operation.value, price }, headers }
          : { method: 'PUT', path: `/v1/customers/${id}`, json: { name: operation.value }, headers };
      }
      case 'place': {
        // The price tells in the log whose order it is.
        const pieces = [{ sku, quantity: 1, unitPrice: { amount: operation.value, currency: 'EUR' } }];
        const json = { orderId: id, customerId, lines: pieces, payment: { method: 'pm_ok' } };
        return { method: 'POST', path: '/v1/orders', json, headers: {} };
      }
      case 'cancel':
        return { method: 'POST', path: `/v1/orders/${id}/cancel`, json: { reason: operation.value }, headers: {} };
    }
  }

  const running = Promise.all(Array.from({ length: clients }, client));
  running.catch(() => {});
  return {
    begun: () => ids,
    noteKill: (server) => void lines.push({ type: 'kill', time: now(), server }),
    async stop() {
      stopping = true;
      await running;
      return lines;
    },
  };
}

const oneIn = (n: number): boolean => randomInt(n) === 0;
const isNotSent = (outcome: Outcome): boolean => outcome.type === 'fail' && outcome.code === 'not-sent';

function outcomeOf({ status, body }: Reply<Record<string, unknown>>): Outcome | 'in-flight' {
  const code = String(body['code']);
  if (status === 200 || status === 201) return { type: 'ok', version: Number(body['version']) };
  switch (code) {
    case 'version-mismatch':
      return { type: 'fail', code, version: Number(body['currentVersion']) };
    case 'order-not-cancellable':
      return { type: 'fail', code, status: String(body['orderStatus']) };
    case 'order-exists':
    case 'order-not-found':
      return { type: 'fail', code };
    case 'idempotency-key-in-flight':
      return 'in-flight';
  }
  if (status >= 500) return { type: 'info', code };
  throw new Error(`answered ${status} ${JSON.stringify(body)}`);
}

/** No answer. A connection that was never made has carried nothing. */
function unanswered(error: unknown): Outcome {
  if (error instanceof DOMException && error.name === 'TimeoutError') return { type: 'info', code: 'timed-out' };
  if (!(error instanceof TypeError)) throw error;
  const { code = 'broken' } = (error.cause ?? {}) as { code?: string };
  return code === 'ECONNREFUSED' ? { type: 'fail', code: 'not-sent' } : { type: 'info', code };
}
