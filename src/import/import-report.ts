/** What an import did: the report file that leaves nothing out, and the tables that a person reads. */
import { writeFileSync } from 'node:fs';
import type { CheckOutcome, Difference } from './import-check.ts';
import { ImportError } from './import-error.ts';
import type { RunOutcome } from './import-run.ts';
import { type MonthSum, sumByMonth } from './month-sums.ts';
import type { ImportPlan } from './order-plan.ts';
import { poundsOf } from './pence.ts';
import { skipReasons, type SkipReason } from './sale-line.ts';

/** `differences`: all orders are there and something is not as in the file. */
export type ImportState = 'planned' | 'interrupted' | 'stopped' | 'differences' | 'equal';

export type ImportSummary = {
  readonly file: string;
  readonly sha256: string;
  readonly server: string;
  /** Pieces of every product; null: what the file's orders ask for. */
  readonly stock: number | null;
  readonly state: ImportState;
  /** Why it stopped; null unless it did. */
  readonly error: string | null;
  readonly plan: {
    readonly lines: number;
    readonly orders: number;
    readonly orderLines: number;
    readonly customers: number;
    readonly products: number;
    readonly skippedLines: number;
    readonly skippedByReason: Readonly<Partial<Record<SkipReason, number>>>;
    readonly roundedPrices: number;
    readonly mappedSkus: number;
    readonly invoicesWithSeveralCustomers: number;
    readonly invoicesWithSeveralTimes: number;
    readonly byMonth: readonly MonthSum[];
  };
  readonly run: Omit<RunOutcome, 'consistencyToken' | 'refused'> | null;
  readonly check: CheckOutcome | null;
  readonly rates: {
    readonly ordersPerSecond: number;
    readonly linesPerSecond: number;
    readonly totalSeconds: number;
  } | null;
};

export function summaryOf(
  source: Pick<ImportSummary, 'file' | 'server' | 'stock' | 'state' | 'error'>,
  plan: ImportPlan,
  run: RunOutcome | null,
  check: CheckOutcome | null,
): ImportSummary {
  const skippedByReason: Partial<Record<SkipReason, number>> = {};
  for (const { reason } of plan.skipped) skippedByReason[reason] = (skippedByReason[reason] ?? 0) + 1;
  const byMonth = sumByMonth(plan.orders);
  const orderLines = byMonth.reduce((lines, sum) => lines + sum.lines, 0);
  return {
    file: source.file,
    sha256: plan.sha256,
    server: source.server,
    stock: source.stock,
    state: source.state,
    error: source.error,
    plan: {
      lines: plan.lines,
      orders: plan.orders.length,
      orderLines,
      customers: plan.customers.length,
      products: plan.products.length,
      skippedLines: plan.skipped.length,
      skippedByReason,
      roundedPrices: plan.roundedPrices.length,
      mappedSkus: plan.mappedSkus.length,
      invoicesWithSeveralCustomers: plan.severalCustomers.length,
      invoicesWithSeveralTimes: plan.severalTimes.length,
      byMonth,
    },
    run: run && { sent: run.sent, resumed: run.resumed, setUpMs: run.setUpMs, ordersMs: run.ordersMs },
    check,
    rates: run && ratesOf(plan, orderLines, run, check),
  };
}

/** Writes the summary and every list behind its counts as JSON, one entry a line. Throws an ImportError. */
export function writeReport(path: string, summary: ImportSummary, plan: ImportPlan, run: RunOutcome | null): void {
  const report = {
    ...summary,
    reasons: skipReasons,
    skippedLines: plan.skipped,
    roundedPrices: plan.roundedPrices,
    mappedSkus: plan.mappedSkus,
    invoicesWithSeveralCustomers: plan.severalCustomers,
    invoicesWithSeveralTimes: plan.severalTimes,
    refusedOrders: run?.refused ?? [],
  };
  const members = Object.entries(report).map(([name, value]) => {
    const text = Array.isArray(value)
      ? `[${value.map((entry) => `\n    ${JSON.stringify(entry)}`).join(',')}${value.length > 0 ? '\n  ' : ''}]`
      : JSON.stringify(value, null, 2).replaceAll('\n', '\n  ');
    return `  ${JSON.stringify(name)}: ${text}`;
  });
  try {
    writeFileSync(path, `{\n${members.join(',\n')}\n}\n`);
  } catch (error) {
    throw new ImportError(`the report ${path} cannot be written: ${(error as Error).message}`, { cause: error });
  }
}

/** What was read and left out, before anything is sent. */
export function planText({ plan, file }: ImportSummary): string {
  const skipped = Object.entries(plan.skippedByReason).map(([reason, lines]) => [
    `  ${reason}`,
    count(lines),
    skipReasons[reason as SkipReason],
  ]);
  const notes: readonly [what: string, number: number][] = [
    ['prices finer than a penny, rounded half to even', plan.roundedPrices],
    ['codes that are no valid SKU, mapped to one', plan.mappedSkus],
    ['invoices with several customers, the first taken', plan.invoicesWithSeveralCustomers],
    ['invoices with several times, the first taken', plan.invoicesWithSeveralTimes],
  ];
  const seen = notes.filter(([, number]) => number > 0).map(([what, number]) => [what, count(number)]);
  return [
    `${file}: ${count(plan.lines)} lines`,
    `  ${count(plan.orders)} orders with ${count(plan.orderLines)} lines, ${count(plan.customers)} customers, ` +
      `${count(plan.products)} products`,
    `  ${count(plan.skippedLines)} lines are no sale`,
    ...table(skipped, ['left', 'right', 'left']).map((row) => `  ${row}`),
    ...table(seen, ['left', 'right']),
  ].join('\n');
}

/** Orders by status and revenue by month, beside the same from the file alone, and what differs. */
export function outcomeText({ plan, run, rates, check }: ImportSummary): string {
  if (check === null || run === null || rates === null) return '';
  const statuses = Object.entries(check.ordersByStatus).map(([status, orders]) => [status, count(orders)]);
  const found = new Map(check.foundByMonth.map((sum) => [sum.month, sum]));
  const months = plan.byMonth.map((sum) => {
    const there = found.get(sum.month);
    return [
      sum.month,
      count(sum.orders),
      count(there?.orders ?? 0),
      money(sum.revenuePence),
      money(there?.revenuePence ?? 0),
    ];
  });
  const total = (sums: readonly MonthSum[]): MonthSum =>
    sums.reduce((a, b) => ({ ...a, orders: a.orders + b.orders, revenuePence: a.revenuePence + b.revenuePence }), {
      month: 'all',
      orders: 0,
      lines: 0,
      units: 0,
      revenuePence: 0,
    });
  const foreign = check.foreignOrders === 1 ? '1 order is' : `${count(check.foreignOrders)} orders are`;
  const [all, there] = [total(plan.byMonth), total(check.foundByMonth)];
  const right = ['left', 'right', 'right', 'right', 'right'] as const;
  return [
    '',
    'Orders by status',
    ...table(statuses, ['left', 'right']),
    '',
    'Completed orders and revenue (GBP) by month',
    ...table(
      [
        ['', 'orders in file', 'found', 'revenue in file', 'found'],
        ...months,
        ['all', count(all.orders), count(there.orders), money(all.revenuePence), money(there.revenuePence)],
      ],
      right,
    ),
    '',
    check.salesReportCompared
      ? 'The sales report of the same months was compared with the orders.'
      : `The sales report was not compared: of these months ${foreign} not from this file.`,
    `${count(run.sent)} orders sent, ${count(run.resumed)} acknowledged before: ${count(Math.round(rates.ordersPerSecond))} orders/s, ` +
      `${count(Math.round(rates.linesPerSecond))} lines/s, ${rates.totalSeconds.toFixed(1)} s until all were final and read back.`,
  ].join('\n');
}

export function differencesText(differences: readonly Difference[]): string {
  const rows = differences.map(({ what, expected, found }) => [what, String(expected), String(found)]);
  return [
    `${differences.length} ${differences.length === 1 ? 'difference' : 'differences'}`,
    ...table([['', 'expected', 'found'], ...rows], ['left', 'right', 'right']),
  ].join('\n');
}

function ratesOf(
  plan: ImportPlan,
  orderLines: number,
  run: RunOutcome,
  check: CheckOutcome | null,
): ImportSummary['rates'] {
  const sendSeconds = Math.max(run.ordersMs, 1) / 1000;
  const share = plan.orders.length === 0 ? 0 : run.sent / plan.orders.length;
  return {
    ordersPerSecond: run.sent / sendSeconds,
    linesPerSecond: (orderLines * share) / sendSeconds,
    totalSeconds: (run.setUpMs + run.ordersMs + (check?.settleMs ?? 0)) / 1000,
  };
}

const count = (n: number): string => n.toLocaleString('en');

function money(pence: number): string {
  const [pounds, rest] = poundsOf(pence).split('.');
  return `${Number(pounds).toLocaleString('en')}.${rest}`;
}

function table(rows: readonly (readonly string[])[], align: readonly ('left' | 'right')[]): string[] {
  const widths = align.map((_, column) => Math.max(0, ...rows.map((row) => (row[column] ?? '').length)));
  return rows.map((row) =>
    `  ${align
      .map((side, column) =>
        side === 'left' ? (row[column] ?? '').padEnd(widths[column]!) : (row[column] ?? '').padStart(widths[column]!),
      )
      .join('  ')}`.trimEnd(),
  );
}
