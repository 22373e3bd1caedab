/** Which interesting states worlds have come to. A simulator that never gets there proves nothing about them. */

export class Counters {
  readonly counts = new Map<string, number>();

  add(state: string, times = 1): void {
    this.counts.set(state, (this.counts.get(state) ?? 0) + times);
  }

  addAll(others: Iterable<readonly [string, number]>): void {
    for (const [state, times] of others) this.add(state, times);
  }
}

/** With so many worlds none of the states below may be missing. */
export const worldsEnough = 5_000;

/** Every state that a run has to come to; a name ending in `*` stands for any that begins so. */
const wanted = [
  // The endings of an order, and what undoes what was done
  'OrderCompleted',
  'order failed while pending: out-of-stock',
  'order failed while pending: timed-out',
  'order failed while reserved: payment-declined',
  'order failed while reserved: timed-out',
  'order cancelled while pending',
  'order cancelled while reserved',
  'captured when the order had ended',
  'OrderRefunded',
  'OrderPaymentInDoubt',
  'OrderPaymentVoided',
  'StockReleased: order-cancelled',
  'StockReleased: order-failed',
  'ReservationExpired',
  'ReservationBarred',
  'PaymentUnknown',
  'PaymentVoided: withdrawn',
  'PaymentVoided: timed-out',
  'RefundDelayed',
  'timer against completion',
  // What the provider was asked
  'lookup: absent',
  'lookup: captured',
  'lookup: declined',
  'void too late: captured',
  'charge repeated: captured',
  'refund repeated',
  'provider answer lost',
  // What clients were told
  'answer given again',
  'own write read',
  'outcome left unknown',
  'refused: idempotency-key-reused',
  'refused: version-mismatch',
  'refused: insufficient-stock',
  'refused: order-not-cancellable (completed)',
  'refused: order-not-cancellable (failed)',
  'refused: order-not-cancellable (cancelled)',
  'refused: order-not-found',
  'refused: unknown-product',
  'refused: product-not-found',
  'refused: unknown-customer',
  // Writers, and what becomes of them
  'conflict',
  'decided alone',
  'key known',
  'worker fenced',
  'zombie fenced',
  'lost answer of a commit',
  'committed after its process died',
  'crash: sent',
  'crash: locked',
  'crash: committed',
  'crash: visible',
  'crash: answered',
  'trouble: log-unavailable',
  'read side: answer lost after commit',
  'read side: parked',
  'read side: replayed',
  // Messages
  'bus: hole',
  'bus: reordered',
  'duplicate OrderPlaced',
  'duplicate OrderReserved',
  'duplicate OrderCompleted',
  'duplicate OrderFailed',
  'duplicate OrderCancelled',
  'duplicate StockReserved',
  'duplicate StockRejected',
  'duplicate ReservationExpired',
  'duplicate PaymentCaptured',
  'duplicate PaymentDeclined',
  'duplicate PaymentUnknown',
  'duplicate PaymentVoided',
  'duplicate PaymentRefunded',
  'duplicate ProductAdded',
  'duplicate ProductChanged',
  'parked: the row of*',
  'parked: queued-behind',
  'parked: unknown-type',
  'parked message replayed',
  'parked message discarded',
  // Faults
  'fault: crash',
  'fault: crash-at',
  'fault: pause',
  'fault: replace',
  'fault: database-down',
  'fault: database-restart',
  'fault: database-slow',
  'fault: database-stalls',
  'fault: connections-cut',
  'fault: answers-lost',
  'fault: bus-down',
  'fault: bus-storm',
  'fault: provider-down',
  'fault: provider-slow',
  'fault: provider-failing',
  'fault: provider-answers-lost',
  'fault: clock-jump',
  'fault: requests-lost',
  'fault: poison',
  'fault: older-version',
  'fault: consumer-paused',
  'fault: read-database-down',
  'fault: read-answers-lost',
] as const;

/** The states that were never reached. */
export function missing({ counts }: Counters): string[] {
  const reached = [...counts.keys()];
  return wanted.filter((state) =>
    state.endsWith('*') ? !reached.some((one) => one.startsWith(state.slice(0, -1))) : !counts.has(state),
  );
}
