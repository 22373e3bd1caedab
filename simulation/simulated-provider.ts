/**
 * A payment provider with a ledger of its own: idempotent by key, sometimes slow, failing or silent. It
 * does as it is told: whether an order is charged twice, or more is given back than was taken, is for
 * the checks to find.
 */
import type { Money } from '#contracts/values.ts';
import type {
  ChargeOutcome,
  LookupOutcome,
  ProviderClient,
  RefundOutcome,
  VoidOutcome,
} from '#services/payments/provider-client.ts';
import type { Counters } from './counters.ts';
import type { Incarnation } from './incarnation.ts';
import type { Random } from './random.ts';

export type LedgerEntry = {
  readonly kind: 'capture' | 'decline' | 'void' | 'refund';
  readonly key: string;
  /** Null: the key was voided before anything was charged. */
  readonly orderId: string | null;
  readonly amount: number;
};

type Charge = {
  readonly orderId: string | null;
  readonly amount: number;
  readonly status: 'captured' | 'declined' | 'voided';
};

type ProviderWeather = {
  down: boolean;
  slowMs: number;
  /** How many calls are answered 500, before or after the provider has acted. */
  failing: number;
  lostAnswers: number;
};

export class SimulatedProvider {
  readonly weather: ProviderWeather = { down: false, slowMs: 0, failing: 0, lostAnswers: 0 };
  readonly ledger: LedgerEntry[] = [];
  readonly #random: Random;
  readonly #counters: Counters;
  readonly #onCharge: (orderId: string) => void;
  readonly #onEntry: (entry: LedgerEntry) => void;
  #charges = new Map<string, Charge>();
  #refunds = new Set<string>();

  /** `onCharge` is told of each call to charge, `onEntry` of each entry of the ledger. */
  constructor(
    random: Random,
    counters: Counters,
    onCharge: (orderId: string) => void,
    onEntry: (entry: LedgerEntry) => void,
  ) {
    this.#onCharge = onCharge;
    this.#random = random;
    this.#counters = counters;
    this.#onEntry = onEntry;
  }

  /** The provider as one process calls it. Calls made by a process that dies go on without it. */
  clientFor(
    process: Incarnation,
    timeoutMs: number,
    later: (ms: number, kind: string, act: () => void) => void,
  ): ProviderClient {
    const { weather } = this;
    let closed = false;
    const call = <Outcome>(kind: string, workMs: number, act: () => Outcome): Promise<Outcome | Unknown> =>
      new Promise((resolve) => {
        if (closed) return resolve(unknown('the client is closed'));
        const cancel = process.ports.after(timeoutMs, () => resolve(unknown(`no answer within ${timeoutMs} ms`)));
        const answer = (outcome: Outcome | Unknown): void =>
          process.deliver(this.#latency(), `provider answers ${kind}`, () => {
            cancel();
            resolve(outcome);
          });
        later(this.#latency(), `provider hears ${kind}`, () => {
          if (weather.down) return this.#random.chance(0.5) ? answer(unknown('connection refused')) : undefined;
          const failing = this.#random.chance(weather.failing);
          if (failing && this.#random.chance(0.5)) return answer(unknown('500 before anything was done'));
          later(workMs, `provider does ${kind}`, () => {
            const outcome = act();
            if (this.#random.chance(weather.lostAnswers)) return this.#counters.add('provider answer lost');
            answer(failing ? unknown('500 after it was done') : outcome);
          });
        });
      });
    const work = (): number =>
      this.#random.between(1, 60) + (this.#random.chance(0.5) ? this.#random.next() * weather.slowMs : 0);

    return {
      charge: ({ key, orderId, amount, method }) => {
        this.#onCharge(orderId);
        return call<ChargeOutcome>('charge', work(), () => this.#charge(key, orderId, amount, method));
      },
      lookup: (key) => call<LookupOutcome>('lookup', 1, () => this.#lookup(key)),
      void: (key) => call<VoidOutcome>('void', 1, () => this.#void(key)),
      refund: ({ key, charge, amount }) =>
        call<RefundOutcome>('refund', work(), () => this.#refund(key, charge, amount)),
      statistics: () => ({ calls: 0, open: 0, oldestMs: 0 }),
      close() {
        closed = true;
      },
    };
  }

  #latency(): number {
    return this.#random.between(0.5, 5);
  }

  #charge(key: string, orderId: string, { amount }: Money, method: string): ChargeOutcome {
    const known = this.#charges.get(key);
    if (known !== undefined) this.#counters.add(`charge repeated: ${known.status}`);
    else if (method === 'pm_declined') {
      this.#charges.set(key, { orderId, amount, status: 'declined' });
      this.#enter({ kind: 'decline', key, orderId, amount: 0 });
    } else {
      this.#charges.set(key, { orderId, amount, status: 'captured' });
      this.#enter({ kind: 'capture', key, orderId, amount });
    }
    return outcomeOf(key, this.#charges.get(key)!);
  }

  #lookup(key: string): LookupOutcome {
    const known = this.#charges.get(key);
    this.#counters.add(`lookup: ${known?.status ?? 'absent'}`);
    return known === undefined ? { outcome: 'absent' } : outcomeOf(key, known);
  }

  #void(key: string): VoidOutcome {
    const known = this.#charges.get(key);
    if (known !== undefined) {
      this.#counters.add(`void too late: ${known.status}`);
      return outcomeOf(key, known);
    }
    this.#charges.set(key, { orderId: null, amount: 0, status: 'voided' });
    this.#enter({ kind: 'void', key, orderId: null, amount: 0 });
    return { outcome: 'voided' };
  }

  #refund(key: string, chargeKey: string, { amount }: Money): RefundOutcome {
    const charge = this.#charges.get(chargeKey);
    if (charge?.status !== 'captured') return unknown('there is nothing to refund');
    if (this.#refunds.has(key)) this.#counters.add('refund repeated');
    else {
      this.#refunds.add(key);
      this.#enter({ kind: 'refund', key, orderId: charge.orderId, amount });
    }
    return { outcome: 'refunded', reference: key };
  }

  #enter(entry: LedgerEntry): void {
    this.ledger.push(entry);
    this.#onEntry(entry);
  }
}

type Unknown = { readonly outcome: 'unknown'; readonly detail: string };

const unknown = (detail: string): Unknown => ({ outcome: 'unknown', detail });

function outcomeOf(key: string, { status }: Charge): Exclude<ChargeOutcome, Unknown> {
  switch (status) {
    case 'captured':
      return { outcome: 'captured', reference: `ref-${key}` };
    case 'declined':
      return { outcome: 'declined', reason: 'declined' };
    case 'voided':
      return { outcome: 'voided' };
  }
}
