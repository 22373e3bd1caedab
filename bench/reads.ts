/**
 * `npm run bench:reads`: how fast a hot order is read, against a bare `http.createServer` that answers the
 * same bytes. Blocks alternate within one run; servers and generator are processes of their own; who asks
 * shows a token. Every answer is checked. It fails below `ratioMust`, or when a 304 is slower than a 200.
 */
import { parseArgs } from 'node:util';
import { openEnding } from '../tests/running-program.ts';
import type { LoopBlock } from './closed-loop.ts';
import { type HotRead, openHotReads } from './hot-reads.ts';
import { inTurn, quantile } from './pairs.ts';

const { values: flags } = parseArgs({
  options: {
    connections: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '12' },
    seconds: { type: 'string', default: '1.5' },
    smoke: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (flags.help) {
  console.log(`Usage: npm run bench:reads [-- OPTIONS]

  --connections N  keep-alive connections, each with one request under way (default 64)
  --rounds N       rounds of one block each: bare server, 200, 304 (default 12)
  --seconds S      length of a block (default 1.5)
  --smoke          two short rounds, without judging the rates

Examples:
  npm run bench:reads
  npm run bench:reads -- --rounds 24 --connections 256`);
  process.exit(0);
}

const ratioMust = 0.7;
/** Until then the servers are still being compiled while they run. */
const warmUpSeconds = 4;

await bench();

async function bench(): Promise<void> {
  const connections = Number(flags.connections);
  const seconds = flags.smoke ? 0.3 : Number(flags.seconds);
  const rounds = flags.smoke ? 2 : Number(flags.rounds);
  const ending = openEnding();
  try {
    const reads = await openHotReads(ending);
    for (const read of Object.values(reads)) await read(connections, flags.smoke ? 0.3 : warmUpSeconds);
    const block = (kind: HotRead) => () => reads[kind](connections, seconds);
    const blocks = await inTurn({ bare: block('bare'), '200': block('200'), '304': block('304') }, rounds);
    process.exitCode = report(blocks, `${connections} connections, ${rounds} rounds of ${seconds} s blocks`) ? 0 : 1;
  } finally {
    await ending.end();
  }
}

function report(blocks: Readonly<Record<HotRead, readonly LoopBlock[]>>, what: string): boolean {
  console.log(`${what}; medians, and the middle half of the blocks\n`);
  console.log(
    `${''.padEnd(8)}${['per second', 'half of them', 'CPU µs', 'of bare', 'half of them'].map((cell) => cell.padStart(16)).join('')}`,
  );
  const ratios: Record<string, number> = {};
  for (const [kind, ofKind] of Object.entries(blocks)) {
    const rates = ofKind.map(({ perSecond }) => perSecond);
    // Each block against its neighbour: what else the machine does concerns both.
    const shares = rates.map((rate, n) => rate / blocks.bare[n]!.perSecond);
    ratios[kind] = quantile(shares, 0.5);
    const cells = [
      quantile(rates, 0.5).toFixed(0),
      `${quantile(rates, 0.25).toFixed(0)}–${quantile(rates, 0.75).toFixed(0)}`,
      quantile(
        ofKind.map(({ cpuMicros }) => cpuMicros),
        0.5,
      ).toFixed(1),
      quantile(shares, 0.5).toFixed(2),
      `${quantile(shares, 0.25).toFixed(2)}–${quantile(shares, 0.75).toFixed(2)}`,
    ];
    console.log(`${kind.padEnd(8)}${cells.map((cell) => cell.padStart(16)).join('')}`);
  }
  const kept = ratios['200']! >= ratioMust && ratios['304']! >= ratios['200']!;
  console.log(
    `\n${kept ? 'kept' : 'missed'}: a 200 at ${ratioMust} of the bare rate or more, a 304 no slower than a 200`,
  );
  return kept || flags.smoke;
}
