/** Orders of one product beside orders of many: ratio 10 of `npm run bench`, by the same code. */
import type { GrowthBench, Told } from './growth-parts.ts';
import { hotBesideSpread } from './hot-beside-spread.ts';
import { startOwnSystem } from './own-system.ts';
import { type Outcomes, reached, ratios, textOf } from './ratio-table.ts';

const ratio = 10;

export async function spread({ ending, smoke, warmInTurn }: GrowthBench): Promise<Told> {
  const measured = await hotBesideSpread({ quick: smoke, warmInTurn }, await startOwnSystem(ending));
  const outcomes: Outcomes = new Map([[ratio, { kind: 'measured', ...measured }]]);
  const isMissed = !smoke && reached(ratio, outcomes.get(ratio)!) === 'missed';
  return {
    text: textOf(outcomes, !smoke),
    missed: isMissed ? [`${ratios[ratio].says}: at least ${ratios[ratio].must}`] : [],
  };
}
