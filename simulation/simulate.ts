/** `npm run simulate`: many worlds, each from its seed; or one of them, told step by step. */
import { availableParallelism } from 'node:os';
import { argumentsOf, whole } from './arguments.ts';
import { Counters, missing, worldsEnough } from './counters.ts';
import { planOf } from './plan.ts';
import { type LeftOut, shrink, without } from './shrink.ts';
import type { Report } from './worker.ts';
import { runSeeds } from './workforce.ts';
import { runWorld } from './world.ts';

const usage = `Usage: npm run simulate -- [options]

  --seeds N              how many worlds (default 1000)
  --from N               the first seed (default 1)
  --workers N            processes at once (default: one per core)
  --counters             show how often each interesting state was reached
  --seed N               run one world and tell what happens in it
  --without-faults LIST  leave out these faults of it, by place, such as 0,3
  --without-commands LIST
  --help

Ends with 1 when something does not hold, or when ${worldsEnough} worlds or more never come to one of the
states that a simulator has to reach. A failing world is made smaller before it is shown.

Examples:
  npm run simulate -- --seeds 10000
  npm run simulate -- --seeds 500 --from 20000 --counters
  npm run simulate -- --seed 42
  npm run simulate -- --seed 42 --without-faults 0,2 --without-commands 5
`;

const shownMax = 5;

const values = argumentsOf(
  {
    seeds: { type: 'string', default: '1000' },
    from: { type: 'string', default: '1' },
    workers: { type: 'string', default: String(availableParallelism()) },
    counters: { type: 'boolean', default: false },
    seed: { type: 'string' },
    'without-faults': { type: 'string', default: '' },
    'without-commands': { type: 'string', default: '' },
    help: { type: 'boolean', default: false },
  },
  usage,
);

const say = (text: string): void => void process.stdout.write(`${text}\n`);
const placesOf = (list: string): number[] => list.split(',').flatMap((place) => (place === '' ? [] : [Number(place)]));

if (values.help) process.stdout.write(usage);
else if (values.seed !== undefined) {
  const leftOut = { faults: placesOf(values['without-faults']), commands: placesOf(values['without-commands']) };
  process.exitCode = await replay(whole('--seed', values.seed, usage), leftOut);
} else {
  process.exitCode = await runAll(
    whole('--from', values.from, usage),
    whole('--seeds', values.seeds, usage),
    whole('--workers', values.workers, usage),
  );
}

async function runAll(from: number, seeds: number, workers: number): Promise<number> {
  const counters = new Counters();
  const failures: Report['failures'][number][] = [];
  const total = { worlds: 0, steps: 0, lastedMs: 0 };
  const begunMs = performance.now();
  const orders = { from, to: from + seeds - 1, workers, seedsPerTurn: 25, stopAtFirst: false };
  await runSeeds(orders, (report) => {
    const before = total.worlds;
    total.worlds += report.worlds;
    total.steps += report.steps;
    total.lastedMs += report.lastedMs;
    counters.addAll(report.counts);
    failures.push(...report.failures);
    showProgress(before, total.worlds, seeds, failures.length, (performance.now() - begunMs) / 1_000);
  });
  const seconds = (performance.now() - begunMs) / 1_000;
  const days = total.lastedMs / 86_400_000;
  say(
    `${total.worlds} worlds, ${total.steps} steps, ${days.toFixed(1)} days of virtual time in ${seconds.toFixed(1)} s ` +
      `(${(total.worlds / seconds).toFixed(0)} a second)`,
  );
  if (values.counters) {
    for (const state of [...counters.counts.keys()].sort()) {
      say(`${String(counters.counts.get(state)).padStart(9)}  ${state}`);
    }
  }
  failures.sort((a, b) => a.seed - b.seed);
  for (const failure of failures.slice(0, shownMax)) await show(failure);
  if (failures.length > shownMax) say(`and ${failures.length - shownMax} more`);
  const never = total.worlds >= worldsEnough ? missing(counters) : [];
  for (const state of never) say(`never reached: ${state}`);
  return failures.length + never.length === 0 ? 0 : 1;
}

function showProgress(before: number, done: number, all: number, failed: number, seconds: number): void {
  const share = done / all;
  const state = `${done} of ${all} worlds, ${failed} failed, ${(done / seconds).toFixed(0)} a second`;
  if (process.stdout.isTTY) {
    const bar = '█'.repeat(Math.floor(share * 30)).padEnd(30, '░');
    process.stdout.write(`\r${bar} ${state}${done === all ? '\n' : ''}`);
  } else if (Math.floor((before / all) * 10) < Math.floor(share * 10)) say(state);
}

/** A failing world, made small, with the command that shows it. */
async function show({ seed, invariant, found }: Report['failures'][number]): Promise<void> {
  say(`\nseed ${seed} breaks ${found}`);
  if (invariant === 'determinism') return;
  const plan = planOf(seed);
  const leftOut = await shrink(plan, invariant);
  const small = without(plan, leftOut);
  say(`still does with ${small.faults.length} of ${plan.faults.length} faults and ${small.commands.length} commands:`);
  for (const fault of small.faults) say(`  fault    ${JSON.stringify(fault)}`);
  for (const command of small.commands) say(`  command  ${JSON.stringify(command)}`);
  const list = (option: string, places: readonly number[]): string =>
    places.length === 0 ? '' : ` ${option} ${places.join(',')}`;
  const options = list('--without-faults', leftOut.faults) + list('--without-commands', leftOut.commands);
  say(`  npm run simulate -- --seed ${seed}${options}`);
}

async function replay(seed: number, leftOut: LeftOut): Promise<number> {
  const plan = without(planOf(seed), leftOut);
  say(`seed ${seed}: ${JSON.stringify(plan.setting)}`);
  for (const command of plan.commands) say(`  ${JSON.stringify(command)}`);
  const outcome = await runWorld(plan, say);
  say(`trace ${outcome.traceHash}, ${outcome.steps} steps`);
  say(outcome.violation === null ? 'everything holds' : `broken: ${outcome.violation.found}`);
  return outcome.violation === null ? 0 : 1;
}
