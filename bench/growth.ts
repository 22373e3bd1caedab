/** `npm run bench:growth`: what becomes of costs and times as a shop grows. See docs/benchmarks.md. */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { Progress } from '#platform/progress-bar.ts';
import { lines } from './growth-lines.ts';
import type { GrowthBench, Told } from './growth-parts.ts';
import { spread } from './growth-spread.ts';
import { stored } from './growth-stored.ts';
import { vacuum } from './growth-vacuum.ts';
import { openTrials } from './trials.ts';
import { turnsOf } from './turns.ts';

const parts = {
  stored: { says: 'orders and reads with 0, 1 and 10 million events stored', minutes: 60, measure: stored },
  lines: { says: 'orders with 1, 20 and 1,000 lines', minutes: 20, measure: lines },
  spread: { says: 'orders of one product, and of many', minutes: 4, measure: spread },
  vacuum: { says: 'orders and reads at a steady rate for half an hour', minutes: 35, measure: vacuum },
} as const satisfies Readonly<
  Record<string, { says: string; minutes: number; measure(bench: GrowthBench): Promise<Told> }>
>;
type PartName = keyof typeof parts;
const partNames = Object.keys(parts) as readonly PartName[];
const byDefault: readonly PartName[] = ['stored', 'lines', 'spread'];
/** Their blocks are long. */
const warmBlocksMax = 4;
const whyLinesMax = 12;

type Wish = Pick<GrowthBench, 'smoke' | 'events' | 'minutes' | 'requestsPerSecond'> & {
  readonly only: readonly PartName[];
  readonly pairs: number;
};

const progress = new Progress(process.stderr);
const trials = openTrials(whyLinesMax);

const wish = readWish(process.argv.slice(2));
if (wish === 'help') console.log(help());
else if ('wrong' in wish) {
  console.error(`bench: ${wish.wrong}`);
  process.exitCode = 2;
} else process.exitCode = (await bench(wish)) ? 0 : 1;

async function bench(wanted: Wish): Promise<boolean> {
  console.log(['npm run bench:growth --', ...process.argv.slice(2)].join(' '));
  console.log(
    `${new Date().toISOString()}, ${cpus().length} × ${cpus()[0]?.model}, Node ${process.version}, ${wanted.pairs} pairs of blocks`,
  );
  let passed = true;
  for (const name of wanted.only) {
    console.log(`\n${name}: ${parts[name].says}\n`);
    const missed = await measured(name, wanted);
    for (const one of missed) console.log(`missed: ${one}`);
    passed &&= missed.length === 0;
  }
  if (wanted.smoke) console.log('\nSmoke: what was done is checked, no time is judged.');
  return passed;
}

/** What was missed. */
function measured(name: PartName, { pairs, ...wanted }: Wish): Promise<readonly string[]> {
  return trials.run<readonly string[]>(
    async (ending) => {
      const turns = turnsOf(progress, pairs, wanted.smoke ? 0 : warmBlocksMax);
      const { text, missed } = await parts[name].measure({ ...wanted, ...turns, ending, progress });
      console.log(text);
      return missed;
    },
    (why) => [`WRONG: ${why.replaceAll('\n', '\n  ')}`],
  );
}

function readWish(args: readonly string[]): Wish | 'help' | { readonly wrong: string } {
  const flags = parsed(args);
  if ('wrong' in flags) return flags;
  if (flags.help) return 'help';
  const { smoke } = flags;
  const only = flags.only?.split(',') ?? (smoke ? partNames : byDefault);
  if (!only.every((name): name is PartName => partNames.includes(name as PartName)))
    return { wrong: `--only is "${flags.only}"; right would be some of ${partNames.join(',')}.` };
  const events = flags.events.split(',').map((text) => (/^\d+$/.test(text) ? Number(text) : NaN));
  if (events.length < 2 || events.some(Number.isNaN) || new Set(events).size < events.length)
    return { wrong: `--events is "${flags.events}"; right would be two or more whole numbers, such as 0,1000000.` };
  const [pairs, minutes, requestsPerSecond] = [Number(flags.pairs), Number(flags.minutes), Number(flags.rate)];
  if (!(Number.isInteger(pairs) && pairs > 0))
    return { wrong: `--pairs is "${flags.pairs}"; right would be a whole number above 0.` };
  if (!(Number.isInteger(minutes) && minutes >= 3))
    return { wrong: `--minutes is "${flags.minutes}"; right would be a whole number from 3.` };
  if (!(requestsPerSecond > 0)) return { wrong: `--rate is "${flags.rate}"; right would be a number above 0.` };
  return smoke
    ? { smoke, only, pairs: 1, events: [0, 3_500], minutes: 3, requestsPerSecond: 50 }
    : { smoke, only, pairs, events, minutes, requestsPerSecond };
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        only: { type: 'string' },
        events: { type: 'string', default: '0,1000000,10000000' },
        pairs: { type: 'string', default: '12' },
        minutes: { type: 'string', default: '30' },
        rate: { type: 'string', default: '1000' },
        smoke: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values;
  } catch (error) {
    return { wrong: (error as Error).message };
  }
}

function help(): string {
  return `Usage: npm run bench:growth [-- OPTIONS]

What becomes of costs and times as a shop grows. What is compared is measured by turns. Exits with 0 when what has to hold
has held, 1 when something has not, or something that was done was wrong, 2 when it could not be run. All data are in
temporary folders.

${partNames.map((name) => `  ${name.padEnd(8)}${parts[name].says.padEnd(60)}${String(parts[name].minutes).padStart(3)} min`).join('\n')}

  --only NAME,NAME  only these (default ${byDefault.join(',')})
  --events N,N,…    stored: so many events, in a system each (default 0,1000000,10000000)
  --pairs N         stored, lines, spread: how often each block runs (default 12)
  --minutes N       vacuum: how long (default 30)
  --rate R          vacuum: requests a second, 3 in 10 of them orders (default 1000)
  --smoke           all parts in about a minute: little data, short blocks, no time is judged

Examples:
  npm run bench:growth -- --only stored --events 0,1000000
  npm run bench:growth -- --only vacuum --minutes 30 --rate 1667
  npm run bench:growth -- --smoke`;
}
