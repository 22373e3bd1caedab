/** How payments calls its provider: outside of any transaction, under keys that make every call repeatable. */
import { Agent, request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http';
import { urlToHttpOptions } from 'node:url';
import type { Money } from '#contracts/values.ts';
import { systemPorts } from '#platform/ports.ts';

/** The provider did not answer, or not clearly: whether it acted has to be asked under the same key. */
type Unknown = { readonly outcome: 'unknown'; readonly detail: string };
type Captured = { readonly outcome: 'captured'; readonly reference: string };
type Declined = { readonly outcome: 'declined'; readonly reason: string };
/** Nothing was charged under the key, and nothing ever will be. */
type Voided = { readonly outcome: 'voided' };

export type ChargeOutcome = Captured | Declined | Voided | Unknown;
/** `absent`: nothing is charged so far; a charge that is still under way may yet arrive. */
export type LookupOutcome = ChargeOutcome | { readonly outcome: 'absent' };
/** `captured`: it was too late. */
export type VoidOutcome = Voided | Captured | Declined | Unknown;
export type RefundOutcome = { readonly outcome: 'refunded'; readonly reference: string } | Unknown;

/**
 * Every call resolves within `timeoutMs`, to `unknown` whenever the answer is not certain: no answer,
 * a broken connection, a 5xx, or a refusal that points to a bug. None rejects.
 */
export type ProviderClient = {
  charge(charge: {
    readonly key: string;
    readonly orderId: string;
    readonly amount: Money;
    readonly method: string;
    readonly traceparent?: string | undefined;
  }): Promise<ChargeOutcome>;
  /** What has become of a charge. A charge that was refunded since is `captured`. */
  lookup(key: string, traceparent?: string): Promise<LookupOutcome>;
  void(key: string, traceparent?: string): Promise<VoidOutcome>;
  /** `charge` is the key of the charge. */
  refund(refund: {
    readonly key: string;
    readonly charge: string;
    readonly amount: Money;
    readonly traceparent?: string | undefined;
  }): Promise<RefundOutcome>;
  /** `calls`: since it was made; `open`: under way or waiting; `oldestMs`: how long the oldest of those has been. */
  statistics(): { readonly calls: number; readonly open: number; readonly oldestMs: number };
  /** Calls that are under way or waiting resolve to `unknown` at once, as do later ones. */
  close(): void;
};

type ProviderClientOptions = {
  readonly url: string;
  /** From the call to the last byte of its answer, waiting for a free connection included. */
  readonly timeoutMs: number;
  /** Calls under way at once, each on a connection of its own. */
  readonly concurrencyMax: number;
  /** Calls that wait for one of those; a further one is `unknown` at once. */
  readonly queueMax?: number;
};

/** Throws on a url that is not http. Connects on first use. */
export function createProviderClient(options: ProviderClientOptions): ProviderClient {
  const wire = openWire(options);

  return {
    async charge({ key, orderId, amount, method, traceparent }) {
      const body = JSON.stringify({ amount: amount.amount, currency: amount.currency, method, orderId });
      const answer = await wire.call('PUT', `/charges/${encodeURIComponent(key)}`, traceparent, body);
      return chargeOutcomeOf(key, answer, [200, 201], 409);
    },
    async lookup(key, traceparent) {
      const answer = await wire.call('GET', `/charges/${encodeURIComponent(key)}`, traceparent);
      // Any server answers 404 to an address it does not know: only the provider's own word counts.
      if (says(answer, key, [404], 'absent')) return { outcome: 'absent' };
      return chargeOutcomeOf(key, answer, [200], 200);
    },
    async void(key, traceparent) {
      const answer = await wire.call('POST', `/charges/${encodeURIComponent(key)}/void`, traceparent);
      return chargeOutcomeOf(key, answer, [200, 409], 200);
    },
    async refund({ key, charge, amount, traceparent }) {
      const body = JSON.stringify({ charge, amount: amount.amount, currency: amount.currency });
      const answer = await wire.call('PUT', `/refunds/${encodeURIComponent(key)}`, traceparent, body);
      if (says(answer, key, [200, 201], 'refunded'))
        return { outcome: 'refunded', reference: String(answer.body.reference) };
      return unknown(answer);
    },
    statistics: () => wire.statistics(),
    close: () => wire.close(),
  };
}

type Answer = { readonly status: number; readonly body: Record<string, unknown> };
type NoAnswer = { readonly failure: string };

const detailCharactersMax = 300;
const answerCharactersMax = 64 * 1_024;

function chargeOutcomeOf(key: string, answer: Answer | NoAnswer, settled: readonly number[], voided: number) {
  if (says(answer, key, [voided], 'voided')) return { outcome: 'voided' } as const;
  if (says(answer, key, settled, 'captured') || says(answer, key, settled, 'refunded')) {
    return { outcome: 'captured', reference: String(answer.body.reference) } as const;
  }
  if (says(answer, key, settled, 'declined')) {
    const { reason } = answer.body;
    return { outcome: 'declined', reason: typeof reason === 'string' ? reason : 'the provider declined' } as const;
  }
  return unknown(answer);
}

/** Money hangs on it: the answer has to name the key, and give a reference wherever money has moved. */
const says = (answer: Answer | NoAnswer, key: string, statuses: readonly number[], word: string): answer is Answer =>
  !('failure' in answer) &&
  statuses.includes(answer.status) &&
  answer.body.key === key &&
  answer.body.status === word &&
  (typeof answer.body.reference === 'string' || (word !== 'captured' && word !== 'refunded'));

function unknown(answer: Answer | NoAnswer): Unknown {
  const detail = 'failure' in answer ? answer.failure : `${meaningOf(answer.status)}: ${JSON.stringify(answer.body)}`;
  return { outcome: 'unknown', detail: detail.slice(0, detailCharactersMax) };
}

function meaningOf(status: number): string {
  if (status >= 500) return `the provider failed with ${status}`;
  if (status >= 400) return `the provider refused the request as wrong with ${status}`;
  return `the provider gave an answer that cannot be understood with ${status}`;
}

/** One call: waiting in line, then under way, then settled. */
type Call = { start(): void; fail(failure: string): void; waitedMs(): number };

/** Of its time, that a call has to have left to be sent: an answer that nobody waits for would only be in doubt. */
const shareToSend = 0.1;

function openWire({ url, timeoutMs, concurrencyMax, queueMax = 10_000 }: ProviderClientOptions) {
  const base = new URL(url);
  if (base.protocol !== 'http:') throw new TypeError(`the provider's url is not http: ${url}`);
  const prefix = base.pathname.replace(/\/$/, '');
  // As many sockets as calls: a call that follows on another takes over its socket instead of opening one.
  const agent = new Agent({ keepAlive: true, maxSockets: concurrencyMax, maxFreeSockets: concurrencyMax });
  const { hostname = '', port = 80 } = urlToHttpOptions(base);
  const target = { hostname, port, agent };
  const waiting = new Set<Call>();
  const underWay = new Set<Call>();
  let closed = false;
  let calls = 0;

  const isLate = (call: Call): boolean => call.waitedMs() > timeoutMs * (1 - shareToSend);

  const startNext = () => {
    const next = waiting.values().next().value;
    // The first in line is the latest: it expires, and the next one is looked at then.
    if (next === undefined || underWay.size >= concurrencyMax || isLate(next)) return;
    waiting.delete(next);
    underWay.add(next);
    next.start();
  };

  return {
    call(method: string, path: string, traceparent: string | undefined, body?: string): Promise<Answer | NoAnswer> {
      if (closed) return Promise.resolve({ failure: 'not sent: the client is closed' });
      if (waiting.size >= queueMax) return Promise.resolve({ failure: 'not sent: too many calls waiting' });
      calls += 1;
      return new Promise((resolve) => {
        let request: ClientRequest | undefined;
        const settle = (answer: Answer | NoAnswer) => {
          // Breaking a request off makes it report errors of its own: the first word counts.
          if (!underWay.delete(call) && !waiting.delete(call)) return;
          cancelTimeout();
          if ('failure' in answer) request?.destroy();
          resolve(answer);
          startNext();
        };
        const fail = (failure: string) => settle({ failure });
        const calledAt = systemPorts.elapsed();
        const call: Call = {
          fail,
          waitedMs: () => systemPorts.elapsed() - calledAt,
          start() {
            const headers: Record<string, string> = {};
            if (body !== undefined) headers['content-type'] = 'application/json';
            if (traceparent !== undefined) headers.traceparent = traceparent;
            try {
              request = httpRequest({ ...target, method, path: prefix + path, headers });
            } catch (error) {
              return fail(`not sent: ${(error as Error).message}`);
            }
            const broken = (error: NodeJS.ErrnoException) =>
              fail(`the connection failed: ${error.code ?? error.message}`);
            request.on('error', broken);
            request.on('response', (response) => readAnswer(response, settle, broken));
            request.end(body);
          },
        };
        const cancelTimeout = systemPorts.after(timeoutMs, () => {
          if (waiting.has(call)) fail(`not sent: no connection was free within ${timeoutMs} ms`);
          else fail(`no answer within ${timeoutMs} ms`);
        });
        waiting.add(call);
        startNext();
      });
    },

    statistics() {
      // Each line is in the order in which it was called, and whoever is under way was called before whoever waits.
      const oldest = underWay.values().next().value ?? waiting.values().next().value;
      return { calls, open: underWay.size + waiting.size, oldestMs: oldest?.waitedMs() ?? 0 };
    },

    close(): void {
      closed = true;
      for (const call of waiting) call.fail('not sent: the client was closed');
      for (const call of underWay) call.fail('no answer before the client was closed');
      agent.destroy();
    },
  };
}

function readAnswer(
  response: IncomingMessage,
  settle: (answer: Answer | NoAnswer) => void,
  broken: (error: NodeJS.ErrnoException) => void,
): void {
  let text = '';
  response.setEncoding('utf8');
  response.on('error', broken);
  response.on('data', (chunk: string) => {
    text += chunk;
    if (text.length > answerCharactersMax)
      settle({ failure: `the answer is longer than ${answerCharactersMax} characters` });
  });
  response.on('end', () => {
    const status = response.statusCode ?? 0;
    try {
      const body: unknown = JSON.parse(text);
      if (typeof body !== 'object' || body === null) throw new TypeError('not an object');
      settle({ status, body: body as Record<string, unknown> });
    } catch {
      settle({ failure: `${meaningOf(status)}, which is not JSON: ${text}`.slice(0, detailCharactersMax) });
    }
  });
}
