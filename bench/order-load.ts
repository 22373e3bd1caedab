/** The users of `npm run load`, as often as they are wanted, on a system that a benchmark has started. */
import type { Ending } from '../tests/running-program.ts';
import type { ProcessRow } from '../load/machine.ts';
import { measure, type Measured } from '../load/measure.ts';
import { furnish, type SystemUnderLoad } from '../load/shop.ts';
import { settled } from './own-system.ts';

export type LoadWish = {
  readonly requestsPerSecond: number;
  readonly orderShare: number;
  readonly connections: number;
  readonly seconds: number;
  readonly warmUpSeconds: number;
  /** Of every order; by default from 1 to 3. */
  readonly linesEach?: number;
};

export type OrderLoad = {
  /**
   * Resolves once the system has nothing left to do. `overload` is what it left undone or put off because it was asked
   * too much of; null: nothing. Rejects when an answer was wrong.
   */
  run(wish: LoadWish): Promise<Measured & { readonly overload: string | null }>;
  /** What was checked of all that have run. */
  checked(): string;
};

/** Whether an error of a load says that too much was asked for, and not that something was wrong. */
export const isOfOverload = (error: string): boolean => /: (unanswered|503)\b/.test(error);

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
          lines: wish.linesEach ?? 2,
          linesAlike: wish.linesEach !== undefined,
          customers,
          skus,
          onProgress: () => {},
        },
        ending,
      );
      const { totals, brokenOff } = measured;
      const errors = Object.entries(totals.errors).map(([kind, times]) => `${times} × ${kind}`);
      const wrong = errors.filter((kind) => !isOfOverload(kind));
      if (wrong.length > 0) throw new Error(`the load: ${wrong.join('; ')}`);
      const undone = [...errors];
      if (brokenOff !== null) undone.push(brokenOff);
      if (totals.ordersOpen > 0) undone.push(`${totals.ordersOpen} of ${totals.ordersPlaced} orders came to no end`);
      await settled(system).catch((error: Error) => undone.push(error.message));
      answered += Object.values(totals.answered).reduce((sum, one) => sum + one, 0);
      orders += totals.ordersPlaced;
      return { ...measured, overload: undone.length === 0 ? null : undone.join('; ') };
    },
    checked: () => `${answered.toLocaleString('en')} answers, ${orders.toLocaleString('en')} orders`,
  };
}

/**
 * Microseconds of processor time of the server and PostgreSQL per order, with all that follows from it, of a load of
 * nothing but orders. Throws when some of it was left undone: it would be missing.
 */
export function microsPerOrder({ processes, totals, overload }: Awaited<ReturnType<OrderLoad['run']>>): number {
  if (overload !== null) throw new Error(`what is measured has to be done: ${overload}`);
  const answered = Object.values(totals.answered).reduce((sum, one) => sum + one, 0);
  return (microsPerRequest(processes) * answered) / totals.answered['place']!;
}

/** Of the server, what it has started, and PostgreSQL; not of those who ask, and not of the payment provider. */
export const microsPerRequest = (processes: readonly ProcessRow[]): number =>
  processes
    .filter(({ name }) => name === 'server' || name === 'PostgreSQL' || name.startsWith('its '))
    .reduce((sum, one) => sum + one.microsPerRequest, 0);
