/** Ratio 11: what a command costs when many events are stored, and when there are none. */
import { openDatabase } from '#platform/postgres.ts';
import { syncsPerSecond } from '../load/machine.ts';
import { programDataDir } from '../tests/running-program.ts';
import { caughtUp } from './long-work.ts';
import { makeManyOrders } from './many-orders.ts';
import { type OrderLoad, openOrderLoad } from './order-load.ts';
import { type OwnSystem, startOwnSystem } from './own-system.ts';
import { byPair } from './pairs.ts';
import { figure, type Group } from './ratio-groups.ts';

/** About 7 events each: 10 million of them. */
const storedOrders = 1_430_000;

export const growth: Group = {
  ratios: [11],
  async measure({ ending, quick, progress, warmInTurn }) {
    const dataDir = await programDataDir(ending);
    const orders = quick ? 1_000 : storedOrders;
    progress.begin('writing orders', orders);
    const events = await makeManyOrders(ending, dataDir, orders, (done) => progress.reach(done));
    progress.end();
    const full = await startOwnSystem(ending, dataDir);
    await caughtUp(full, progress, events);
    await tidy(full);
    const empty = await startOwnSystem(ending);
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

function microsPerOrder({ processes, totals, overload }: Awaited<ReturnType<OrderLoad['run']>>): number {
  if (overload !== null) throw new Error(`what is measured has to be done: ${overload}`);
  const answered = Object.values(totals.answered).reduce((sum, one) => sum + one, 0);
  const ours = processes.filter(({ name }) => name === 'server' || name === 'PostgreSQL' || name.startsWith('its '));
  const perAnswer = ours.reduce((sum, one) => sum + one.microsPerRequest, 0);
  return (perAnswer * answered) / totals.answered['place']!;
}

/** What PostgreSQL would do by itself in the minutes to come: neither side is to pay for it while it is measured. */
async function tidy({ program }: OwnSystem): Promise<void> {
  for (const url of Object.values(program.databaseUrls)) {
    const database = openDatabase(url, { applicationName: 'bench', poolMax: 1, statementTimeoutMs: 0 });
    await database.query('', 'vacuum analyze').finally(() => database.end());
  }
  const database = openDatabase(program.databaseUrls.ordering, {
    applicationName: 'bench',
    poolMax: 1,
    statementTimeoutMs: 0,
  });
  await database.query('', 'checkpoint').finally(() => database.end());
}
