/**
 * `npm run bench:append`: what an append costs, beside what the machine and PostgreSQL can do in the
 * same minutes. Each caller executes one command after the other: one event on a new stream, its state,
 * an idempotency key; each is durable when it is answered. Rounds of all contestants alternate, and
 * the medians are compared.
 */
import { parseArgs } from 'node:util';
import { openEnding } from '../tests/running-program.ts';
import { openAppendContestants } from './append-contestants.ts';
import type { Rate } from './one-row-inserts.ts';
import { inTurn, medianOf } from './pairs.ts';

const { values: flags } = parseArgs({
  options: {
    smoke: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (flags.help) {
  console.log(`Usage: npm run bench:append [-- OPTIONS]

  --rounds N    rounds of each contestant (default 5)
  --seconds S   length of each (default 3)
  --smoke       one short round: does it run, and is what it wrote there?

Examples:
  npm run bench:append
  npm run bench:append -- --rounds 12 --seconds 5`);
  process.exit(0);
}
const rounds = Number(flags.rounds ?? (flags.smoke ? 1 : 5));
const seconds = Number(flags.seconds ?? (flags.smoke ? 0.5 : 3));
const callerCounts = [1, 32, 1_000] as const;

const ending = openEnding();
try {
  const { append, inserts, fdatasync, check } = await openAppendContestants(ending);
  const contestants = Object.fromEntries<() => Promise<Rate>>([
    ['fdatasync of 4 KiB', () => fdatasync(seconds)],
    ...callerCounts.map((callers) => [`append, ${callers} callers`, () => append(callers, seconds)] as const),
    ...[1, 32].map((clients) => [`one-row inserts, ${clients} clients`, () => inserts.run(clients, seconds)] as const),
  ]);
  const results = await inTurn(contestants, rounds, (name) => process.stderr.write(`${name}\n`));
  console.log(`one-row inserts by ${inserts.by}`);
  console.log(`checked: ${await check()}\n`);
  report(new Map(Object.entries(results)));
} finally {
  await ending.end();
}

function report(results: ReadonlyMap<string, readonly Rate[]>): void {
  const row = (cells: readonly string[]): void =>
    console.log(cells.map((cell, n) => (n === 0 ? cell.padEnd(36) : cell.padStart(12))).join(''));
  row(['', 'per second', 'lowest', 'highest', 'p99 ms']);
  const rates = new Map<string, number>();
  for (const [name, measured] of results) {
    const perSecond = measured.map((one) => one.perSecond);
    const p99 = measured.flatMap((one) => one.p99Ms ?? []);
    rates.set(name, medianOf(perSecond));
    const whole = (value: number): string => Math.round(value).toLocaleString('en');
    row([
      name,
      whole(medianOf(perSecond)),
      whole(Math.min(...perSecond)),
      whole(Math.max(...perSecond)),
      p99.length > 0 ? medianOf(p99).toFixed(1) : '',
    ]);
  }
  const best = (pattern: RegExp): number =>
    Math.max(...[...rates].filter(([name]) => pattern.test(name)).map(([, rate]) => rate));
  console.log(`\nbest append ÷ best one-row insert: ${(best(/^append/) / best(/insert/)).toFixed(2)} (aim: 2)`);
}
