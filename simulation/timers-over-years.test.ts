/** Timers outlive restarts, fire once, and do nothing to what has come to its end before: also when the clock moves by years. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCommandBus } from '#cqrs/command-bus.ts';
import type { EventLog } from '#cqrs/event-log.ts';
import type { Feed } from '#cqrs/feed.ts';
import { openPostgresLog } from '#cqrs/postgres-log.ts';
import { type Ports, systemPorts } from '#platform/ports.ts';
import { orderingSchema, startOrdering } from '#services/ordering/service.ts';
import { tellOrder } from '#services/ordering/reactions.ts';
import { customerStream, offerStream, orderStream } from '#services/ordering/streams.ts';
import { testDatabase } from '../tests/database.ts';
import type { Command, Fault, Plan, Setting } from './plan.ts';
import { type Outcome, runWorld } from './world.ts';

const yearsMs = 5 * 365 * 86_400_000;

const setting: Setting = {
  processes: {
    catalog: ['catalog'],
    ordering: ['ordering'],
    inventory: ['inventory'],
    payments: ['payments'],
    queries: ['queries'],
  },
  orderDeadlineSeconds: 3 * 365 * 86_400,
  reservationTtlSeconds: 2 * 365 * 86_400,
  paymentTimeoutMs: 1_000,
  paymentAttemptsMax: 3,
  appendTimeoutMs: 3_000,
  cachedStreamsMax: 200,
  batchWorksMax: 1_000,
  skewsMs: {},
  discards: false,
  busNoise: 0,
};
const sent = (atMs: number, key: string) => ({ atMs, caller: 'operator', key, twice: false });
const commands: readonly Command[] = [
  { ...sent(500, 'product'), kind: 'put-product', sku: 'tea', name: 'tea', amount: 100 },
  { ...sent(500, 'customer'), kind: 'put-customer', customerId: 'ada', name: 'Ada', ifMatch: null },
  { ...sent(1_200, 'stock'), kind: 'adjust-stock', sku: 'tea', quantity: 9, ifMatch: null },
  {
    ...sent(2_000, 'order'),
    kind: 'place-order',
    orderId: 'o1',
    customerId: 'ada',
    lines: [{ sku: 'tea', quantity: 2 }],
    method: 'pm_ok',
  },
];

const world = async (faults: readonly Fault[]): Promise<Outcome> => {
  const plan: Plan = { seed: 1, setting, commands, faults, healAtMs: 15_000 };
  const outcome = await runWorld(plan);
  assert.equal(outcome.violation, null, outcome.violation?.found ?? '');
  return outcome;
};
const times = ({ counts }: Outcome, state: string): number => counts.get(state) ?? 0;
const jump = (process: string, atMs: number): Fault => ({ kind: 'clock-jump', process, atMs, forMs: 0, byMs: yearsMs });

test('years later the deadline of an order that nobody has heard of ends it, once, however often ordering was restarted', async () => {
  const outcome = await world([
    { kind: 'bus-down', service: 'ordering', atMs: 0, forMs: 14_000 },
    { kind: 'crash', process: 'ordering', atMs: 4_000, forMs: 300 },
    jump('ordering', 5_000),
    { kind: 'crash', process: 'ordering', atMs: 5_050, forMs: 300 },
    { kind: 'crash', process: 'ordering', atMs: 8_000, forMs: 300 },
  ]);
  assert.equal(times(outcome, 'order failed while pending: timed-out'), 1);
  assert.equal(times(outcome, 'OrderCompleted'), 0);
});

test('years later a reservation whose payment never came expires, once, and its order with it', async () => {
  const outcome = await world([
    { kind: 'bus-down', service: 'payments', atMs: 0, forMs: 14_000 },
    { kind: 'crash', process: 'inventory', atMs: 4_000, forMs: 300 },
    jump('inventory', 5_000),
    { kind: 'crash', process: 'inventory', atMs: 5_050, forMs: 300 },
  ]);
  assert.equal(times(outcome, 'ReservationExpired'), 1);
  assert.equal(times(outcome, 'order failed while reserved: timed-out'), 1);
  assert.equal(times(outcome, 'StockReleased: order-failed'), 1);
  assert.equal(times(outcome, 'OrderRefunded'), 1);
});

test('an order that was completed hears nothing of its timers years later', async () => {
  const outcome = await world([jump('ordering', 9_000), jump('inventory', 9_000), jump('payments', 9_000)]);
  assert.equal(times(outcome, 'OrderCompleted'), 1);
  for (const state of outcome.counts.keys()) assert.doesNotMatch(state, /failed|Expired|Refund/);
});

test('on PostgreSQL too: years later a restarted service ends what waits, once, and leaves what is complete', async (t) => {
  const database = await testDatabase(t, orderingSchema);
  let aheadMs = 0;
  const ports: Ports = { ...systemPorts, now: () => systemPorts.now() + aheadMs };
  const log = await openPostgresLog({ database, source: 'ordering.0', ports });
  t.after(() => log.close());
  const first = start(log, ports);
  await prepare(first.bus);
  await place(first.bus, 'waits');
  await place(first.bus, 'done');
  await first.bus.execute({
    reads: [{ type: orderStream, id: 'done' }],
    origin,
    run: (scope) => tellOrder(scope, 'done', { type: 'CompleteOrder', paymentId: 'pay-done' }),
  });
  await first.stop();
  const before = await log.head();
  aheadMs = yearsMs;
  for (let restarts = 0; restarts < 3; restarts += 1) {
    const again = start(log, ports);
    // Its second look at the timers finds nothing that the first has left.
    await again.looks(2);
    await again.stop();
  }
  const events = await log.read(before, 10);
  assert.deepEqual(
    events.map(({ type, stream }) => `${type} ${stream}`),
    ['OrderFailed order-waits'],
  );
  assert.ok(events[0]!.at > '2030');
});

const origin = { actor: 'operator', correlationId: 'c', causationId: 'r' };

function start(log: EventLog, ports: Ports) {
  let looked = 0;
  const hears: (() => void)[] = [];
  const counting: EventLog = {
    ...log,
    async due(now, limit) {
      const due = await log.due(now, limit);
      looked += 1;
      for (const hear of hears) hear();
      return due;
    },
  };
  const bus = createCommandBus({ log, ports });
  const silence: Feed = {
    source: 'elsewhere.0',
    next: () =>
      stopping.signal.aborted
        ? Promise.resolve([])
        : new Promise((resolve) => stopping.signal.addEventListener('abort', () => resolve([]))),
    knownHead: () => 0,
    anchor: async () => ({ epoch: '00000000-0000-4000-8000-000000000002', position: 0, hash: '0'.repeat(64) }),
    interrupt: () => stopping.abort(),
    close: async () => {},
  };
  const stopping = new AbortController();
  const service = startOrdering({
    log: counting,
    bus,
    ports,
    feedOf: () => silence,
    headOf: async () => 0,
    reportTrouble: (_who, error) => assert.fail(error as Error),
    orderDeadlineSeconds: 3 * 365 * 86_400,
  });
  return {
    bus,
    looks: (count: number) =>
      new Promise<void>((resolve) => {
        hears.push(() => looked >= count && resolve());
      }),
    async stop() {
      stopping.abort();
      await Promise.all([service.timers?.stop(), ...service.consumers.map((consumer) => consumer.stop())]);
    },
  };
}

async function prepare(bus: ReturnType<typeof createCommandBus>): Promise<void> {
  await bus.execute({
    reads: [],
    origin,
    run(scope) {
      const price = { amount: 100, currency: 'EUR' };
      scope.record(offerStream, 'tea', { type: 'ProductOffered', data: { sku: 'tea', name: 'Tea', price } });
      scope.record(customerStream, 'ada', { type: 'CustomerRegistered', data: { customerId: 'ada', name: 'Ada' } });
    },
  });
}

async function place(bus: ReturnType<typeof createCommandBus>, orderId: string): Promise<void> {
  await bus.execute({
    reads: [{ type: orderStream, id: orderId }],
    origin,
    run: (scope) =>
      tellOrder(scope, orderId, {
        type: 'PlaceOrder',
        orderId,
        customerId: 'ada',
        customer: { name: 'Ada' },
        lines: [{ sku: 'tea', quantity: 1, offer: { name: 'Tea', price: { amount: 100, currency: 'EUR' } } }],
        payment: { method: 'pm_ok' },
        placedAt: scope.now,
        deadline: new Date(Date.parse(scope.now) + 3 * 365 * 86_400_000).toISOString(),
        contentHash: orderId,
      }),
  });
}
