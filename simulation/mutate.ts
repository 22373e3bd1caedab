/**
 * Switches off one safeguard after the other and has the simulator look for the difference. Ends with 0
 * when it notices every one of them.
 */
import { availableParallelism } from 'node:os';
import { argumentsOf, whole } from './arguments.ts';
import { mutants } from './mutants.ts';
import type { Report } from './worker.ts';
import { runSeeds } from './workforce.ts';

const usage = `Usage: npm run simulate:mutants -- [--seeds N] [--from N] [--only TEXT]

  --seeds N    how many worlds a mutant may survive at most (default 3000)
  --from N     the first seed (default 1)
  --only TEXT  only the mutants with TEXT in their name

Examples:
  npm run simulate:mutants
  npm run simulate:mutants -- --only checkpoint
`;

const values = argumentsOf(
  {
    seeds: { type: 'string', default: '3000' },
    from: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
    help: { type: 'boolean', default: false },
  },
  usage,
);

if (values.help) process.stdout.write(usage);
else
  process.exitCode = await run(whole('--from', values.from, usage), whole('--seeds', values.seeds, usage), values.only);

async function run(from: number, seeds: number, only: string): Promise<number> {
  const chosen = mutants.filter(({ name }) => name.includes(only));
  const width = Math.max(...chosen.map(({ name }) => name.length));
  let survivors = 0;
  process.stdout.write(`${'safeguard that is missing'.padEnd(width)}  seed  found by\n`);
  for (const { name } of chosen) {
    const failures: Report['failures'][number][] = [];
    const orders = { from, to: from + seeds - 1, workers: availableParallelism(), seedsPerTurn: 10, stopAtFirst: true };
    await runSeeds({ ...orders, mutant: name }, (report) => failures.push(...report.failures));
    const [first] = failures.sort((a, b) => a.seed - b.seed);
    if (first === undefined) survivors += 1;
    const [seed, found] = first === undefined ? ['-', 'NOBODY'] : [String(first.seed), first.found.split('\n')[0]!];
    process.stdout.write(`${name.padEnd(width)}  ${seed.padStart(4)}  ${found.slice(0, 150)}\n`);
  }
  process.stdout.write(`${chosen.length - survivors} of ${chosen.length} were noticed\n`);
  return survivors === 0 ? 0 : 1;
}
