import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { PaymentEvent } from '#contracts/payments.ts';
import { createCommandBus } from '#cqrs/command-bus.ts';
import { EngineError } from '#cqrs/errors.ts';
import type { EventLog, RecordedEvent } from '#cqrs/event-log.ts';
import { openMemoryLog } from '#cqrs/memory-log.ts';
import { startTimers } from '#cqrs/timers.ts';
import { type Payment, type PaymentCommand, paymentDueAt, paymentIdOf } from './payment.ts';
import { startProviderCalls } from './provider-calls.ts';
import { createProviderClient } from './provider-client.ts';
import { tellPayment } from './reactions.ts';
import { startSandboxProvider } from './sandbox-provider.ts';
import { paymentStream } from './streams.ts';
import { systemPorts } from '#platform/ports.ts';

const amount = { amount: 2_100, currency: 'EUR' };
const origin = {
  actor: 'payments-of-ordering',
  correlationId: 'a-request',
  causationId: 'ordering-0-2',
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
};
const byTimer = { correlationId: 'a-request', causationId: 'payments-0-1' };
const start = Date.parse('2026-01-01T00:00:00.000Z');
const settleWithinMs = 30_000;

type Entry = { readonly kind: string; readonly key: string; readonly orderId: string | null; readonly amount: number };

/** Payments with a real provider, under a clock that stands still until it is moved. */
async function paymentsOf(t: TestContext, options: { timeoutMs?: number; slowMs?: number; log?: EventLog } = {}) {
  const { timeoutMs = 5_000, slowMs = 100, log = openMemoryLog('payments.0') } = options;
  const folder = mkdtempSync(join(tmpdir(), 'provider-calls-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const sandbox = { host: '127.0.0.1', port: 0, ledgerFile: join(folder, 'ledger.db'), slowMs };
  let provider = await startSandboxProvider(sandbox);
  t.after(() => provider.stop());
  const { url } = provider;
  const client = createProviderClient({ url, timeoutMs, concurrencyMax: 16 });
  t.after(() => client.close());

  let now = start;
  const clock = () => now;
  const bus = createCommandBus({ log, ports: { ...systemPorts, now: clock } });
  const troubles: string[] = [];
  const reportTrouble = (who: string, error: unknown) => void troubles.push(`${who}: ${(error as Error).message}`);
  const stateOf = async (orderId: string): Promise<Payment> =>
    ((await log.load([`payment-${orderId}`]))[0]?.state as Payment | undefined) ?? paymentStream.initial;
  const tell = (orderId: string, command: PaymentCommand) =>
    bus.execute({
      reads: [{ type: paymentStream, id: orderId }],
      origin,
      run: (scope) => tellPayment(scope, orderId, command),
    });

  return {
    client,
    log,
    bus,
    clock,
    troubles,
    reportTrouble,
    stateOf,
    moveClockTo: (time: string) => void (now = Math.max(now, Date.parse(time))),
    callProvider: (attemptsMax = 3) =>
      startProviderCalls({
        log,
        bus,
        provider: client,
        ports: { ...systemPorts, now: clock },
        attemptsMax,
        settleWithinMs,
        reportTrouble,
      }),
    request: (orderId: string, method = 'pm_ok') =>
      tell(orderId, {
        type: 'RequestPayment',
        paymentId: paymentIdOf(orderId),
        orderId,
        amount,
        method,
        settleBy: new Date(now + settleWithinMs).toISOString(),
      }),
    withdraw: (orderId: string) => tell(orderId, { type: 'WithdrawPayment', settleBy: new Date(now).toISOString() }),
    /** What has been recorded, of one order or of all. */
    async story(orderId?: string): Promise<RecordedEvent<PaymentEvent>[]> {
      const events = (await log.read(0, 10_000)) as RecordedEvent<PaymentEvent>[];
      return events.filter((event) => orderId === undefined || event.data.orderId === orderId);
    },
    async ledger(): Promise<Entry[]> {
      const answer = await fetch(`${url}/ledger`);
      return ((await answer.json()) as { entries: Entry[] }).entries;
    },
    /** Does what the timers do, each time a payment is due, until it is settled. */
    async untilSettled(calls: ReturnType<typeof startProviderCalls>, orderId: string): Promise<Payment> {
      for (;;) {
        while (calls.underWay() > 0) await setImmediate();
        const state = await stateOf(orderId);
        const due = paymentDueAt(state);
        if (due === null) return state;
        now = Math.max(now, Date.parse(due));
        await calls.settle(orderId, byTimer);
      }
    },
    async stopProvider(): Promise<void> {
      await provider.stop();
    },
    async startProviderAgain(): Promise<void> {
      provider = await startSandboxProvider({ ...sandbox, port: Number(new URL(url).port) });
    },
  };
}

const typesOf = (events: readonly RecordedEvent[]): string[] => events.map((event) => event.type);
const dataOf = (event: RecordedEvent | undefined): Record<string, unknown> => ({ ...event?.data });
const kindsOf = (entries: readonly Entry[]): string[] => entries.map((entry) => entry.kind);

test('a payment that is requested is charged, and what the provider says is recorded in the same trace', async (t) => {
  const { callProvider, request, untilSettled, story, ledger } = await paymentsOf(t);
  const calls = callProvider();
  await request('o1');
  assert.equal(calls.underWay(), 1);
  assert.equal((await untilSettled(calls, 'o1')).status, 'captured');
  const [requested, captured, ...more] = await story();
  assert.deepEqual(more, []);
  assert.ok(captured?.type === 'PaymentCaptured');
  assert.deepEqual(captured.data.amount, amount);
  assert.match(captured.data.providerReference, /^ch_/);
  assert.deepEqual(captured.origin, { ...origin, actor: 'provider', causationId: requested?.id });
  const [entry, ...others] = await ledger();
  assert.deepEqual(others, []);
  assert.deepEqual([entry?.kind, entry?.key, entry?.orderId, entry?.amount], ['capture', 'pay-o1', 'o1', 2_100]);
});

test('a payment that the provider declines is declined, with its reason', async (t) => {
  const { callProvider, request, untilSettled, story, ledger } = await paymentsOf(t);
  const calls = callProvider();
  await request('o1', 'pm_declined');
  assert.equal((await untilSettled(calls, 'o1')).status, 'declined');
  const [, declined] = await story();
  assert.ok(declined?.type === 'PaymentDeclined');
  assert.equal(declined.data.reason, 'the payment method was declined');
  assert.deepEqual(kindsOf(await ledger()), ['decline']);
});

test('a charge whose reply is lost is unknown until the provider is asked, and never charged again', async (t) => {
  const { callProvider, request, untilSettled, story, ledger } = await paymentsOf(t, { timeoutMs: 150 });
  const calls = callProvider();
  await request('o1', 'pm_reply_lost');
  assert.equal((await untilSettled(calls, 'o1')).status, 'captured');
  const events = await story();
  assert.deepEqual(typesOf(events), ['PaymentRequested', 'PaymentUnknown', 'PaymentCaptured']);
  assert.ok(events[1]?.type === 'PaymentUnknown');
  assert.equal(events[1].data.attempt, 1);
  assert.ok(events[1].data.nextTryAt > events[1].at);
  assert.deepEqual(kindsOf(await ledger()), ['capture']);
});

test('a provider that fails twice is asked until it charges, once', async (t) => {
  const { callProvider, request, untilSettled, story, ledger } = await paymentsOf(t);
  const calls = callProvider();
  await request('o1', 'pm_flaky');
  assert.equal((await untilSettled(calls, 'o1')).status, 'captured');
  const expected = ['PaymentRequested', 'PaymentUnknown', 'PaymentUnknown', 'PaymentCaptured'];
  assert.deepEqual(typesOf(await story()), expected);
  assert.deepEqual(kindsOf(await ledger()), ['capture']);
});

test('a charge that never gets a clear answer is voided after as many attempts as there may be', async (t) => {
  const { callProvider, request, untilSettled, story, ledger } = await paymentsOf(t, { timeoutMs: 60 });
  const calls = callProvider(3);
  await request('o1', 'pm_down');
  assert.equal((await untilSettled(calls, 'o1')).status, 'voided');
  const events = await story();
  assert.deepEqual(typesOf(events), [
    'PaymentRequested',
    'PaymentUnknown',
    'PaymentUnknown',
    'PaymentUnknown',
    'PaymentVoided',
  ]);
  assert.equal(dataOf(events.at(-1))['reason'], 'timed-out');
  assert.deepEqual(kindsOf(await ledger()), ['void']);
});

test('a payment that is withdrawn between two attempts is voided, and not charged any more', async (t) => {
  const { callProvider, request, withdraw, untilSettled, story, ledger } = await paymentsOf(t);
  const calls = callProvider();
  await request('o1', 'pm_flaky');
  while (calls.underWay() > 0) await setImmediate();
  await withdraw('o1');
  assert.equal((await untilSettled(calls, 'o1')).status, 'voided');
  const events = await story();
  assert.deepEqual(typesOf(events), ['PaymentRequested', 'PaymentUnknown', 'PaymentWithdrawn', 'PaymentVoided']);
  assert.equal(dataOf(events.at(-1))['reason'], 'withdrawn');
  assert.deepEqual(kindsOf(await ledger()), ['void']);
});

test('a payment that is withdrawn while the provider charges it is captured, and refunded at once', async (t) => {
  const { callProvider, request, withdraw, stateOf, story, ledger } = await paymentsOf(t, { slowMs: 200 });
  const calls = callProvider();
  await request('o1', 'pm_slow');
  while ((await ledger()).length === 0) continue;
  await withdraw('o1');
  while (calls.underWay() > 0) await setImmediate();
  assert.equal((await stateOf('o1')).status, 'refunded');
  assert.deepEqual(typesOf(await story()), [
    'PaymentRequested',
    'PaymentWithdrawn',
    'PaymentCaptured',
    'RefundRequested',
    'PaymentRefunded',
  ]);
  assert.deepEqual(kindsOf(await ledger()), ['capture', 'refund']);
});

test('a payment that is captured and then withdrawn is refunded at once, in full', async (t) => {
  const { callProvider, request, withdraw, untilSettled, story, ledger } = await paymentsOf(t);
  const calls = callProvider();
  await request('o1');
  await untilSettled(calls, 'o1');
  await withdraw('o1');
  assert.equal((await untilSettled(calls, 'o1')).status, 'refunded');
  const events = await story();
  assert.deepEqual(typesOf(events).slice(1), ['PaymentCaptured', 'RefundRequested', 'PaymentRefunded']);
  assert.deepEqual(dataOf(events.at(-1))['amount'], amount);
  assert.deepEqual(
    (await ledger()).map((entry) => [entry.kind, entry.key, entry.amount]),
    [
      ['capture', 'pay-o1', 2_100],
      ['refund', 'refund-pay-o1', 2_100],
    ],
  );
});

test('a refund that fails is asked for again under the same key, until it is paid once', async (t) => {
  const { callProvider, request, withdraw, untilSettled, story, ledger } = await paymentsOf(t);
  const calls = callProvider();
  await request('o1', 'pm_refund_flaky');
  await untilSettled(calls, 'o1');
  await withdraw('o1');
  assert.equal((await untilSettled(calls, 'o1')).status, 'refunded');
  assert.deepEqual(typesOf(await story()).slice(2), [
    'RefundRequested',
    'RefundDelayed',
    'RefundDelayed',
    'RefundDelayed',
    'PaymentRefunded',
  ]);
  assert.deepEqual(kindsOf(await ledger()), ['capture', 'refund']);
});

test('a provider that cannot be reached is asked for as long as it takes, also for the void', async (t) => {
  const shop = await paymentsOf(t);
  const { callProvider, request, untilSettled, story, ledger, stateOf, moveClockTo } = shop;
  await shop.stopProvider();
  const calls = callProvider(2);
  await request('o1');
  while (calls.underWay() > 0) await setImmediate();
  for (let n = 0; n < 4; n += 1) {
    moveClockTo(paymentDueAt(await stateOf('o1'))!);
    await calls.settle('o1', byTimer);
  }
  assert.equal((await stateOf('o1')).status, 'requested');
  await shop.startProviderAgain();
  assert.equal((await untilSettled(calls, 'o1')).status, 'voided');
  assert.deepEqual(typesOf(await story()).slice(1), [...Array<string>(5).fill('PaymentUnknown'), 'PaymentVoided']);
  assert.deepEqual(kindsOf(await ledger()), ['void']);
});

test('a process that ends before the call: the timer of the next one charges, once', async (t) => {
  const { callProvider, request, log, clock, moveClockTo, reportTrouble, stateOf, ...shop } = await paymentsOf(t);
  await request('o1');
  const calls = callProvider();
  const settled = Promise.withResolvers<void>();
  log.tail.onPush((events) => events.some((event) => event.type === 'PaymentCaptured') && settled.resolve());
  assert.equal(calls.underWay(), 0, 'what happened before is left to the timer');
  moveClockTo(paymentDueAt(await stateOf('o1'))!);
  const timers = startTimers({
    log,
    ports: { ...systemPorts, now: clock },
    reportTrouble,
    whenDue: { payment: calls.settle },
  });
  t.after(() => timers.stop());
  await settled.promise;
  const [requested, captured] = await shop.story();
  assert.deepEqual(captured?.origin, { ...requested?.origin, actor: 'payment-timer', causationId: requested?.id });
  assert.deepEqual(kindsOf(await shop.ledger()), ['capture']);
  assert.deepEqual(shop.troubles, []);
});

test('a process that ends between the call and its record: the next one records it, and nothing is charged again', async (t) => {
  const { client, callProvider, request, untilSettled, story, ledger } = await paymentsOf(t);
  await request('o1');
  const charged = await client.charge({ key: paymentIdOf('o1'), orderId: 'o1', amount, method: 'pm_ok' });
  assert.ok(charged.outcome === 'captured');
  const calls = callProvider();
  assert.equal((await untilSettled(calls, 'o1')).status, 'captured');
  const events = await story();
  assert.deepEqual(typesOf(events), ['PaymentRequested', 'PaymentCaptured']);
  assert.equal(dataOf(events[1])['providerReference'], charged.reference);
  assert.deepEqual(kindsOf(await ledger()), ['capture']);
});

test('two processes that take up the same payment at once charge it once', async (t) => {
  const { callProvider, request, untilSettled, story, ledger } = await paymentsOf(t, { slowMs: 50 });
  const both = [callProvider(), callProvider()] as const;
  await request('o1', 'pm_slow');
  for (const calls of both) await untilSettled(calls, 'o1');
  assert.deepEqual(typesOf(await story()), ['PaymentRequested', 'PaymentCaptured']);
  assert.deepEqual(kindsOf(await ledger()), ['capture']);
});

test('a payment is asked about once at a time', async (t) => {
  const { callProvider, request, untilSettled, story } = await paymentsOf(t, { slowMs: 50 });
  const calls = callProvider();
  await request('o1', 'pm_slow');
  await Promise.all([calls.settle('o1', byTimer), calls.settle('o1', byTimer)]);
  assert.equal(calls.underWay(), 1);
  await untilSettled(calls, 'o1');
  assert.deepEqual(typesOf(await story()), ['PaymentRequested', 'PaymentCaptured']);
});

test('a payment that is settled, or that nobody has heard of, is not asked about', async (t) => {
  const { callProvider, request, untilSettled, story, ledger } = await paymentsOf(t);
  const calls = callProvider();
  await request('o1');
  await untilSettled(calls, 'o1');
  await calls.settle('o1', byTimer);
  await calls.settle('o2', byTimer);
  assert.equal((await story()).length, 2);
  assert.equal((await ledger()).length, 1);
});

test('an outcome that cannot be recorded is trouble, and found again under the same key', async (t) => {
  const memory = openMemoryLog('payments.0');
  let down = false;
  const shop = await paymentsOf(t, {
    log: {
      ...memory,
      append: (batch) =>
        down ? Promise.reject(new EngineError('log-unavailable', 'no answer')) : memory.append(batch),
    },
  });
  const calls = shop.callProvider();
  await shop.request('o1');
  down = true;
  while (calls.underWay() > 0) await setImmediate();
  assert.deepEqual(shop.troubles, ['provider-calls: no answer']);
  down = false;
  assert.equal((await shop.untilSettled(calls, 'o1')).status, 'captured');
  assert.deepEqual(typesOf(await shop.story()), ['PaymentRequested', 'PaymentCaptured']);
  assert.deepEqual(kindsOf(await shop.ledger()), ['capture']);
});

test('of many payments at once each ends as it has to, and none is charged twice', async (t) => {
  const { callProvider, request, withdraw, untilSettled, story, ledger } = await paymentsOf(t, { timeoutMs: 400 });
  const calls = callProvider();
  const methods = ['pm_ok', 'pm_declined', 'pm_flaky', 'pm_slow', 'pm_refund_flaky'];
  const orders = Array.from({ length: 60 }, (_, n) => ({
    orderId: `o${n}`,
    method: methods[n % methods.length]!,
    isWithdrawn: n % 3 === 0,
  }));
  await Promise.all(
    orders.map(async ({ orderId, method, isWithdrawn }) => {
      await request(orderId, method);
      if (isWithdrawn) await withdraw(orderId);
    }),
  );
  for (const { orderId } of orders) await untilSettled(calls, orderId);
  const entries = await ledger();
  for (const { orderId, method, isWithdrawn } of orders) {
    const kinds = kindsOf(entries.filter((entry) => entry.key.endsWith(`pay-${orderId}`)));
    const types = typesOf(await story(orderId));
    assert.equal(
      kinds.filter((kind) => kind === 'capture').length,
      types.filter((type) => type === 'PaymentCaptured').length,
    );
    assert.equal(
      kinds.filter((kind) => kind === 'refund').length,
      types.filter((type) => type === 'PaymentRefunded').length,
    );
    if (method === 'pm_declined') assert.deepEqual(kinds, ['decline']);
    else if (isWithdrawn)
      assert.ok(['capture refund', 'void'].includes(kinds.join(' ')), `${orderId}: ${kinds.join(' ')}`);
    else assert.deepEqual(kinds, ['capture']);
  }
});
