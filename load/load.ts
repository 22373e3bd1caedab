/** `npm run load`: an open-loop load of many users on a whole system, and whether it kept what it has to. See docs/load.md. */
import { readFileSync, writeFileSync } from 'node:fs';
import { openEnding } from '../tests/running-program.ts';
import { auditAfter, type AuditResult } from './audit-after.ts';
import { findLimit } from './find-limit.ts';
import { help, readFlags, type Wish, WrongFlags } from './flags.ts';
import { isPassed, judge } from './judgement.ts';
import { syncsPerSecond } from './machine.ts';
import { measure, type Measured, type Progress } from './measure.ts';
import { isCaughtUp } from './metrics.ts';
import type { Customer } from './plan.ts';
import { htmlOf } from './report-html.ts';
import { progressLine, type Report, textOf } from './report-text.ts';
import { CannotLoad, furnish, openSystem } from './shop.ts';

const customersMax = 10_000;
const caughtUpTimeoutMs = 60_000;

try {
  const wish = readFlags(process.argv.slice(2));
  if (wish === null) console.log(help());
  else process.exitCode = (await load(wish)) ? 0 : 1;
} catch (error) {
  if (!(error instanceof WrongFlags) && !(error instanceof CannotLoad)) throw error;
  console.error(`load: ${error.message}`);
  process.exitCode = 2;
}

async function load(wish: Wish): Promise<boolean> {
  const ending = openEnding();
  const stopped = new Promise<never>((_resolve, reject) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => reject(new CannotLoad('stopped')));
  });
  try {
    const report = await Promise.race([run(wish, ending), stopped]);
    console.log(textOf(report));
    if (wish.json !== undefined) writeFileSync(wish.json, `${JSON.stringify(report, null, 1)}\n`);
    if (wish.html !== undefined) writeFileSync(wish.html, htmlOf(report));
    return isPassed(report.verdicts, wish.smoke);
  } finally {
    await ending.end();
  }
}

async function run(wish: Wish, ending: ReturnType<typeof openEnding>): Promise<Report> {
  const startedAt = new Date().toISOString();
  const runId = Date.now().toString(36);
  const syncs = syncsPerSecond();
  const tokens = wish.tokensFile === undefined ? [] : customersIn(wish.tokensFile);
  say('starting');
  const system = await openSystem(ending, { ...wish, tokens });
  const customers: readonly Customer[] =
    tokens.length > 0
      ? tokens
      : Array.from({ length: Math.min(wish.connections, customersMax) }, (_, n) => ({
          customerId: `load-${runId}-${n}`,
        }));
  say(`furnishing ${system.address}: ${wish.products} products, ${customers.length} customers`);
  const skus = await furnish(system.shop, runId, wish.products, customers);
  let runs = 0;
  const measureAt = async (requestsPerSecond: number): Promise<Measured> => {
    runs += 1;
    // Of what was furnished, or of the rate that was tried before.
    if (!(await isCaughtUp(system.shop, caughtUpTimeoutMs))) say('a consumer is still behind');
    say(`opening ${wish.connections} connections for ${requestsPerSecond.toFixed(0)} requests/s`);
    const options = { ...wish, system, requestsPerSecond, customers, skus, onProgress };
    return measure({ ...options, run: `${runId}-${runs}`, seed: wish.seed + 100 * runs }, ending);
  };
  const found = wish.findLimit ? await findLimit(wish.requestsPerSecond, measureAt, say) : null;
  const measured = found?.measured ?? (await measureAt(wish.requestsPerSecond));
  if (wish.audit) say('auditing');
  const audit = wish.audit ? await auditAfter(system.shop).catch(noAudit) : null;
  return {
    title: `profile ${wish.profile}: ${measured.requestsPerSecond.toFixed(0)} requests/s, ${(wish.orderShare * 100).toFixed(0)} % of them orders, over ${wish.connections} connections for ${wish.seconds} s`,
    command: commandLine(),
    startedAt,
    seed: wish.seed,
    syncsPerSecond: syncs,
    measured,
    audit,
    verdicts: judge(measured, audit),
    ...(found === null ? {} : { tried: found.tried }),
  };
}

/** Lines of a customer's id, a blank and its token. */
function customersIn(file: string): readonly Customer[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new WrongFlags(`--tokens ${file} cannot be read: ${(error as Error).message}`, { cause: error });
  }
  const customers = text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line, n) => {
      const [customerId, token, more] = line.trim().split(/\s+/);
      if (customerId === undefined || token === undefined || more !== undefined)
        throw new WrongFlags(`--tokens ${file}, line ${n + 1}: right would be a customer's id, a blank and a token.`);
      return { customerId, token };
    });
  if (customers.length === 0) throw new WrongFlags(`--tokens ${file} has no token in it.`);
  return customers;
}

function noAudit(error: unknown): AuditResult {
  return { kind: 'failed', why: (error as Error).message };
}

/** What was run, without what nobody else may know. */
function commandLine(): string {
  const isSecret = (arg: string, before = ''): boolean =>
    /^--(token|secret)(=|$)/.test(arg) || /^--(token|secret)$/.test(before);
  const args = process.argv.slice(2);
  return `npm run load -- ${args.filter((arg, n) => !isSecret(arg, args[n - 1])).join(' ')}`;
}

function onProgress(progress: Progress): void {
  say(progressLine(progress));
}

function say(what: string): void {
  process.stderr.write(`${what}\n`);
}
