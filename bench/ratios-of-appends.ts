/** Ratios 3 to 5: what an append costs, beside one-row inserts, COPY and Emmett on the same PostgreSQL. */
import { type AppendContestants, openAppendContestants } from './append-contestants.ts';
import { assertAnswersAreDurable } from './durability.ts';
import { openEmmett } from './emmett.ts';
import { byPair } from './pairs.ts';
import { figure, type Group } from './ratio-groups.ts';
import type { Measured, Outcome, RatioName } from './ratio-table.ts';

type Found = Measured | Extract<Outcome, { kind: 'not measured' }>;

export const appends: Group = {
  ratios: [3, 4, 5],
  async measure({ ending, wanted, quick, warmInTurn }) {
    const outcomes = new Map<RatioName, Found>();
    const contestants = await openAppendContestants(ending);
    const { append, inserts, copy, fdatasync, otherUrl, check } = contestants;
    const seconds = quick ? 0.3 : 3;
    // The best of each, whichever that is on this machine.
    const callers = await fastest([32, 1_000], (count) => append(count, seconds).then(rateOf), quick);
    const commands = async (): Promise<number> => rateOf(await append(callers, seconds));
    const syncs = async (): Promise<number> => rateOf(await fdatasync(quick ? 0.1 : 0.5));
    const ours = `append, callers: ${callers}`;
    const what = `one command: one event on a new stream, its state, a key; blocks of ${seconds} s`;

    if (wanted.has(3)) {
      const insert = async (clients: number): Promise<number> => (await inserts.run(clients, seconds)).perSecond;
      const clients = await fastest([1, 8, 32, 64], insert, quick);
      const rates = await warmInTurn('ratio 3', { commands, inserts: () => insert(clients), syncs });
      outcomes.set(3, {
        pairs: byPair(rates.commands, rates.inserts),
        figures: [
          figure(ours, 'events a second', rates.commands),
          figure(`one-row inserts by ${inserts.by}, clients: ${clients}`, 'rows a second', rates.inserts),
          syncFigure(rates.syncs),
        ],
        notes: [what],
      });
    }
    if (wanted.has(4)) {
      const rows = quick ? 1_000 : 100_000;
      const copies = async (): Promise<number> => rateOf(await copy(rows));
      const rates = await warmInTurn('ratio 4', { commands, copies, syncs });
      outcomes.set(4, {
        pairs: byPair(rates.commands, rates.copies),
        figures: [
          figure(ours, 'events a second', rates.commands),
          figure('COPY of the same events', 'rows a second', rates.copies),
          syncFigure(rates.syncs),
        ],
        notes: [
          what,
          `COPY: binary, ${rows.toLocaleString('en')} rows at most, indexes in place, without states and keys`,
        ],
      });
    }
    if (wanted.has(5)) {
      const emmett = quick ? 'a quick run installs nothing' : await openEmmett(ending, otherUrl);
      if (typeof emmett === 'string') outcomes.set(5, { kind: 'not measured', why: emmett });
      else {
        await assertAnswersAreDurable(otherUrl, () => emmett.appendOne());
        const atOnce = await fastest([8, 32, 100], (count) => emmett.append(count, seconds), quick);
        const theirs = (): Promise<number> => emmett.append(atOnce, seconds);
        const rates = await warmInTurn('ratio 5', { commands, theirs, syncs });
        outcomes.set(5, {
          pairs: byPair(rates.commands, rates.theirs),
          figures: [
            figure(ours, 'commands a second', rates.commands),
            figure(`Emmett ${emmett.version}, ${atOnce} at once`, 'appends a second', rates.theirs),
            syncFigure(rates.syncs),
          ],
          notes: [what, `Emmett: one event on a new stream each; ${await emmett.check()}`],
        });
      }
    }
    return withCheck(outcomes, await check());
  },
};

const rateOf = ({ perSecond }: Awaited<ReturnType<AppendContestants['append']>>): number => perSecond;

const syncFigure = (blocks: readonly number[]) => figure('fdatasync of 4 KiB', 'a second', blocks);

/** Which count has the highest rate. */
async function fastest(
  counts: readonly number[],
  rateAt: (count: number) => Promise<number>,
  quick: boolean,
): Promise<number> {
  if (quick) return counts[0]!;
  const tried: { readonly count: number; readonly rate: number }[] = [];
  for (const count of counts) tried.push({ count, rate: await rateAt(count) });
  return tried.reduce((best, one) => (one.rate > best.rate ? one : best)).count;
}

function withCheck(outcomes: ReadonlyMap<RatioName, Found>, checked: string): ReadonlyMap<RatioName, Found> {
  return new Map(
    [...outcomes].map(([name, found]): [RatioName, Found] => [
      name,
      'kind' in found ? found : { ...found, notes: [...found.notes, `checked: ${checked}`] },
    ]),
  );
}
