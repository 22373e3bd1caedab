/** Payments, put together: what orders owe, and the provider's side of the story. Clients reach it only through orders. */
import type { Audited, Service, ServiceParts } from '#contracts/service.ts';
import { startReactions } from '#cqrs/reactions.ts';
import { logSchemaFolders } from '#cqrs/postgres-log.ts';
import { startTimers } from '#cqrs/timers.ts';
import { paymentsTables } from './inline-tables.ts';
import { startProviderCalls } from './provider-calls.ts';
import type { ProviderClient } from './provider-client.ts';
import { toOrdering } from './reactions.ts';
import { paymentStream } from './streams.ts';

export { paymentsCorrections } from './corrections.ts';

export const paymentsSchema = [...logSchemaFolders, new URL('./schema/', import.meta.url)];

/** A payment that is not settled after so many time-outs was left behind by a crash. */
const settleAfterTimeouts = 3;

/** What the audit compares with the log. */
export const paymentsAudited: Audited = { streams: [paymentStream], tables: paymentsTables };

export type PaymentsOptions = {
  readonly provider: ProviderClient;
  /** Of one call to the provider. */
  readonly timeoutMs: number;
  readonly attemptsMax: number;
};

export function startPayments(parts: ServiceParts & PaymentsOptions): Service {
  const { log, bus, ports, feedOf, reportTrouble, provider } = parts;
  const settleWithinMs = parts.timeoutMs * settleAfterTimeouts;
  const calls = startProviderCalls({
    log,
    bus,
    provider,
    ports,
    attemptsMax: parts.attemptsMax,
    settleWithinMs,
    reportTrouble,
  });
  return {
    consumers: [
      startReactions({
        name: 'payments-of-ordering',
        feed: feedOf('ordering'),
        log,
        bus,
        reactions: toOrdering(settleWithinMs),
        reportTrouble,
        ports,
      }),
    ],
    timers: startTimers({ log, ports, reportTrouble, whenDue: { payment: calls.settle } }),
    outside: { name: 'payment-provider', statistics: () => provider.statistics() },
    routes: [],
    stop: () => provider.close(),
  };
}
