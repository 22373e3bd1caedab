/** Orders, lines, units and revenue by calendar month (UTC) of `placedAt`. */

export type MonthSum = {
  /** `2010-12` */
  readonly month: string;
  readonly orders: number;
  readonly lines: number;
  readonly units: number;
  readonly revenuePence: number;
};

type Summed = {
  readonly placedAtMs: number;
  readonly lines: { readonly length: number };
  readonly units: number;
  readonly totalPence: number;
};

/** In order of the months; months without an order are absent. */
export function sumByMonth(orders: Iterable<Summed>): MonthSum[] {
  const sums = new Map<string, { -readonly [K in keyof MonthSum]: MonthSum[K] }>();
  for (const { placedAtMs, lines, units, totalPence } of orders) {
    const month = new Date(placedAtMs).toISOString().slice(0, 7);
    const sum = sums.get(month) ?? { month, orders: 0, lines: 0, units: 0, revenuePence: 0 };
    sum.orders += 1;
    sum.lines += lines.length;
    sum.units += units;
    sum.revenuePence += totalPence;
    sums.set(month, sum);
  }
  return [...sums.values()].sort((a, b) => (a.month < b.month ? -1 : 1));
}

/** The whole months that hold the orders: from the start of the first to the start of the one after the last. */
export function monthSpan(orders: readonly { readonly placedAtMs: number }[]): { from: string; to: string } {
  const first = new Date(orders[0]?.placedAtMs ?? 0);
  const last = new Date(orders.at(-1)?.placedAtMs ?? 0);
  return {
    from: new Date(Date.UTC(first.getUTCFullYear(), first.getUTCMonth())).toISOString(),
    to: new Date(Date.UTC(last.getUTCFullYear(), last.getUTCMonth() + 1)).toISOString(),
  };
}
