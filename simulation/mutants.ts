/** Safeguards, each with the change that switches it off. The simulator has to notice every one of them. */

export type Mutant = {
  /** The safeguard that is missing then. */
  readonly name: string;
  readonly file: string;
  /** A text that stands once in the file, and what takes its place. */
  readonly from: string;
  readonly to: string;
};

const bus = 'src/cqrs/command-bus.ts';
const batch = 'src/cqrs/command-batch.ts';
const append = 'src/cqrs/postgres-append.ts';
/** What `append` in SQL does, as the simulated server has it: the differential test holds both to be the same. */
const tables = 'simulation/log-tables.ts';
const parking = 'src/cqrs/parking.ts';
const orders = 'src/services/ordering/order.ts';
const stock = 'src/services/inventory/stock.ts';
const payment = 'src/services/payments/payment.ts';
const calls = 'src/services/payments/provider-calls.ts';

export const mutants: readonly Mutant[] = [
  // The append
  {
    name: 'a stream at another version stands against a batch',
    file: tables,
    from: 'filter(({ stream, version }) => (this.streams.get(stream)?.version ?? 0) !== version)',
    to: 'filter(() => false)',
  },
  {
    name: 'a key that is taken stands against a batch',
    file: tables,
    from: 'return kept === undefined ? [] : [kept];',
    to: 'return [];',
  },
  {
    name: 'a checkpoint moves only from its old value',
    file: tables,
    from: '(this.checkpoints.get(consumer) ?? 0) !== from ||',
    to: '',
  },
  {
    name: 'positions are dense',
    file: tables,
    from: 'position: this.head + n + 1 }',
    to: 'position: this.head + n + 2 }',
  },
  {
    name: 'a parked message is taken back once',
    file: tables,
    from: 'unparks.some((position) => !this.#waits(consumer, position))',
    to: 'false',
  },
  // The bus
  {
    name: 'the checkpoint is in the transaction of the effect',
    file: batch,
    from: 'if (checkpoint !== undefined) checkpoints.push(checkpoint);',
    to: '',
  },
  {
    name: 'the key is in the transaction of the effect',
    file: batch,
    from: 'if (idempotency !== undefined) keys.push({ ...idempotency, answer: one.kept, at: one.at });',
    to: '',
  },
  {
    name: 'what was read is checked',
    file: batch,
    from: 'for (const stream of one.reads) expected.set(stream, view.get(stream)!.base);',
    to: '',
  },
  {
    name: 'the fingerprint of a key is compared',
    file: bus,
    from: 'if (kept.fingerprint === queued.work.idempotency?.fingerprint) {',
    to: 'if (kept.fingerprint !== undefined) {',
  },
  {
    name: 'a command that throws leaves nothing in the view',
    file: bus,
    from: 'for (const [stream, entry] of before) view.set(stream, entry);',
    to: '',
  },
  {
    name: 'what was decided on top of a refused command is decided again',
    file: bus,
    from: 'for (const stream of one.writes.keys()) tainted.add(stream);',
    to: '',
  },
  // The log
  {
    name: 'a batch whose answer was lost is looked for',
    file: append,
    from: 'if (first === undefined) return null;',
    to: 'if (first !== null) return null;',
  },
  {
    name: 'a batch that is found is compared with the one that was sent',
    file: append,
    from: 'return ours ? rows[0]!.position - 1 : null;',
    to: 'return ours || rows.length > 0 ? rows[0]!.position - 1 : null;',
  },
  {
    name: 'the lost transaction is waited for before it is looked for',
    file: append,
    from: "await writer.query('await head', awaitHeadSql);\n  const rows",
    to: 'const rows',
  },
  {
    name: 'the newest events in memory have no hole',
    file: 'src/cqrs/tail.ts',
    from: 'if (last !== undefined && first.position !== last.position + 1) {',
    to: 'if (last !== undefined && first.position === last.position) {',
  },
  // Consumers
  {
    name: 'what a delivery repeats is dropped',
    file: 'src/cqrs/in-order.ts',
    from: 'if (event.position === expected) next.push(event);',
    to: 'if (event.position <= expected) next.push(event);',
  },
  {
    name: 'a hole ends a delivery',
    file: 'src/cqrs/in-order.ts',
    from: 'if (event.position > expected) break;\n    if (event.position === expected)',
    to: 'if (event.position >= expected)',
  },
  {
    name: 'a consumer that failed reads its checkpoint again',
    file: 'src/cqrs/consumer.ts',
    from: 'started = false;\n        // Another',
    to: '// Another',
  },
  {
    name: 'an effect names the event that it follows from',
    file: 'src/cqrs/reactions.ts',
    from: 'scope.because(follows(event, name));',
    to: '',
  },
  {
    name: 'later messages of a parked stream wait behind it',
    file: parking,
    from: 'held.get(stream) ?? waiting.headOf(stream)?.eventId ?? suspected',
    to: 'held.get(stream) ?? suspected',
  },
  {
    name: 'what is passed without being applied is parked',
    file: parking,
    from: '...(parks.length === 0 ? {} : { parks })',
    to: '',
  },
  {
    name: 'a parked message is taken back by the append that applies it',
    file: parking,
    from: 'unparks: [message.position] }',
    to: 'unparks: [] }',
  },
  {
    name: 'an event that cannot be read is not dropped',
    file: parking,
    from: 'if (unreadable === undefined) return options.concerns(type);',
    to: 'if (unreadable !== undefined) return false;\n    return options.concerns(type);',
  },
  // Projections
  {
    name: 'checkpoints of the read side move only from their old value',
    file: 'src/cqrs/memory-read-store.ts',
    from: 'positions.get(move.consumer) !== move.from ||',
    to: '',
  },
  {
    name: 'rows and checkpoints of the read side are one transaction',
    file: 'src/cqrs/memory-read-store.ts',
    from: 'positions.set(move.consumer, move.to);',
    to: 'if (changes !== null) queueMicrotask(() => positions.set(move.consumer, move.from));',
  },
  {
    name: 'who waits for a token waits until all of it has been applied',
    file: 'src/cqrs/progress.ts',
    from: 'return waits.length === 0 || (await Promise.all(waits)).every(Boolean);',
    to: 'return waits.length >= 0;',
  },
  // Ordering
  {
    name: 'the order decides: a capture that comes second completes nothing',
    file: orders,
    from: "case 'ConfirmReservation':\n    case 'RejectReservation':\n    case 'ExpireReservation':\n    case 'CompleteOrder':\n    case 'TimeOutOrder':\n      return accept();",
    to: "case 'CompleteOrder':\n      return accept({ type: 'OrderCompleted', data: { orderId, paymentId: command.paymentId } });\n    case 'ConfirmReservation':\n    case 'RejectReservation':\n    case 'ExpireReservation':\n    case 'TimeOutOrder':\n      return accept();",
  },
  {
    name: 'a timer that comes after the completion does nothing',
    file: orders,
    from: "return command.type === 'CancelOrder' ? notCancellable(state.status) : accept();",
    to: "return command.type === 'CancelOrder' ? notCancellable(state.status) : command.type === 'TimeOutOrder' ? accept({ type: 'OrderFailed', data: { orderId: state.orderId, was: 'reserved', failure: { code: 'timed-out', detail: '' } } }) : accept();",
  },
  {
    name: 'an order has a deadline',
    file: 'src/services/ordering/streams.ts',
    from: '  dueAt: orderDueAt,\n',
    to: '  dueAt: orderDueAt === null ? orderDueAt : () => null,\n',
  },
  {
    name: 'an order is cancelled by its customer or an operator, and by no stranger',
    file: 'src/services/ordering/http.ts',
    from: "(caller.role === 'customer' && state.customerId !== caller.customerId)",
    to: 'false',
  },
  {
    name: 'If-Match is compared',
    file: 'src/cqrs/command-request.ts',
    from: 'ifMatch.includes(current)',
    to: 'current >= 0',
  },
  // Inventory
  {
    name: 'nothing is held that is not there',
    file: stock,
    from: 'return level.onHand - level.reserved < quantity;',
    to: 'return level.onHand < quantity;',
  },
  {
    name: 'all of an order is held, or nothing',
    file: stock,
    from: "return accept({ type: 'StockReserved', data: { orderId, lines, expiresAt: command.expiresAt } });",
    to: "return accept({ type: 'StockReserved', data: { orderId, lines: lines.slice(0, 1), expiresAt: command.expiresAt } });",
  },
  {
    name: 'the demand of one order is added up per product',
    file: stock,
    from: "case 'ReserveStock': {\n      const lines = addUp(command.lines);",
    to: "case 'ReserveStock': {\n      const lines = command.lines;",
  },
  {
    name: 'what is held cannot be written off',
    file: stock,
    from: 'const available = onHand - reserved;',
    to: 'const available = onHand + 0 * reserved;',
  },
  {
    name: 'stock of a cancelled order is released',
    file: 'src/services/inventory/reactions.ts',
    from: "OrderCancelled: onHeld<OrderCancelled>(() => ({ type: 'ReleaseStock', reason: 'order-cancelled' })),",
    to: '',
  },
  {
    name: 'stock of a failed order is released',
    file: 'src/services/inventory/reactions.ts',
    from: "OrderFailed: onHeld<OrderFailed>(() => ({ type: 'ReleaseStock', reason: 'order-failed' })),",
    to: '',
  },
  {
    name: 'a reservation expires',
    file: 'src/services/inventory/streams.ts',
    from: '  dueAt: reservationDueAt,\n',
    to: '  dueAt: reservationDueAt === null ? reservationDueAt : () => null,\n',
  },
  {
    name: 'an order that ended first bars its reservation',
    file: stock,
    from: "return accept({ type: 'ReservationBarred', data: { orderId } });",
    to: 'return accept();',
  },
  // Payments
  {
    name: 'the payment of a cancelled order is withdrawn',
    file: 'src/services/payments/reactions.ts',
    from: '  OrderCancelled: onEnd<OrderCancelled>(),\n',
    to: '',
  },
  {
    name: 'the payment of a failed order is withdrawn',
    file: 'src/services/payments/reactions.ts',
    from: '  OrderFailed: onEnd<OrderFailed>(),\n',
    to: '',
  },
  {
    name: 'a capture that nobody wants any more is refunded',
    file: payment,
    from: 'if (!state.wanted) return capturedInVain(command, state);',
    to: '',
  },
  {
    name: 'a payment that was captured before it was withdrawn is refunded',
    file: payment,
    from: "return command.type === 'WithdrawPayment' ? accept(refundRequested(state, command.settleBy)) : accept();",
    to: 'return accept();',
  },
  {
    name: 'the provider knows a payment by one key',
    file: calls,
    from: 'await provider.charge({ key: paymentId, orderId,',
    to: 'await provider.charge({ key: `${paymentId}-${attempts}`, orderId,',
  },
  {
    name: 'a refund has one key',
    file: calls,
    from: 'key: `refund-${paymentId}`,',
    to: 'key: `refund-${paymentId}-${attempts}`,',
  },
  {
    name: 'an unknown outcome is no decline',
    file: calls,
    from: "return {\n          type: 'RecordUnknown',",
    to: "if (answer.detail !== '') return { type: 'RecordDecline', reason: answer.detail };\n        return {\n          type: 'RecordUnknown',",
  },
  {
    name: 'a payment that nobody wants any more is voided and not charged',
    file: calls,
    from: 'if (wanted && attempts < attemptsMax) {',
    to: 'if (attempts < attemptsMax) {',
  },
  {
    name: 'after the last attempt a payment is voided',
    file: calls,
    from: 'if (wanted && attempts < attemptsMax) {',
    to: 'if (wanted) {',
  },
  {
    name: 'a payment is taken up again when it is due',
    file: 'src/services/payments/streams.ts',
    from: '  dueAt: paymentDueAt,\n',
    to: '  dueAt: paymentDueAt === null ? paymentDueAt : () => null,\n',
  },
];
