/** The streams that inventory keeps. A reservation's events move its own stream and every stock stream they name. */
import type { Pieces } from '#contracts/values.ts';
import type { StreamRef, StreamType } from '#cqrs/command-bus.ts';
import { emptyLevel, evolveReservation, type Level, moveLevel, type Reservation, reservationDueAt } from './stock.ts';

export const listingStream: StreamType<{ readonly listed: boolean }> = {
  name: 'listing',
  initial: { listed: false },
  evolve: () => ({ listed: true }),
};

export const stockStream: StreamType<Level> = {
  name: 'stock',
  initial: emptyLevel,
  evolve: (state, event, sku) => moveLevel(state, event as never, sku),
};

export const reservationStream: StreamType<Reservation> = {
  name: 'reservation',
  initial: { status: 'none' },
  evolve: (state, event) => evolveReservation(state, event as never),
  dueAt: reservationDueAt,
  // One that is rejected hears that its order has failed.
  isOver: ({ status }) => status === 'shipped' || status === 'released',
};

/** The stock streams of some pieces. */
export const stockOf = (lines: readonly Pieces[]): StreamRef[] =>
  lines.map(({ sku }) => ({ type: stockStream, id: sku }));
