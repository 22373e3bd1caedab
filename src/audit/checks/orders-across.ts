/**
 * What has to hold between the services, of each order: I3, I7, I8, I9 and I14. The order is read first, then inventory and
 * payments with how far each has come, and the provider's ledger last. An order is judged by what those have
 * done who have heard of all that the order had said by then: nothing that is still on its way is called wrong.
 */
import type { ShopServiceName } from '#contracts/service.ts';
import { entityOf } from '#cqrs/event-log.ts';
import type { Sql } from '#platform/postgres.ts';
import type { Correction } from '#cqrs/correction.ts';
import { inventoryCorrections } from '#services/inventory/service.ts';
import { paymentsCorrections } from '#services/payments/service.ts';
import type { Check, Finding, Mandate, Piece, Walk } from '../check.ts';
import { originOf } from '../corrections.ts';
import { inSnapshot, passedBy, typeOf, type WalkParts } from '../evidence.ts';
import type { Charge, LedgerCopy } from '../ledger.ts';

const heardCheck: Check = {
  name: 'order-is-heard',
  invariants: ['I3', 'I14'],
  compares:
    'Of an order that inventory or payments has passed there is a reservation or a payment, unless the message is a dead letter.',
  cost: 'The types of the events of an order are read once, in three databases: some 40 µs.',
  policy: 'ask',
};
const endingCheck: Check = {
  name: 'endings-agree',
  invariants: ['I9'],
  compares:
    'An order is completed if and only if its stock has been shipped and its payment captured; of one that failed or was cancelled nothing is held and nothing kept.',
  cost: 'Comes with what is heard of the order.',
  policy: 'ask',
};
const ledgerCheck: Check = {
  name: 'ledger-agrees',
  invariants: ['I7'],
  compares:
    'What payments has recorded as captured and refunded is what the ledger of the provider says, and is the total of the order or nothing; what was given back whole is not kept.',
  cost: 'The ledger is read once per pass: some 10 µs per entry.',
  policy: 'ask',
};
const onceCheck: Check = {
  name: 'charged-once',
  invariants: ['I8'],
  compares: 'The provider has kept no money of an order but under the key of its payment.',
  cost: 'Comes with the ledger.',
  policy: 'ask',
};
const originCheck: Check = {
  name: 'effect-has-order',
  invariants: ['I9'],
  compares: 'Whatever is reserved or charged was for an order that there is.',
  cost: 'One look-up per reservation, payment and charge: some 3 µs.',
  policy: 'ask',
};

const ordersPerPieceMax = 500;
const namesPerPieceMax = 5_000;

/** The events of one stream, as far as they matter here. */
type Story = {
  readonly stream: string;
  /** Of all its events, in order. */
  readonly types: readonly string[];
  readonly placed: number;
  readonly reserved: number | null;
  readonly last: number;
  /** JSON texts, of the first one's data: the total of an order, the key and the amount of a payment. */
  readonly total?: string | null;
  readonly paymentId?: string | null;
  readonly amount?: string | null;
};

/** What is told of the first event. Each is looked for in its text, which costs more than all the rest. */
const toldOfFirst = { order: ['total'], reservation: [], payment: ['paymentId', 'amount'] } as const;

type Money = { readonly amount: number; readonly currency: string };

/** `ledger` is this walk's own. */
export function ordersWalk(parts: WalkParts, ledger: LedgerCopy): Walk {
  const { databases, sourceOf } = parts;

  async function lookAtOrders(orderIds: readonly string[]): Promise<Finding[]> {
    if (orderIds.length === 0) return [];
    const orders = await storiesOf(databases.ordering, 'order', orderIds);
    const [held, paid] = await Promise.all([
      inSnapshot(databases.inventory, async (sql) => ({
        passed: await passedBy(sql, 'inventory-of-ordering'),
        stories: await storiesOf(sql, 'reservation', orderIds),
      })),
      inSnapshot(databases.payments, async (sql) => ({
        passed: await passedBy(sql, 'payments-of-ordering'),
        stories: await storiesOf(sql, 'payment', orderIds),
      })),
    ]);
    await ledger.catchUp();
    const charges = ledger.chargesOf([...orders.keys()]);
    const findings: Finding[] = [];
    for (const [orderId, order] of orders) {
      const reservation = held.stories.get(orderId);
      const payment = paid.stories.get(orderId);
      const isLetter = held.passed.parked.has(order.stream) || paid.passed.parked.has(order.stream);
      if (isLetter) continue;
      const reached = Math.min(held.passed.position, paid.passed.position);
      const found = [
        unheard(order, reservation, payment, held.passed.position, paid.passed.position),
        ...(isFinal(order) && reached >= order.last
          ? [ending(order, reservation, payment), ...money(order, payment, charges.get(orderId)!)]
          : []),
      ];
      findings.push(...found.flatMap((one) => (one === null ? [] : [{ ...one, orderId }])));
    }
    return findings;
  }

  function unheard(
    { stream, placed, reserved }: Story,
    reservation: Story | undefined,
    payment: Story | undefined,
    inventoryAt: number,
    paymentsAt: number,
  ): Finding | null {
    const missing = [
      ...(inventoryAt >= placed && reservation === undefined ? ['inventory'] : []),
      ...(reserved !== null && paymentsAt >= reserved && payment === undefined ? ['payments'] : []),
    ];
    if (missing.length === 0) return null;
    return {
      check: heardCheck.name,
      entity: `${sourceOf('ordering')}/${stream}`,
      says: `${missing.join(' and ')} passed ${stream}, and did nothing about it.`,
      expected: { inventory: 'a reservation, or a rejection', payments: reserved === null ? null : 'a payment' },
      found: { inventory: reservation?.types.at(-1) ?? null, payments: payment?.types.at(-1) ?? null },
      repairs: [],
    };
  }

  function ending(order: Story, reservation: Story | undefined, payment: Story | undefined): Finding | null {
    const [held, paid] = [reservation?.types.at(-1) ?? null, payment?.types.at(-1) ?? null];
    const isCompleted = order.types.includes('OrderCompleted');
    const isRight = isCompleted
      ? held === 'StockShipped' && paid === 'PaymentCaptured'
      : !['StockReserved', 'ReservationExpired', 'StockShipped'].includes(held ?? '') && paid !== 'PaymentCaptured';
    if (isRight) return null;
    return {
      check: endingCheck.name,
      entity: `${sourceOf('ordering')}/${order.stream}`,
      says: `${order.stream} is ${isCompleted ? 'completed' : 'over'}, and its reservation and its payment are not.`,
      expected: isCompleted
        ? { reservation: 'StockShipped', payment: 'PaymentCaptured' }
        : { reservation: 'nothing held', payment: 'nothing kept' },
      found: { order: order.types.at(-1), reservation: held, payment: paid },
      // What is held for an order that is over is free; the rest somebody has to decide.
      repairs: !isCompleted && isHeld(held) ? ['correct'] : [],
    };
  }

  function money(order: Story, payment: Story | undefined, charges: readonly Charge[]): Finding[] {
    const last = payment?.types.at(-1);
    const isSettled =
      last === undefined || ['PaymentCaptured', 'PaymentDeclined', 'PaymentVoided', 'PaymentRefunded'].includes(last);
    if (!isSettled) return [];
    const orderId = entityOf(order.stream);
    const amount = payment?.amount == null ? undefined : (JSON.parse(payment.amount) as Money);
    const total = JSON.parse(order.total!) as Money;
    const own = charges.find(({ key }) => key === payment?.paymentId);
    const recorded = {
      captured: last === 'PaymentCaptured' || last === 'PaymentRefunded' ? total.amount : 0,
      refunded: last === 'PaymentRefunded' ? total.amount : 0,
      currency: total.currency,
    };
    const findings: Finding[] = [];
    const isRight =
      agree(recorded, own ?? nothingCharged) &&
      (amount === undefined || (amount.amount === total.amount && amount.currency === total.currency));
    if (!isRight) {
      // What the provider kept and nobody wants can be asked back.
      const isKept =
        own !== undefined && own.captured > 0 && own.refunded === 0 && recorded.captured === recorded.refunded;
      findings.push({
        check: ledgerCheck.name,
        entity: `${sourceOf('payments')}/payment-${orderId}`,
        says: `The ledger of the provider does not say of order ${orderId} what payments has recorded.`,
        expected: recorded,
        found: {
          key: own?.key ?? null,
          captured: own?.captured ?? 0,
          refunded: own?.refunded ?? 0,
          currency: own?.currency ?? null,
          requested: amount ?? null,
        },
        repairs: isKept ? ['correct'] : [],
      });
    }
    for (const charge of charges) {
      if (charge === own || charge.captured === charge.refunded) continue;
      findings.push(chargeFinding(onceCheck, charge, `Order ${orderId} was charged once more, under ${charge.key}.`));
    }
    return findings;
  }

  const chargeFinding = (check: Check, charge: Charge, says: string): Finding => ({
    check: check.name,
    entity: `provider/${charge.orderId}/${charge.key}`,
    orderId: charge.orderId,
    says,
    expected: { captured: charge.captured, refunded: charge.captured },
    found: { ...charge },
    repairs: ['correct'],
  });

  async function ordersThatAreNot(ids: readonly string[]): Promise<readonly string[]> {
    const rows = await databases.ordering.query<{ id: string }>(
      'audit orders without events',
      `select id from unnest($1::text[]) as n (id)
       where not exists (select from events where stream = 'order-' || id)`,
      [ids],
    );
    return rows.map(({ id }) => id);
  }

  async function lookAtOrdering(after: string, max: number): Promise<Piece> {
    const names = await streamsAfter(databases.ordering, after, max);
    const last = names.length < max ? null : names.at(-1)!;
    const ids = names.filter((stream) => typeOf(stream) === 'order').map(entityOf);
    const next = last === null ? cursorOf('inventory', '') : cursorOf('ordering', last);
    return { looked: names.length, findings: await lookAtOrders(ids), next };
  }

  /** Reservations or payments whose order is not there. */
  async function lookAtEffects(service: 'inventory' | 'payments', after: string): Promise<Piece> {
    const names = await streamsAfter(databases[service], after, namesPerPieceMax);
    const type = service === 'inventory' ? 'reservation' : 'payment';
    const ids = names.filter((stream) => typeOf(stream) === type).map(entityOf);
    const findings = await effectsWithoutOrder(service, type, ids);
    const last = names.at(-1);
    const then = service === 'inventory' ? cursorOf('payments', '') : cursorOf('ledger', '');
    return { looked: 0, findings, next: last === undefined ? then : cursorOf(service, last) };
  }

  async function effectsWithoutOrder(
    service: 'inventory' | 'payments',
    type: 'reservation' | 'payment',
    ids: readonly string[],
  ): Promise<Finding[]> {
    const unknown = await ordersThatAreNot(ids);
    if (unknown.length === 0) return [];
    const stories = await storiesOf(databases[service], type, unknown);
    // One that holds nothing any more has been settled.
    const holding = [...stories].filter(([, { types }]) => !atRest.has(types.at(-1) ?? ''));
    return holding.map(([orderId, { stream, types }]) => ({
      check: originCheck.name,
      entity: `${sourceOf(service)}/${stream}`,
      orderId,
      says: `There is no order ${orderId}, and ${service} has its ${type}.`,
      expected: null,
      found: { stream, last: types.at(-1) },
      repairs: isHeld(types.at(-1)) ? ['correct'] : [],
    }));
  }

  async function lookAtLedger(after: string): Promise<Piece> {
    const ids = ledger.ordersAfter(after, namesPerPieceMax);
    const last = ids.at(-1);
    return {
      looked: 0,
      findings: await chargesWithoutOrder(ids),
      next: last === undefined ? null : cursorOf('ledger', last),
    };
  }

  async function chargesWithoutOrder(ids: readonly string[]): Promise<Finding[]> {
    const charges = ledger.chargesOf(await ordersThatAreNot(ids));
    return [...charges.values()]
      .flat()
      .filter(({ captured, refunded }) => captured !== refunded)
      .map((charge) =>
        chargeFinding(originCheck, charge, `The provider has charged an order ${charge.orderId}, which is not there.`),
      );
  }

  return {
    name: 'orders-across',
    checks: [heardCheck, endingCheck, ledgerCheck, onceCheck, originCheck],

    async size() {
      const [row] = await databases.ordering.query<{ size: number }>(
        'audit size of streams',
        `select greatest(reltuples, 0)::bigint as size from pg_class where oid = 'streams'::regclass`,
      );
      return row?.size ?? 0;
    },

    look(after, entitiesMax) {
      // What was changed in the ledger since is read again.
      if (after === null) ledger.restart();
      const [way, place] = after === null ? (['ordering', ''] as const) : (JSON.parse(after) as [Way, string]);
      if (way === 'ordering') return lookAtOrdering(place, Math.min(entitiesMax, ordersPerPieceMax));
      return way === 'ledger' ? lookAtLedger(place) : lookAtEffects(way, place);
    },

    async lookAt(entity) {
      const [owner = '', name = ''] = entity.split('/');
      const orderId = owner === 'provider' ? name : entityOf(name);
      const findings = await lookAtOrders([orderId]);
      await ledger.catchUp();
      return [
        ...findings,
        ...(await effectsWithoutOrder('inventory', 'reservation', [orderId])),
        ...(await effectsWithoutOrder('payments', 'payment', [orderId])),
        ...(await chargesWithoutOrder([orderId])),
      ];
    },

    ...(parts.corrections === undefined ? {} : { repair: (finding, mandate) => repair(parts, finding, mandate) }),

    async freshest(limit) {
      const rows = await databases.ordering.query<{ stream: string }>(
        'audit freshest',
        'select stream from events order by position desc limit $1',
        [limit],
      );
      const streams = new Set(rows.map(({ stream }) => stream).filter((stream) => typeOf(stream) === 'order'));
      return [...streams].map((stream) => `${sourceOf('ordering')}/${stream}`);
    },
  };
}

type Way = Extract<ShopServiceName, 'ordering' | 'inventory' | 'payments'> | 'ledger';

const cursorOf = (way: Way, place: string): string => JSON.stringify([way, place]);

async function streamsAfter(sql: Sql, after: string, max: number): Promise<string[]> {
  const rows = await sql.query<{ stream: string }>(
    'audit streams after',
    'select stream from streams where stream > $1 order by stream limit $2',
    [after, max],
  );
  return rows.map(({ stream }) => stream);
}

/** By order; from the events, which are what has happened, and not from states, which are compared with them elsewhere. */
async function storiesOf(
  sql: Sql,
  type: keyof typeof toldOfFirst,
  orderIds: readonly string[],
): Promise<ReadonlyMap<string, Story>> {
  const told = toldOfFirst[type].map((field) => `, max(data ->> '${field}') filter (where version = 1) as "${field}"`);
  const [found] = await sql.query<{ stories: string | null }>(
    `audit stories of ${type}`,
    `select json_agg(s) as stories from (
       select stream, json_agg(split_part(type, '.', 1) order by version) as types, min(position) as placed,
         min(position) filter (where type like 'OrderReserved%') as reserved, max(position) as last${told.join('')}
       from events where stream = any($1) group by stream) s`,
    [orderIds.map((id) => `${type}-${id}`)],
  );
  const stories = JSON.parse(found?.stories ?? '[]') as Story[];
  return new Map(stories.map((story) => [entityOf(story.stream), story]));
}

/** One whose first event is lost is damage of the log. */
const isFinal = ({ types, total }: Story): boolean =>
  total != null &&
  types.some((type) => type === 'OrderCompleted' || type === 'OrderFailed' || type === 'OrderCancelled');

async function repair(parts: WalkParts, finding: Finding, mandate: Mandate): Promise<Correction> {
  const { buses } = parts.corrections!;
  const [owner, name = '', key = ''] = finding.entity.split('/');
  const origin = originOf(finding, mandate);
  if (finding.check === endingCheck.name || owner === parts.sourceOf('inventory'))
    return inventoryCorrections(buses.inventory).releaseStock(finding.orderId ?? entityOf(name), origin);
  const payments = paymentsCorrections(buses.payments, parts.providerUrl);
  try {
    const { captured, refunded, currency } = finding.found as Charge;
    const charge = owner === 'provider' ? key : (finding.found as Charge).key;
    const given = await payments.giveBack(charge, { amount: captured - refunded, currency });
    return { before: finding.found, after: { ...(finding.found as Charge), refunded: captured, ...given } };
  } finally {
    payments.close();
  }
}

const nothingCharged = { captured: 0, refunded: 0, currency: null };

/**
 * Whether the ledger has what payments has recorded. Where nothing is kept, what was charged and given back whole comes to the
 * same: a charge that nobody wanted is in the ledger for good.
 */
function agree(
  recorded: Pick<Charge, 'captured' | 'refunded' | 'currency'>,
  ledger: Pick<Charge, 'captured' | 'refunded'> & { readonly currency: string | null },
): boolean {
  if (recorded.captured > recorded.refunded)
    return ledger.captured === recorded.captured && ledger.refunded === 0 && ledger.currency === recorded.currency;
  return ledger.captured === ledger.refunded && (recorded.captured === 0 || ledger.captured > 0);
}

const isHeld = (last: string | null | undefined): boolean => last === 'StockReserved' || last === 'ReservationExpired';

/** The last words of reservations and payments that hold nothing. */
const atRest: ReadonlySet<string> = new Set([
  'StockRejected',
  'StockReleased',
  'ReservationBarred',
  'PaymentDeclined',
  'PaymentVoided',
  'PaymentRefunded',
]);
