/** Ratio 11: what a command costs when many events are stored, and when there are none. */
import { syncsPerSecond } from '../load/machine.ts';
import { microsPerOrder, openOrderLoad } from './order-load.ts';
import { byPair } from './pairs.ts';
import { figure, type Group } from './ratio-groups.ts';
import { startWithStored } from './stored-orders.ts';

const storedEvents = 10_000_000;

export const growth: Group = {
  ratios: [11],
  async measure({ ending, quick, progress, warmInTurn }) {
    const { system: full, events } = await startWithStored(ending, progress, quick ? 7_000 : storedEvents);
    const { system: empty } = await startWithStored(ending, progress, 0);
    const wish = {
      requestsPerSecond: quick ? 50 : 150,
      orderShare: 1,
      connections: 100,
      seconds: quick ? 1 : 10,
      warmUpSeconds: quick ? 0.5 : 2,
    };
    const loads = {
      full: await openOrderLoad(ending, full, { products: quick ? 20 : 200, customers: 100 }),
      empty: await openOrderLoad(ending, empty, { products: quick ? 20 : 200, customers: 100 }),
    };
    const block = (kind: keyof typeof loads) => async () => microsPerOrder(await loads[kind].run(wish));
    const costs = await warmInTurn('ratio 11', {
      full: block('full'),
      empty: block('empty'),
      syncs: async () => syncsPerSecond(),
    });
    return new Map([
      [
        11,
        {
          pairs: byPair(costs.full, costs.empty),
          figures: [
            figure(`an order with ${events.toLocaleString('en')} events stored`, 'µs', costs.full),
            figure('with none', 'µs', costs.empty),
            figure('fdatasync of 4 KiB', 'a second', costs.syncs),
          ],
          notes: [
            `processor time of the server and PostgreSQL per order, with all that follows from it, at ${wish.requestsPerSecond} a second ` +
              `for ${wish.seconds} s; checked: ${loads.full.checked()} with them, ${loads.empty.checked()} without`,
          ],
        },
      ],
    ]);
  },
};
