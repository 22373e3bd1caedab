/** `twofold import`: real invoices as orders, through the public HTTP API, with a check at the end. */
import { Command, InvalidArgumentError } from 'commander';
import { mkdirSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { checkImport, type CheckOutcome } from './import-check.ts';
import { ImportError, Interrupted } from './import-error.ts';
import { ImportJournal } from './import-journal.ts';
import {
  differencesText,
  type ImportState,
  type ImportSummary,
  outcomeText,
  planText,
  summaryOf,
  writeReport,
} from './import-report.ts';
import { runImport, type RunOutcome } from './import-run.ts';
import { OrderReader } from './order-reader.ts';
import { type ImportPlan, planImport } from './order-plan.ts';
import { Progress } from '#platform/progress-bar.ts';
import { ShopClient } from './shop-client.ts';
import { systemPorts } from '#platform/ports.ts';

/**
 * The command as Commander takes it. Sets `process.exitCode`: 0 when everything is there and equal to the
 * file, 1 for a difference or an error (one line on stderr), 130 or 143 when stopped by a signal.
 */
export function importCommand(): Command {
  return new Command('import')
    .description('import an invoice file (Online Retail CSV, plain or gzip) as orders, and check every sum')
    .argument('<file>', 'CSV with the columns of Online Retail, plain or gzip')
    .option('--url <address>', 'address of the server', addressOf, new URL('http://127.0.0.1:8080'))
    .option('--token <jwt>', "an operator's token (default: $TWOFOLD_TOKEN)")
    .option('--speed <factor>', 'pace: seconds of the file per second (default: as fast as possible)', positive)
    .option('--stock <pieces>', 'pieces of every product (default: what the file needs)', pieces)
    .option('--in-flight <requests>', 'requests under way at once, 1 to 1000', requests, 64)
    .option('--patience <seconds>', 'how long to go on without a single success', positive, 60)
    .option(
      '--report <path>',
      'report file; the journal for resuming lies beside it (default: import-report-<hash>.json)',
    )
    .option('--json', 'print the summary as JSON on stdout')
    .addHelpText('after', HELP)
    .action(importFile);
}

/** Ctrl-C in a terminal comes twice when npm or another Node in front passes it on too. */
const againMsMin = 1_000;

const HELP = `
Examples:
  twofold import examples/online-retail-2011-02.csv.gz
  twofold import orders.csv.gz --speed 86400        a day of the file every second
  twofold import orders.csv.gz --speed 1            as it happened, second by second
  twofold import orders.csv.gz --stock 100          scarce goods: some orders fail as out of stock

Stopped, killed or cut off, the same command resumes; repeating it doubles nothing.`;

type Options = {
  readonly url: URL;
  readonly token?: string;
  readonly speed?: number;
  readonly stock?: number;
  readonly inFlight: number;
  readonly patience: number;
  readonly report?: string;
  readonly json?: true;
};

async function importFile(file: string, options: Options): Promise<void> {
  const out = options.json === true ? process.stderr : process.stdout;
  const progress = new Progress(process.stderr);
  try {
    const plan = await planImport(file);
    const stock = options.stock ?? null;
    const source = { file, server: options.url.origin, stock };
    const planned = summaryOf({ ...source, state: 'planned', error: null }, plan, null, null);
    out.write(`${planText(planned)}\n`);
    const report = resolve(options.report ?? `import-report-${plan.sha256.slice(0, 12)}.json`);
    folderOf(report);
    writeReport(report, planned, plan, null);
    if (plan.orders.length === 0) throw new ImportError(`${file} has no sale in it; see ${report}`);
    const journal = new ImportJournal(`${report}.journal`, { sha256: plan.sha256, url: options.url.href, stock });
    const { summary, run } = await importPlan(plan, source, journal, options, progress);
    writeReport(report, summary, plan, run);
    conclude(summary, report, journal, options.json === true);
  } catch (error) {
    if (!(error instanceof ImportError)) throw error;
    process.stderr.write(`twofold import: ${error.message}\n`);
    process.exitCode = 1;
  }
}

/** Sends and checks the plan under the signals; how it ended is in the summary, whatever it was. */
async function importPlan(
  plan: ImportPlan,
  source: { readonly file: string; readonly server: string; readonly stock: number | null },
  journal: ImportJournal,
  options: Options,
  progress: Progress,
): Promise<{ summary: ImportSummary; run: RunOutcome | null }> {
  const stop = new AbortController();
  let stoppedMs = 0;
  const onSignal = (signal: NodeJS.Signals): void => {
    process.exitCode = signal === 'SIGINT' ? 130 : 143;
    if (stop.signal.aborted) {
      if (systemPorts.elapsed() - stoppedMs < againMsMin) return;
      journal.flush();
      process.exit();
    }
    progress.say('stopping: waiting for the answers under way (again to stop at once)');
    stoppedMs = systemPorts.elapsed();
    stop.abort();
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, onSignal);
  const shop = new ShopClient({
    url: options.url,
    bearer: options.token ?? process.env['TWOFOLD_TOKEN'],
    connectionsMax: options.inFlight,
    patienceMs: options.patience * 1000,
    stop: stop.signal,
    onTrouble: (trouble) => progress.trouble(trouble),
  });
  const settings = { stock: source.stock, stop: stop.signal, progress };
  let run: RunOutcome | null = null;
  let check: CheckOutcome | null = null;
  const ended = (state: ImportState, error: string | null): { summary: ImportSummary; run: RunOutcome | null } => ({
    summary: summaryOf({ ...source, state, error }, plan, run, check),
    run,
  });
  try {
    run = await runImport(plan, shop, journal, {
      ...settings,
      inFlightMax: options.inFlight,
      speed: options.speed ?? null,
    });
    const reader = new OrderReader(shop, plan, run.consistencyToken);
    check = await checkImport(plan, run.refused, reader, { ...settings, patienceMs: options.patience * 1000 });
    return ended(check.differences.length === 0 ? 'equal' : 'differences', null);
  } catch (error) {
    if (error instanceof Interrupted) return ended('interrupted', null);
    if (error instanceof ImportError) return ended('stopped', error.message);
    throw error;
  } finally {
    journal.flush();
    shop.close();
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, onSignal);
  }
}

function conclude(summary: ImportSummary, report: string, journal: ImportJournal, json: boolean): void {
  const { state, error, check, stock } = summary;
  process.stdout.write(json ? `${JSON.stringify(summary)}\n` : `${outcomeText(summary)}\n`);
  if (journal.failure !== null) {
    process.stderr.write(
      `the journal ${journal.path} could not be written (${journal.failure}): resuming will take longer\n`,
    );
  }
  if (state === 'equal') {
    process.exitCode = 0;
    const good =
      stock !== null
        ? 'Every order is as in the file and final, and no more was sold than there was.'
        : 'All sums equal those of the file.';
    process.stderr.write(`${good} Report: ${report}\n`);
    return;
  }
  process.exitCode ??= 1;
  if (state === 'interrupted') {
    const { size } = journal.acknowledged;
    process.stderr.write(
      `stopped after ${size} of ${summary.plan.orders} orders; the same command resumes the import\n`,
    );
  } else if (check !== null) {
    process.stderr.write(`${differencesText(check.differences)}\ntwofold import: not as in the file; see ${report}\n`);
  } else {
    process.stderr.write(`twofold import: ${error}\n`);
  }
}

function folderOf(report: string): void {
  try {
    mkdirSync(dirname(report), { recursive: true });
  } catch (error) {
    throw new ImportError(`the report ${report} cannot be written: ${(error as Error).message}`, { cause: error });
  }
}

function addressOf(text: string): URL {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new InvalidArgumentError('Give an address such as http://127.0.0.1:8080.');
  return url;
}

function positive(text: string): number {
  const number = Number(text);
  if (text.trim() === '' || !Number.isFinite(number) || number <= 0)
    throw new InvalidArgumentError('Give a number above 0.');
  return number;
}

const integerUpTo =
  (max: number) =>
  (text: string): number => {
    const number = positive(text);
    if (!Number.isInteger(number) || number > max) throw new InvalidArgumentError(`Give an integer from 1 to ${max}.`);
    return number;
  };
const pieces = integerUpTo(1_000_000_000);
const requests = integerUpTo(1_000);
