/** What an order and a read cost with so many events stored: systems that differ in nothing else, beside each other. */
import { type Database, openDatabase } from '#platform/postgres.ts';
import type { Summary } from '../load/latencies.ts';
import { type GrowthBench, row, type Told } from './growth-parts.ts';
import { microsPerOrder, openOrderLoad } from './order-load.ts';
import type { OwnSystem } from './own-system.ts';
import { byPair, medianOf, spreadOf } from './pairs.ts';
import { digits, ratios } from './ratio-table.ts';
import { startWithStored } from './stored-orders.ts';
import { readFor, type Read } from './timed-reads.ts';

/** The least that there is: what is answered from memory costs the same everywhere. */
const cacheMb = '1';
/** More than it has room for: each has been forgotten by the time it is read again. */
const [ordersRead, products] = [2_000, 2_000];
const [customers, pageItems] = [25, 20];

type Block = { readonly micros: number } & Pick<Summary, 'p50' | 'p99'>;
type Side = { readonly name: string; readonly block: (kind: string) => Promise<Block> };

export async function stored(bench: GrowthBench): Promise<Told> {
  const { smoke, warm, inTurn } = bench;
  const sides: Side[] = [];
  for (const events of bench.events) sides.push(await openSide(bench, events));
  const found = new Map<string, Record<string, Block[]>>();
  for (const kind of ['an order', ...Object.keys(readsOf)]) {
    const blocks = Object.fromEntries(sides.map(({ name, block }) => [name, () => block(kind)]));
    const micros = sides.map(({ name, block }) => [name, async () => (await block(kind)).micros] as const);
    await warm(kind, Object.fromEntries(micros));
    found.set(kind, await inTurn(kind, blocks));
  }
  const names = sides.map(({ name }) => name);
  const { must } = ratios[11];
  const missed = names.slice(1).flatMap((name) => {
    const ratio = medianOf(ratioOf(found.get('an order')!, names[0]!, name, 'micros'));
    return ratio <= must
      ? []
      : [
          `an order with ${name} events stored costs ${digits(ratio)} of what it costs with ${names[0]}, at most ${must}`,
        ];
  });
  return { text: textOf(found, names), missed: smoke ? [] : missed };
}

async function openSide({ ending, smoke, progress }: GrowthBench, wanted: number): Promise<Side> {
  const { system, events } = await startWithStored(ending, progress, wanted, { TWOFOLD_CACHE_MB: cacheMb });
  const load = await openOrderLoad(ending, system, smoke ? { products: 20, customers: 1 } : { products, customers });
  const wish = {
    requestsPerSecond: smoke ? 30 : 60,
    orderShare: 1,
    connections: 100,
    seconds: smoke ? 1 : 15,
    warmUpSeconds: smoke ? 0.5 : 2,
  };
  const order = async (): Promise<Block> => {
    const run = await load.run(wish);
    return { micros: microsPerOrder(run), ...run.latencies['place']! };
  };
  // In a system without any, something has to be there to be read.
  await order();
  const reading = { connections: 2, seconds: smoke ? 0.3 : 3 };
  const reads = new Map<string, { readonly list: readonly Read[]; next: number }>();
  return {
    name: events.toLocaleString('en'),
    async block(kind) {
      if (kind === 'an order') return order();
      let read = reads.get(kind);
      if (read === undefined) reads.set(kind, (read = { list: await listFor(system, kind), next: 0 }));
      return readFor(system, read, reading);
    },
  };
}

async function listFor({ program }: OwnSystem, kind: string): Promise<readonly Read[]> {
  const options = { applicationName: 'bench', poolMax: 1, statementTimeoutMs: 0 };
  const database = openDatabase(program.databaseUrls.queries, options);
  const list = await readsOf[kind]!(database).finally(() => database.end());
  if (list.length === 0) throw new Error(`${kind}: there is nothing to read`);
  return list;
}

/** What is read of each kind, one after the other; from all over what is stored. */
const readsOf: Readonly<Record<string, (database: Database) => Promise<readonly Read[]>>> = {
  async 'one order read'(database) {
    const rows = await database.query<{ id: string }>(
      '',
      'select order_id as id from orders order by hashtext(order_id), order_id limit $1',
      [ordersRead],
    );
    return rows.map(({ id }) => ({ path: `/v1/orders/${id}`, has: `"orderId":"${id}"` }));
  },

  async 'a list of 20 orders read'(database) {
    const full = await database.query<{ id: string }>(
      '',
      'select customer_id as id from orders group by customer_id having count(*) >= $1 order by hashtext(customer_id) limit $2',
      [pageItems, customers],
    );
    const paths = full.flatMap(({ id }) => [
      `/v1/customers/${id}/orders?limit=${pageItems}`,
      `/v1/orders?limit=${pageItems}`,
      `/v1/orders?limit=${pageItems}&status=completed`,
      `/v1/orders?limit=${pageItems}&sort=-total&customerId=${id}`,
    ]);
    return paths.map((path) => ({ path, has: '"orderId":"', times: pageItems }));
  },

  async 'a product read'(database) {
    const rows = await database.query<{ id: string }>(
      '',
      'select sku as id from products order by hashtext(sku), sku limit $1',
      [products],
    );
    return rows.map(({ id }) => ({ path: `/v1/products/${id}`, has: `"sku":"${id}"` }));
  },
};

const figures = {
  micros: 'processor time, µs',
  p50: 'p50, ms',
  p99: 'p99, ms',
} as const;

function textOf(found: ReadonlyMap<string, Record<string, Block[]>>, names: readonly string[]): string {
  const lines = [row('events stored', names)];
  for (const [kind, blocks] of found) {
    lines.push(kind);
    for (const [figure, says] of Object.entries(figures) as [keyof Block, string][])
      lines.push(
        row(
          `  ${says}`,
          names.map((name, n) => {
            const value = digits(medianOf(blocks[name]!.map((block) => block[figure])));
            if (n === 0) return value;
            const { median, low, high } = spreadOf(ratioOf(blocks, names[0]!, name, figure));
            return `${value}  ${digits(median)} (${digits(low)}–${digits(high)})`;
          }),
        ),
      );
  }
  return [
    ...lines,
    '',
    'Beside each figure the median of what it is of that in the first column, pair by pair, and the middle half.',
  ].join('\n');
}

const ratioOf = (blocks: Record<string, Block[]>, base: string, name: string, figure: keyof Block): readonly number[] =>
  byPair(
    blocks[name]!.map((block) => block[figure]),
    blocks[base]!.map((block) => block[figure]),
  );
