/** `twofold rebuild`: has a running system rebuild a read model, and shows how far it has come. */
import { Command, InvalidArgumentError } from 'commander';
import type { JobView, RebuildBody } from '#contracts/http.ts';
import { ask, connectionOptions, type ConnectionOptions, follow, OperationFailed } from './operations-client.ts';

type Options = ConnectionOptions & {
  readonly check?: true;
  readonly back?: true;
  readonly dropPrevious?: true;
  readonly share?: number;
};

/**
 * The command as Commander takes it. Sets `process.exitCode`: 0 when it is done and no row differed, 1 when rows
 * differed, 2 when it could not be done.
 */
export function rebuildCommand(): Command {
  return connectionOptions(new Command('rebuild'))
    .description('rebuild a read model from its events, beside the one that answers, and switch to it')
    .argument('<name>', 'orders, customers, products, payments, history, sales, or all')
    .option('--check', 'compare with the events, and leave everything as it is')
    .option('--back', 'have the tables from before the last rebuild answer again')
    .option('--drop-previous', 'give up the way back, and free its room')
    .option('--share <percent>', 'how much of the time to work; the rest is left to users', percent)
    .addHelpText(
      'after',
      `
Examples:
  twofold rebuild orders                 in the background of a running system, without a pause
  twofold rebuild all --check            does any row differ from its events? exits with 1 if so
  twofold rebuild all --share 100        as fast as the machine goes
  twofold rebuild orders --back          what answered before answers again
  twofold rebuild orders --drop-previous

Killed, it can be started again. Rows that differed are listed; the rebuilt ones answer.`,
    )
    .action(run);
}

async function run(name: string, options: Options): Promise<void> {
  try {
    const body = bodyOf(options);
    const begun = await ask<JobView>(options, 'POST', `/v1/ops/projections/${encodeURIComponent(name)}/rebuild`, body);
    const job = await follow(options, begun);
    if (options.json === true) console.log(JSON.stringify(job));
    if (job.state !== 'done')
      throw new OperationFailed(job.error ?? 'the process that rebuilt has ended: start it again');
    const outcome = job.outcome as Outcome;
    if (options.json !== true) for (const line of linesOf(name, outcome)) console.log(line);
    if ((outcome.differences?.count ?? 0) > 0) process.exitCode = 1;
  } catch (error) {
    if (!(error instanceof OperationFailed)) throw error;
    process.stderr.write(`twofold rebuild: ${error.message}\n`);
    process.exitCode = 2;
  }
}

type Difference = { table: string; key: string[]; live: Row | null; rebuilt: Row | null };
type Row = Readonly<Record<string, unknown>>;
type Outcome = {
  readonly back?: readonly string[];
  readonly dropped?: readonly string[];
  readonly events?: number;
  readonly workedMs?: number;
  readonly rows?: number;
  readonly heldMs?: number;
  readonly switched?: boolean;
  readonly differences?: { readonly count: number; readonly listed: readonly Difference[] } | null;
};

function bodyOf({ check, back, dropPrevious, share }: Options): RebuildBody {
  const asked = [check && 'check', back && 'back', dropPrevious && 'drop-previous'].filter(
    (one) => one !== undefined,
  ) as NonNullable<RebuildBody['action']>[];
  if (asked.length > 1) throw new OperationFailed('give one of --check, --back and --drop-previous');
  return { action: asked[0] ?? 'rebuild', ...(share === undefined ? {} : { sharePercent: share }) };
}

const number = (n = 0): string => Math.round(n).toLocaleString('en');

function* linesOf(name: string, outcome: Outcome): Generator<string> {
  if (outcome.back !== undefined) {
    yield `The tables from before answer again: ${outcome.back.join(', ')}. The same command leads back.`;
    return;
  }
  if (outcome.dropped !== undefined) {
    yield outcome.dropped.length === 0 ? 'There was nothing to drop.' : `Dropped: ${outcome.dropped.join(', ')}.`;
    return;
  }
  const { events = 0, workedMs = 1, rows = 0, heldMs, switched, differences } = outcome;
  yield `${number(events)} events, ${number((events * 1_000) / Math.max(workedMs, 1))}/s while it worked.`;
  if (differences == null) yield 'Not compared: the rows were of another version of the code.';
  else if (differences.count === 0) yield `${number(rows)} rows compared: all equal.`;
  else {
    yield `${number(rows)} rows compared, ${number(differences.count)} differ from their events:`;
    for (const one of differences.listed) yield* differenceLines(one);
    if (differences.count > differences.listed.length)
      yield `  and ${number(differences.count - differences.listed.length)} more`;
  }
  if (switched === true) {
    yield `The rebuilt rows answer; writers of them were held for ${number(heldMs)} ms.`;
    yield `\`twofold rebuild ${name} --back\` leads back, \`--drop-previous\` frees the room of what answered before.`;
  } else yield 'Everything is as it was.';
}

function* differenceLines({ table, key, live, rebuilt }: Difference): Generator<string> {
  const at = `  ${table} ${key.join('/')}`;
  if (live === null) yield `${at}: is missing`;
  else if (rebuilt === null) yield `${at}: should not be there`;
  else {
    for (const column of Object.keys(rebuilt)) {
      const [found, expected] = [live[column], rebuilt[column]].map((value) => short(JSON.stringify(value)));
      if (found !== expected) yield `${at}: ${column} is ${found}, its events say ${expected}`;
    }
  }
}

const short = (text = 'undefined'): string => (text.length > 80 ? `${text.slice(0, 79)}…` : text);

function percent(text: string): number {
  if (!/^(?:[1-9]\d?|100)$/.test(text)) throw new InvalidArgumentError('Give a whole number from 1 to 100.');
  return Number(text);
}
