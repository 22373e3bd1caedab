/**
 * Shoppers and operators: they send commands to whichever process answers, again under the same key
 * when no answer comes, and keep a journal of what they were told.
 */
import type { CommandRequest, CommandRoute } from '#contracts/routes.ts';
import type { ClientAnswer } from '#cqrs/command-request.ts';
import type { Auditor, Happened } from './checks.ts';
import { Violation } from './checks.ts';
import type { Counters } from './counters.ts';
import type { Incarnation } from './incarnation.ts';
import type { Command, Role } from './plan.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';

export type Reachable = { readonly process: Incarnation; readonly routes: readonly CommandRoute[] };

export type Entry = {
  readonly command: Command;
  /** `cmd-7`: what its events have as correlation. */
  readonly id: string;
  /** Every answer that was not a failure to answer. */
  readonly answers: ClientAnswer[];
  attempts: number;
  /** No answer, or none that says whether it was done. */
  unknown: number;
  done: boolean;
};

type ClientsOptions = {
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly counters: Counters;
  readonly weather: { lostRequests: number };
  /** Told of each answer that says ok, with what its token stands for. */
  onDone(command: Command, answer: Done): void;
  /** The processes that answer for a service at the moment. */
  reachable(service: Role): readonly Reachable[];
};

/** A command that was done, as its client was told. */
export type Done = Extract<ClientAnswer, { kept: unknown }>;

const answerTimeoutMs = 6_000;
const attemptsMax = 6;
/** Answers that leave open whether the command was done, or say that it was not this time. */
const passing = new Set(['log-unavailable', 'overloaded', 'read-model-behind']);

/** Sends `commands` when they are due; resolves nothing: `journal` fills as answers come. */
export function startClients(
  options: ClientsOptions,
  commands: readonly Command[],
): { journal: Entry[]; busy(): boolean } {
  const { scheduler, random, counters, weather } = options;
  const journal = commands.map((command, n): Entry => ({
    command,
    id: `cmd-${n}`,
    answers: [],
    attempts: 0,
    unknown: 0,
    done: false,
  }));
  let open = 0;

  for (const entry of journal) {
    const { atMs, twice } = entry.command;
    for (let copies = twice ? 2 : 1; copies > 0; copies -= 1) {
      open += 1;
      scheduler.after(atMs + copies, 'client sends', null, () => attempt(entry, 1));
    }
  }

  function attempt(entry: Entry, nth: number): void {
    entry.attempts += 1;
    const attemptId = `${entry.id}.${entry.attempts}`;
    const { service, method, url, params, body } = requestOf(entry.command);
    let settled = false;
    const settle = (answer: ClientAnswer | null): void => {
      if (settled) return;
      settled = true;
      timeout.act = null;
      if (answer !== null && !('refused' in answer && passing.has(answer.refused.code))) {
        entry.answers.push(answer);
        entry.done = true;
        open -= 1;
        if ('kept' in answer) options.onDone(entry.command, answer);
        if (answer.replayed) counters.add('answer given again');
        if ('refused' in answer) counters.add(`refused: ${answer.refused.code}${statusOf(answer)}`);
        return;
      }
      entry.unknown += 1;
      if (nth >= attemptsMax || entry.command.key === null) {
        open -= 1;
        counters.add('outcome left unknown');
        return;
      }
      scheduler.after(random.between(50, 1_500), 'client tries again', null, () => attempt(entry, nth + 1));
    };
    const timeout = scheduler.after(answerTimeoutMs, 'client gives up waiting', null, () => settle(null));
    const reachable = options.reachable(service);
    if (reachable.length === 0) {
      timeout.act = null;
      scheduler.after(20, 'connection refused', null, () => settle(null));
      return;
    }
    const { process, routes } = random.pick(reachable);
    const route = routes.find((one) => one.method === method && one.url === url)!;
    const { caller, key } = entry.command;
    const ifMatch = 'ifMatch' in entry.command && entry.command.ifMatch !== null ? [entry.command.ifMatch] : null;
    const request: CommandRequest = {
      params,
      body,
      caller: caller === 'operator' ? { role: 'operator' } : { role: 'customer', customerId: caller.slice(9) },
      ifMatch,
      idempotency: key === null ? undefined : { caller, key, fingerprint: JSON.stringify([method, url, params, body]) },
      origin: { actor: caller, correlationId: entry.id, causationId: attemptId },
    };
    if (random.chance(weather.lostRequests)) return;
    process.deliver(random.between(0.2, 5), 'request', () => {
      route.handle(request as never).then(
        (answer) => {
          if (random.chance(weather.lostRequests)) return;
          // What a process has written to its socket arrives, whatever becomes of it.
          scheduler.after(random.between(0.2, 5), 'response', null, () => settle(answer));
        },
        () => scheduler.after(random.between(0.2, 5), 'response 500', null, () => settle(null)),
      );
    });
  }

  return { journal, busy: () => open > 0 };
}

const statusOf = (answer: ClientAnswer): string =>
  'refused' in answer && 'orderStatus' in answer.refused ? ` (${String(answer.refused['orderStatus'])})` : '';

function requestOf(command: Command): {
  service: Role;
  method: string;
  url: string;
  params: Record<string, string>;
  body: object;
} {
  switch (command.kind) {
    case 'put-product': {
      const { sku, name, amount } = command;
      const body = { name, price: { amount, currency: 'EUR' } };
      return { service: 'catalog', method: 'PUT', url: '/v1/products/:sku', params: { sku }, body };
    }
    case 'adjust-stock': {
      const { sku, quantity } = command;
      const url = '/v1/products/:sku/stock-adjustments';
      return { service: 'inventory', method: 'POST', url, params: { sku }, body: { quantity, reason: 'counted' } };
    }
    case 'put-customer': {
      const { customerId, name } = command;
      return {
        service: 'ordering',
        method: 'PUT',
        url: '/v1/customers/:customerId',
        params: { customerId },
        body: { name },
      };
    }
    case 'place-order': {
      const { orderId, customerId, lines, method } = command;
      const body = { orderId, customerId, lines, payment: { method } };
      return { service: 'ordering', method: 'POST', url: '/v1/orders', params: {}, body };
    }
    case 'cancel-order': {
      const { orderId } = command;
      return { service: 'ordering', method: 'POST', url: '/v1/orders/:orderId/cancel', params: { orderId }, body: {} };
    }
  }
}

/** I1 and I13: what clients were told is what happened. */
export function checkJournal(journal: readonly Entry[], auditor: Auditor): void {
  const caused = new Map<string, Happened[]>();
  for (const events of Object.values(auditor.events)) {
    for (const event of events) {
      const { actor, causationId } = event.origin;
      if (actor !== 'operator' && !actor.startsWith('customer:')) continue;
      const id = causationId.slice(0, causationId.indexOf('.'));
      caused.set(id, [...(caused.get(id) ?? []), event]);
    }
  }
  const firstOfKey = new Map<string, string>();
  for (const entry of journal) {
    const { command, id, answers } = entry;
    const events = caused.get(id) ?? [];
    const what = `${id} (${command.kind})`;
    const attempts = new Set(events.map((event) => event.origin.causationId));
    if (command.key === null) {
      // Sent twice, it is two commands.
      for (const attempt of attempts) {
        const [, second] = events.filter((event) => event.origin.causationId === attempt);
        if (second !== undefined) throw new Violation('I1', `${what} was sent once and done twice: ${second.id}`);
      }
      if (command.twice) continue;
    }
    if (attempts.size > 1) throw new Violation('I1', `${what} was done by ${[...attempts].join(' and ')}`);
    const [first, ...others] = answers.filter(
      (answer) => !('refused' in answer && answer.refused.code === 'version-mismatch'),
    );
    for (const other of others) {
      if (wordOf(first!) !== wordOf(other)) {
        throw new Violation('I13', `${what} was answered ${wordOf(first!)} and ${wordOf(other)}`);
      }
    }
    if (first === undefined) {
      if (answers.length > 0 && entry.unknown === 0 && events.length > 0) {
        throw new Violation('I1', `${what} was refused and is there: ${events[0]!.id}`);
      }
      continue;
    }
    if ('refused' in first) {
      if (events.length > 0) throw new Violation('I1', `${what} was refused and is there: ${events[0]!.id}`);
      continue;
    }
    const key = `${command.caller} ${command.key}`;
    const holder = command.key === null ? undefined : firstOfKey.get(key);
    if (holder !== undefined) throw new Violation('I13', `${what} was done under the key of ${holder}`);
    firstOfKey.set(key, what);
    checkDone(what, command, first.kept, events, auditor);
  }
}

const wordOf = (answer: ClientAnswer): string =>
  'refused' in answer ? answer.refused.code : JSON.stringify(answer.kept);

/** I1, of a command that was answered ok. */
function checkDone(
  what: string,
  command: Command,
  kept: { readonly status: number; readonly body: unknown; readonly version?: number },
  events: readonly Happened[],
  auditor: Auditor,
): void {
  const [event, ...more] = events;
  const fail = (why: string): never => {
    throw new Violation('I1', `${what} was answered ${JSON.stringify(kept)}: ${why}`);
  };
  if (more.length > 0) fail(`it has ${events.length} events`);
  if (command.caller === 'customer:mallory') throw new Violation('I19', `${what}: somebody else's order was answered`);
  if (
    'ifMatch' in command &&
    command.ifMatch !== null &&
    event !== undefined &&
    event.version !== command.ifMatch + 1
  ) {
    fail(`version ${command.ifMatch} was asked for, and it is version ${event.version}`);
  }
  switch (command.kind) {
    case 'place-order': {
      const { orderId, total } = kept.body as { orderId: string; total: object };
      if (event?.type !== 'OrderPlaced' || event.stream !== `order-${orderId}`) return fail('the order is not there');
      const { total: stored } = event.data as { total: object };
      if (JSON.stringify(stored) !== JSON.stringify(total)) fail(`the order is over ${JSON.stringify(stored)}`);
      return;
    }
    case 'cancel-order':
      if (event?.type !== 'OrderCancelled' || event.version !== kept.version) fail('the order is not cancelled');
      return;
    case 'adjust-stock':
      if (event?.type !== 'StockAdjusted' || event.version !== kept.version) fail('the stock is not adjusted');
      return;
    case 'put-product':
    case 'put-customer': {
      const service = command.kind === 'put-product' ? 'catalog' : 'ordering';
      const stream = command.kind === 'put-product' ? `product-${command.sku}` : `customer-${command.customerId}`;
      const shown = auditor.events[service].find((one) => one.stream === stream && one.version === kept.version);
      const { name } = (shown?.data ?? {}) as { name?: string };
      if (name !== command.name) fail(`version ${kept.version} is ${JSON.stringify(shown?.data)}`);
      return;
    }
  }
}
