/** Ratio 12: everyday lists of orders, with many orders and with few. */
import assert from 'node:assert/strict';
import type { OrderListQuery } from '#contracts/http.ts';
import { askByTurns, everyday, openSides, type Side, summary } from './order-lists.ts';
import { byPair } from './pairs.ts';
import { figure, type Group } from './ratio-groups.ts';

const fewOrders = 1_000;

export const lists: Group = {
  ratios: [12],
  async measure({ ending, quick, pairs, progress }) {
    const manyOrders = quick ? 10_000 : 1_000_000;
    const rounds = quick ? 2 : 30;
    const queries = Object.values(everyday);
    progress.begin(`writing ${manyOrders.toLocaleString('en')} orders`, 2);
    let filled = 0;
    const sides = await openSides(ending, [fewOrders, manyOrders], () => progress.reach((filled += 1)));
    progress.end();
    for (const side of sides) for (const query of queries) await checkPage(side, query);
    // Both are asked within a block, each list of both before the next.
    const [few, many]: [number[], number[]] = [[], []];
    progress.begin('ratio 12', pairs);
    for (let pair = 0; pair < pairs; pair += 1) {
      const times: [number[], number[]] = [[], []];
      for (const query of queries) {
        const asked = await askByTurns(pair % 2 === 0 ? sides : sides.toReversed(), query, rounds);
        for (const [n, own] of (pair % 2 === 0 ? asked : asked.toReversed()).entries()) times[n]!.push(...own.times);
      }
      few.push(summary(times[0], 0).p99);
      many.push(summary(times[1], 0).p99);
      progress.reach(pair + 1);
    }
    progress.end();
    return new Map([
      [
        12,
        {
          pairs: byPair(many, few),
          figures: [
            figure(`p99 with ${manyOrders.toLocaleString('en')} orders`, 'ms', many),
            figure(`p99 with ${fewOrders.toLocaleString('en')}`, 'ms', few),
          ],
          notes: [
            `${queries.length} everyday lists, ${rounds} times each per block and side, by turns, without HTTP and without a cache; ` +
              'every list checked against its filters',
          ],
        },
      ],
    ]);
  },
};

/** What is listed is what was asked for, in that order. */
async function checkPage(side: Side, query: OrderListQuery): Promise<void> {
  const { bytes } = await side.ask(query);
  type Item = { status: string; customerId: string; placedAt: string; total: { amount: number } };
  const { items } = JSON.parse(String(bytes)) as { items: Item[] };
  const { status, customerId, placedFrom = '', placedTo = '~', minTotal = 0, sort = '-placedAt' } = query;
  for (const item of items) {
    const says = `${JSON.stringify(query)} has listed ${JSON.stringify(item)}`;
    if (status !== undefined) assert.equal(item.status, status, says);
    if (customerId !== undefined) assert.equal(item.customerId, customerId, says);
    assert.ok(item.placedAt >= placedFrom && item.placedAt < placedTo && item.total.amount >= minTotal, says);
  }
  const keys = items.map(({ placedAt, total }) => (sort.endsWith('total') ? total.amount : Date.parse(placedAt)));
  const sorted = keys.toSorted((a, b) => (sort.startsWith('-') ? b - a : a - b));
  assert.deepEqual(keys, sorted, `${JSON.stringify(query)} is out of order`);
}
