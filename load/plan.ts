/** What one generator is told to do, and what it tells. Both cross a process boundary. */
import type { Target } from './connection.ts';
import type { Exported } from './latencies.ts';
import type { Step } from './schedule.ts';

/** How users show who they are. `open`: not at all. */
export type Callers =
  | { readonly kind: 'open' }
  | { readonly kind: 'operator' }
  | { readonly kind: 'secret'; readonly secret: string; readonly issuer: string; readonly audience: string }
  | { readonly kind: 'tokens' };

/** `token` where each user has one of its own. */
export type Customer = { readonly customerId: string; readonly token?: string };

export type Plan = {
  readonly target: Target;
  /** Source addresses, used by turns; none: whichever the machine takes. */
  readonly localAddresses: readonly string[];
  /** Begins the ids of all that this generator makes. */
  readonly name: string;
  readonly seed: number;
  readonly connections: number;
  readonly requestsPerSecond: number;
  /** When the rate becomes so many times that, since the beginning; none: it stays. */
  readonly steps?: readonly Step[];
  /** Users who are turned away do not come back: that is counted, and no error. */
  readonly takesNo?: boolean;
  readonly orderShare: number;
  readonly rampMs: number;
  /** Ramp included. */
  readonly warmUpMs: number;
  readonly measureMs: number;
  readonly thinkMs: number;
  readonly callers: Callers;
  readonly operatorToken?: string;
  readonly customers: readonly Customer[];
  readonly skus: readonly string[];
  readonly hotShare: number;
  readonly lines: number;
  /** Every order has just as many lines, not from 1 to twice as many less one. */
  readonly linesAlike?: boolean;
};

export type ToGenerator = { readonly kind: 'prepare'; readonly plan: Plan } | { readonly kind: 'begin' | 'stop' };

/** Of one second, by the time of the answers. */
export type Second = {
  /** Since the beginning; what comes before the end of the warm-up is negative. */
  readonly atMs: number;
  readonly offered: number;
  readonly answered: number;
  readonly errors: number;
  readonly retries: number;
  /** Of the answers, those that turned a user away. */
  readonly shed: number;
  /** Of the others, those that were right and came within what has to hold. */
  readonly good: number;
  /** Requests that are due and have no connection, and those that are not answered. */
  readonly waiting: number;
  readonly underWay: number;
  readonly openOrders: number;
  readonly latencies: Exported;
};

/** Of the measured time. */
export type Totals = {
  readonly offered: Readonly<Record<string, number>>;
  /** Within the measured time, whenever they were due. */
  readonly answered: Readonly<Record<string, number>>;
  readonly errors: Readonly<Record<string, number>>;
  /** A few of them, in full. */
  readonly examples: readonly string[];
  readonly retries: Readonly<Record<string, number>>;
  readonly reopened: number;
  readonly ordersPlaced: number;
  /** Orders that were taken and had not come to an end when it stopped waiting. */
  readonly ordersOpen: number;
  readonly latencies: Exported;
};

export type FromGenerator =
  | { readonly kind: 'ready' }
  | { readonly kind: 'second'; readonly second: Second }
  | { readonly kind: 'done'; readonly totals: Totals }
  | { readonly kind: 'failed'; readonly why: string };
