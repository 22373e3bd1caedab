/** Blocks by turns, with a bar that shows how many of them have run. */
import { inTurn, warmUp } from './pairs.ts';
import type { Bench } from './ratio-groups.ts';

type Turns = Pick<Bench, 'inTurn' | 'warmInTurn'> & {
  /** Runs each of `blocks` until it is as fast as it gets. */
  warm(label: string, blocks: Readonly<Record<string, () => Promise<number>>>): Promise<void>;
};

/** `pairs`: how often each block runs; before that until it is warm, `blocksMax` times at most. */
export function turnsOf(progress: Bench['progress'], pairs: number, blocksMax: number): Turns {
  const turns: Turns = {
    async inTurn(label, blocks) {
      let done = 0;
      progress.begin(label, pairs * Object.keys(blocks).length);
      const all = await inTurn(blocks, pairs, () => progress.reach((done += 1)));
      progress.end();
      return all;
    },
    async warm(label, blocks) {
      const all = Object.values(blocks);
      progress.begin(`${label}, warming up`, all.length);
      for (const [n, block] of all.entries()) {
        await warmUp(block, blocksMax);
        progress.reach(n + 1);
      }
      progress.end();
    },
    async warmInTurn(label, blocks) {
      await turns.warm(label, blocks);
      return turns.inTurn(label, blocks);
    },
  };
  return turns;
}
