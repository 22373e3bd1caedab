/** `npm run bench`: every ratio that says how fast this is, measured against its neighbour in the same minutes. See docs/benchmarks.md. */
import { existsSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Progress } from '#platform/progress-bar.ts';
import type { Group } from './ratio-groups.ts';
import { isPassed, jsonOf, type Outcome, type RatioName, ratioNames, ratios, textOf } from './ratio-table.ts';
import { appends } from './ratios-of-appends.ts';
import { catchingUp } from './ratios-of-catching-up.ts';
import { commands } from './ratios-of-commands.ts';
import { growth } from './ratios-of-growth.ts';
import { lists } from './ratios-of-lists.ts';
import { reads } from './ratios-of-reads.ts';
import { openTrials } from './trials.ts';
import { turnsOf } from './turns.ts';

const groups: readonly Group[] = [reads, appends, commands, catchingUp, growth, lists];
const quickPairs = 1;
const warmBlocksMax = 8;
const whyLinesMax = 8;

type Wish = {
  readonly wanted: ReadonlySet<RatioName>;
  readonly pairs: number;
  readonly quick: boolean;
  readonly json: string | undefined;
};

const progress = new Progress(process.stderr);
const trials = openTrials(whyLinesMax);

const wish = readWish(process.argv.slice(2));
if (wish === 'help') console.log(help());
else if ('wrong' in wish) {
  console.error(`bench: ${wish.wrong}`);
  process.exitCode = 2;
} else process.exitCode = (await bench(wish)) ? 0 : 1;

async function bench({ wanted, pairs, quick, json }: Wish): Promise<boolean> {
  const startedAt = new Date().toISOString();
  const outcomes = new Map<RatioName, Outcome>();
  for (const group of groups) {
    const own = new Set(group.ratios.filter((name) => wanted.has(name)));
    if (own.size === 0) continue;
    for (const [name, outcome] of await measured(group, own, pairs, quick)) outcomes.set(name, outcome);
  }
  const command = ['npm run bench --', ...process.argv.slice(2)].join(' ');
  const machine = `${cpus().length} × ${cpus()[0]?.model}, Node ${process.version}`;
  console.log(`\n${command}\n${startedAt}, ${machine}\n\n${textOf(outcomes, !quick)}`);
  if (quick) console.log('\nQuick: what was done is checked, no time is judged.');
  if (json !== undefined) {
    const report = { command, startedAt, quick, machine, ratios: jsonOf(outcomes) };
    writeFileSync(json, `${JSON.stringify(report, null, 1)}\n`);
  }
  return isPassed(outcomes, !quick);
}

/** What fails is told in the table. */
function measured(
  group: Group,
  wanted: ReadonlySet<RatioName>,
  pairs: number,
  quick: boolean,
): Promise<ReadonlyMap<RatioName, Outcome>> {
  return trials.run<ReadonlyMap<RatioName, Outcome>>(
    async (ending) => {
      const turns = turnsOf(progress, pairs, quick ? 0 : warmBlocksMax);
      const found = await group.measure({ ending, wanted, quick, pairs, progress, ...turns });
      return new Map([...found].map(([name, one]) => [name, 'kind' in one ? one : { kind: 'measured', ...one }]));
    },
    (why) => new Map([...wanted].map((name) => [name, { kind: 'wrong', why }])),
  );
}

function readWish(args: readonly string[]): Wish | 'help' | { readonly wrong: string } {
  const flags = parsed(args);
  if ('wrong' in flags) return flags;
  if (flags.help) return 'help';
  const only = flags.only?.split(',').map((text) => (/^\d+$/.test(text) ? Number(text) : NaN)) ?? ratioNames;
  if (!only.every((name): name is RatioName => ratioNames.includes(name as RatioName)))
    return { wrong: `--only is "${flags.only}"; right would be numbers from 1 to ${ratioNames.length}, such as 1,6.` };
  const pairs = Number(flags.pairs);
  if (!(Number.isInteger(pairs) && pairs > 0))
    return { wrong: `--pairs is "${flags.pairs}"; right would be a whole number above 0.` };
  if (flags.json !== undefined && !existsSync(dirname(resolve(flags.json))))
    return { wrong: `there is no folder ${dirname(resolve(flags.json))} for ${flags.json}.` };
  return { wanted: new Set(only), pairs: flags.quick ? quickPairs : pairs, quick: flags.quick, json: flags.json };
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        only: { type: 'string' },
        pairs: { type: 'string', default: '12' },
        quick: { type: 'boolean', default: false },
        json: { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values;
  } catch (error) {
    return { wrong: (error as Error).message };
  }
}

function help(): string {
  return `Usage: npm run bench [-- OPTIONS]

Measures each ratio by turns with what it is compared with, and tells the median of its pairs and the middle half of
them. Exits with 0 when every ratio is what it must be, 1 when one is not or something that was done was wrong, 2 when
it could not be run. All data are in temporary folders.

${ratioNames.map((name) => `  ${String(name).padStart(2)}  ${ratios[name].says.padEnd(48)}${String(ratios[name].minutes).padStart(3)} min`).join('\n')}

  --only N,N    only these
  --pairs N     pairs of blocks (default 12)
  --quick       a minute in all: little data, short blocks, no time is judged
  --json FILE   everything that was measured

Examples:
  npm run bench -- --only 1,6
  npm run bench -- --quick
  npm run bench -- --json ratios.json`;
}
