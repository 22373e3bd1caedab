/**
 * What must always hold of a system that has come to rest, checked on the rows of its databases and the
 * ledger of its payment provider. The sums are made here anew; of the services only `evolve` and
 * `dueAt` are used, because that is what the stored states claim to be.
 */
import { isDeepStrictEqual } from 'node:util';
import { publishedEvents } from '#contracts/event-types.ts';
import type { InventoryEvent } from '#contracts/inventory.ts';
import type { OrderingEvent } from '#contracts/ordering.ts';
import type { PaymentEvent } from '#contracts/payments.ts';
import type { CommandServiceName } from '#contracts/service.ts';
import type { Pieces } from '#contracts/values.ts';
import type { AnyStreamType } from '#cqrs/command-bus.ts';
import type { DomainEvent } from '#cqrs/decider.ts';
import { entityOf, slotOfStream, streamId } from '#cqrs/event-log.ts';
import { createEventTypes } from '#cqrs/event-types.ts';
import { openDatabase, type Sql } from '#platform/postgres.ts';
import { databaseOwners, type DatabaseOwner } from '#platform/settings.ts';
import { product } from '#services/catalog/product.ts';
import { listingStream, reservationStream, stockStream } from '#services/inventory/streams.ts';
import type { Reservation } from '#services/inventory/stock.ts';
import type { Order } from '#services/ordering/order.ts';
import { customerStream, offerStream, orderStream } from '#services/ordering/streams.ts';
import type { Payment } from '#services/payments/payment.ts';
import { paymentStream } from '#services/payments/streams.ts';
import { anchorsStream, divergenceStream } from '#audit/streams.ts';
import type { DatabaseUrls } from './running-program.ts';
import { until } from './shop-client.ts';

/** `invariant` as in the list of what must always hold, such as `I9`. */
export type Violation = { readonly invariant: string; readonly found: string };

/** What clients know: the ids of orders answered 201, and of orders that were refused. */
export type Journal = {
  readonly placed: readonly string[];
  readonly refused: readonly string[];
  /** Orders whose request was never answered. */
  readonly unknown?: readonly string[];
  /** Orders of which one request, and no other, asked to be cancelled: answered 200, or refused. */
  readonly cancelled?: readonly string[];
  readonly notCancelled?: readonly string[];
  /** Of commands that were answered 2xx under a key. */
  readonly answers?: readonly KeptAnswer[];
};

export type KeptAnswer = { readonly key: string; readonly status: number; readonly body: unknown };

const violationsPerInvariantMax = 5;

/** Resolves to what does not hold. The system has to be at rest: see `untilAtRest`. */
export async function checkInvariants(
  databaseUrls: DatabaseUrls,
  providerUrl: string,
  journal?: Journal,
): Promise<Violation[]> {
  const databases = openAll(databaseUrls);
  try {
    return violations(await readEvidence(databases, providerUrl), journal);
  } finally {
    await Promise.all(databaseOwners.map((owner) => databases[owner].end()));
  }
}

/**
 * Waits until nothing is left to do: every order final, every payment settled, every reservation
 * shipped or released, everything on the read side. Rejects with what is still open.
 */
export async function untilAtRest(databaseUrls: DatabaseUrls, timeoutMs = 60_000): Promise<void> {
  const databases = openAll(databaseUrls);
  try {
    await until('the system is at rest', () => restOf(databases), timeoutMs);
  } finally {
    await Promise.all(databaseOwners.map((owner) => databases[owner].end()));
  }
}

const openAll = (urls: DatabaseUrls) =>
  Object.fromEntries(
    databaseOwners.map((owner) => [owner, openDatabase(urls[owner], { applicationName: 'audit', poolMax: 1 })]),
  ) as Record<DatabaseOwner, ReturnType<typeof openDatabase>>;

/** True at rest; rejects with what is open. */
async function restOf(databases: Readonly<Record<DatabaseOwner, Sql>>): Promise<true> {
  const { ordering, inventory, payments, queries } = databases;
  const [orders, open, held, unsettled, ...heads] = await Promise.all([
    ordering.query<{ id: string }>('orders', 'select order_id as id from orders'),
    ordering.query<{ id: string }>(
      'open orders',
      `select substr(stream, 7) as id from streams where stream like 'order-%'
       and (state ->> 'status' in ('pending', 'reserved') or state ->> 'payment' in ('pending', 'unknown'))`,
    ),
    inventory.query<{ id: string; status: string }>('reservations', 'select order_id as id, status from reservations'),
    payments.query<{ id: string }>(
      'unsettled payments',
      `select order_id as id from payments where status in ('requested', 'refunding')`,
    ),
    ...logOwners.map(async (owner) => {
      const [row] = await databases[owner].query<{ position: number }>('head', 'select position from log_head');
      return { owner, head: row?.position ?? 0 };
    }),
  ]);
  const checkpoints = await queries.query<{ consumer: string; position: number }>(
    'checkpoints',
    'select consumer, position from checkpoints',
  );
  const known = new Map(held.map(({ id, status }) => [id, status]));
  const waiting = [
    ...open.map(({ id }) => `order ${id} is open`),
    ...orders.filter(({ id }) => !known.has(id)).map(({ id }) => `inventory has not heard of ${id}`),
    ...held.filter(({ status }) => status === 'held').map(({ id }) => `stock is held for ${id}`),
    ...unsettled.map(({ id }) => `the payment of ${id} is not settled`),
    ...checkpoints
      .filter(({ consumer, position }) => heads.some(({ owner, head }) => reads(consumer, owner) && position < head))
      .map(({ consumer, position }) => `${consumer} is at ${position}`),
  ];
  if (waiting.length > 0) throw new Error(`${waiting.length} open: ${waiting.slice(0, 5).join('; ')}`);
  return true;
}

const reads = (consumer: string, owner: string): boolean =>
  consumer.endsWith(`-of-${owner}`) || consumer.endsWith(`-of-${owner}.0`);

const logOwners = ['catalog', 'ordering', 'inventory', 'payments', 'audit'] as const;

type Row = Readonly<Record<string, unknown>>;
type StoredEvent = DomainEvent & {
  readonly position: number;
  readonly stream: string;
  readonly version: number;
  readonly slot: number;
  readonly origin: { readonly actor: string; readonly causationId: string };
};
type StoredStream = {
  readonly stream: string;
  readonly version: number;
  readonly slot: number;
  readonly due_at: string | null;
  readonly state: unknown;
};
type StoredKey = {
  readonly caller: string;
  readonly key: string;
  readonly answer: { readonly answer?: { readonly status: number; readonly body: Row } };
};
type Log = {
  readonly head: number;
  readonly events: readonly StoredEvent[];
  readonly streams: readonly StoredStream[];
  readonly keys: readonly StoredKey[];
};
type LedgerEntry = {
  readonly kind: 'capture' | 'decline' | 'void' | 'refund';
  readonly charge: string;
  readonly orderId: string | null;
  readonly amount: number | null;
  readonly currency: string | null;
};

type Evidence = {
  readonly logs: Readonly<Record<CommandServiceName, Log>>;
  /** By owner and table. */
  readonly tables: Readonly<Record<string, readonly Row[]>>;
  readonly ledger: readonly LedgerEntry[];
};

const tablesOf: Readonly<Record<DatabaseOwner, readonly string[]>> = {
  catalog: ['products', 'checkpoints', 'parked_messages'],
  ordering: ['customers', 'products', 'orders', 'order_lines', 'checkpoints', 'parked_messages'],
  inventory: ['stock', 'reservations', 'checkpoints', 'parked_messages'],
  payments: ['payments', 'checkpoints', 'parked_messages'],
  audit: ['checkpoints', 'parked_messages'],
  queries: [
    'orders',
    'open_orders',
    'unfulfilled_orders',
    'products',
    'customers',
    'order_payments',
    'order_events',
    'sales_hours',
    'checkpoints',
    'parked_messages',
  ],
};

/** Reads everything there is. `databases` may be transactions that are rolled back later. */
export async function readEvidence(
  databases: Readonly<Record<DatabaseOwner, Sql>>,
  providerUrl: string,
): Promise<Evidence> {
  const rowsOf = async <T>(owner: DatabaseOwner, table: string, order = '1'): Promise<T[]> => {
    const text = `select row_to_json(t) as row from (select * from ${table} order by ${order}) as t`;
    const rows = await databases[owner].query<{ row: string }>(`all of ${table}`, text);
    return rows.map(({ row }) => JSON.parse(row) as T);
  };
  const tables: Record<string, Row[]> = {};
  for (const owner of databaseOwners) {
    for (const table of tablesOf[owner]) tables[`${owner}.${table}`] = await rowsOf(owner, table);
  }
  const logs = await Promise.all(
    logOwners.map(async (owner): Promise<[CommandServiceName, Log]> => {
      const [head] = await rowsOf<{ position: number }>(owner, 'log_head');
      const { decode } = createEventTypes(publishedEvents[owner]);
      const stored = await rowsOf<StoredEvent>(owner, 'events', 'position');
      const events = stored.map((event) => ({ ...event, ...decode(event.type, event.data) }));
      const streams = await rowsOf<StoredStream>(owner, 'streams');
      const keys = await rowsOf<StoredKey>(owner, 'idempotency_keys');
      return [owner, { head: head?.position ?? 0, events, streams, keys }];
    }),
  );
  const ledger = await readLedger(providerUrl);
  return { logs: Object.fromEntries(logs) as Evidence['logs'], tables, ledger };
}

async function readLedger(providerUrl: string): Promise<LedgerEntry[]> {
  const ledger: LedgerEntry[] = [];
  for (let after = 0; ;) {
    const answer = await fetch(`${providerUrl}/ledger?after=${after}`);
    const { entries, next } = (await answer.json()) as { entries: LedgerEntry[]; next: number };
    ledger.push(...entries);
    if (entries.length === 0) return ledger;
    after = next;
  }
}

/** What does not hold in `evidence`, a few of each kind. */
export function violations(evidence: Evidence, journal: Journal = { placed: [], refused: [] }): Violation[] {
  const found: Violation[] = [];
  const report: Report = (invariant, text) => {
    const before = found.filter((one) => one.invariant === invariant).length;
    if (before < violationsPerInvariantMax) found.push({ invariant, found: text });
  };
  const folded = foldLogs(evidence, report);
  checkJournal(evidence, journal, report);
  checkCheckpoints(evidence, report);
  checkEffects(evidence, report);
  checkDelivered(evidence, report);
  checkStock(evidence, folded, report);
  checkMoney(evidence, folded, report);
  checkEndings(evidence, folded, report);
  checkKeys(evidence, report);
  checkStatuses(evidence, report);
  checkStates(evidence, folded, report);
  checkInlineTables(evidence, folded, report);
  checkReadRows(evidence, folded, report);
  return found;
}

type Report = (invariant: string, found: string) => void;
type Folded = { readonly type: AnyStreamType; version: number; state: unknown };
type FoldedStreams = ReadonlyMap<string, Folded>;

const productStream: AnyStreamType = {
  name: 'product',
  initial: product.initial,
  evolve: (state, event) => product.evolve(state as never, event as never),
};

const streamTypes = new Map<string, AnyStreamType>(
  [
    productStream,
    customerStream,
    offerStream,
    orderStream,
    listingStream,
    stockStream,
    reservationStream,
    paymentStream,
    divergenceStream,
    anchorsStream,
  ].map((type: AnyStreamType) => [type.name, type]),
);

/** I2 and I17, and on the way the state of every stream. */
function foldLogs({ logs }: Evidence, report: Report): FoldedStreams {
  const folded = new Map<string, Folded>();
  for (const [owner, { head, events }] of Object.entries(logs)) {
    for (const [n, event] of events.entries()) {
      if (event.position !== n + 1) report('I2', `${owner}: position ${event.position} where ${n + 1} should be`);
      if (event.slot !== slotOfStream(event.stream)) report('I17', `${owner}: ${event.stream} in slot ${event.slot}`);
      const version = move(folded, event.stream, event, report);
      if (event.version !== version) {
        report('I2', `${owner}: version ${event.version} of ${event.stream} where ${version} should be`);
      }
      for (const { sku } of stockMovedBy(event)) move(folded, streamId('stock', sku), event, report);
    }
    if (head !== events.length) report('I2', `${owner}: the head is ${head}, and there are ${events.length} events`);
  }
  return folded;
}

function move(folded: Map<string, Folded>, stream: string, event: DomainEvent, report: Report): number {
  const type = streamTypes.get(stream.slice(0, stream.indexOf('-')));
  if (type === undefined) throw new Error(`nobody knows streams like ${stream}`);
  const one = folded.get(stream) ?? { type, version: 0, state: type.initial as unknown };
  folded.set(stream, one);
  one.version += 1;
  try {
    one.state = type.evolve(one.state, event, entityOf(stream)) as unknown;
  } catch (error) {
    report('I15', `${stream}, version ${one.version}: ${(error as Error).message}`);
  }
  return one.version;
}

/** A reservation moves the stock of what it names, beside its own stream. */
function stockMovedBy(event: DomainEvent): readonly Pieces[] {
  const { type, data } = event as InventoryEvent;
  return type === 'StockReserved' || type === 'StockReleased' || type === 'StockShipped' ? data.lines : [];
}

const eventsOf = <Event extends DomainEvent>({ logs }: Evidence, owner: CommandServiceName) =>
  logs[owner].events as readonly unknown[] as readonly (Event & StoredEvent)[];

/** I1: what was confirmed is there once, what was refused is not, what nobody knows is there at most once. */
function checkJournal(evidence: Evidence, journal: Journal, report: Report): void {
  const { placed, refused, unknown = [], cancelled = [], notCancelled = [] } = journal;
  const times = { OrderPlaced: new Map<string, number>(), OrderCancelled: new Map<string, number>() };
  for (const { type, data } of eventsOf<OrderingEvent>(evidence, 'ordering')) {
    if (type !== 'OrderPlaced' && type !== 'OrderCancelled') continue;
    times[type].set(data.orderId, (times[type].get(data.orderId) ?? 0) + 1);
  }
  const expectTimes = (
    ids: readonly string[],
    type: keyof typeof times,
    what: string,
    min: number,
    max: number,
  ): void => {
    for (const id of ids) {
      const found = times[type].get(id) ?? 0;
      if (found < min || found > max) report('I1', `order ${id} was ${what}, and there are ${found} ${type} of it`);
    }
  };
  expectTimes(placed, 'OrderPlaced', 'answered 201', 1, 1);
  expectTimes(refused, 'OrderPlaced', 'refused', 0, 0);
  expectTimes(unknown, 'OrderPlaced', 'not answered', 0, 1);
  expectTimes(cancelled, 'OrderCancelled', 'cancelled', 1, 1);
  expectTimes(notCancelled, 'OrderCancelled', 'found final', 0, 0);
  const kept = new Map(logOwners.flatMap((owner) => evidence.logs[owner].keys.map(({ key, answer }) => [key, answer])));
  for (const { key, status, body } of journal.answers ?? []) {
    const found = kept.get(key)?.answer;
    if (found?.status !== status || !isDeepStrictEqual(found.body, body)) {
      report('I1', `key ${key} was answered ${status} ${JSON.stringify(body)}, and keeps ${JSON.stringify(found)}`);
    }
  }
}

/** I3: nobody is beyond what there is, and at rest the read side is not behind it. */
function checkCheckpoints({ logs, tables }: Evidence, report: Report): void {
  for (const owner of databaseOwners) {
    for (const { consumer, position } of tables[`${owner}.checkpoints`] as { consumer: string; position: number }[]) {
      const source = logOwners.find((one) => reads(consumer, one));
      if (source === undefined) report('I3', `${owner}: ${consumer} reads nothing that is known`);
      else if (position > logs[source].head || (owner === 'queries' && position < logs[source].head)) {
        report('I3', `${owner}: ${consumer} is at ${position}, and the head of ${source} is ${logs[source].head}`);
      }
    }
  }
}

/** I4: of one message a consumer records each effect once. */
function checkEffects({ logs }: Evidence, report: Report): void {
  const seen = new Set<string>();
  for (const owner of logOwners) {
    for (const { origin, stream, type } of logs[owner].events) {
      if (!/-of-[a-z]+$/.test(origin.actor)) continue;
      const effect = `${origin.actor}: ${type} of ${stream} because of ${origin.causationId}`;
      if (seen.has(effect)) report('I4', `twice ${effect}`);
      seen.add(effect);
    }
  }
}

type ParkedRow = {
  readonly consumer: string;
  readonly position: number;
  readonly stream: string;
  readonly event_id: string;
};

/**
 * I14: at rest nothing is in flight, so whatever was delivered has had its effect or is parked. Which effect
 * a message has is known of those here: exactly one, whatever else has happened by then.
 */
function checkDelivered(evidence: Evidence, report: Report): void {
  const oneEffect = [
    { from: 'ordering', type: 'OrderPlaced', to: 'inventory', effects: ['StockReserved', 'StockRejected'] },
    { from: 'ordering', type: 'OrderReserved', to: 'payments', effects: ['PaymentRequested'] },
  ] as const;
  const parked = checkParked(evidence, report);
  for (const { from, type, to, effects } of oneEffect) {
    const causes = new Map<string, number>();
    for (const { type: effect, origin } of evidence.logs[to].events) {
      if ((effects as readonly string[]).includes(effect))
        causes.set(origin.causationId, (causes.get(origin.causationId) ?? 0) + 1);
    }
    for (const event of evidence.logs[from].events) {
      const id = `${from}-0-${event.position}`;
      const found = causes.get(id) ?? 0;
      if (event.type === type && found !== (parked.has(`${to} ${id}`) ? 0 : 1))
        report('I14', `${type} of ${event.stream} has had ${found} effects in ${to}`);
    }
  }
}

/** What is parked was delivered, is what the log has there, and has had no effect. Resolves to `<owner> <event id>` of each. */
function checkParked({ logs, tables }: Evidence, report: Report): ReadonlySet<string> {
  const all = new Set<string>();
  for (const owner of databaseOwners) {
    const applied = new Set(
      owner === 'queries' ? [] : logs[owner].events.map(({ origin }) => `${origin.actor} ${origin.causationId}`),
    );
    const checkpoints = new Map(
      (tables[`${owner}.checkpoints`] as { consumer: string; position: number }[]).map((row) => [
        row.consumer,
        row.position,
      ]),
    );
    for (const row of tables[`${owner}.parked_messages`] as ParkedRow[]) {
      const { consumer, position, stream, event_id: id } = row;
      all.add(`${owner} ${id}`);
      const source = logOwners.find((one) => reads(consumer, one));
      const event = source === undefined ? undefined : logs[source].events[position - 1];
      const delivered = position <= (checkpoints.get(consumer) ?? 0);
      if (!delivered || event?.stream !== stream || id !== `${source}-0-${position}`) {
        report('I14', `${consumer} has parked ${id} of ${stream}, which was not delivered to it`);
      }
      if (applied.has(`${consumer} ${id}`)) report('I14', `${consumer} has parked ${id}, and applied it`);
    }
  }
  return all;
}

/** I5 and I6. */
function checkStock(evidence: Evidence, folded: FoldedStreams, report: Report): void {
  const stock = new Map<string, { supply: number; sold: number; held: number }>();
  for (const event of eventsOf<InventoryEvent>(evidence, 'inventory')) {
    const moved = event.type === 'StockAdjusted' ? [event.data] : stockMovedBy(event);
    for (const { sku, quantity } of moved) {
      const level = stock.get(sku) ?? { supply: 0, sold: 0, held: 0 };
      stock.set(sku, level);
      if (event.type === 'StockAdjusted') level.supply += quantity;
      if (event.type === 'StockReserved') level.held += quantity;
      if (event.type === 'StockReleased') level.held -= quantity;
      if (event.type === 'StockShipped') {
        level.held -= quantity;
        level.sold += quantity;
      }
      if (level.held < 0 || level.sold + level.held > level.supply) {
        report('I6', `${sku} at position ${event.position}: ${JSON.stringify(level)}`);
      }
    }
  }
  const reserved = new Map<string, number>();
  for (const state of statesOf<Reservation>(folded, 'reservation').values()) {
    if (state.status !== 'held') continue;
    for (const { sku, quantity } of state.lines) reserved.set(sku, (reserved.get(sku) ?? 0) + quantity);
  }
  for (const row of evidence.tables['inventory.stock'] as { sku: string; on_hand: number; reserved: number }[]) {
    const level = stock.get(row.sku) ?? { supply: 0, sold: 0, held: 0 };
    const sound =
      row.on_hand === level.supply - level.sold &&
      row.reserved === (reserved.get(row.sku) ?? 0) &&
      row.reserved >= 0 &&
      row.reserved <= row.on_hand;
    if (!sound) report('I5', `${JSON.stringify(row)} after ${JSON.stringify(level)}`);
  }
}

const statesOf = <State>(folded: FoldedStreams, type: string): Map<string, State> =>
  new Map(
    [...folded]
      .filter(([stream]) => stream.startsWith(`${type}-`))
      .map(([stream, { state }]) => [entityOf(stream), state as State]),
  );

type Charged = { captures: number; captured: number; refunded: number; currency: string };

/** What the provider took and gave back, by order. */
function chargesOf({ ledger }: Evidence): Map<string, Charged> {
  const charges = new Map<string, Charged>();
  for (const { kind, orderId, amount, currency } of ledger) {
    if (orderId === null || (kind !== 'capture' && kind !== 'refund')) continue;
    const charge = charges.get(orderId) ?? { captures: 0, captured: 0, refunded: 0, currency: currency ?? '' };
    charges.set(orderId, charge);
    if (kind === 'capture') {
      charge.captures += 1;
      charge.captured += amount ?? 0;
    } else charge.refunded += amount ?? 0;
  }
  return charges;
}

/** I7 and I8. */
function checkMoney(evidence: Evidence, folded: FoldedStreams, report: Report): void {
  const charges = chargesOf(evidence);
  const orders = statesOf<Order>(folded, 'order');
  const net = new Map<string, number>();
  const add = (currency: string, amount: number): unknown => net.set(currency, (net.get(currency) ?? 0) + amount);
  for (const [orderId, { captures, captured, refunded, currency }] of charges) {
    const order = orders.get(orderId);
    const total = order === undefined || order.status === 'none' ? -1 : order.total.amount;
    add(currency, captured - refunded);
    if (captured !== total || refunded < 0 || refunded > captured) {
      report('I7', `order ${orderId} over ${total}: the provider has captured ${captured} and refunded ${refunded}`);
    }
    if (captures > 1) report('I8', `order ${orderId} was charged ${captures} times`);
  }
  for (const order of orders.values()) if (order.status === 'completed') add(order.total.currency, -order.total.amount);
  for (const [currency, amount] of net) {
    if (amount !== 0) report('I7', `the provider has ${amount} ${currency} more than the completed orders come to`);
  }
  for (const row of evidence.tables['payments.payments'] as PaymentRow[]) {
    const charge = charges.get(row.order_id) ?? { captured: 0, refunded: 0 };
    if (row.captured !== charge.captured || row.refunded !== charge.refunded) {
      report('I7', `${JSON.stringify(row)}, and the provider says ${JSON.stringify(charge)}`);
    }
  }
}

type PaymentRow = { readonly order_id: string; readonly captured: number; readonly refunded: number };

/** I9 and I20. */
function checkEndings(evidence: Evidence, folded: FoldedStreams, report: Report): void {
  const charges = chargesOf(evidence);
  const reservations = statesOf<Reservation>(folded, 'reservation');
  const payments = statesOf<Payment>(folded, 'payment');
  for (const [orderId, order] of statesOf<Order>(folded, 'order')) {
    const reservation = reservations.get(orderId)?.status ?? 'none';
    const payment = payments.get(orderId)?.status ?? 'none';
    const charge = charges.get(orderId);
    const net = (charge?.captured ?? 0) - (charge?.refunded ?? 0);
    const all = `order ${orderId} is ${order.status}, its reservation ${reservation}, its payment ${payment}, net ${net}`;
    if (order.status === 'pending' || order.status === 'reserved') report('I20', all);
    if ('payment' in order && (order.payment === 'pending' || order.payment === 'unknown')) report('I20', all);
    if (payment === 'requested' || payment === 'refunding' || reservation === 'held') report('I20', all);
    const done = reservation === 'shipped' && payment === 'captured' && charge?.captures === 1;
    const undone = reservation !== 'shipped' && reservation !== 'held' && payment !== 'captured' && net === 0;
    if (order.status === 'completed' ? !done : !undone) report('I9', all);
  }
  for (const id of [...reservations.keys(), ...payments.keys()]) {
    if (!folded.has(streamId('order', id))) report('I9', `there is no order ${id} for its reservation or payment`);
  }
  for (const owner of logOwners) {
    for (const { stream, due_at: dueAt } of evidence.logs[owner].streams) {
      if (dueAt !== null) report('I20', `${owner}: ${stream} waits for ${dueAt}`);
    }
  }
}

/** I13: what was answered under a key is what happened. */
function checkKeys({ logs, ...evidence }: Evidence, report: Report): void {
  for (const owner of logOwners) {
    const { keys } = logs[owner];
    const names = new Set(keys.map(({ caller, key }) => `${caller} ${key}`));
    if (names.size !== keys.length) report('I13', `${owner}: a caller has a key twice`);
  }
  const placed = new Map<string, OrderingEvent>();
  for (const event of eventsOf<OrderingEvent>({ logs, ...evidence }, 'ordering')) {
    if (event.type === 'OrderPlaced') placed.set(event.data.orderId, event);
  }
  for (const { caller, key, answer } of logs.ordering.keys) {
    const kept = answer.answer;
    if (kept === undefined || kept.status !== 201 || kept.body['status'] !== 'pending') continue;
    const { orderId, total } = kept.body as { orderId: string; total: unknown };
    const event = placed.get(orderId);
    if (event?.type !== 'OrderPlaced' || !isDeepStrictEqual(event.data.total, total)) {
      report(
        'I13',
        `key ${key} of ${caller} was answered with order ${orderId} over ${JSON.stringify(total)}, which is not there`,
      );
    }
  }
}

const statusAfter = {
  OrderPlaced: 'pending',
  OrderReserved: 'reserved',
  OrderCompleted: 'completed',
  OrderFailed: 'failed',
  OrderCancelled: 'cancelled',
} as const;
const arrows: Readonly<Record<string, readonly string[]>> = {
  none: ['pending'],
  pending: ['reserved', 'failed', 'cancelled'],
  reserved: ['completed', 'failed', 'cancelled'],
};
const paymentArrows: Readonly<Record<string, readonly PaymentEvent['type'][]>> = {
  none: ['PaymentRequested'],
  PaymentRequested: ['PaymentWithdrawn', 'PaymentUnknown', 'PaymentCaptured', 'PaymentDeclined', 'PaymentVoided'],
  PaymentWithdrawn: ['PaymentUnknown', 'PaymentCaptured', 'PaymentDeclined', 'PaymentVoided'],
  PaymentUnknown: ['PaymentWithdrawn', 'PaymentUnknown', 'PaymentCaptured', 'PaymentDeclined', 'PaymentVoided'],
  PaymentCaptured: ['RefundRequested'],
  PaymentDeclined: [],
  // The provider took its word back, and with it goes the money.
  PaymentVoided: ['PaymentCaptured'],
  RefundRequested: ['RefundDelayed', 'PaymentRefunded'],
  RefundDelayed: ['RefundDelayed', 'PaymentRefunded'],
  PaymentRefunded: [],
};

/** I15. */
function checkStatuses(evidence: Evidence, report: Report): void {
  const statuses = new Map<string, string>();
  for (const { stream, type, version } of eventsOf<OrderingEvent>(evidence, 'ordering')) {
    const next = statusAfter[type as keyof typeof statusAfter] as string | undefined;
    if (!stream.startsWith('order-') || next === undefined) continue;
    const before = statuses.get(stream) ?? 'none';
    if (!(arrows[before] ?? []).includes(next))
      report('I15', `${stream}, version ${version}: from ${before} to ${next}`);
    statuses.set(stream, next);
  }
  const last = new Map<string, string>();
  for (const { stream, type, version } of eventsOf<PaymentEvent>(evidence, 'payments')) {
    const before = last.get(stream) ?? 'none';
    if (!(paymentArrows[before] ?? []).includes(type))
      report('I15', `${stream}, version ${version}: ${type} after ${before}`);
    last.set(stream, type);
  }
}

/** I21, of the states. */
function checkStates({ logs }: Evidence, folded: FoldedStreams, report: Report): void {
  const expected = new Map<string, unknown>();
  for (const [stream, { type, version, state }] of folded) {
    const plain: unknown = JSON.parse(JSON.stringify(state));
    expected.set(stream, { version, slot: slotOfStream(stream), dueAt: timeOf(type.dueAt?.(state)), state: plain });
  }
  const found = new Map<string, unknown>();
  for (const owner of logOwners) {
    for (const { stream, version, slot, due_at: dueAt, state } of logs[owner].streams) {
      found.set(stream, { version, slot, dueAt: timeOf(dueAt), state });
    }
  }
  compare('I21', 'stream', expected, found, report);
}

const timeOf = (text: string | null | undefined): number | null =>
  text === null || text === undefined ? null : Date.parse(text);

function compare(
  invariant: string,
  what: string,
  expected: ReadonlyMap<string, unknown>,
  found: ReadonlyMap<string, unknown>,
  report: Report,
): void {
  for (const id of new Set([...expected.keys(), ...found.keys()])) {
    const [should, is] = [expected.get(id), found.get(id)];
    if (isDeepStrictEqual(should, is)) continue;
    report(invariant, `${what} ${id} is ${JSON.stringify(is)} and should be ${JSON.stringify(should)}`);
  }
}

type Money = { readonly amount: number; readonly currency: string };
type Profile = { readonly name: string; readonly email?: string; readonly country?: string };
type Priced = { readonly name: string; readonly description?: string; readonly price: Money };

/** I21, of the tables that are kept beside the log. */
function checkInlineTables(evidence: Evidence, folded: FoldedStreams, report: Report): void {
  const rowsFrom = <State>(type: string, rowOf: (id: string, state: State, version: number) => Row) =>
    new Map(
      [...folded]
        .filter(([stream]) => stream.startsWith(`${type}-`))
        .map(([stream, { state, version }]) => [entityOf(stream), rowOf(entityOf(stream), state as State, version)]),
    );
  const check = (table: string, expected: ReadonlyMap<string, unknown>, keyOf: (row: Row) => string): void => {
    const found = new Map(
      evidence.tables[table]!.map((row) => {
        // Times are compared as instants: they can be written in several ways.
        const { placed_at: at } = row;
        return [keyOf(row), at === undefined ? row : { ...row, placed_at: timeOf(at as string) }];
      }),
    );
    compare('I21', `row of ${table}`, expected, found, report);
  };
  const by = (column: string) => (row: Row) => row[column] as string;

  check(
    'catalog.products',
    rowsFrom<Priced>('product', (sku, { name, description = null as never, price }, version) => ({
      sku,
      version,
      name,
      description,
      price: price.amount,
      currency: price.currency,
    })),
    by('sku'),
  );
  check(
    'ordering.products',
    rowsFrom<Priced>('offer', (sku, { name, price }, version) => ({
      sku,
      version,
      name,
      price: price.amount,
      currency: price.currency,
    })),
    by('sku'),
  );
  check(
    'ordering.customers',
    rowsFrom<Profile>('customer', (id, { name, email, country }, version) => ({
      customer_id: id,
      version,
      name,
      email: email ?? null,
      country: country ?? null,
    })),
    by('customer_id'),
  );
  check(
    'ordering.orders',
    rowsFrom<Exclude<Order, { status: 'none' }>>('order', (id, order, version) => ({
      order_id: id,
      version,
      customer_id: order.customerId,
      status: order.status,
      total: order.total.amount,
      currency: order.total.currency,
      placed_at: timeOf(order.placedAt),
    })),
    by('order_id'),
  );
  const lines = new Map<string, unknown>();
  for (const event of eventsOf<OrderingEvent>(evidence, 'ordering')) {
    if (event.type !== 'OrderPlaced') continue;
    for (const [n, { sku, quantity, unitPrice }] of event.data.lines.entries()) {
      const row = { order_id: event.data.orderId, line_no: n + 1, sku, quantity, unit_price: unitPrice };
      lines.set(`${row.order_id} ${n + 1}`, row);
    }
  }
  check('ordering.order_lines', lines, (row) => `${String(row['order_id'])} ${String(row['line_no'])}`);
  check(
    'inventory.stock',
    rowsFrom<{ onHand: number; reserved: number }>('stock', (sku, { onHand, reserved }, version) => ({
      sku,
      version,
      on_hand: onHand,
      reserved,
    })),
    by('sku'),
  );
  check(
    'inventory.reservations',
    rowsFrom<Reservation>('reservation', (id, { status }, version) => ({ order_id: id, version, status })),
    by('order_id'),
  );
  check(
    'payments.payments',
    rowsFrom<Exclude<Payment, { status: 'none' }>>('payment', (id, { paymentId, status, amount }, version) => ({
      order_id: id,
      payment_id: paymentId,
      version,
      status,
      amount: amount.amount,
      currency: amount.currency,
      captured: ['captured', 'refunding', 'refunded'].includes(status) ? amount.amount : 0,
      refunded: status === 'refunded' ? amount.amount : 0,
    })),
    by('order_id'),
  );
}

/** I10: what is shown is what happened. */
function checkReadRows(evidence: Evidence, folded: FoldedStreams, report: Report): void {
  const { tables } = evidence;
  const orders = new Map(statesOf<Exclude<Order, { status: 'none' }>>(folded, 'order'));
  const versionOf = (type: string, id: string): number => folded.get(streamId(type, id))?.version ?? 0;
  const shown = (table: string, keyOf: (row: Row) => string, valueOf: (row: Row) => unknown) =>
    new Map(tables[table]!.map((row) => [keyOf(row), valueOf(row)]));
  const id = (column: string) => (row: Row) => row[column] as string;
  const bodyOf = (row: Row): Row => JSON.parse(row['body'] as string) as Row;

  const listed = new Map<unknown, unknown>([
    ...tables['queries.open_orders']!.map(({ order_id: orderId }) => [orderId, 'open'] as const),
    ...tables['queries.unfulfilled_orders']!.map(({ order_id: orderId, status }) => [orderId, status] as const),
  ]);
  const orderRows = shown('queries.orders', id('order_id'), (row) => {
    const { status, version, customer_id: customerId, payment_status: payment } = row;
    const total = { amount: row['total'], currency: row['currency'] };
    const pieces = (JSON.parse(row['lines'] as string) as Pieces[]).map(({ sku, quantity }) => ({ sku, quantity }));
    return { status, version, customerId, total, payment, pieces, listed: listed.get(row['order_id']) };
  });
  const piecesOf = new Map<string, Pieces[]>();
  let ordered = new Map<string, { orders: number; spent: Map<string, number> }>();
  for (const event of eventsOf<OrderingEvent>(evidence, 'ordering')) {
    if (event.type === 'CustomerRegistered') ordered.set(event.data.customerId, { orders: 0, spent: new Map() });
    if (event.type !== 'OrderPlaced') continue;
    const { orderId, customerId, lines } = event.data;
    piecesOf.set(
      orderId,
      lines.map(({ sku, quantity }) => ({ sku, quantity })),
    );
    ordered.get(customerId)!.orders += 1;
  }
  const wanted = new Map<string, unknown>();
  for (const [orderId, order] of orders) {
    const { status, customerId, total } = order;
    const payment = status === 'completed' ? 'captured' : 'payment' in order ? order.payment : 'none';
    const columns = { status, version: versionOf('order', orderId), customerId, total, payment };
    const beside = { completed: undefined, failed: status, cancelled: status, pending: 'open', reserved: 'open' }[
      status
    ];
    wanted.set(orderId, { ...columns, pieces: piecesOf.get(orderId), listed: beside });
    if (status !== 'completed') continue;
    const { spent } = ordered.get(customerId)!;
    spent.set(total.currency, (spent.get(total.currency) ?? 0) + total.amount);
  }
  compare('I10', 'read row of order', wanted, orderRows, report);

  const customers = new Map<string, unknown>();
  for (const [customerId, { orders: count, spent }] of ordered) {
    const digits = Object.fromEntries([...spent].map(([currency, amount]) => [currency, String(amount)]));
    customers.set(customerId, { version: versionOf('customer', customerId), orders: count, spent: digits });
  }
  compare(
    'I10',
    'read row of customer',
    customers,
    shown('queries.customers', id('customer_id'), ({ version, orders: count, spent }) => ({
      version,
      orders: count,
      spent: JSON.parse((spent as string | null) ?? '{}') as unknown,
    })),
    report,
  );

  const products = new Map<string, unknown>();
  for (const sku of statesOf(folded, 'product').keys()) {
    const { onHand, reserved } = (folded.get(streamId('stock', sku))?.state ?? { onHand: 0, reserved: 0 }) as Row;
    products.set(sku, { version: versionOf('product', sku), stock: versionOf('stock', sku), onHand, reserved });
  }
  const productRows = shown('queries.products', id('sku'), (row) => {
    const { version, stock_version: stock, on_hand: onHand, reserved } = row;
    return { version, stock, onHand, reserved };
  });
  compare('I10', 'read row of product', products, productRows, report);

  const shownAs: Readonly<Record<string, string>> = { voided: 'none', refunding: 'captured' };
  const payments = new Map<string, unknown>();
  for (const [orderId, { status }] of statesOf<Payment>(folded, 'payment')) {
    payments.set(orderId, { version: versionOf('payment', orderId), status: shownAs[status] ?? status });
  }
  const paymentRows = shown('queries.order_payments', id('order_id'), (row) => ({
    version: row['version'],
    status: bodyOf(row)['status'],
  }));
  compare('I10', 'read row of payment', payments, paymentRows, report);

  const completed = [...orders.values()].filter(({ status }) => status === 'completed');
  const sums = (rows: readonly { currency: string; amount: number; orders: number }[]): Map<string, unknown> => {
    const totals = new Map<string, { orders: number; revenue: number }>();
    for (const { currency, amount, orders: count } of rows) {
      const before = totals.get(currency) ?? { orders: 0, revenue: 0 };
      totals.set(currency, { orders: before.orders + count, revenue: before.revenue + amount });
    }
    return totals;
  };
  compare(
    'I10',
    'sales in',
    sums(completed.map(({ total }) => ({ ...total, orders: 1 }))),
    sums(
      (tables['queries.sales_hours'] as { currency: string; revenue: number; orders: number }[]).map((row) => ({
        ...row,
        amount: row.revenue,
      })),
    ),
    report,
  );

  const told = new Set(tables['queries.order_events']!.map((row) => row['id']));
  for (const owner of ['ordering', 'inventory', 'payments'] as const) {
    for (const { position, stream } of evidence.logs[owner].events) {
      if (!/^(order|reservation|payment)-/.test(stream) || told.has(`${owner}-0-${position}`)) continue;
      report('I10', `the history of ${entityOf(stream)} lacks ${owner}-0-${position}`);
    }
  }
}
