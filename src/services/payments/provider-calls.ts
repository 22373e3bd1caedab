/**
 * Calls to the payment provider: outside of any transaction, after the intent is recorded, each under
 * the payment's key. What a call yields is recorded as an event. A call whose outcome was not
 * recorded (a crash, a lost reply) is taken up again when the payment's timer is due.
 */
import type { PaymentEvent } from '#contracts/payments.ts';
import type { OrderId } from '#contracts/values.ts';
import type { CommandBus } from '#cqrs/command-bus.ts';
import type { ReportTrouble } from '#cqrs/consumer.ts';
import type { EventLog, Origin, RecordedEvent } from '#cqrs/event-log.ts';
import { failpoint } from '#platform/failpoint.ts';
import { type Ports, timeNow } from '#platform/ports.ts';
import { type Payment, payment, type PaymentCommand } from './payment.ts';
import type { ProviderClient } from './provider-client.ts';
import { later, tellPayment } from './reactions.ts';
import { paymentStream } from './streams.ts';

export type ProviderCallsOptions = {
  readonly log: EventLog;
  readonly bus: CommandBus;
  readonly provider: ProviderClient;
  readonly ports: Ports;
  /** So many unclear answers to a charge, and it is voided. */
  readonly attemptsMax: number;
  readonly settleWithinMs: number;
  readonly reportTrouble: ReportTrouble;
};

/** After the n-th unclear answer; the last one repeats. */
const pausesMs = [200, 1_000, 3_000, 10_000, 30_000, 60_000] as const;

const setsToWork = new Set<string>([
  'PaymentRequested',
  'PaymentWithdrawn',
  'RefundRequested',
] satisfies PaymentEvent['type'][]);

/** Follows the log for payments to act on. `settle` takes up one payment, and is done once that is recorded. */
export function startProviderCalls(options: ProviderCallsOptions): {
  settle(orderId: OrderId, origin: Omit<Origin, 'actor'>): Promise<void>;
  underWay(): number;
} {
  const { log, bus, provider, attemptsMax, ports } = options;
  const underWay = new Set<OrderId>();

  /** `known`: the state as of the event that starts this; what came after is found when the outcome is recorded. */
  async function settle(orderId: OrderId, cause: Origin, known?: Payment): Promise<void> {
    // One call per payment at a time; whatever changed meanwhile is found when the timer is due.
    if (underWay.has(orderId)) return;
    underWay.add(orderId);
    try {
      let state = known ?? (await stateAfter(orderId, cause, null));
      for (;;) {
        const outcome = await ask(state, cause);
        if (outcome === null) return;
        state = await stateAfter(orderId, cause, outcome);
        // A capture that nobody wants any more has become a refund: go on with that at once.
        if (state.status !== 'refunding' || state.attempts > 0) return;
      }
    } finally {
      underWay.delete(orderId);
    }
  }

  async function stateAfter(orderId: OrderId, cause: Origin, outcome: PaymentCommand | null): Promise<Payment> {
    const done = await bus.execute({
      reads: [{ type: paymentStream, id: orderId }],
      origin: cause,
      run(scope) {
        if (outcome !== null) tellPayment(scope, orderId, outcome);
        return scope.state(paymentStream, orderId);
      },
    });
    return done.result;
  }

  /** Asks the provider the question that the payment's state poses; null: it poses none. */
  async function ask(state: Payment, cause: Origin): Promise<PaymentCommand | null> {
    if (state.status === 'refunding') return refund(state, cause);
    if (state.status !== 'requested') return null;
    const { paymentId, orderId, amount, method, attempts, wanted } = state;
    if (attempts > 0) {
      const found = await provider.lookup(paymentId, cause.traceparent);
      failpoint('lookup-answered');
      if (found.outcome !== 'absent') return recordOf(found, attempts);
    }
    if (wanted && attempts < attemptsMax) {
      failpoint('charge-sending');
      const answer = await provider.charge({ key: paymentId, orderId, amount, method, traceparent: cause.traceparent });
      failpoint('charge-answered');
      return recordOf(answer, attempts);
    }
    return recordOf(await provider.void(paymentId, cause.traceparent), attempts);
  }

  async function refund(state: Extract<Payment, { status: 'refunding' }>, cause: Origin): Promise<PaymentCommand> {
    const { paymentId, amount, attempts } = state;
    failpoint('refund-sending');
    const answer = await provider.refund({
      key: `refund-${paymentId}`,
      charge: paymentId,
      amount,
      traceparent: cause.traceparent,
    });
    failpoint('refund-answered');
    if (answer.outcome === 'refunded') return { type: 'RecordRefund', providerReference: answer.reference };
    return { type: 'RecordRefundDelay', detail: answer.detail, nextTryAt: nextTry(attempts) };
  }

  function recordOf(answer: Answered, attempts: number): PaymentCommand {
    switch (answer.outcome) {
      case 'captured': {
        const settleBy = later(timeNow(ports), options.settleWithinMs);
        return { type: 'RecordCapture', providerReference: answer.reference, settleBy };
      }
      case 'declined':
        return { type: 'RecordDecline', reason: answer.reason };
      case 'voided':
        return { type: 'RecordVoid' };
      case 'unknown':
        // After the last attempt it is time to void, and nothing to wait for.
        return {
          type: 'RecordUnknown',
          detail: answer.detail,
          nextTryAt: nextTry(attempts, attempts + 1 === attemptsMax),
        };
    }
  }

  const nextTry = (attempts: number, atOnce = false): string => {
    const pauseMs = atOnce ? 0 : pausesMs[Math.min(attempts, pausesMs.length - 1)]!;
    return new Date(ports.now() + pauseMs).toISOString();
  };

  log.tail.onPush((events) => {
    for (const event of events as readonly RecordedEvent<PaymentEvent>[]) {
      if (!setsToWork.has(event.type)) continue;
      const known = event.type === 'PaymentRequested' ? payment.evolve(payment.initial, event) : undefined;
      settle(event.data.orderId, causedBy(event), known).catch((error: unknown) =>
        options.reportTrouble('provider-calls', error),
      );
    }
  });

  return {
    settle: (orderId, origin) => settle(orderId, { ...origin, actor: 'payment-timer' }),
    underWay: () => underWay.size,
  };
}

type Answered =
  | Exclude<Awaited<ReturnType<ProviderClient['lookup']>>, { outcome: 'absent' }>
  | Awaited<ReturnType<ProviderClient['void']>>;

const causedBy = (event: RecordedEvent): Origin => ({ ...event.origin, actor: 'provider', causationId: event.id });
