/**
 * `npm run bench:lists`: what lists of orders cost with a million orders, against a thousand. Both are in one
 * PostgreSQL and asked by turns, by the queries' own code, without HTTP around it and without a cache: that would
 * hide the difference. Rows are written by SQL. It fails when the p99 of everyday lists is more than `ratioMust` times
 * that with a thousand orders, or when any list at all takes longer than `anyListMaxMs`.
 */
import { parseArgs } from 'node:util';
import { mixedLists } from '../tests/orders-at-size.ts';
import { openEnding } from '../tests/running-program.ts';
import { askByTurns, everyday, type Figures, openSides, searched, summary } from './order-lists.ts';

const { values: flags } = parseArgs({
  options: {
    orders: { type: 'string', default: '1000000' },
    rounds: { type: 'string', default: '300' },
    smoke: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (flags.help) {
  console.log(`Usage: npm run bench:lists [-- OPTIONS]

  --orders N   orders in the large database (default 1000000, which takes two minutes to fill)
  --rounds N   how often each list is asked for (default 300)
  --smoke      20,000 orders and a few rounds, without judging the times

Examples:
  npm run bench:lists
  npm run bench:lists -- --orders 200000 --rounds 100`);
  process.exit(0);
}

const orders = flags.smoke ? 20_000 : Number(flags.orders);
const rounds = flags.smoke ? 5 : Number(flags.rounds);
const fewOrders = 1_000;
const ratioMust = 2;
const anyListMaxMs = 250;

const ending = openEnding();
try {
  const sides = await openSides(ending, [fewOrders, orders], (size, tookMs) =>
    console.log(`${size} orders written in ${(tookMs / 1_000).toFixed(0)} s`),
  );
  const tables = [everyday, searched].map((lists) => Object.entries(lists));
  console.log(`\n${rounds} times each, by turns; ms\n`);
  console.log(`${'orders'.padEnd(50)} ${header(fewOrders)} ${header(orders)}    p99 ratio`);
  let ratio = 0;
  let slowest = 0;
  for (const [n, lists] of tables.entries()) {
    console.log(n === 0 ? '\neveryday' : '\nsearched');
    const all: [number[], number[]] = [[], []];
    for (const [name, query] of lists) {
      const [few, many] = await askByTurns(sides, query, rounds);
      all[0].push(...few!.times);
      all[1].push(...many!.times);
      print(name, few!, many!);
    }
    const ofAll = print('all of these', summary(all[0], 0), summary(all[1], 0));
    if (n === 0) ratio = ofAll;
    slowest = Math.max(slowest, ...all[1]);
  }
  const mixed: [number[], number[]] = [[], []];
  for (let round = 0; round < Math.max(1, rounds / 50); round += 1) {
    for (const query of mixedLists(round)) {
      for (const [n, side] of sides.entries()) mixed[n]!.push((await side.ask(query)).tookMs);
    }
  }
  console.log('\nany mix of filters, frequent and rare, in any sort');
  print(`${mixed[0].length} lists`, summary(mixed[0], 0), summary(mixed[1], 0));
  slowest = Math.max(slowest, ...mixed[1]);
  console.log(
    `\nnpm run bench:lists -- --orders ${orders} --rounds ${rounds}` +
      `\np99 ratio of everyday lists ${ratio.toFixed(2)} (must: ${ratioMust}); slowest list of all ${slowest.toFixed(0)} ms`,
  );
  if (!flags.smoke && (ratio > ratioMust || slowest > anyListMaxMs)) process.exitCode = 1;
} finally {
  await ending.end();
}

function header(size: number): string {
  return `${`${size}: p50`.padStart(14)} ${'p99'.padStart(7)} ${'CPU'.padStart(6)}`;
}

function print(name: string, few: Figures, many: Figures): number {
  const columns = ({ p50, p99, cpu }: Figures): string =>
    `${p50.toFixed(2).padStart(14)} ${p99.toFixed(2).padStart(7)} ${cpu === 0 ? '      ' : cpu.toFixed(2).padStart(6)}`;
  const ratio = many.p99 / few.p99;
  console.log(`${name.padEnd(50)} ${columns(few)} ${columns(many)} ${ratio.toFixed(2).padStart(12)}`);
  return ratio;
}
