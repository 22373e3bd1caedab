/** Orders of one product, whose stock all of them change, beside orders of many products. */
import { randomUUID } from 'node:crypto';
import { openDatabase } from '#platform/postgres.ts';
import { syncsPerSecond } from '../load/machine.ts';
import { until } from '../tests/shop-client.ts';
import { closedLoop, isWhole, requestOf } from './closed-loop.ts';
import { type OwnSystem, settled } from './own-system.ts';
import { byPair } from './pairs.ts';
import { type Bench, figure } from './ratio-groups.ts';
import type { Measured } from './ratio-table.ts';

/** Orders placed as fast as they are answered; counted until the last of them has come to its end. */
export async function hotBesideSpread(
  { quick, warmInTurn }: Pick<Bench, 'quick' | 'warmInTurn'>,
  system: OwnSystem,
): Promise<Measured> {
  const { shop, program, server, operatorToken } = system;
  const [connections, seconds, products, pieces] = [64, quick ? 0.5 : 4, quick ? 50 : 1_000, 1_000_000_000];
  const { sku: hot, customerId } = await shop.furnish(pieces);
  const run = randomUUID().slice(0, 8);
  const spread = Array.from({ length: products }, (_, n) => `BENCH-${run}-${n}`);
  for (const sku of spread) await shop.putProduct(sku).then(() => shop.adjustStock(sku, pieces));
  await settled(system);
  const ordering = openDatabase(program.databaseUrls.ordering, { applicationName: 'bench', poolMax: 1 });
  const inventory = openDatabase(program.databaseUrls.inventory, { applicationName: 'bench', poolMax: 1 });
  let placed = 0;
  const orders = (skus: readonly string[]) => async (): Promise<number> => {
    const began = performance.now();
    const { requests } = await closedLoop(server, {
      connections,
      seconds,
      request() {
        const lines = [{ sku: skus[(placed += 1) % skus.length]!, quantity: 1 }];
        const body = JSON.stringify({ customerId, lines, payment: { method: 'pm_ok' } });
        return requestOf('POST', '/v1/orders', operatorToken, body);
      },
      isAnswer: (arrived) => isWhole(arrived, 'HTTP/1.1 201 ', (answer) => answer.includes('"status":"pending"')),
    });
    // An order that is not at its end has a time by which it will be.
    await until('all orders are at their end', async () => {
      const [row] = await ordering.query<{ open: boolean }>(
        'open',
        'select exists (select from streams where due_at is not null) as open',
      );
      return row!.open ? null : true;
    });
    const perSecond = (requests * 1_000) / (performance.now() - began);
    await settled(system);
    return perSecond;
  };
  try {
    const rates = await warmInTurn('ratio 10', {
      hot: orders([hot]),
      spread: orders(spread),
      syncs: async () => syncsPerSecond(),
    });
    const [done] = await ordering.query<{ completed: number }>(
      '',
      `select count(*) as completed from orders where customer_id = $1 and status = 'completed'`,
      [customerId],
    );
    const [left] = await inventory.query<{ shipped: number; reserved: number }>(
      '',
      `select (count(*) * $2::bigint - sum(on_hand))::bigint as shipped, sum(reserved)::bigint as reserved
       from stock where sku = any($1)`,
      [[hot, ...spread], pieces],
    );
    if (done!.completed !== placed || left!.shipped !== placed || left!.reserved !== 0)
      throw new Error(`of ${placed} orders ${done!.completed} are completed, ${JSON.stringify(left)} of the stock`);
    return {
      pairs: byPair(rates.hot, rates.spread),
      figures: [
        figure('orders of one product', 'a second', rates.hot),
        figure(`orders of ${products.toLocaleString('en')} by turns`, 'a second', rates.spread),
        figure('fdatasync of 4 KiB', 'a second', rates.syncs),
      ],
      notes: [
        `${connections} connections, placed for ${seconds} s, counted until the last was at its end; ` +
          `checked: ${placed.toLocaleString('en')} orders completed, and as many pieces gone`,
      ],
    };
  } finally {
    await Promise.all([ordering.end(), inventory.end()]);
  }
}
