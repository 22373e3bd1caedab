/** Which interesting states an event tells of. */
import type { Auditor, Happened } from './checks.ts';
import type { Counters } from './counters.ts';

/** Counts what `event` tells. To be called after the auditor has taken it. */
export function countEvent(counters: Counters, event: Happened, auditor: Auditor): void {
  const data = event.data as { was?: string; reason?: string; failure?: { code: string }; orderId?: string };
  switch (event.type) {
    case 'OrderFailed':
      counters.add(`order failed while ${data.was}: ${data.failure?.code}`);
      break;
    case 'OrderCancelled':
      counters.add(`order cancelled while ${data.was}`);
      break;
    case 'StockReleased':
    case 'PaymentVoided':
      counters.add(`${event.type}: ${data.reason}`);
      break;
    case 'PaymentCaptured':
      if (auditor.stateOf<{ status: string }>('order', data.orderId!)?.status !== 'reserved') {
        counters.add('captured when the order had ended');
      }
      counters.add(event.type);
      break;
    default:
      counters.add(event.type);
  }
}
