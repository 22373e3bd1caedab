/** Makes a failing plan smaller as long as it fails in the same way: fewer faults first, then fewer commands. */
import type { Plan } from './plan.ts';
import { runWorld } from './world.ts';

/** What was left out of the plan of a seed, by place. */
export type LeftOut = { readonly faults: readonly number[]; readonly commands: readonly number[] };

const triesMax = 400;

/** `plan` without what is left out. */
export const without = (plan: Plan, { faults, commands }: LeftOut): Plan => ({
  ...plan,
  faults: plan.faults.filter((_, n) => !faults.includes(n)),
  commands: plan.commands.filter((_, n) => !commands.includes(n)),
});

/** The least that still breaks `invariant`, as far as it is found within some hundred tries. */
export async function shrink(plan: Plan, invariant: string): Promise<LeftOut> {
  let best: LeftOut = { faults: [], commands: [] };
  let tries = 0;
  const stillFails = async (candidate: LeftOut): Promise<boolean> => {
    if (tries >= triesMax) return false;
    tries += 1;
    const { violation } = await runWorld(without(plan, candidate));
    return violation?.invariant === invariant;
  };

  for (const part of ['faults', 'commands'] as const) {
    // Ever smaller pieces: halves, quarters, one by one; again as long as that helps.
    let size = Math.max(1, Math.ceil(plan[part].length / 2));
    for (;;) {
      let smaller = false;
      for (let from = plan[part].length - size; from > -size; from -= size) {
        const piece = Array.from({ length: size }, (_, n) => from + n).filter(
          (place) => place >= 0 && !best[part].includes(place),
        );
        if (piece.length === 0) continue;
        const candidate = { ...best, [part]: [...best[part], ...piece] };
        if (!(await stillFails(candidate))) continue;
        best = candidate;
        smaller = true;
      }
      if (size === 1 && !smaller) break;
      size = Math.max(1, Math.floor(size / 2));
      if (tries >= triesMax) break;
    }
  }
  const inOrder = (places: readonly number[]): number[] => [...places].sort((a, b) => a - b);
  return { faults: inOrder(best.faults), commands: inOrder(best.commands) };
}
