/**
 * What must always hold, checked with each commit and each entry of the provider's ledger. The sums are
 * made here anew; of the services only `evolve` and `dueAt` are used, because that is what the stored
 * states claim to be.
 */
import type { InventoryEvent } from '#contracts/inventory.ts';
import type { PaymentEvent } from '#contracts/payments.ts';
import type { ShopServiceName } from '#contracts/service.ts';
import type { Pieces } from '#contracts/values.ts';
import { chainedHash, hashOfNothing } from '#cqrs/batch-hash.ts';
import type { AnyStreamType } from '#cqrs/command-bus.ts';
import type { DomainEvent } from '#cqrs/decider.ts';
import { entityOf, type Origin, slotOfStream, streamId } from '#cqrs/event-log.ts';
import { product } from '#services/catalog/product.ts';
import { listingStream, reservationStream, stockStream } from '#services/inventory/streams.ts';
import { customerStream, offerStream, orderStream } from '#services/ordering/streams.ts';
import { paymentStream } from '#services/payments/streams.ts';
import type { Changes, EventRow, LogTables, Move } from './log-tables.ts';
import { commandServices } from './plan.ts';
import type { LedgerEntry } from './simulated-provider.ts';

/** Something does not hold. `invariant` as in the list of what must always hold, such as `I9`. */
export class Violation extends Error {
  readonly invariant: string;

  constructor(invariant: string, found: string) {
    super(`${invariant}: ${found}`);
    this.name = 'Violation';
    this.invariant = invariant;
  }
}

export type Happened = DomainEvent & {
  readonly service: ShopServiceName;
  readonly id: string;
  readonly position: number;
  readonly stream: string;
  readonly version: number;
  readonly at: string;
  readonly origin: Origin;
};
type Folded = { readonly type: AnyStreamType; version: number; state: unknown };
type Level = { received: number; shipped: number; held: number };
type Charged = { captures: number; captured: number; refunded: number };

/** What has happened so far, folded anew. */
export type History = {
  readonly events: Readonly<Record<ShopServiceName, Happened[]>>;
  readonly folded: ReadonlyMap<string, Folded>;
  readonly charges: ReadonlyMap<string, Charged>;
};

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
  ].map((type: AnyStreamType) => [type.name, type]),
);

const statusAfter: Readonly<Record<string, string>> = {
  OrderPlaced: 'pending',
  OrderReserved: 'reserved',
  OrderCompleted: 'completed',
  OrderFailed: 'failed',
  OrderCancelled: 'cancelled',
};
const orderArrows: Readonly<Record<string, readonly string[]>> = {
  none: ['pending'],
  pending: ['reserved', 'failed', 'cancelled'],
  reserved: ['completed', 'failed', 'cancelled'],
};
const unsettled = ['PaymentWithdrawn', 'PaymentUnknown', 'PaymentCaptured', 'PaymentDeclined', 'PaymentVoided'];
const paymentArrows: Readonly<Record<string, readonly string[]>> = {
  none: ['PaymentRequested'],
  PaymentRequested: unsettled,
  PaymentWithdrawn: unsettled.slice(1),
  PaymentUnknown: unsettled,
  PaymentCaptured: ['RefundRequested'],
  PaymentDeclined: [],
  // The provider took its word back, and with it goes the money.
  PaymentVoided: ['PaymentCaptured'],
  RefundRequested: ['RefundDelayed', 'PaymentRefunded'],
  RefundDelayed: ['RefundDelayed', 'PaymentRefunded'],
  PaymentRefunded: [],
};

/** Follows a world; throws a Violation at the commit that breaks something. */
export class Auditor {
  readonly events: Record<ShopServiceName, Happened[]> = { catalog: [], ordering: [], inventory: [], payments: [] };
  readonly folded = new Map<string, Folded>();
  readonly charges = new Map<string, Charged>();
  readonly #tables: Readonly<Record<ShopServiceName, LogTables>>;
  #effects = new Set<string>();
  #stock = new Map<string, Level>();
  /** By order, what was asked for, added up per product. */
  #asked = new Map<string, string>();
  #checkpoints = new Map<string, number>();
  /** Messages that wait, by consumer and position. */
  #parked = new Set<string>();
  /** The last status of each order, the last event of each payment. */
  #last = new Map<string, string>();

  constructor(tables: Readonly<Record<ShopServiceName, LogTables>>) {
    this.#tables = tables;
  }

  /** What a commit has made visible in the log of `service`. Returns its events. */
  committed(service: ShopServiceName, changes: Changes): Happened[] {
    const happened = changes.events.map((row): Happened => ({
      service,
      id: `${service}-0-${row.position}`,
      position: row.position,
      stream: row.stream,
      version: row.version,
      at: row.at,
      type: row.type,
      data: JSON.parse(row.data) as object,
      origin: JSON.parse(row.origin) as Origin,
    }));
    for (const [n, event] of happened.entries()) {
      this.#checkPlace(service, event, changes.events[n]!.slot);
      this.events[service].push(event);
      this.#checkArrow(event);
      this.#checkEffect(service, event, changes);
      if (service === 'inventory') this.#moveStock(event);
      this.#checkWhole(event);
    }
    this.#checkCheckpoints(service, changes);
    this.#checkStates(service, changes);
    return happened;
  }

  /** What the provider has written into its ledger. */
  entered({ kind, orderId, amount }: LedgerEntry): void {
    if (orderId === null || (kind !== 'capture' && kind !== 'refund')) return;
    const charge = this.charges.get(orderId) ?? { captures: 0, captured: 0, refunded: 0 };
    this.charges.set(orderId, charge);
    if (kind === 'refund') charge.refunded += amount;
    else {
      if (charge.captured > charge.refunded) throw new Violation('I8', `order ${orderId} is charged a second time`);
      charge.captures += 1;
      charge.captured += amount;
      const order = this.stateOf<{ status: string; total: { amount: number } }>('order', orderId);
      if (order?.total.amount !== amount) {
        throw new Violation('I7', `order ${orderId} over ${order?.total.amount} is charged ${amount}`);
      }
    }
    if (charge.refunded > charge.captured) {
      throw new Violation('I7', `order ${orderId}: ${charge.refunded} given back of ${charge.captured}`);
    }
  }

  stateOf<State>(type: string, id: string): State | undefined {
    return this.folded.get(streamId(type, id))?.state as State | undefined;
  }

  /** I2 and I17. */
  #checkPlace(service: ShopServiceName, event: Happened, slot: number): void {
    const { position, stream, version } = event;
    const expected = this.events[service].length + 1;
    if (position !== expected)
      throw new Violation('I2', `${service}: position ${position} where ${expected} should be`);
    if (slot !== slotOfStream(stream)) throw new Violation('I17', `${service}: ${stream} is in slot ${slot}`);
    const reached = this.#move(stream, event);
    if (version !== reached) {
      throw new Violation('I2', `${service}: version ${version} of ${stream} where ${reached} should be`);
    }
    for (const { sku } of stockMovedBy(event)) this.#move(streamId('stock', sku), event);
  }

  #move(stream: string, event: Happened): number {
    const type = streamTypes.get(stream.slice(0, stream.indexOf('-')));
    if (type === undefined) throw new Error(`nobody knows streams like ${stream}`);
    const one = this.folded.get(stream) ?? { type, version: 0, state: type.initial as unknown };
    this.folded.set(stream, one);
    one.version += 1;
    try {
      one.state = type.evolve(one.state, event, entityOf(stream)) as unknown;
    } catch (error) {
      throw new Violation('I15', `${stream}, version ${one.version}: ${(error as Error).message}`);
    }
    return one.version;
  }

  /** I15. */
  #checkArrow({ service, stream, type, version }: Happened): void {
    const isPayment = service === 'payments';
    const next = isPayment ? type : statusAfter[type];
    if (next === undefined || !(isPayment || stream.startsWith('order-'))) return;
    const before = this.#last.get(stream) ?? 'none';
    const arrows = isPayment ? paymentArrows : orderArrows;
    if (!(arrows[before] ?? []).includes(next)) {
      throw new Violation('I15', `${stream}, version ${version}: from ${before} to ${next}`);
    }
    this.#last.set(stream, next);
  }

  /** I4, and of I3 that no effect goes without its checkpoint. */
  #checkEffect(service: ShopServiceName, { origin, type, stream }: Happened, changes: Changes): void {
    const [, source] = /-of-([a-z]+)$/.exec(origin.actor) ?? [];
    if (source === undefined) return;
    const effect = `${origin.actor}: ${type} of ${stream} because of ${origin.causationId}`;
    if (this.#effects.has(effect)) throw new Violation('I4', `twice ${effect}`);
    this.#effects.add(effect);
    const position = Number(origin.causationId.slice(origin.causationId.lastIndexOf('-') + 1));
    const from = this.#checkpoints.get(`${service} ${origin.actor}`) ?? 0;
    const move = changes.moves.find(({ consumer }) => consumer === origin.actor);
    if (move?.unparks.includes(position) === true) return;
    if (move === undefined || !(from < position && position <= move.to)) {
      throw new Violation('I3', `${effect}, but its checkpoint moves from ${from} to ${move?.to}`);
    }
  }

  /** I3: checkpoints go forward, and no further than there is something. */
  #checkCheckpoints(service: ShopServiceName, { moves }: Changes): void {
    for (const move of moves) {
      const { consumer, to: position } = move;
      const source = consumer.slice(consumer.indexOf('-of-') + 4) as ShopServiceName;
      const name = `${service} ${consumer}`;
      const before = this.#checkpoints.get(name) ?? 0;
      const { head } = this.#tables[source];
      if (position < before || position > head) {
        throw new Violation('I3', `${name} goes from ${before} to ${position}, and the head of ${source} is ${head}`);
      }
      this.#checkpoints.set(name, position);
      this.#checkParking(name, before, move);
    }
  }

  /** I14: a message is parked on the way past it, and taken back once. */
  #checkParking(name: string, before: number, { to, parks, unparks }: Move): void {
    for (const position of unparks) {
      if (!this.#parked.delete(`${name} ${position}`))
        throw new Violation('I14', `${name} takes ${position} back twice`);
    }
    for (const { position } of parks) {
      const passed = (before < position && position <= to) || unparks.includes(position);
      if (!passed) throw new Violation('I14', `${name} parks ${position} on its way from ${before} to ${to}`);
      this.#parked.add(`${name} ${position}`);
    }
  }

  /** I5 and I6. */
  #moveStock(event: Happened): void {
    const moved = event as unknown as InventoryEvent;
    for (const { sku, quantity } of moved.type === 'StockAdjusted' ? [moved.data] : stockMovedBy(event)) {
      const level = this.#stock.get(sku) ?? { received: 0, shipped: 0, held: 0 };
      this.#stock.set(sku, level);
      if (moved.type === 'StockAdjusted') level.received += quantity;
      if (moved.type === 'StockReserved') level.held += quantity;
      if (moved.type === 'StockReleased') level.held -= quantity;
      if (moved.type === 'StockShipped') {
        level.held -= quantity;
        level.shipped += quantity;
      }
      if (level.held < 0 || level.shipped + level.held > level.received) {
        throw new Violation('I6', `${sku} at position ${event.position}: ${JSON.stringify(level)}`);
      }
      const state = this.stateOf<{ onHand: number; reserved: number }>('stock', sku)!;
      if (state.onHand !== level.received - level.shipped || state.reserved !== level.held) {
        throw new Violation('I5', `${sku} is ${JSON.stringify(state)} after ${JSON.stringify(level)}`);
      }
    }
  }

  /** I5, of an order: all of it is held, or nothing. */
  #checkWhole({ type, data }: Happened): void {
    const { orderId, lines } = data as { orderId: string; lines: readonly Pieces[] };
    if (type === 'OrderPlaced') this.#asked.set(orderId, addedUp(lines));
    if (type === 'StockReserved' && this.#asked.get(orderId) !== addedUp(lines)) {
      throw new Violation('I5', `for order ${orderId} ${addedUp(lines)} is held, of ${this.#asked.get(orderId)}`);
    }
  }

  /** I21: what is stored is what the events make. */
  #checkStates(service: ShopServiceName, changes: Changes): void {
    const written = new Set(changes.streams.keys());
    for (const { stream } of changes.events) {
      if (!written.has(stream)) throw new Violation('I21', `${service}: ${stream} moves on, and its state does not`);
    }
    for (const [stream, row] of changes.streams) {
      const folded = this.folded.get(stream);
      const state = JSON.stringify(folded?.state);
      const dueAt = folded?.type.dueAt?.(folded.state) ?? null;
      if (row.version !== folded?.version || row.state !== state || row.dueAt !== dueAt) {
        const is = `version ${row.version}, due ${row.dueAt}, ${row.state}`;
        throw new Violation(
          'I21',
          `${service}: ${stream} is ${is}, and should be ${folded?.version}, ${dueAt}, ${state}`,
        );
      }
    }
  }
}

function addedUp(lines: readonly Pieces[]): string {
  const sums: Record<string, number> = {};
  for (const sku of lines.map((line) => line.sku).sort()) sums[sku] = 0;
  for (const { sku, quantity } of lines) sums[sku]! += quantity;
  return JSON.stringify(sums);
}

/** A reservation moves the stock of what it names, beside its own stream. */
function stockMovedBy(event: DomainEvent): readonly Pieces[] {
  const { type, data } = event as InventoryEvent;
  return type === 'StockReserved' || type === 'StockReleased' || type === 'StockShipped' ? data.lines : [];
}

/**
 * I20, while the world runs: nothing of a service that no fault has touched is left over when its time has
 * come. `now` is that of its slowest clock (RFC 3339), with some grace.
 */
export function checkOverdue(auditor: Auditor, service: ShopServiceName, now: string): void {
  for (const [stream, { state }] of auditor.folded) {
    const { status, deadline, expiresAt, dueAt } = state as Record<string, string | null>;
    const waits =
      service === 'ordering'
        ? (status === 'pending' || status === 'reserved') && deadline
        : service === 'inventory'
          ? status === 'held' && expiresAt
          : service === 'payments' && (status === 'requested' || status === 'refunding') && dueAt;
    if (typeof waits === 'string' && waits < now) {
      throw new Violation('I20', `${stream} is ${status}, and was due at ${waits}; it is later than ${now}`);
    }
  }
}

/** Whether everything that was begun has ended: nothing is open, nothing waits for its time. */
export function isAtRest(auditor: Auditor, tables: Readonly<Record<ShopServiceName, LogTables>>): boolean {
  if (commandServices.some((service) => tables[service].due.size > 0)) return false;
  for (const [stream, { state }] of auditor.folded) {
    if (!stream.startsWith('order-')) continue;
    const order = state as { status: string; payment?: string };
    if (order.status === 'pending' || order.status === 'reserved') return false;
    if (order.payment === 'pending' || order.payment === 'unknown') return false;
    const reservation = auditor.stateOf<{ status: string }>('reservation', entityOf(stream));
    if (reservation === undefined || reservation.status === 'held') return false;
  }
  return true;
}

/** I9 and I20, of a world that should be at rest. */
export function checkEndings(auditor: Auditor, tables: Readonly<Record<ShopServiceName, LogTables>>): void {
  for (const service of commandServices) {
    for (const [stream, dueAt] of tables[service].due) {
      throw new Violation('I20', `${service}: ${stream} still waits for ${dueAt}`);
    }
  }
  const ids = new Set(
    [...auditor.folded.keys()].filter((stream) => /^(order|reservation|payment)-/.test(stream)).map(entityOf),
  );
  for (const id of ids) {
    const order = auditor.stateOf<{ status: string; payment?: string }>('order', id);
    const reservation = auditor.stateOf<{ status: string }>('reservation', id)?.status ?? 'none';
    const payment = auditor.stateOf<{ status: string }>('payment', id)?.status ?? 'none';
    const charge = auditor.charges.get(id) ?? { captures: 0, captured: 0, refunded: 0 };
    const net = charge.captured - charge.refunded;
    const all = `order ${id} is ${order?.status}/${order?.payment}, its reservation ${reservation}, its payment ${payment}, net ${net}`;
    if (order === undefined) throw new Violation('I9', all);
    if (order.status === 'pending' || order.status === 'reserved') throw new Violation('I20', all);
    if (order.payment === 'pending' || order.payment === 'unknown') throw new Violation('I20', all);
    if (payment === 'requested' || payment === 'refunding' || reservation === 'held') throw new Violation('I20', all);
    // Every order that was placed has been heard of by inventory.
    if (reservation === 'none') throw new Violation('I3', all);
    const done = reservation === 'shipped' && payment === 'captured' && charge.captures === 1 && net > 0;
    const undone = reservation !== 'shipped' && payment !== 'captured' && net === 0;
    if (order.status === 'completed' ? !done : !undone) throw new Violation('I9', all);
    const told = { refunded: 'refunded', voided: 'none', declined: undefined, none: 'none' }[payment];
    if (order.status !== 'completed' && told !== undefined && order.payment !== told) throw new Violation('I9', all);
    checkLedger(auditor.events.payments, id, charge);
  }
  checkCatalogue(auditor);
}

/** I18, recomputed from what is stored. */
export function checkChain(service: ShopServiceName, { events, batches, head, hash }: LogTables): void {
  let end = 0;
  let chained = hashOfNothing;
  for (const batch of batches) {
    const rows = events.slice(end, batch.lastPosition);
    chained = chainedHash(chained, end + 1, contentOf(rows, end));
    if (batch.firstPosition !== end + 1 || batch.hash !== chained) {
      throw new Violation(
        'I18',
        `${service}: the batch ${batch.firstPosition} to ${batch.lastPosition} is not what it was`,
      );
    }
    end = batch.lastPosition;
  }
  if (end !== head || chained !== hash)
    throw new Violation('I18', `${service}: batches end at ${end}, the log at ${head}`);
}

/** As `append` is given events. */
const contentOf = (rows: readonly EventRow[], before: number): string =>
  `[${rows
    .map(({ position, at, version, slot, stream, type, data, origin }) => {
      const head = JSON.stringify({ n: position - before, at, v: version, slot, s: stream, type });
      return `${head.slice(0, -1)},"data":${data},"origin":${origin}}`;
    })
    .join()}]`;

/** I7: payments tell what the provider did. */
function checkLedger(events: readonly Happened[], orderId: string, charge: Charged): void {
  const own = events.filter(({ stream }) => stream === streamId('payment', orderId)) as unknown as PaymentEvent[];
  const sum = (type: 'PaymentCaptured' | 'PaymentRefunded'): number =>
    own.reduce((total, event) => (event.type === type ? total + event.data.amount.amount : total), 0);
  const [captured, refunded] = [sum('PaymentCaptured'), sum('PaymentRefunded')];
  if (captured !== charge.captured || refunded !== charge.refunded) {
    const provider = JSON.stringify(charge);
    throw new Violation(
      'I7',
      `payments has ${captured} and ${refunded} for order ${orderId}, the provider ${provider}`,
    );
  }
}

/** I3, of the copies that ordering and inventory keep of the catalogue. */
function checkCatalogue(auditor: Auditor): void {
  for (const [stream, { state }] of auditor.folded) {
    if (!stream.startsWith('product-')) continue;
    const sku = entityOf(stream);
    const { name, price } = state as { name: string; price: object };
    const { name: offered, price: at } = auditor.stateOf<{ name: string; price: object }>('offer', sku) ?? {};
    const listed = auditor.stateOf<{ listed: boolean }>('listing', sku)?.listed ?? false;
    if (name !== offered || JSON.stringify(price) !== JSON.stringify(at) || !listed) {
      throw new Violation(
        'I3',
        `${sku} is ${name} in the catalogue, ${offered} in ordering; listed in inventory: ${listed}`,
      );
    }
  }
}
