import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Compile } from 'typebox/compile';
import { type Failure, type OrderEvent, orderingEvents } from '#contracts/ordering.ts';
import { linesPerOrderMax, priceAmountMax, quantityMax, totalAmountMax } from '#contracts/values.ts';
import { given, purely } from '#cqrs/decider.fixture.ts';
import { type Order, order, type OrderCommand, orderDueAt, type PlaceOrder } from './order.ts';

const orderId = 'o1';
const deadline = '2026-01-01T00:15:00.000Z';
const euros = (amount: number) => ({ amount, currency: 'EUR' });
const tea = { sku: 'tea', quantity: 2, offer: { name: 'Tea', price: euros(450) } };
const cup = { sku: 'cup', quantity: 1, offer: { name: 'Cup', price: euros(1_200) } };
const nothing = { sku: 'nothing', quantity: 1, offer: null };

const place = (more: Partial<PlaceOrder> = {}): PlaceOrder => ({
  type: 'PlaceOrder',
  orderId,
  customerId: 'ada',
  customer: { name: 'Ada', country: 'France' },
  lines: [tea, cup],
  payment: { method: 'pm_ok' },
  placedAt: '2026-01-01T00:00:00.000Z',
  deadline,
  contentHash: 'h1',
  ...more,
});

const placed = {
  type: 'OrderPlaced',
  data: {
    orderId,
    customerId: 'ada',
    customerName: 'Ada',
    country: 'France',
    currency: 'EUR',
    lines: [
      { sku: 'tea', name: 'Tea', quantity: 2, unitPrice: 450 },
      { sku: 'cup', name: 'Cup', quantity: 1, unitPrice: 1_200 },
    ],
    total: euros(2_100),
    payment: { method: 'pm_ok' },
    placedAt: '2026-01-01T00:00:00.000Z',
    deadline,
    contentHash: 'h1',
  },
} satisfies OrderEvent;
const reserved: OrderEvent = {
  type: 'OrderReserved',
  data: { orderId, total: euros(2_100), payment: { method: 'pm_ok' } },
};
const completed: OrderEvent = { type: 'OrderCompleted', data: { orderId, paymentId: 'pay-o1' } };
const inDoubt: OrderEvent = { type: 'OrderPaymentInDoubt', data: { orderId } };
const voided: OrderEvent = { type: 'OrderPaymentVoided', data: { orderId } };
const refunded: OrderEvent = { type: 'OrderRefunded', data: { orderId } };
const cancelledWhile = (was: 'pending' | 'reserved'): OrderEvent => ({
  type: 'OrderCancelled',
  data: { orderId, was, reason: 'changed my mind' },
});
const failedWhile = (was: 'pending' | 'reserved', code: keyof typeof failures): OrderEvent => ({
  type: 'OrderFailed',
  data: { orderId, was, failure: failures[code] },
});
const failures = {
  'out-of-stock': { code: 'out-of-stock', detail: 'Not enough stock of: cup, tea.', skus: ['cup', 'tea'] },
  'payment-declined': { code: 'payment-declined', detail: 'the card was declined' },
  expired: { code: 'timed-out', detail: 'The reservation expired.' },
  unpaid: { code: 'timed-out', detail: 'The payment could not be made in time.' },
  late: { code: 'timed-out', detail: `The order was not final by ${deadline}.` },
} satisfies Record<string, Failure>;

const commands = {
  CancelOrder: { type: 'CancelOrder', reason: 'changed my mind' },
  ConfirmReservation: { type: 'ConfirmReservation' },
  RejectReservation: { type: 'RejectReservation', skus: ['cup', 'tea'] },
  ExpireReservation: { type: 'ExpireReservation' },
  CompleteOrder: { type: 'CompleteOrder', paymentId: 'pay-o1' },
  DeclinePayment: { type: 'DeclinePayment', reason: 'the card was declined' },
  DoubtPayment: { type: 'DoubtPayment' },
  VoidPayment: { type: 'VoidPayment' },
  RefundPayment: { type: 'RefundPayment' },
  'TimeOutOrder, early': { type: 'TimeOutOrder', now: '2026-01-01T00:14:59.999Z' },
  'TimeOutOrder, due': { type: 'TimeOutOrder', now: deadline },
} as const satisfies Record<string, OrderCommand>;

const states: Readonly<Record<string, OrderEvent[]>> = {
  none: [],
  pending: [placed],
  reserved: [placed, reserved],
  'reserved, in doubt': [placed, reserved, inDoubt],
  completed: [placed, reserved, completed],
  // How the payment of an order stands that has ended early:
  'nothing to pay': [placed, cancelledWhile('pending')],
  'to be settled': [placed, reserved, cancelledWhile('reserved')],
  'in doubt': [placed, reserved, inDoubt, cancelledWhile('reserved')],
  declined: [placed, reserved, failedWhile('reserved', 'payment-declined')],
  refunded: [placed, reserved, cancelledWhile('reserved'), refunded],
};

/** What each word in the tables stands for, in the state where it follows. */
const outcomes: Readonly<Record<string, (was: 'pending' | 'reserved') => OrderEvent>> = {
  Reserved: () => reserved,
  Completed: () => completed,
  Cancelled: cancelledWhile,
  InDoubt: () => inDoubt,
  Voided: () => voided,
  Refunded: () => refunded,
  'Failed:out-of-stock': (was) => failedWhile(was, 'out-of-stock'),
  'Failed:declined': (was) => failedWhile(was, 'payment-declined'),
  'Failed:expired': (was) => failedWhile(was, 'expired'),
  'Failed:unpaid': (was) => failedWhile(was, 'unpaid'),
  'Failed:late': (was) => failedWhile(was, 'late'),
};

const underWay = `
                    | none      | pending                       | reserved             | reserved, in doubt
CancelOrder         | not found | Cancelled                     | Cancelled            | Cancelled
ConfirmReservation  | not found | Reserved                      | -                    | -
RejectReservation   | not found | Failed:out-of-stock           | -                    | -
ExpireReservation   | not found | Failed:expired                | Failed:expired       | Failed:expired
CompleteOrder       | not found | Reserved Completed            | Completed            | Completed
DeclinePayment      | not found | Reserved Failed:declined      | Failed:declined      | Failed:declined
DoubtPayment        | not found | Reserved InDoubt              | InDoubt              | -
VoidPayment         | not found | Reserved Failed:unpaid Voided | Failed:unpaid Voided | Failed:unpaid Voided
RefundPayment       | not found | -                             | -                    | -
TimeOutOrder, early | not found | -                             | -                    | -
TimeOutOrder, due   | not found | Failed:late                   | Failed:late          | Failed:late
`;

const final = `
                    | completed       | nothing to pay  | to be settled   | in doubt        | declined        | refunded
CancelOrder         | not cancellable | not cancellable | not cancellable | not cancellable | not cancellable | not cancellable
ConfirmReservation  | -               | -               | -               | -               | -               | -
RejectReservation   | -               | -               | -               | -               | -               | -
ExpireReservation   | -               | -               | -               | -               | -               | -
CompleteOrder       | -               | -               | -               | -               | -               | -
DeclinePayment      | -               | -               | Voided          | Voided          | -               | -
DoubtPayment        | -               | -               | InDoubt         | -               | -               | -
VoidPayment         | -               | -               | Voided          | Voided          | -               | -
RefundPayment       | -               | Refunded        | Refunded        | Refunded        | Refunded        | -
TimeOutOrder, early | -               | -               | -               | -               | -               | -
TimeOutOrder, due   | -               | -               | -               | -               | -               | -
`;

for (const table of [underWay, final]) {
  const [head = [], ...rows] = table
    .trim()
    .split('\n')
    .map((line) => line.split('|').map((cell) => cell.trim()));
  const columns = head.filter((name) => name !== '');
  assert.deepEqual(
    rows.map(([name]) => name),
    Object.keys(commands),
    'a table has a row for every command',
  );
  for (const [name = '', ...cells] of rows) {
    const command = commands[name as keyof typeof commands];
    assert.equal(cells.length, columns.length);
    cells.forEach((cell, n) => {
      const state = columns[n]!;
      test(`${state}: ${name} → ${cell}`, () => {
        const asked = given(order, ...states[state]!);
        if (cell === 'not found') return asked.when(command).thenRefused('order-not-found');
        if (cell === 'not cancellable') {
          return asked.when(command).thenRefused('order-not-cancellable', { orderStatus: asked.state.status });
        }
        // An order that was pending is reserved first where payments speaks of it.
        let was: 'pending' | 'reserved' = state === 'pending' ? 'pending' : 'reserved';
        const events = cell === '-' ? [] : cell.split(' ');
        const expected = events.map((event) => {
          const one = outcomes[event]!(was);
          if (event === 'Reserved') was = 'reserved';
          return one;
        });
        return asked.when(command).then(...expected);
      });
    });
  }
}

const known = { orderId, customerId: 'ada', placedAt: placed.data.placedAt, total: euros(2_100), method: 'pm_ok' };
const after = (...events: OrderEvent[]): Order => given(order, ...events).state;

test('an order moves from pending to reserved to completed, and waits for nothing then', () => {
  assert.deepEqual(after(placed), { ...known, status: 'pending', contentHash: 'h1', deadline });
  assert.deepEqual(after(placed, reserved), {
    ...known,
    status: 'reserved',
    contentHash: 'h1',
    deadline,
    payment: 'pending',
  });
  assert.deepEqual(after(placed, reserved, completed), { ...known, status: 'completed', contentHash: 'h1' });
});

test('an order is looked at again at its deadline until it is final', () => {
  for (const [name, events] of Object.entries(states)) {
    const due = name === 'pending' || name.startsWith('reserved') ? deadline : null;
    assert.equal(orderDueAt(after(...events)), due, name);
  }
});

test('an order that ends while it is pending has nothing to pay', () => {
  for (const end of [
    cancelledWhile('pending'),
    failedWhile('pending', 'out-of-stock'),
    failedWhile('pending', 'expired'),
  ]) {
    assert.equal(paymentOf(after(placed, end)), 'none');
  }
});

test('an order that ends while it is reserved keeps the payment that is under way in sight', () => {
  for (const end of [cancelledWhile('reserved'), failedWhile('reserved', 'late')]) {
    assert.equal(paymentOf(after(placed, reserved, end)), 'pending');
    assert.equal(paymentOf(after(placed, reserved, inDoubt, end)), 'unknown');
    assert.equal(paymentOf(after(placed, reserved, end, inDoubt)), 'unknown');
    assert.equal(paymentOf(after(placed, reserved, end, voided)), 'none');
    assert.equal(paymentOf(after(placed, reserved, end, inDoubt, refunded)), 'refunded');
  }
});

test('an order whose payment is declined has a declined payment', () => {
  assert.equal(paymentOf(after(placed, reserved, failedWhile('reserved', 'payment-declined'))), 'declined');
});

test('an order whose payment is voided has failed, with nothing charged', () => {
  assert.equal(paymentOf(after(placed, reserved, failedWhile('reserved', 'unpaid'), voided)), 'none');
});

test('a capture that is heard of before its reservation completes the order', () => {
  given(order, placed).when(commands.CompleteOrder).then(reserved, completed);
  given(order, placed, reserved, completed).when(commands.ConfirmReservation).then();
});

test('a capture that arrives after the cancellation does not complete the order, and its refund is noted', () => {
  const cancelled = [placed, reserved, cancelledWhile('reserved')];
  given(order, ...cancelled)
    .when(commands.CompleteOrder)
    .then();
  given(order, ...cancelled)
    .when(commands.RefundPayment)
    .then(refunded);
});

test('a decline or a void that arrives after the cancellation says that nothing was charged', () => {
  for (const command of [commands.DeclinePayment, commands.VoidPayment]) {
    given(order, placed, reserved, inDoubt, cancelledWhile('reserved')).when(command).then(voided);
    given(order, placed, cancelledWhile('pending')).when(command).then();
  }
});

test('whoever comes first, the deadline or the capture, decides; the other changes nothing', () => {
  given(order, placed, reserved, completed).when(commands['TimeOutOrder, due']).then();
  given(order, placed, reserved, failedWhile('reserved', 'late')).when(commands.CompleteOrder).then();
});

test('an order that has ended refuses to be cancelled, and says how it ended', () => {
  for (const [orderStatus, events] of [
    ['completed', [reserved, completed]],
    ['failed', [failedWhile('pending', 'out-of-stock')]],
    ['failed', [reserved, failedWhile('reserved', 'payment-declined')]],
    ['cancelled', [cancelledWhile('pending')]],
    ['cancelled', [reserved, cancelledWhile('reserved'), refunded]],
  ] as const) {
    given(order, placed, ...events)
      .when(commands.CancelOrder)
      .thenRefused('order-not-cancellable', { orderStatus });
  }
});

test('an order may be cancelled without a reason', () => {
  given(order, placed)
    .when({ type: 'CancelOrder' })
    .then({ type: 'OrderCancelled', data: { orderId, was: 'pending' } });
});

test('the products that were short are all noted, and the first ten are named', () => {
  const skus = Array.from({ length: 12 }, (_, n) => `s${n}`);
  const detail = 'Not enough stock of: s0, s1, s2, s3, s4, s5, s6, s7, s8, s9 ….';
  given(order, placed)
    .when({ type: 'RejectReservation', skus })
    .then({ type: 'OrderFailed', data: { orderId, was: 'pending', failure: { code: 'out-of-stock', detail, skus } } });
});

test('an order is placed at the prices of the catalogue', () => {
  given(order).when(place()).then(placed);
});

test('an order of a customer without a country is placed without one', () => {
  const { country: _country, ...data } = placed.data;
  given(order)
    .when(place({ customer: { name: 'Ada' } }))
    .then({ type: 'OrderPlaced', data });
});

test('the same order sent again is the same order, however far it has come', () => {
  for (const [name, events] of Object.entries(states)) {
    if (name !== 'none')
      given(order, ...events)
        .when(place())
        .then();
  }
});

test('another order under the same id is refused, however far the first has come', () => {
  for (const [name, events] of Object.entries(states)) {
    if (name === 'none') continue;
    given(order, ...events)
      .when(place({ contentHash: 'h2' }))
      .thenRefused('order-exists');
  }
});

test('an order of a customer whom nobody knows is refused', () => {
  given(order)
    .when(place({ customer: null, lines: [nothing] }))
    .thenRefused('unknown-customer');
});

test('unknown products are listed, each once and in the order of the lines', () => {
  const other = { ...nothing, sku: 'another' };
  given(order)
    .when(place({ lines: [nothing, tea, other, nothing] }))
    .thenRefused('unknown-product', { skus: ['nothing', 'another'] });
});

test('a product that the catalogue does not have cannot be ordered at a negotiated price either', () => {
  given(order)
    .when(place({ lines: [{ ...nothing, unitPrice: euros(1) }] }))
    .thenRefused('unknown-product', { skus: ['nothing'] });
});

test('lines in several currencies are refused, and the currencies are named', () => {
  const pounds = { amount: 1, currency: 'GBP' };
  given(order)
    .when(place({ lines: [{ ...tea, unitPrice: pounds }, cup] }))
    .thenRefused('mixed-currencies', { currencies: ['EUR', 'GBP'] });
});

test('a negotiated price counts instead of the catalogue, in its own currency', () => {
  const pounds = { amount: 400, currency: 'GBP' };
  given(order)
    .when(place({ lines: [{ ...tea, unitPrice: pounds }] }))
    .then({
      ...placed,
      data: {
        ...placed.data,
        currency: 'GBP',
        lines: [{ sku: 'tea', name: 'Tea', quantity: 2, unitPrice: 400 }],
        total: { amount: 800, currency: 'GBP' },
      },
    });
});

test('a price of 0 is a price, negotiated or not', () => {
  for (const line of [
    { ...tea, unitPrice: euros(0) },
    { ...tea, offer: { name: 'Tea', price: euros(0) } },
  ]) {
    assert.deepEqual(totalOf([line]), euros(0));
  }
});

test('the same product in two lines stays in two lines, and both count', () => {
  assert.deepEqual(totalOf([tea, { ...tea, quantity: 3, unitPrice: euros(1) }]), euros(903));
});

test('a line of the largest quantity is counted to the last minor unit', () => {
  const price = Math.floor(totalAmountMax / quantityMax);
  const largest = { sku: 'tea', quantity: quantityMax, offer: { name: 'Tea', price: euros(price) } };
  assert.deepEqual(totalOf([largest]), euros(price * quantityMax));
  const rest = totalAmountMax - price * quantityMax;
  const upToTheMax = { sku: 'cup', quantity: rest, offer: { name: 'Cup', price: euros(1) } };
  assert.deepEqual(totalOf([largest, upToTheMax]), euros(totalAmountMax));
  given(order)
    .when(place({ lines: [largest, { ...upToTheMax, quantity: rest + 1 }] }))
    .thenRefused('total-too-large');
});

test('a total that no JSON number carries exactly is refused, however large', () => {
  const dearest = { sku: 'tea', quantity: quantityMax, offer: { name: 'Tea', price: euros(priceAmountMax) } };
  const odd = { ...dearest, quantity: 999_999, unitPrice: euros(999_999_999_999) };
  given(order)
    .when(place({ lines: [odd] }))
    .thenRefused('total-too-large', { detail: 'The total would be 999998999999000001 minor units of EUR.' });
  given(order)
    .when(place({ lines: Array.from({ length: linesPerOrderMax }, () => dearest) }))
    .thenRefused('total-too-large', {
      detail: 'The total would be 2000000000000000000000 minor units of EUR.',
    });
});

test('an order that was never placed cannot move on', () => {
  assert.throws(() => order.evolve(order.initial, completed), /never placed/);
});

const arrows: Readonly<Record<Order['status'], readonly Order['status'][]>> = {
  none: ['pending'],
  pending: ['reserved', 'failed', 'cancelled'],
  reserved: ['completed', 'failed', 'cancelled'],
  completed: [],
  failed: [],
  cancelled: [],
};
const paymentArrows: Readonly<Record<string, readonly string[]>> = {
  none: ['pending', 'refunded'],
  pending: ['unknown', 'declined', 'none', 'refunded', 'captured'],
  unknown: ['declined', 'none', 'refunded', 'captured'],
  declined: ['refunded'],
  refunded: [],
  captured: [],
};

test('whatever happens in whatever order, an order takes only the arrows of its state machine', () => {
  const pure = purely(order);
  const anyCommand = fc.constantFrom<OrderCommand[]>(place(), place({ contentHash: 'h2' }), ...Object.values(commands));
  const contract = Object.fromEntries(Object.entries(orderingEvents).map(([type, schema]) => [type, Compile(schema)]));
  const ends = new Set<string>();
  fc.assert(
    fc.property(fc.array(anyCommand, { maxLength: 25 }), (asked) => {
      let state = pure.initial;
      for (const command of [place(), ...asked]) {
        const decision = pure.decide(command, state);
        if ('refused' in decision) continue;
        for (const event of decision.accepted) {
          assert.ok(contract[event.type]!.Check(event.data), `${event.type} is not as the contract says`);
          const next = pure.evolve(state, event);
          if (next.status !== state.status) assert.ok(arrows[state.status].includes(next.status));
          const [from, to] = [paymentOf(state), paymentOf(next)];
          if (from !== to) assert.ok(paymentArrows[from]?.includes(to), `payment: ${from} → ${to}`);
          state = next;
        }
        const again = pure.decide(command, state);
        assert.ok('refused' in again || again.accepted.length === 0, `${command.type} twice`);
      }
      ends.add(`${state.status} ${paymentOf(state)}`);
    }),
    { numRuns: 500 },
  );
  assert.deepEqual([...ends].filter((end) => /captured|refunded|declined/.test(end)).sort(), [
    'cancelled refunded',
    'completed captured',
    'failed declined',
    'failed refunded',
  ]);
});

const paymentOf = (state: Order): string =>
  state.status === 'completed' ? 'captured' : 'payment' in state ? state.payment : 'none';

function totalOf(lines: PlaceOrder['lines']): unknown {
  const decision = order.decide(place({ lines }), order.initial);
  assert.ok('accepted' in decision);
  const [event] = decision.accepted;
  assert.equal(event?.type, 'OrderPlaced');
  return event.data.total;
}
