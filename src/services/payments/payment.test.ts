import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Compile } from 'typebox/compile';
import { type PaymentEvent, paymentEvents } from '#contracts/payments.ts';
import { given, purely } from '#cqrs/decider.fixture.ts';
import { payment, type Payment, type PaymentCommand, paymentDueAt, paymentIdOf } from './payment.ts';

const settleBy = '2026-01-01T00:00:30.000Z';
const nextTryAt = '2026-01-01T00:00:00.200Z';
const ids = { paymentId: 'pay-o1', orderId: 'o1' };
const amount = { amount: 2_100, currency: 'EUR' };
const method = 'pm_ok';
const providerReference = 'ch_1';
const detail = 'no answer within 300 ms';

const commands = {
  RequestPayment: { type: 'RequestPayment', ...ids, amount, method, settleBy },
  WithdrawPayment: { type: 'WithdrawPayment', settleBy },
  RecordCapture: { type: 'RecordCapture', providerReference, settleBy },
  RecordDecline: { type: 'RecordDecline', reason: 'the card was declined' },
  RecordUnknown: { type: 'RecordUnknown', detail, nextTryAt },
  RecordVoid: { type: 'RecordVoid' },
  RecordRefund: { type: 'RecordRefund', providerReference: 're_1' },
  RecordRefundDelay: { type: 'RecordRefundDelay', detail, nextTryAt },
} as const satisfies Record<string, PaymentCommand>;

const requested: PaymentEvent = { type: 'PaymentRequested', data: { ...ids, amount, method, settleBy } };
const withdrawn: PaymentEvent = { type: 'PaymentWithdrawn', data: { ...ids, settleBy } };
const captured: PaymentEvent = { type: 'PaymentCaptured', data: { ...ids, amount, providerReference } };
const declined: PaymentEvent = { type: 'PaymentDeclined', data: { ...ids, reason: 'the card was declined' } };
const voided = (reason: 'withdrawn' | 'timed-out'): PaymentEvent => ({
  type: 'PaymentVoided',
  data: { ...ids, reason },
});
const unknown = (attempt: number): PaymentEvent => ({
  type: 'PaymentUnknown',
  data: { ...ids, attempt, detail, nextTryAt },
});
const refundRequested: PaymentEvent = { type: 'RefundRequested', data: { ...ids, amount, settleBy } };
const refundDelayed = (attempt: number): PaymentEvent => ({
  type: 'RefundDelayed',
  data: { ...ids, attempt, detail, nextTryAt },
});
const refunded: PaymentEvent = { type: 'PaymentRefunded', data: { ...ids, amount, providerReference: 're_1' } };

const states: Readonly<Record<string, PaymentEvent[]>> = {
  none: [],
  requested: [requested],
  withdrawn: [requested, withdrawn],
  captured: [requested, captured],
  declined: [requested, declined],
  voided: [requested, voided('timed-out')],
  refunding: [requested, captured, refundRequested],
  refunded: [requested, captured, refundRequested, refunded],
};

/** What each word in the table stands for; `in vain`: captured when nobody wants the money any more. */
const outcomes: Readonly<Record<string, PaymentEvent[]>> = {
  '-': [],
  Requested: [requested],
  Withdrawn: [withdrawn],
  Captured: [captured],
  'in vain': [captured, refundRequested],
  Declined: [declined],
  Unknown: [unknown(1)],
  'timed out': [voided('timed-out')],
  'taken back': [voided('withdrawn')],
  'to refund': [refundRequested],
  Refunded: [refunded],
  Delayed: [refundDelayed(1)],
};

const table = `
                  | none      | requested | withdrawn  | captured  | declined | voided  | refunding | refunded
RequestPayment    | Requested | -         | -          | -         | -        | -       | -         | -
WithdrawPayment   | -         | Withdrawn | -          | to refund | -        | -       | -         | -
RecordCapture     | -         | Captured  | in vain    | -         | in vain  | in vain | -         | -
RecordDecline     | -         | Declined  | Declined   | -         | -        | -       | -         | -
RecordUnknown     | -         | Unknown   | Unknown    | -         | -        | -       | -         | -
RecordVoid        | -         | timed out | taken back | -         | -        | -       | -         | -
RecordRefund      | -         | -         | -          | -         | -        | -       | Refunded  | -
RecordRefundDelay | -         | -         | -          | -         | -        | -       | Delayed   | -
`;

const [head = [], ...rows] = table
  .trim()
  .split('\n')
  .map((line) => line.split('|').map((cell) => cell.trim()));
assert.deepEqual(
  head.filter((name) => name !== ''),
  Object.keys(states),
);
assert.deepEqual(
  rows.map(([name]) => name),
  Object.keys(commands),
);
for (const [name = '', ...cells] of rows) {
  cells.forEach((cell, n) => {
    const [state, events] = Object.entries(states)[n]!;
    test(`${state}: ${name} → ${cell}`, () => {
      const asked = given(payment, ...events).when(commands[name as keyof typeof commands]);
      // Unclear answers are counted: each one is an event.
      if (cell === 'Unknown' || cell === 'Delayed') asked.thenEachTime(...outcomes[cell]!);
      else asked.then(...outcomes[cell]!);
    });
  });
}

const after = (...events: PaymentEvent[]): Payment => given(payment, ...events).state;

test('a payment is known to the provider by its order', () => {
  assert.equal(paymentIdOf('o1'), 'pay-o1');
});

test('a payment that is captured and then not wanted any more is refunded', () => {
  given(payment, requested, captured).when(commands.WithdrawPayment).then(refundRequested);
  given(payment, requested, captured, refundRequested).when(commands.RecordRefund).then(refunded);
  assert.deepEqual(after(...states.refunded!), { ...ids, amount, method, status: 'refunded' });
});

test('a payment that is withdrawn while the provider charges it is captured in vain, and refunded', () => {
  given(payment, requested, unknown(1), withdrawn).when(commands.RecordCapture).then(captured, refundRequested);
});

test('a capture that shows up after a void or a decline is refunded, once', () => {
  for (const end of [voided('withdrawn'), voided('timed-out'), declined]) {
    given(payment, requested, end).when(commands.RecordCapture).then(captured, refundRequested);
    for (const then of [[], [refunded]]) {
      given(payment, requested, end, captured, refundRequested, ...then)
        .when(commands.RecordCapture)
        .then();
    }
  }
});

test('unclear answers are counted, also across a withdrawal, and asked again when they say', () => {
  given(payment, requested, unknown(1), unknown(2)).when(commands.RecordUnknown).thenEachTime(unknown(3));
  given(payment, requested, unknown(1), withdrawn).when(commands.RecordUnknown).thenEachTime(unknown(2));
  const state = after(requested, unknown(1), unknown(2));
  assert.ok(state.status === 'requested');
  assert.equal(state.attempts, 2);
  assert.equal(state.dueAt, nextTryAt);
});

test('refunds that are not confirmed are counted from the start again', () => {
  given(payment, requested, unknown(1), captured, refundRequested)
    .when(commands.RecordRefundDelay)
    .thenEachTime(refundDelayed(1));
  given(payment, ...states.refunding!, refundDelayed(1))
    .when(commands.RecordRefundDelay)
    .thenEachTime(refundDelayed(2));
  given(payment, ...states.refunding!, refundDelayed(1))
    .when(commands.RecordRefund)
    .then(refunded);
});

test('a payment is looked at again until it is settled', () => {
  const laterOn = '2026-01-02T00:00:00.000Z';
  const due: Readonly<Record<string, string | null>> = {
    requested: settleBy,
    withdrawn: settleBy,
    refunding: settleBy,
  };
  for (const [name, events] of Object.entries(states)) assert.equal(paymentDueAt(after(...events)), due[name] ?? null);
  assert.equal(paymentDueAt(after(requested, unknown(1))), nextTryAt);
  assert.equal(paymentDueAt(after(...states.refunding!, refundDelayed(1))), nextTryAt);
  const withdrawnLater: PaymentEvent = { type: 'PaymentWithdrawn', data: { ...ids, settleBy: laterOn } };
  assert.equal(paymentDueAt(after(requested, unknown(1), withdrawnLater)), laterOn);
});

test('what comes late leaves a settled payment as it is', () => {
  for (const name of ['captured', 'declined', 'voided', 'refunded']) {
    for (const late of [withdrawn, unknown(9), refundDelayed(9)]) {
      assert.deepEqual(after(...states[name]!, late), after(...states[name]!));
    }
  }
});

test('a payment that was never requested cannot move on', () => {
  assert.throws(() => payment.evolve(payment.initial, captured), /never requested/);
});

test('whatever is asked and answered, a payment is charged once or not at all, and refunded no more than that', () => {
  const pure = purely(payment);
  const anyCommand = fc.constantFrom<PaymentCommand[]>(...Object.values(commands));
  const contract = Object.fromEntries(Object.entries(paymentEvents).map(([type, schema]) => [type, Compile(schema)]));
  const ends = new Set<string>();
  fc.assert(
    fc.property(fc.array(anyCommand, { maxLength: 25 }), (asked) => {
      let state = pure.initial;
      let [taken, owed, givenBack] = [0, 0, 0];
      let wanted = true;
      for (const command of [commands.RequestPayment, ...asked]) {
        const decision = pure.decide(command, state);
        assert.ok('accepted' in decision);
        for (const event of decision.accepted) {
          assert.ok(contract[event.type]!.Check(event.data), `${event.type} is not as the contract says`);
          if (event.type === 'PaymentCaptured') taken += event.data.amount.amount;
          if (event.type === 'RefundRequested') owed += event.data.amount.amount;
          if (event.type === 'PaymentRefunded') givenBack += event.data.amount.amount;
          if (event.type === 'PaymentWithdrawn' || event.type === 'PaymentVoided' || event.type === 'PaymentDeclined') {
            wanted = false;
          }
          state = pure.evolve(state, event);
        }
        assert.ok(taken === 0 || taken === amount.amount, `captured ${taken}`);
        assert.ok(
          0 <= givenBack && givenBack <= owed && owed <= taken,
          `${givenBack} of ${owed} of ${taken} given back`,
        );
        if (!wanted) assert.equal(owed, taken, 'what was taken in vain is owed at once');
        assert.equal(state.status === 'refunding', givenBack < owed);
        assert.equal(state.status === 'refunded', givenBack > 0);
      }
      ends.add(state.status);
    }),
    { numRuns: 500 },
  );
  assert.deepEqual([...ends].sort(), ['captured', 'declined', 'refunded', 'refunding', 'requested', 'voided']);
});
