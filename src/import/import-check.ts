/** Waits until the imported orders are final, and compares what the server holds with the file. */
import { type OrderStatus, orderStatuses } from '#contracts/http.ts';
import { Interrupted } from './import-error.ts';
import type { RefusedOrder } from './import-run.ts';
import { type MonthSum, sumByMonth } from './month-sums.ts';
import type { Found, FoundOrder, OrderReader } from './order-reader.ts';
import type { ImportPlan } from './order-plan.ts';
import { pause } from './pause.ts';
import { poundsOf } from './pence.ts';
import type { Progress } from '#platform/progress-bar.ts';
import { systemPorts } from '#platform/ports.ts';

export type CheckSettings = {
  /** Pieces of every product as given to the import; null where stock was what the file's orders ask for. */
  readonly stock: number | null;
  /** How long to wait without any order becoming final. */
  readonly patienceMs: number;
  readonly stop: AbortSignal;
  readonly progress: Progress;
};

export type Difference = { readonly what: string; readonly expected: number | string; readonly found: number | string };

export type CheckOutcome = {
  /** `missing`: not there although acknowledged; `refused`: not there because the server did not take it. */
  readonly ordersByStatus: Readonly<Record<OrderStatus | 'missing' | 'refused', number>>;
  /** Of completed orders. */
  readonly foundByMonth: readonly MonthSum[];
  readonly foreignOrders: number;
  readonly salesReportCompared: boolean;
  readonly differences: readonly Difference[];
  readonly settleMs: number;
};

const pollMsMin = 50;
const pollMsMax = 500;
/** Reading everything back again, for orders that are late, is dear. */
const rereadMs = 3_000;
/** The report may be made by another projection than the order list. */
const reportMsMax = 10_000;
/** Beyond these, differing orders are only counted. */
const namedOrdersMax = 20;

/** Resolves to what is there and how it differs; a difference is a value, not an error. */
export async function checkImport(
  plan: ImportPlan,
  refused: readonly RefusedOrder[],
  reader: OrderReader,
  settings: CheckSettings,
): Promise<CheckOutcome> {
  const beganMs = systemPorts.elapsed();
  const found = await settledOrders(plan.orders.length - refused.length, reader, settings);
  const settleMs = systemPorts.elapsed() - beganMs;
  const completed = [...found.orders.values()].filter(({ status }) => status === 'completed');
  const foundByMonth = sumByMonth(completed);
  const ordersByStatus = countByStatus(plan, refused, found);
  const salesReportCompared = found.foreignOrders === 0;
  return {
    ordersByStatus,
    foundByMonth,
    foreignOrders: found.foreignOrders,
    salesReportCompared,
    differences: [
      ...(settings.stock === null
        ? [
            ...statusDifferences(plan, ordersByStatus),
            ...monthDifferences('found', sumByMonth(plan.orders), foundByMonth),
          ]
        : scarcityDifferences(plan, ordersByStatus, found, settings.stock)),
      ...contentDifferences(found.orders),
      ...(salesReportCompared ? await reportDifferences(foundByMonth, reader, settings) : []),
    ],
    settleMs,
  };
}

/** Reads all orders once every one of them is final, or none has become final for `patienceMs`. */
async function settledOrders(asked: number, reader: OrderReader, settings: CheckSettings): Promise<Found> {
  const { patienceMs, stop, progress } = settings;
  const readAll = async (): Promise<Found> => {
    progress.begin('read back', asked);
    const found = await reader.readAll((orders) => progress.reach(orders));
    progress.end();
    return found;
  };
  progress.begin('completed', asked);
  let seen = '';
  let changedMs = systemPorts.elapsed();
  for (let pollMs = pollMsMin; ; pollMs = Math.min(pollMs * 2, pollMsMax)) {
    const glance = await reader.glance();
    progress.reach(glance.completed);
    let settled = 0;
    if (glance.oldestOpen.length === 0) {
      progress.end();
      const found = await readAll();
      settled = [...found.orders.values()].filter(({ status }) => isFinal(status)).length;
      if (settled >= asked) return found;
      progress.begin('settling', asked);
      progress.reach(settled);
    }
    const now = JSON.stringify([glance, settled]);
    if (now !== seen) changedMs = systemPorts.elapsed();
    else if (systemPorts.elapsed() - changedMs > patienceMs) return readAll();
    seen = now;
    await pause(settled > 0 ? Math.min(rereadMs, patienceMs) : pollMs, stop);
    if (stop.aborted) throw new Interrupted();
  }
}

const isFinal = (status: OrderStatus): boolean => status !== 'pending' && status !== 'reserved';

function countByStatus(
  plan: ImportPlan,
  refused: readonly RefusedOrder[],
  { orders }: Found,
): CheckOutcome['ordersByStatus'] {
  const counts = { pending: 0, reserved: 0, completed: 0, failed: 0, cancelled: 0, missing: 0, refused: 0 };
  for (const { status } of orders.values()) counts[status] += 1;
  const refusedIds = new Set(refused.map(({ orderId }) => orderId));
  counts.refused = refusedIds.size;
  counts.missing = plan.orders.filter(({ orderId }) => !orders.has(orderId) && !refusedIds.has(orderId)).length;
  return counts;
}

const unequal = (what: string, expected: number | string, found: number | string): Difference[] =>
  expected === found ? [] : [{ what, expected, found }];

function statusDifferences(plan: ImportPlan, counts: CheckOutcome['ordersByStatus']): Difference[] {
  const others = [...orderStatuses.filter((status) => status !== 'completed'), 'missing', 'refused'] as const;
  return [
    ...unequal('orders completed', plan.orders.length, counts.completed),
    ...others.flatMap((status) => unequal(`orders ${status}`, 0, counts[status])),
  ];
}

/** With a given stock, which orders get it is the server's choice; what must hold is that nothing is oversold. */
function scarcityDifferences(
  plan: ImportPlan,
  counts: CheckOutcome['ordersByStatus'],
  { orders }: Found,
  stock: number,
): Difference[] {
  const sold = new Map<string, number>();
  for (const { orderId, lines } of plan.orders) {
    if (orders.get(orderId)?.status !== 'completed') continue;
    for (const { product, quantity } of lines) sold.set(product.sku, (sold.get(product.sku) ?? 0) + quantity);
  }
  const otherFailures = [...orders.values()].filter(
    ({ status, failureCode }) => status === 'failed' && failureCode !== 'out-of-stock',
  );
  return [
    ...unequal('orders completed or failed', plan.orders.length, counts.completed + counts.failed),
    ...unequal('orders failed for another reason than stock', 0, otherFailures.length),
    ...[...sold].flatMap(([sku, pieces]) =>
      pieces > stock ? unequal(`pieces of ${sku} sold, at most`, stock, pieces) : [],
    ),
  ];
}

type ComparedSum = Omit<MonthSum, 'lines'> & { readonly lines?: number };

function monthDifferences(
  where: string,
  expected: readonly ComparedSum[],
  found: readonly ComparedSum[],
): Difference[] {
  const none = { orders: 0, units: 0, revenuePence: 0 };
  const months = [...new Set([...expected, ...found].map(({ month }) => month))].sort();
  return months.flatMap((month) => {
    const of = (sums: readonly ComparedSum[]): Omit<ComparedSum, 'month'> =>
      sums.find((sum) => sum.month === month) ?? none;
    const [want, have] = [of(expected), of(found)];
    return [
      ...unequal(`${month} orders ${where}`, want.orders, have.orders),
      ...unequal(`${month} units ${where}`, want.units, have.units),
      ...unequal(`${month} revenue ${where}`, poundsOf(want.revenuePence), poundsOf(have.revenuePence)),
    ];
  });
}

function contentDifferences(orders: ReadonlyMap<string, FoundOrder>): Difference[] {
  const differing = [...orders].filter(([, { differs }]) => differs !== null);
  return [
    ...unequal('orders with other content', 0, differing.length),
    ...differing.slice(0, namedOrdersMax).map(([orderId, { differs }]) => ({
      what: `order ${orderId}`,
      expected: 'as in the file',
      found: differs ?? '',
    })),
  ];
}

async function reportDifferences(
  completed: readonly MonthSum[],
  reader: OrderReader,
  { patienceMs, stop }: CheckSettings,
): Promise<Difference[]> {
  const beganMs = systemPorts.elapsed();
  for (;;) {
    const differences = monthDifferences('in the sales report', completed, await reader.salesReport());
    if (differences.length === 0 || systemPorts.elapsed() - beganMs > Math.min(reportMsMax, patienceMs) || stop.aborted)
      return differences;
    await pause(pollMsMax, stop);
  }
}
