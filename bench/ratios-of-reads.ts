/** Ratios 1 and 2: hot reads beside a bare server, and with many connections. */
import { openHotReads } from './hot-reads.ts';
import { byPair } from './pairs.ts';
import { figure, type Group } from './ratio-groups.ts';
import type { Measured, RatioName } from './ratio-table.ts';

export const reads: Group = {
  ratios: [1, 2],
  async measure({ ending, wanted, quick, warmInTurn }) {
    const outcomes = new Map<RatioName, Measured>();
    const checked = 'a token with each; every answer compared byte by byte';
    if (wanted.has(1)) {
      const hot = await openHotReads(ending);
      const [connections, seconds] = [64, quick ? 0.3 : 1.5];
      const block = (kind: 'bare' | '200') => async () => (await hot[kind](connections, seconds)).perSecond;
      const rates = await warmInTurn('ratio 1', { bare: block('bare'), ours: block('200') });
      outcomes.set(1, {
        pairs: byPair(rates.ours, rates.bare),
        figures: [figure('GET of one order', 'a second', rates.ours), figure('bare', 'a second', rates.bare)],
        notes: [`${connections} connections, blocks of ${seconds} s, ${checked}`],
      });
    }
    if (wanted.has(2)) {
      // With a request under way on each of 10,000 connections they wait for longer than users would: nobody is turned away.
      const hot = await openHotReads(ending, { TWOFOLD_WAIT_MS: '0' });
      const [many, few, seconds] = [quick ? 1_000 : 10_000, 100, quick ? 0.3 : 4];
      const block = (connections: number) => async () => (await hot['200'](connections, seconds)).perSecond;
      const rates = await warmInTurn('ratio 2', { few: block(few), many: block(many) });
      outcomes.set(2, {
        pairs: byPair(rates.many, rates.few),
        figures: [
          figure(`over ${many.toLocaleString('en')} connections`, 'a second', rates.many),
          figure(`over ${few}`, 'a second', rates.few),
        ],
        notes: [`all of them with a request under way, blocks of ${seconds} s once all stand, ${checked}`],
      });
    }
    return outcomes;
  },
};
