/**
 * `npm run chaos:failpoints`: kills real processes at every failpoint there is, under load, and shows that
 * nothing confirmed is lost, nothing happens twice and nothing stays half done. See docs/chaos.md.
 */
import { parseArgs } from 'node:util';
import { type Failpoint, failpoints } from '#platform/failpoint.ts';
import { openEnding } from '../tests/running-program.ts';
import { survive, type Trial } from './failpoint-trial.ts';

/** The hits at which each is tried: early, when little is there yet, and in the midst of things. */
const hits: Readonly<Record<Failpoint, readonly number[]>> = {
  'command-answering': [1, 90],
  'batch-decided': [60],
  'batch-appended': [90],
  'log-sending': [40],
  'log-sent': [1, 30, 150],
  'log-committed': [2, 70],
  'alone-committing': [3],
  'alone-committed': [1],
  'reaction-deciding': [1, 40],
  'reaction-appended': [1, 40],
  'projection-reading': [30],
  'projection-committing': [1, 25],
  'projection-sent': [1, 30],
  'projection-committed': [20],
  'rebuild-begun': [1],
  'rebuild-compared': [1],
  'rebuild-switching': [1],
  'rebuild-switched': [1],
  'timer-due': [1],
  'timer-told': [2],
  'charge-sending': [10],
  'charge-answered': [1, 40],
  'lookup-answered': [1, 4],
  'refund-sending': [2],
  'refund-answered': [1, 6],
  'ledger-committing': [12],
  'ledger-committed': [1, 30],
  'migration-applied': [1, 7],
  'migration-committed': [4],
  'postgres-initialised': [1],
  'postgres-launched': [1],
};

const { values: flags } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    hit: { type: 'string' },
    rounds: { type: 'string', default: '1' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (flags.help) {
  const list = Object.entries(failpoints).map(([name, what]) => `  ${name.padEnd(22)}${what}`);
  console.log(`Usage: npm run chaos:failpoints [-- OPTIONS]

  --only NAME   this failpoint, instead of all; may be given again
  --hit N       at the N-th time that it is come to, instead of at those planned
  --rounds N    all of it so many times (default 1)

Examples:
  npm run chaos:failpoints
  npm run chaos:failpoints -- --only log-sent --hit 12
  npm run chaos:failpoints -- --only refund-answered --only refund-sending --rounds 5

Failpoints:
${list.join('\n')}`);
  process.exit(0);
}
const wrong = (flags.only ?? []).filter((name) => !Object.hasOwn(failpoints, name));
if (wrong.length > 0) {
  console.error(`There is no failpoint ${wrong.join(', ')}; --help lists what there is.`);
  process.exit(2);
}

for (const name of ['hit', 'rounds'] as const) {
  if (flags[name] === undefined || /^[1-9]\d{0,8}$/.test(flags[name])) continue;
  console.error(`--${name} is "${flags[name]}"; right would be a whole number from 1.`);
  process.exit(2);
}

const names = (flags.only ?? Object.keys(failpoints)) as Failpoint[];
const round = names.flatMap((name): Trial[] =>
  (flags.hit === undefined ? hits[name] : [Number(flags.hit)]).map((nth) => ({ name, nth })),
);
const trials = Array.from({ length: Number(flags.rounds) }, () => round).flat();
const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());

let failures = 0;
const died: Trial[] = [];
const since = performance.now();
console.log(row(['failpoint', 'died after', 'restart', 'rest', 'requests', 'unanswered', 'orders', 'invariants']));
for (const [n, trial] of trials.entries()) {
  if (interrupted.signal.aborted) break;
  const title = `${trial.name}:${trial.nth}`;
  if (process.stdout.isTTY) process.stdout.write(`${n + 1} of ${trials.length}: ${title} …`);
  const { line, trouble } = await run(title, trial);
  if (process.stdout.isTTY) process.stdout.write('\r\x1b[2K');
  console.log(line);
  for (const one of trouble) console.error(`  ${one}`);
  if (trouble.length > 0) failures += 1;
  died.push(trial);
}
const seconds = Math.round((performance.now() - since) / 1_000);
const tried = new Set(died.map(({ name }) => name)).size;
console.log(`\n${tried} failpoints, ${died.length} deaths, ${seconds} s; ${failures} not survived`);
process.exit(failures > 0 || interrupted.signal.aborted ? 1 : 0);

/** The line of the table, and what went wrong. */
async function run(title: string, trial: Trial): Promise<{ line: string; trouble: readonly string[] }> {
  const ending = openEnding();
  try {
    const { diedAfterMs, restartMs, restMs, requests, unanswered, orders, violations } = await survive(ending, trial);
    const broken = [...new Set(violations.map(({ invariant }) => invariant))].join(' ');
    const times = [diedAfterMs, restartMs, restMs].map((ms) => `${Math.round(ms)} ms`);
    const line = row([title, ...times, String(requests), String(unanswered), String(orders), broken || 'hold']);
    return { line, trouble: violations.map(({ invariant, found }) => `${invariant}: ${found}`) };
  } catch (error) {
    const { stack, cause } = error as Error;
    return {
      line: row([title, 'failed']),
      trouble: [`${stack}${cause instanceof Error ? `\n  because ${cause.message}` : ''}`],
    };
  } finally {
    await ending.end();
  }
}

function row([first = '', ...cells]: readonly string[]): string {
  return first.padEnd(26) + cells.map((cell) => ` ${cell}`.padStart(12)).join('');
}
