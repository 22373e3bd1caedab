/**
 * The rules of a payment: an order is charged at most once, and what is not wanted any more is given
 * back. Every question to the provider carries the same key, so an unknown outcome is settled by
 * asking, never by charging again.
 */
import type { PaymentEvent } from '#contracts/payments.ts';
import type { Money, OrderId, PaymentId } from '#contracts/values.ts';
import { accept, type Decider, type Decision } from '#cqrs/decider.ts';

type Facts = {
  readonly paymentId: PaymentId;
  readonly orderId: OrderId;
  readonly amount: Money;
  readonly method: string;
};

/** `attempts`: questions to the provider that had no clear answer. `dueAt`: when to ask again at the latest. */
export type Payment =
  | { readonly status: 'none' }
  | (Facts & {
      readonly status: 'requested';
      readonly wanted: boolean;
      readonly attempts: number;
      readonly dueAt: string;
    })
  | (Facts & { readonly status: 'captured' })
  | (Facts & { readonly status: 'declined' })
  | (Facts & { readonly status: 'voided' })
  | (Facts & { readonly status: 'refunding'; readonly attempts: number; readonly dueAt: string })
  | (Facts & { readonly status: 'refunded' });

export type PaymentCommand =
  | (Facts & { readonly type: 'RequestPayment'; readonly settleBy: string })
  | { readonly type: 'WithdrawPayment'; readonly settleBy: string }
  | { readonly type: 'RecordCapture'; readonly providerReference: string; readonly settleBy: string }
  | { readonly type: 'RecordDecline'; readonly reason: string }
  | { readonly type: 'RecordUnknown'; readonly detail: string; readonly nextTryAt: string }
  | { readonly type: 'RecordVoid' }
  | { readonly type: 'RecordRefund'; readonly providerReference: string }
  | { readonly type: 'RecordRefundDelay'; readonly detail: string; readonly nextTryAt: string };

export const payment: Decider<Payment, PaymentCommand, PaymentEvent, never> = {
  initial: { status: 'none' },

  evolve(state, event): Payment {
    switch (event.type) {
      case 'PaymentRequested': {
        const { paymentId, orderId, amount, method, settleBy } = event.data;
        return { status: 'requested', paymentId, orderId, amount, method, wanted: true, attempts: 0, dueAt: settleBy };
      }
      case 'PaymentWithdrawn':
        return state.status === 'requested' ? { ...state, wanted: false, dueAt: event.data.settleBy } : state;
      case 'PaymentUnknown':
        return state.status === 'requested'
          ? { ...state, attempts: event.data.attempt, dueAt: event.data.nextTryAt }
          : state;
      case 'PaymentCaptured':
        return { ...factsOf(state), status: 'captured' };
      case 'PaymentDeclined':
        return { ...factsOf(state), status: 'declined' };
      case 'PaymentVoided':
        return { ...factsOf(state), status: 'voided' };
      case 'RefundRequested':
        return { ...factsOf(state), status: 'refunding', attempts: 0, dueAt: event.data.settleBy };
      case 'RefundDelayed':
        return state.status === 'refunding'
          ? { ...state, attempts: event.data.attempt, dueAt: event.data.nextTryAt }
          : state;
      case 'PaymentRefunded':
        return { ...factsOf(state), status: 'refunded' };
    }
  },

  decide(command, state) {
    switch (state.status) {
      case 'none':
        return decideNone(command);
      case 'requested':
        return decideRequested(command, state);
      case 'captured':
        return command.type === 'WithdrawPayment' ? accept(refundRequested(state, command.settleBy)) : accept();
      case 'refunding':
        return decideRefunding(command, state);
      case 'declined':
      case 'voided':
        // The provider said that nothing was charged, and now it says otherwise: the money goes back.
        return command.type === 'RecordCapture' ? capturedInVain(command, state) : accept();
      case 'refunded':
        return accept();
    }
  },
};

/** When a payment has to be looked at again; null: it is settled. */
export const paymentDueAt = (state: Payment): string | null =>
  state.status === 'requested' || state.status === 'refunding' ? state.dueAt : null;

/** The key under which the provider knows the charge of an order, however often it is asked. */
export const paymentIdOf = (orderId: OrderId): PaymentId => `pay-${orderId}`;

function decideNone(command: PaymentCommand): Decision<PaymentEvent, never> {
  if (command.type !== 'RequestPayment') return accept();
  const { type: _type, ...data } = command;
  return accept({ type: 'PaymentRequested', data });
}

type Requested = Extract<Payment, { status: 'requested' }>;
type Refunding = Extract<Payment, { status: 'refunding' }>;

function decideRequested(command: PaymentCommand, state: Requested): Decision<PaymentEvent, never> {
  const { paymentId, orderId, amount } = state;
  switch (command.type) {
    case 'WithdrawPayment':
      if (!state.wanted) return accept();
      return accept({ type: 'PaymentWithdrawn', data: { paymentId, orderId, settleBy: command.settleBy } });
    case 'RecordCapture':
      if (!state.wanted) return capturedInVain(command, state);
      return accept({
        type: 'PaymentCaptured',
        data: { paymentId, orderId, amount, providerReference: command.providerReference },
      });
    case 'RecordDecline':
      return accept({ type: 'PaymentDeclined', data: { paymentId, orderId, reason: command.reason } });
    case 'RecordUnknown': {
      const { detail, nextTryAt } = command;
      return accept({
        type: 'PaymentUnknown',
        data: { paymentId, orderId, attempt: state.attempts + 1, detail, nextTryAt },
      });
    }
    case 'RecordVoid':
      return accept({
        type: 'PaymentVoided',
        data: { paymentId, orderId, reason: state.wanted ? 'timed-out' : 'withdrawn' },
      });
    case 'RequestPayment':
    case 'RecordRefund':
    case 'RecordRefundDelay':
      return accept();
  }
}

function decideRefunding(command: PaymentCommand, state: Refunding): Decision<PaymentEvent, never> {
  const { paymentId, orderId, amount } = state;
  if (command.type === 'RecordRefund') {
    return accept({
      type: 'PaymentRefunded',
      data: { paymentId, orderId, amount, providerReference: command.providerReference },
    });
  }
  if (command.type === 'RecordRefundDelay') {
    const { detail, nextTryAt } = command;
    return accept({
      type: 'RefundDelayed',
      data: { paymentId, orderId, attempt: state.attempts + 1, detail, nextTryAt },
    });
  }
  return accept();
}

function capturedInVain(
  command: Extract<PaymentCommand, { type: 'RecordCapture' }>,
  state: Payment,
): Decision<PaymentEvent, never> {
  const { paymentId, orderId, amount } = factsOf(state);
  return accept<PaymentEvent>(
    { type: 'PaymentCaptured', data: { paymentId, orderId, amount, providerReference: command.providerReference } },
    refundRequested(factsOf(state), command.settleBy),
  );
}

const refundRequested = ({ paymentId, orderId, amount }: Facts, settleBy: string): PaymentEvent => ({
  type: 'RefundRequested',
  data: { paymentId, orderId, amount, settleBy },
});

function factsOf(state: Payment): Facts {
  if (state.status === 'none') throw new Error('a payment that was never requested cannot move on');
  const { paymentId, orderId, amount, method } = state;
  return { paymentId, orderId, amount, method };
}
