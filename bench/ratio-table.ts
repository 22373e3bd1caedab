/** The ratios that say how fast this is: what each of them compares, what it has to be, and how it is told. */
import { medianOf, type Spread, spreadOf } from './pairs.ts';

export type RatioName = keyof typeof ratios;

type Ratio = {
  readonly says: string;
  readonly must: number;
  readonly aim: number;
  /** Whether it is better the larger it is, or the smaller. */
  readonly better: 'more' | 'less';
  /** How long it takes to measure by itself. */
  readonly minutes: number;
};

export const ratios = {
  1: { says: 'cached GET ÷ bare createServer, same bytes', must: 0.7, aim: 0.9, better: 'more', minutes: 2 },
  2: { says: 'GET rate at 10,000 ÷ at 100 connections', must: 0.7, aim: 0.85, better: 'more', minutes: 3 },
  3: { says: 'append events/s ÷ one-row inserts/s', must: 2, aim: 5, better: 'more', minutes: 3 },
  4: { says: 'append events/s ÷ COPY rows/s, same table', must: 0.25, aim: 0.5, better: 'more', minutes: 3 },
  5: { says: 'append commands/s ÷ Emmett appendToStream', must: 5, aim: 10, better: 'more', minutes: 5 },
  6: { says: 'HTTP commands/s ÷ bare POST echo', must: 0.25, aim: 0.5, better: 'more', minutes: 4 },
  7: { says: 'write p99 ÷ (2 × commit p99), 1,000 writes/s', must: 10, aim: 3, better: 'less', minutes: 6 },
  8: { says: 'catch-up events/s ÷ COPY rows/s, read tables', must: 0.15, aim: 0.35, better: 'more', minutes: 9 },
  9: { says: 'catch-up ÷ appended events/s in profile A', must: 5, aim: 20, better: 'more', minutes: 11 },
  10: { says: 'orders/s of one product ÷ of many', must: 0.5, aim: 0.95, better: 'more', minutes: 4 },
  11: { says: 'cost of a command: 10 million events ÷ none', must: 1.5, aim: 1.1, better: 'less', minutes: 35 },
  12: { says: 'order list p99: 1,000,000 ÷ 1,000 orders', must: 2, aim: 1.2, better: 'less', minutes: 5 },
} as const satisfies Readonly<Record<number, Ratio>>;

export const ratioNames = Object.keys(ratios).map(Number) as readonly RatioName[];

/** What was measured block by block, such as requests a second. */
export type Figure = { readonly name: string; readonly unit: string; readonly blocks: readonly number[] };

export type Measured = {
  /** Of each pair of neighbouring blocks. */
  readonly pairs: readonly number[];
  readonly figures: readonly Figure[];
  /** What was measured at what, and what was checked of it. */
  readonly notes: readonly string[];
};

export type Outcome =
  | ({ readonly kind: 'measured' } & Measured)
  /** Something that this machine lacks: nobody's fault. */
  | { readonly kind: 'not measured'; readonly why: string }
  /** What was measured was not what should have been done. */
  | { readonly kind: 'wrong'; readonly why: string };

export type Outcomes = ReadonlyMap<RatioName, Outcome>;

/** Whether a ratio has reached what it has to, or more; null where it was not measured. */
export function reached(name: RatioName, outcome: Outcome): 'aim' | 'must' | 'missed' | null {
  if (outcome.kind !== 'measured') return null;
  const { must, aim, better } = ratios[name];
  const ratio = medianOf(outcome.pairs);
  const isReached = (wanted: number): boolean => (better === 'more' ? ratio >= wanted : ratio <= wanted);
  return isReached(aim) ? 'aim' : isReached(must) ? 'must' : 'missed';
}

/** `judgesTimes` false: only what was checked counts. */
export const isPassed = (outcomes: Outcomes, judgesTimes: boolean): boolean =>
  [...outcomes].every(
    ([name, outcome]) => outcome.kind !== 'wrong' && (!judgesTimes || reached(name, outcome) !== 'missed'),
  );

export function textOf(outcomes: Outcomes, judgesTimes: boolean): string {
  const lines = [row('', '', ['median', 'middle half', 'must', 'aim'])];
  for (const name of ratioNames) {
    const outcome = outcomes.get(name);
    if (outcome === undefined) continue;
    const { says, must, aim, better } = ratios[name];
    const wanted = [must, aim].map((value) => `${better === 'more' ? '≥' : '≤'} ${value}`);
    if (outcome.kind !== 'measured') {
      lines.push(
        row(String(name), says, ['', '', ...wanted], outcome.kind === 'wrong' ? 'WRONG' : ''),
        under(`${outcome.kind === 'wrong' ? '' : 'not measured: '}${outcome.why}`),
      );
      continue;
    }
    const { median, low, high } = spreadOf(outcome.pairs);
    const verdict = judgesTimes ? { aim: 'aim', must: 'must', missed: 'MISSED' }[reached(name, outcome)!] : '';
    lines.push(row(String(name), says, [digits(median), `${digits(low)}–${digits(high)}`, ...wanted], verdict));
    lines.push(...outcome.figures.map(figureText).map(under), ...outcome.notes.map(under));
  }
  return lines.join('\n');
}

/** The same for a program to read. */
export const jsonOf = (outcomes: Outcomes): readonly object[] =>
  [...outcomes].map(([name, outcome]) => ({
    ratio: name,
    ...ratios[name],
    ...(outcome.kind === 'measured' ? { ...spreadOf(outcome.pairs), reached: reached(name, outcome) } : {}),
    ...outcome,
  }));

function figureText({ name, unit, blocks }: Figure): string {
  const { median, low, high }: Spread = spreadOf(blocks);
  return `${name}: ${digits(median)} ${unit} (${digits(low)}–${digits(high)})`;
}

const row = (name: string, says: string, cells: readonly string[], verdict = ''): string =>
  `${name.padStart(2)}  ${says.padEnd(46)}${cells.map((cell, n) => cell.padStart(n === 1 ? 15 : 9)).join('')}  ${verdict}`.trimEnd();

const under = (text: string): string => `      ${text.replaceAll('\n', '\n      ')}`;

/** Three digits that count, or all before the point. */
export const digits = (value: number): string =>
  value >= 100 ? Math.round(value).toLocaleString('en') : value >= 10 ? value.toFixed(1) : value.toFixed(2);
