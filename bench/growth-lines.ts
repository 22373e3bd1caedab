/** What orders cost that have one line, as many as most have, and a thousand: each and per line, by turns in one system. */
import { limits } from '../load/profiles.ts';
import { type GrowthBench, row, type Told } from './growth-parts.ts';
import { microsPerOrder, openOrderLoad } from './order-load.ts';
import { startOwnSystem } from './own-system.ts';
import { medianOf, spreadOf } from './pairs.ts';
import { digits } from './ratio-table.ts';

/** Orders with so many lines, at such a rate: each for itself asks for less than the machine can do. */
const sizes = [
  { lines: 1, perSecond: 50 },
  { lines: 20, perSecond: 20 },
  { lines: 1_000, perSecond: 2 },
] as const;
const [products, customers, connections] = [2_000, 100, 16];

const figures = {
  micros: 'an order, processor time, µs',
  microsPerLine: 'a line, processor time, µs',
  'place p50': 'placed p50, ms',
  'place p99': 'placed p99, ms',
  'ends p50': 'at its end p50, ms',
  'ends p99': 'at its end p99, ms',
} as const;
type Block = Readonly<Record<keyof typeof figures, number>>;

export async function lines({ ending, smoke, warm, inTurn }: GrowthBench): Promise<Told> {
  const system = await startOwnSystem(ending);
  const load = await openOrderLoad(ending, system, { products: smoke ? 100 : products, customers });
  const blockOf = (size: (typeof sizes)[number]) => async (): Promise<Block> => {
    const run = await load.run({
      requestsPerSecond: size.perSecond,
      orderShare: 1,
      connections,
      seconds: smoke ? 4 : 20,
      // While the rate rises, a few a second are none for seconds.
      warmUpSeconds: smoke ? 0 : 2,
      linesEach: size.lines,
    });
    const micros = microsPerOrder(run);
    const { place, ends } = run.latencies;
    if (place === undefined || ends === undefined) throw new Error(`no order with ${linesOf(size.lines)} was placed`);
    return {
      micros,
      microsPerLine: micros / size.lines,
      'place p50': place.p50,
      'place p99': place.p99,
      'ends p50': ends.p50,
      'ends p99': ends.p99,
    };
  };
  const named = sizes.map((size) => [linesOf(size.lines), blockOf(size)] as const);
  await warm('lines', Object.fromEntries(named.map(([name, block]) => [name, async () => (await block()).micros])));
  const found = await inTurn('lines', Object.fromEntries(named));
  const must = limits.ends.must;
  const missed = named.flatMap(([name]) => {
    const p99 = medianOf(found[name]!.map((block) => block['ends p99']));
    return p99 < must
      ? []
      : [`orders with ${name} come to their end within ${digits(p99)} ms at p99, less than ${must}`];
  });
  const table = [
    row(
      '',
      sizes.map(({ lines: count, perSecond }) => `${linesOf(count)}, ${perSecond} a second`),
    ),
    ...(Object.entries(figures) as [keyof Block, string][]).map(([figure, says]) =>
      row(
        says,
        named.map(([name]) => {
          const { median, low, high } = spreadOf(found[name]!.map((block) => block[figure]));
          return `${digits(median)} (${digits(low)}–${digits(high)})`;
        }),
      ),
    ),
    '',
    `${connections} connections, with all that follows from an order; the median of the blocks and the middle half; checked: ${load.checked()}`,
  ];
  return { text: table.join('\n'), missed: smoke ? [] : missed };
}

const linesOf = (count: number): string => (count === 1 ? '1 line' : `${count.toLocaleString('en')} lines`);
