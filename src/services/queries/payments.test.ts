import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OrderPaymentsView } from '#contracts/http.ts';
import { orderPlaced, readSideForTests, story, type Told } from './story-for-tests.ts';

const url = '/v1/orders/:orderId/payments';
const o1 = { params: { orderId: 'o1' } };
const amount = { amount: 1_530, currency: 'GBP' };
const payment = { paymentId: 'p1', orderId: 'o1' };
const settleBy = '2011-01-02T00:00:00Z';
const requested: Told = { type: 'PaymentRequested', data: { ...payment, amount, method: 'pm_reply_lost', settleBy } };
const unknown: Told = {
  type: 'PaymentUnknown',
  data: { ...payment, attempt: 1, detail: 'no answer', nextTryAt: settleBy },
};
const captured: Told = { type: 'PaymentCaptured', data: { ...payment, amount, providerReference: 'ch_1' } };

test('an order without a payment says so', async (t) => {
  const side = await readSideForTests(t);
  await side.given(story().tell(orderPlaced('o1')));
  assert.deepEqual(await side.see(url, o1), {
    orderId: 'o1',
    status: 'none',
    attempts: [],
    captures: [],
    refunds: [],
    version: 0,
  });
  const answer = await side.ask(url, o1);
  assert.equal('bytes' in answer && answer.etag, '0');
});

test('attempts, captures and refunds are told with their times', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  let second = 0;
  const tellNext = (told: Told) => tell(told, { at: `2011-01-01T00:00:0${second++}Z` });
  await side.given(tellNext(orderPlaced('o1')), tellNext(requested), tellNext(unknown));
  assert.equal((await side.see<OrderPaymentsView>(url, o1)).status, 'unknown');
  await side.given(tellNext(captured), tellNext({ type: 'PaymentWithdrawn', data: { ...payment, settleBy } }));
  await side.given(tellNext({ type: 'RefundRequested', data: { ...payment, amount, settleBy } }));
  assert.equal((await side.see<OrderPaymentsView>(url, o1)).status, 'captured');
  await side.given(
    tellNext({ type: 'RefundDelayed', data: { ...payment, attempt: 1, detail: '500', nextTryAt: settleBy } }),
    tellNext({ type: 'PaymentRefunded', data: { ...payment, amount, providerReference: 're_1' } }),
  );
  const at = (n: number): string => `2011-01-01T00:00:0${n}.000Z`;
  assert.deepEqual(await side.see(url, o1), {
    ...payment,
    status: 'refunded',
    amount,
    method: 'pm_reply_lost',
    attempts: [
      { at: at(1), outcome: 'requested' },
      { at: at(2), outcome: 'unknown', detail: 'no answer' },
      { at: at(3), outcome: 'captured' },
      { at: at(4), outcome: 'withdrawn' },
      { at: at(5), outcome: 'refund-requested' },
      { at: at(6), outcome: 'refund-delayed', detail: '500' },
      { at: at(7), outcome: 'refunded' },
    ],
    captures: [{ at: at(3), amount, providerReference: 'ch_1' }],
    refunds: [{ at: at(7), amount, providerReference: 're_1' }],
    version: 7,
  });
});

test('a payment can be declined, or withdrawn before it was ever asked for', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  await side.given(
    tell(orderPlaced('o1')),
    tell(requested),
    tell({ type: 'PaymentDeclined', data: { ...payment, reason: 'no funds' } }),
  );
  const declined = await side.see<OrderPaymentsView>(url, o1);
  assert.deepEqual([declined.status, declined.attempts.at(-1)?.detail], ['declined', 'no funds']);
  const second = { paymentId: 'p2', orderId: 'o2' };
  await side.given(
    tell(orderPlaced('o2')),
    tell({ type: 'PaymentWithdrawn', data: { ...second, settleBy } }),
    tell({ type: 'PaymentVoided', data: { ...second, reason: 'withdrawn' } }),
  );
  assert.equal((await side.see<OrderPaymentsView>(url, { params: { orderId: 'o2' } })).status, 'none');
});

test('of endless attempts the latest are shown', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  await side.given(
    tell(orderPlaced('o1')),
    tell(requested),
    ...Array.from({ length: 300 }, () => tell(unknown)),
    tell(captured),
  );
  const view = await side.see<OrderPaymentsView>(url, o1);
  assert.deepEqual([view.attempts.length, view.attempts.at(-1)?.outcome, view.version], [200, 'captured', 302]);
});
