/** `twofold audit`, `twofold divergences`, `twofold resolve`: what diverges in a running system, and what is done about it. */
import { Command, InvalidArgumentError, Option } from 'commander';
import {
  type AuditBody,
  type AuditOutcome,
  type DivergenceList,
  divergenceStates,
  type DivergenceView,
  type ResolveBody,
  strategies,
} from '#contracts/audit-http.ts';
import type { JobView } from '#contracts/http.ts';
import { ask, connectionOptions, type ConnectionOptions, follow, OperationFailed } from './operations-client.ts';

type AuditOptions = ConnectionOptions & { readonly check?: readonly string[] };
type ListOptions = ConnectionOptions & {
  readonly state: (typeof divergenceStates)[number] | 'all';
  readonly check?: string;
  readonly limit: number;
};
type ResolveOptions = ConnectionOptions & ResolveBody;

const pageMax = 100;
const listedAfterAudit = 20;

/** The commands as Commander takes them. They set `process.exitCode`: 2 when the system could not be asked. */
export const auditCommands = (): Command[] => [auditCommand(), divergencesCommand(), resolveCommand()];

/** 0: nothing diverges; 1: something does. */
const auditCommand = (): Command =>
  connectionOptions(new Command('audit'))
    .description('look at everything in a running system once: does anything diverge?')
    .option('--check <name...>', 'only these checks; GET /v1/ops/audits lists them')
    .addHelpText(
      'after',
      `
Examples:
  twofold audit                          everything; exits with 1 if something diverges
  twofold audit --check log-hash-chain cache-is-row
  twofold audit --json | jq .open        how much diverges, by check

Exit codes: 0 nothing diverges, 1 something does, 2 it could not be looked at.
What diverges is recorded: \`twofold divergences\` lists it, \`twofold resolve\` settles it.`,
    )
    .action((options: AuditOptions) =>
      reporting('audit', async () => {
        const body: AuditBody = options.check === undefined ? {} : { checks: [...options.check] };
        const begun = await ask<JobView>(options, 'POST', '/v1/ops/audits', body);
        const job = await follow(options, begun);
        if (job.state !== 'done')
          throw new OperationFailed(job.error ?? 'the process of the audit has ended: start it again');
        const outcome = job.outcome as AuditOutcome;
        const diverging = Object.values(outcome.open).reduce((sum, count) => sum + count, 0);
        if (options.json === true) console.log(JSON.stringify({ ...outcome, job: job.id }));
        else {
          for (const line of auditLines(outcome)) console.log(line);
          if (diverging > 0) {
            const { items } = await page(options, { state: 'open', limit: listedAfterAudit });
            const shown = items.filter(({ check }) => Object.hasOwn(outcome.open, check));
            for (const one of shown) for (const line of divergenceLines(one)) console.log(line);
            if (diverging > shown.length)
              console.log(`  and ${number(diverging - shown.length)} more: twofold divergences`);
          }
        }
        if (diverging > 0) process.exitCode = 1;
      }),
    );

/** 0: there are none that were asked for; 1: there are. */
const divergencesCommand = (): Command =>
  connectionOptions(new Command('divergences'))
    .description('list what diverges in a running system, or did')
    .addOption(new Option('--state <state>', 'which').choices([...divergenceStates, 'all']).default('open'))
    .option('--check <name>', 'only those of this check')
    .option('--limit <number>', 'how many at most, the latest found first', whole, pageMax)
    .addHelpText(
      'after',
      `
Examples:
  twofold divergences                    what is open; exits with 1 if something is
  twofold divergences --state repaired   what was repaired, by whom and why
  twofold divergences --json | jq .[].diff

Exit codes: 0 there is none, 1 there is some, 2 it could not be asked.`,
    )
    .action((options: ListOptions) =>
      reporting('divergences', async () => {
        const items: DivergenceView[] = [];
        for (let cursor: string | null = ''; cursor !== null && items.length < options.limit;) {
          const limit = Math.min(pageMax, options.limit - items.length);
          const next: DivergenceList = await page(options, { ...options, limit, cursor });
          items.push(...next.items);
          cursor = next.nextCursor;
        }
        if (options.json === true) console.log(JSON.stringify(items));
        else if (items.length === 0)
          console.log(options.state === 'all' ? 'Nothing ever diverged.' : `None is ${options.state}.`);
        else for (const one of items) for (const line of divergenceLines(one)) console.log(line);
        if (items.length > 0) process.exitCode = 1;
      }),
    );

/** 0: it is settled; 1: it could not be. */
const resolveCommand = (): Command =>
  connectionOptions(new Command('resolve'))
    .description('settle a divergence of a running system')
    .argument('<id>', 'of the divergence', divergenceId)
    .addOption(
      new Option('--strategy <strategy>', 'one of those that the divergence names')
        .choices([...strategies])
        .makeOptionMandatory(),
    )
    .requiredOption('--reason <text>', 'why; it is recorded, with who has done it')
    .addHelpText(
      'after',
      `
Strategies:
  re-project        make derived data anew of its events
  correct           record an event that corrects, in the service whose data it is
  last-write-wins   take over what was written last
  accept            leave it as it is

Examples:
  twofold resolve 5f2c… --strategy re-project --reason 'changed by hand, ticket 4711'
  twofold resolve 5f2c… --strategy accept --reason 'the test order of 12 May'

Exit codes: 0 it is settled, 1 it could not be settled, 2 the system could not be asked.`,
    )
    .action((id: string, options: ResolveOptions) =>
      reporting('resolve', async () => {
        const { strategy, reason } = options;
        try {
          const body: ResolveBody = { strategy, reason };
          const settled = await ask<DivergenceView>(options, 'POST', `/v1/ops/divergences/${id}/resolve`, body);
          if (options.json === true) console.log(JSON.stringify(settled));
          else for (const line of divergenceLines(settled)) console.log(line);
        } catch (error) {
          if (!(error instanceof OperationFailed) || !notSettled.has(error.code ?? '')) throw error;
          process.stderr.write(`twofold resolve: ${error.message}\n`);
          process.exitCode = 1;
        }
      }),
    );

/** The system has been asked, and says no. */
const notSettled: ReadonlySet<string> = new Set([
  'divergence-not-found',
  'divergence-settled',
  'divergence-changed',
  'repair-failed',
  'strategy-not-possible',
]);

async function reporting(command: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof OperationFailed)) throw error;
    process.stderr.write(`twofold ${command}: ${error.message}\n`);
    process.exitCode = 2;
  }
}

type Wanted = Pick<ListOptions, 'state' | 'check' | 'limit'> & { readonly cursor?: string };

function page(connection: ConnectionOptions, { state, check, limit, cursor }: Wanted): Promise<DivergenceList> {
  const query = new URLSearchParams({ limit: String(limit) });
  if (state !== 'all') query.set('state', state);
  if (check !== undefined) query.set('check', check);
  if (cursor) query.set('cursor', cursor);
  return ask<DivergenceList>(connection, 'GET', `/v1/ops/divergences?${query.toString()}`);
}

const number = (n: number): string => Math.round(n).toLocaleString('en');

function* auditLines({ walks, open }: AuditOutcome): Generator<string> {
  const rows = walks.map(({ name, looked, workedMs, found }) => [
    name,
    number(looked),
    `${(workedMs / 1_000).toFixed(1)} s`,
    number(found),
  ]);
  yield* table([['walk', 'looked at', 'took', 'found'], ...rows]);
  const checks = Object.entries(open);
  if (checks.length === 0) yield 'Nothing diverges.';
  else {
    yield '';
    yield* table([['check', 'open'], ...checks.map(([check, count]) => [check, number(count)])]);
    yield '';
  }
  const more = walks.reduce((sum, { notRecorded }) => sum + notRecorded, 0);
  if (more > 0)
    yield `${number(more)} more were found than are recorded: look for one cause, and rebuild what it damaged.`;
}

/** The first column to the left, the others to the right. */
function* table(rows: readonly (readonly string[])[]): Generator<string> {
  const widths = rows[0]!.map((_title, column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const row of rows) {
    yield row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]! + 2)))
      .join('')
      .trimEnd();
  }
}

function* divergenceLines(one: DivergenceView): Generator<string> {
  yield `${one.id}  ${one.state}  ${one.check}  ${one.entity}`;
  yield `  ${one.says}`;
  for (const line of one.diff) yield `    ${line}`;
  yield `  first seen ${one.firstSeen}, last ${one.lastSeen}`;
  if (one.repairs.length > 0) yield `  possible: ${one.repairs.join(', ')}`;
  for (const { what, at, by, strategy, reason, trouble } of one.acts) {
    const how = strategy === undefined ? '' : ` (${strategy})`;
    yield `  ${what}${how} by ${by} at ${at}: ${reason}${trouble === undefined ? '' : ` — ${trouble}`}`;
  }
}

function divergenceId(text: string): string {
  if (!/^[0-9a-f]{32}$/.test(text)) throw new InvalidArgumentError('Give the id as `twofold divergences` lists it.');
  return text;
}

function whole(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('Give a whole number from 1.');
  return Number(text);
}
