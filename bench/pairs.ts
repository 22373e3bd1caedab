/** Things measured by turns, so that what else the machine does meanwhile concerns all of them; and how they compare. */

/** The median, and the middle half of the values. */
export type Spread = { readonly median: number; readonly low: number; readonly high: number };

/** Runs each of `blocks` once a round, back and forth (A B, B A, …), so that a drift of the machine favours none. */
export async function inTurn<Name extends string, Block>(
  blocks: Readonly<Record<Name, () => Promise<Block>>>,
  rounds: number,
  onBlock: (name: Name, block: Block) => void = () => {},
): Promise<Record<Name, Block[]>> {
  const names = Object.keys(blocks) as Name[];
  const measured = Object.fromEntries(names.map((name): [Name, Block[]] => [name, []])) as Record<Name, Block[]>;
  for (let round = 0; round < rounds; round += 1) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const block = await blocks[name]();
      measured[name].push(block);
      onBlock(name, block);
    }
  }
  return measured;
}

const warmWithin = 0.03;
const warmBlocks = 3;

/** Runs a block until three in a row agree within 3 %, `blocksMax` times at most: what runs is compiled by then. */
export async function warmUp(rateOfBlock: () => Promise<number>, blocksMax: number): Promise<void> {
  const rates: number[] = [];
  while (rates.length < blocksMax) {
    rates.push(await rateOfBlock());
    const last = rates.slice(-warmBlocks);
    if (last.length === warmBlocks && Math.min(...last) >= Math.max(...last) * (1 - warmWithin)) return;
  }
}

/** Each value by its neighbour in time. */
export const byPair = (values: readonly number[], neighbours: readonly number[]): readonly number[] =>
  values.map((value, n) => value / neighbours[n]!);

export const spreadOf = (values: readonly number[]): Spread => ({
  median: quantile(values, 0.5),
  low: quantile(values, 0.25),
  high: quantile(values, 0.75),
});

export const medianOf = (values: readonly number[]): number => quantile(values, 0.5);

/** Between two values in proportion. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const below = sorted[Math.floor(at)]!;
  return below + (sorted[Math.ceil(at)]! - below) * (at - Math.floor(at));
}
