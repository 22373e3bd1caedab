/** The users of `npm run load`, as often as they are wanted, on a system that a benchmark has started. */
import type { Ending } from '../tests/running-program.ts';
import { measure, type Measured } from '../load/measure.ts';
import { isCaughtUp } from '../load/metrics.ts';
import { furnish, type SystemUnderLoad } from '../load/shop.ts';

export type LoadWish = {
  readonly requestsPerSecond: number;
  readonly orderShare: number;
  readonly connections: number;
  readonly seconds: number;
  readonly warmUpSeconds: number;
};

/** Something was answered wrong or not at all, or an order came to no end: the message says what. */
export class LoadFailed extends Error {
  override readonly name = 'LoadFailed';
}

export type OrderLoad = {
  /** Resolves once the system has nothing left to do. Rejects with LoadFailed. */
  run(wish: LoadWish): Promise<Measured>;
  /** What was checked of all that have run. */
  checked(): string;
};

const caughtUpTimeoutMs = 120_000;

export async function openOrderLoad(
  ending: Ending,
  system: SystemUnderLoad,
  { products, customers: count }: { readonly products: number; readonly customers: number },
): Promise<OrderLoad> {
  const name = Date.now().toString(36);
  const customers = Array.from({ length: count }, (_, n) => ({ customerId: `load-${name}-${n}` }));
  const skus = await furnish(system.shop, name, products, customers);
  let runs = 0;
  let [answered, orders] = [0, 0];
  return {
    async run(wish) {
      runs += 1;
      const measured = await measure(
        {
          ...wish,
          system,
          run: `${name}-${runs}`,
          seed: 100 * runs,
          generators: 1,
          thinkMs: 0,
          hotShare: 0,
          lines: 2,
          customers,
          skus,
          onProgress: () => {},
        },
        ending,
      );
      const { totals, brokenOff } = measured;
      const errors = Object.entries(totals.errors).map(([kind, times]) => `${times} × ${kind}`);
      if (brokenOff !== null) errors.push(brokenOff);
      if (totals.ordersOpen > 0) errors.push(`${totals.ordersOpen} of ${totals.ordersPlaced} orders came to no end`);
      if (!(await isCaughtUp(system.shop, caughtUpTimeoutMs))) errors.push('a consumer is still behind');
      if (errors.length > 0) throw new LoadFailed(`the load: ${errors.join('; ')}`);
      answered += Object.values(totals.answered).reduce((sum, one) => sum + one, 0);
      orders += totals.ordersPlaced;
      return measured;
    },
    checked: () =>
      `${answered.toLocaleString('en')} answers without an error, ${orders.toLocaleString('en')} orders to their end`,
  };
}
