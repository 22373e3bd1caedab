/**
 * The rules of stock: nothing is sold that is not there. All demand of one order is held, or none of
 * it; what is held leaves the house or becomes free again, and the order says which.
 */
import type {
  InventoryEvent,
  ReservationBarred,
  ReservationExpired,
  StockAdjusted,
  StockRejected,
  StockReleased,
  StockReserved,
  StockShipped,
} from '#contracts/inventory.ts';
import type { OrderId, Pieces, Sku } from '#contracts/values.ts';
import { accept, type Decider, type Decision, refuse } from '#cqrs/decider.ts';

/** Pieces of one product: `onHand` in the house, `reserved` of them held for orders. */
export type Level = { readonly onHand: number; readonly reserved: number };

export const emptyLevel: Level = { onHand: 0, reserved: 0 };

/** The level of `sku` after an event that moves it. */
export function moveLevel(level: Level, event: InventoryEvent, sku: Sku): Level {
  switch (event.type) {
    case 'StockAdjusted':
      return { ...level, onHand: level.onHand + event.data.quantity };
    case 'StockReserved':
      return { ...level, reserved: level.reserved + piecesOf(event.data.lines, sku) };
    case 'StockReleased':
      return { ...level, reserved: level.reserved - piecesOf(event.data.lines, sku) };
    case 'StockShipped': {
      const pieces = piecesOf(event.data.lines, sku);
      return { onHand: level.onHand - pieces, reserved: level.reserved - pieces };
    }
    case 'ProductListed':
    case 'StockRejected':
    case 'ReservationExpired':
    case 'ReservationBarred':
      return level;
  }
}

export type AdjustStock = {
  readonly type: 'AdjustStock';
  readonly sku: Sku;
  readonly quantity: number;
  readonly reason: string;
  /** Whether the catalogue has the product. */
  readonly listed: boolean;
};

export const stock: Decider<Level, AdjustStock, StockAdjusted> = {
  initial: emptyLevel,

  evolve: (state, event) => moveLevel(state, event, event.data.sku),

  decide({ sku, quantity, reason, listed }, { onHand, reserved }) {
    if (!listed) return refuse({ code: 'product-not-found', detail: `The catalogue has no product ${sku}.` });
    const available = onHand - reserved;
    if (available + quantity < 0) {
      return refuse({ code: 'insufficient-stock', detail: `${available} of ${sku} are available.`, available });
    }
    return accept({ type: 'StockAdjusted', data: { sku, quantity, reason } });
  },
};

/** `barred`: the order ended before its demand arrived here. */
export type Reservation =
  | { readonly status: 'none' }
  | { readonly status: 'held'; readonly lines: readonly Pieces[]; readonly expiresAt: string | null }
  | { readonly status: 'rejected' }
  | { readonly status: 'released' }
  | { readonly status: 'shipped' }
  | { readonly status: 'barred' };

export type ReservationCommand =
  | { readonly type: 'ReserveStock'; readonly lines: readonly Pieces[]; readonly expiresAt: string }
  | { readonly type: 'ReleaseStock'; readonly reason: 'order-cancelled' | 'order-failed' }
  | { readonly type: 'ShipStock' }
  | { readonly type: 'ExpireReservation'; readonly now: string };

export type ReservationEvent =
  | StockReserved
  | StockRejected
  | ReservationExpired
  | StockReleased
  | StockShipped
  | ReservationBarred;

/** A reservation and the levels of the products that its order asks for. */
export type ReservationScope = {
  readonly orderId: OrderId;
  readonly reservation: Reservation;
  readonly levels: ReadonlyMap<Sku, Level>;
};

export function evolveReservation(state: Reservation, event: ReservationEvent): Reservation {
  switch (event.type) {
    case 'StockReserved':
      return { status: 'held', lines: event.data.lines, expiresAt: event.data.expiresAt };
    case 'ReservationExpired':
      return state.status === 'held' ? { ...state, expiresAt: null } : state;
    case 'StockRejected':
      return { status: 'rejected' };
    case 'StockReleased':
      return { status: 'released' };
    case 'StockShipped':
      return { status: 'shipped' };
    case 'ReservationBarred':
      return { status: 'barred' };
  }
}

export const reservation: Decider<ReservationScope, ReservationCommand, ReservationEvent, never> = {
  initial: { orderId: '', reservation: { status: 'none' }, levels: new Map() },

  evolve: (state, event) => ({
    ...state,
    reservation: evolveReservation(state.reservation, event),
    levels: new Map([...state.levels].map(([sku, level]) => [sku, moveLevel(level, event, sku)])),
  }),

  decide(command, { orderId, reservation: held, levels }) {
    switch (held.status) {
      case 'none':
        return decideFresh(command, orderId, levels);
      case 'held':
        return decideHeld(command, orderId, held);
      case 'shipped':
      case 'rejected':
      case 'released':
      case 'barred':
        return accept();
    }
  },
};

/** When a reservation has to be looked at again; null: it waits for its order's word only. */
export const reservationDueAt = (state: Reservation): string | null =>
  state.status === 'held' ? state.expiresAt : null;

/** One entry per product, the same product's pieces added up. */
export function addUp(lines: readonly Pieces[]): Pieces[] {
  const sums = new Map<Sku, number>();
  for (const { sku, quantity } of lines) sums.set(sku, (sums.get(sku) ?? 0) + quantity);
  return [...sums].map(([sku, quantity]) => ({ sku, quantity }));
}

function decideFresh(
  command: ReservationCommand,
  orderId: OrderId,
  levels: ReadonlyMap<Sku, Level>,
): Decision<ReservationEvent, never> {
  switch (command.type) {
    case 'ReserveStock': {
      const lines = addUp(command.lines);
      const short = lines.filter(({ sku, quantity }) => {
        const level = levels.get(sku) ?? emptyLevel;
        return level.onHand - level.reserved < quantity;
      });
      if (short.length > 0)
        return accept({ type: 'StockRejected', data: { orderId, skus: short.map((line) => line.sku) } });
      return accept({ type: 'StockReserved', data: { orderId, lines, expiresAt: command.expiresAt } });
    }
    case 'ReleaseStock':
      return accept({ type: 'ReservationBarred', data: { orderId } });
    case 'ShipStock':
      throw new Error(`order ${orderId} has completed without a reservation`);
    case 'ExpireReservation':
      return accept();
  }
}

function decideHeld(
  command: ReservationCommand,
  orderId: OrderId,
  held: Extract<Reservation, { status: 'held' }>,
): Decision<ReservationEvent, never> {
  const lines = [...held.lines];
  switch (command.type) {
    case 'ReserveStock':
      return accept();
    case 'ReleaseStock':
      return accept({ type: 'StockReleased', data: { orderId, lines, reason: command.reason } });
    case 'ShipStock':
      return accept({ type: 'StockShipped', data: { orderId, lines } });
    case 'ExpireReservation':
      if (held.expiresAt === null || command.now < held.expiresAt) return accept();
      return accept({ type: 'ReservationExpired', data: { orderId } });
  }
}

const piecesOf = (lines: readonly Pieces[], sku: Sku): number => lines.find((line) => line.sku === sku)?.quantity ?? 0;
