import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Compile } from 'typebox/compile';
import { inventoryEvents, type StockAdjusted } from '#contracts/inventory.ts';
import { linesPerOrderMax, type Pieces, quantityMax, type Sku } from '#contracts/values.ts';
import { given, purely } from '#cqrs/decider.fixture.ts';
import {
  addUp,
  emptyLevel,
  type Level,
  moveLevel,
  reservation,
  type ReservationCommand,
  reservationDueAt,
  type ReservationEvent,
  type ReservationScope,
  stock,
} from './stock.ts';

const orderId = 'o1';
const expiresAt = '2026-01-01T00:10:00.000Z';
const lines: Pieces[] = [
  { sku: 'cup', quantity: 2 },
  { sku: 'tea', quantity: 3 },
];

const adjusted = (quantity: number, reason = 'received'): StockAdjusted => ({
  type: 'StockAdjusted',
  data: { sku: 'tea', quantity, reason },
});
const adjust = (quantity: number, more: { reason?: string; listed?: boolean } = {}) =>
  ({ type: 'AdjustStock', sku: 'tea', quantity, reason: 'received', listed: true, ...more }) as const;

const reserve = (wanted: readonly Pieces[] = lines): ReservationCommand => ({
  type: 'ReserveStock',
  lines: wanted,
  expiresAt,
});
const release: ReservationCommand = { type: 'ReleaseStock', reason: 'order-cancelled' };
const ship: ReservationCommand = { type: 'ShipStock' };
const expire = (now: string): ReservationCommand => ({ type: 'ExpireReservation', now });

const reserved = (held: Pieces[] = lines): ReservationEvent => ({
  type: 'StockReserved',
  data: { orderId, lines: held, expiresAt },
});
const rejected = (...skus: Sku[]): ReservationEvent => ({ type: 'StockRejected', data: { orderId, skus } });
const expired: ReservationEvent = { type: 'ReservationExpired', data: { orderId } };
const released: ReservationEvent = { type: 'StockReleased', data: { orderId, lines, reason: 'order-cancelled' } };
const shipped: ReservationEvent = { type: 'StockShipped', data: { orderId, lines } };
const barred: ReservationEvent = { type: 'ReservationBarred', data: { orderId } };

/** A reservation of `orderId` in a house with so many free pieces. */
const inAHouseWith = (available: Readonly<Record<Sku, number>>): typeof reservation => ({
  ...reservation,
  initial: {
    orderId,
    reservation: { status: 'none' },
    levels: new Map(Object.entries(available).map(([sku, onHand]) => [sku, { onHand, reserved: 0 }])),
  },
});
const house = inAHouseWith({ cup: 5, tea: 3 });
const levelsOf = (state: ReservationScope): unknown => Object.fromEntries(state.levels);

test('pieces that arrive are on hand', () => {
  given(stock).when(adjust(5)).thenEachTime(adjusted(5));
  assert.deepEqual(given(stock, adjusted(5), adjusted(2)).state, { onHand: 7, reserved: 0 });
});

test('pieces that are available can be written off, to the last', () => {
  assert.deepEqual(stock.decide(adjust(-5, { reason: 'broken' }), { onHand: 5, reserved: 0 }), {
    accepted: [adjusted(-5, 'broken')],
  });
  assert.deepEqual(given(stock, adjusted(5), adjusted(-5)).state, emptyLevel);
});

test('more than is available cannot be written off, and the refusal says how many there are', () => {
  given(stock).when(adjust(-1)).thenRefused('insufficient-stock', { available: 0 });
  given(stock, adjusted(5)).when(adjust(-6)).thenRefused('insufficient-stock', { available: 5 });
});

test('pieces that are held cannot be written off', () => {
  const held = { ...stock, initial: { onHand: 5, reserved: 3 } };
  given(held).when(adjust(-3)).thenRefused('insufficient-stock', { available: 2 });
  assert.deepEqual(stock.decide(adjust(-2), held.initial), { accepted: [adjusted(-2)] });
});

test('a product that the catalogue does not have cannot be stocked', () => {
  given(stock)
    .when(adjust(5, { listed: false }))
    .thenRefused('product-not-found');
});

test('all demand of an order is held', () => {
  given(house).when(reserve()).then(reserved());
  assert.deepEqual(levelsOf(given(house, reserved()).state), {
    cup: { onHand: 5, reserved: 2 },
    tea: { onHand: 3, reserved: 3 },
  });
});

test('lines of the same product are added up, in the order of their first line', () => {
  const twice = [
    { sku: 'tea', quantity: 1 },
    { sku: 'cup', quantity: 2 },
    { sku: 'tea', quantity: 2 },
  ];
  const sums = [
    { sku: 'tea', quantity: 3 },
    { sku: 'cup', quantity: 2 },
  ];
  assert.deepEqual(addUp(twice), sums);
  given(house).when(reserve(twice)).then(reserved(sums));
});

test('two lines that are each there, and together are not, are rejected', () => {
  given(house)
    .when(
      reserve([
        { sku: 'tea', quantity: 2 },
        { sku: 'tea', quantity: 2 },
      ]),
    )
    .then(rejected('tea'));
});

test('nothing is held when one product is short, and exactly the short ones are named', () => {
  const short = inAHouseWith({ cup: 1, tea: 3, pot: 0, tin: 1 });
  const wanted = ['pot', 'tea', 'unheard-of', 'tin', 'cup', 'pot'].map((sku) => ({ sku, quantity: 1 }));
  const demand = [...wanted, { sku: 'cup', quantity: 1 }];
  given(short)
    .when(reserve(demand))
    .then(rejected('pot', 'unheard-of', 'cup'));
  assert.deepEqual(
    levelsOf(given(short, rejected('pot', 'unheard-of', 'cup')).state),
    Object.fromEntries(short.initial.levels),
  );
});

test('what others hold is not available', () => {
  const heldByOthers: typeof reservation = {
    ...house,
    initial: { ...house.initial, levels: new Map([['tea', { onHand: 9, reserved: 7 }]]) },
  };
  given(heldByOthers)
    .when(reserve([{ sku: 'tea', quantity: 3 }]))
    .then(rejected('tea'));
  given(heldByOthers)
    .when(reserve([{ sku: 'tea', quantity: 2 }]))
    .then(reserved([{ sku: 'tea', quantity: 2 }]));
});

test('the largest order that there can be is added up and held', () => {
  const demand = Array.from({ length: linesPerOrderMax }, () => ({ sku: 'tea', quantity: quantityMax }));
  const sum = linesPerOrderMax * quantityMax;
  given(inAHouseWith({ tea: sum }))
    .when(reserve(demand))
    .then(reserved([{ sku: 'tea', quantity: sum }]));
  given(inAHouseWith({ tea: sum - 1 }))
    .when(reserve(demand))
    .then(rejected('tea'));
});

test('what is held is freed or shipped by the word of the order', () => {
  given(house, reserved()).when(release).then(released);
  given(house, reserved()).when(ship).then(shipped);
  assert.deepEqual(levelsOf(given(house, reserved(), released).state), levelsOf(house.initial));
  assert.deepEqual(levelsOf(given(house, reserved(), shipped).state), {
    cup: { onHand: 3, reserved: 0 },
    tea: { onHand: 0, reserved: 0 },
  });
});

test('freed for an order that failed, the event says so', () => {
  given(house, reserved())
    .when({ type: 'ReleaseStock', reason: 'order-failed' })
    .then({ type: 'StockReleased', data: { orderId, lines, reason: 'order-failed' } });
});

test('an order that ended before its demand arrived is barred: nothing is held for it any more', () => {
  given(house).when(release).then(barred);
  given(house, barred).when(reserve()).then();
});

test('a reservation expires at its time and not before', () => {
  given(house, reserved()).when(expire('2026-01-01T00:09:59.999Z')).then();
  given(house, reserved()).when(expire(expiresAt)).then(expired);
  given(house).when(expire(expiresAt)).then();
});

test('an expiry only asks: the pieces stay held until the order has spoken', () => {
  const asked = given(house, reserved(), expired);
  assert.deepEqual(levelsOf(asked.state), { cup: { onHand: 5, reserved: 2 }, tea: { onHand: 3, reserved: 3 } });
  asked.when(expire('2027-01-01T00:00:00.000Z')).then();
  asked.when(release).then(released);
  asked.when(ship).then(shipped);
});

test('a reservation is looked at again when it expires, once', () => {
  const due = (...events: ReservationEvent[]) => reservationDueAt(given(house, ...events).state.reservation);
  assert.equal(due(), null);
  assert.equal(due(reserved()), expiresAt);
  for (const end of [expired, released, shipped]) assert.equal(due(reserved(), end), null);
  for (const end of [rejected('tea'), barred]) assert.equal(due(end), null);
});

test('a reservation that has ended, or never was, is moved by no command', () => {
  const ends = [[reserved(), released], [reserved(), shipped], [rejected('tea')], [barred]];
  for (const events of ends) {
    for (const command of [reserve(), release, ship, expire('2027-01-01T00:00:00.000Z')]) {
      given(house, ...events)
        .when(command)
        .then();
    }
  }
});

test('a reservation that is held is not made again', () => {
  given(house, reserved()).when(reserve()).then();
});

test('an order that completed without a reservation is a bug, not a rule', () => {
  assert.throws(() => reservation.decide(ship, house.initial), /o1 has completed without a reservation/);
});

test('a level is moved by what names its product, and by nothing else', () => {
  const level: Level = { onHand: 5, reserved: 2 };
  assert.deepEqual(moveLevel(level, reserved(), 'tea'), { onHand: 5, reserved: 5 });
  for (const event of [reserved(), released, shipped]) assert.deepEqual(moveLevel(level, event, 'pot'), level);
  for (const event of [rejected('tea'), expired, barred, { type: 'ProductListed', data: { sku: 'tea' } } as const]) {
    assert.deepEqual(moveLevel(level, event, 'tea'), level);
  }
});

test('whatever is ordered, received, shipped and freed, no piece is sold that is not there', () => {
  const skus = ['tea', 'cup', 'pot'];
  const orders = ['o1', 'o2', 'o3', 'o4', 'o5'];
  const anySku = fc.constantFrom(...skus);
  const anyOrder = fc.constantFrom(...orders);
  const anyPieces = fc.tuple(anySku, fc.integer({ min: 1, max: 4 })).map(([sku, quantity]) => ({ sku, quantity }));
  const demand = fc.array(anyPieces, { minLength: 1, maxLength: 4 });
  const step = fc.oneof(
    fc.record({ do: fc.constant('adjust' as const), sku: anySku, quantity: fc.integer({ min: -4, max: 8 }) }),
    fc.record({ do: fc.constant('reserve' as const), order: anyOrder, lines: demand }),
    fc.record({ do: fc.constantFrom('release' as const, 'ship' as const, 'expire' as const), order: anyOrder }),
  );
  const pureStock = purely(stock);
  const pureReservation = purely(reservation);
  const contract = Object.fromEntries(Object.entries(inventoryEvents).map(([type, schema]) => [type, Compile(schema)]));
  const seen = new Set<string>();

  fc.assert(
    fc.property(fc.array(step, { minLength: 10, maxLength: 60 }), (steps) => {
      const levels = new Map<Sku, Level>(skus.map((sku) => [sku, emptyLevel]));
      const reservations = new Map(orders.map((order) => [order, reservation.initial.reservation]));
      const received = new Map(skus.map((sku) => [sku, 0]));
      const sold = new Map(skus.map((sku) => [sku, 0]));
      const add = (sums: Map<Sku, number>, sku: Sku, quantity: number) => sums.set(sku, sums.get(sku)! + quantity);

      for (const one of steps) {
        if (one.do === 'adjust') {
          const { sku, quantity } = one;
          const level = levels.get(sku)!;
          const decision = pureStock.decide(
            { type: 'AdjustStock', sku, quantity, reason: 'counted', listed: true },
            level,
          );
          assert.equal('refused' in decision, level.onHand - level.reserved + quantity < 0);
          if ('refused' in decision) continue;
          for (const event of decision.accepted) {
            levels.set(sku, pureStock.evolve(levels.get(sku)!, event));
            add(received, sku, event.data.quantity);
          }
        } else {
          const scope: ReservationScope = { orderId: one.order, reservation: reservations.get(one.order)!, levels };
          // Nothing is shipped for an order that was never heard of.
          if (one.do === 'ship' && scope.reservation.status === 'none') continue;
          const decision = pureReservation.decide(commandOf(one), scope);
          assert.ok('accepted' in decision);
          for (const event of decision.accepted) {
            seen.add(event.type);
            assert.ok(contract[event.type]!.Check(event.data), `${event.type} is not as the contract says`);
            const next = pureReservation.evolve(scope, event);
            reservations.set(one.order, next.reservation);
            for (const [sku, level] of next.levels) levels.set(sku, level);
            if (event.type === 'StockShipped') for (const held of event.data.lines) add(sold, held.sku, held.quantity);
          }
        }
        for (const sku of skus) {
          const { onHand, reserved: held } = levels.get(sku)!;
          const active = [...reservations.values()]
            .flatMap((state) => (state.status === 'held' ? state.lines : []))
            .reduce((sum, line) => sum + (line.sku === sku ? line.quantity : 0), 0);
          assert.ok(held >= 0 && held <= onHand, `${sku}: ${held} of ${onHand} are held`);
          assert.equal(held, active);
          assert.equal(onHand, received.get(sku)! - sold.get(sku)!);
          assert.ok(sold.get(sku)! + held <= received.get(sku)!);
        }
      }
    }),
    { numRuns: 300 },
  );
  assert.deepEqual(
    [...seen].sort(),
    ['ReservationBarred', 'ReservationExpired', 'StockRejected', 'StockReleased', 'StockReserved', 'StockShipped'],
    'every kind of event came up',
  );
});

function commandOf(step: { do: 'reserve'; lines: Pieces[] } | { do: 'release' | 'ship' | 'expire' }) {
  switch (step.do) {
    case 'reserve':
      return reserve(step.lines);
    case 'release':
      return release;
    case 'ship':
      return ship;
    case 'expire':
      return expire('2027-01-01T00:00:00.000Z');
  }
}
