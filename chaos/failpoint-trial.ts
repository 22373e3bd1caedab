/** One failpoint, on real processes: they die there under load, come back, come to rest, and are audited. */
import type { Failpoint } from '#platform/failpoint.ts';
import { freePort } from '../tests/free-port.ts';
import { checkInvariants, untilAtRest, type Violation } from '../tests/invariants.ts';
import {
  EndedEarly,
  type Ending,
  programDataDir,
  startTestProcess,
  startTestProgram,
  type TestProcess,
  type TestProgram,
} from '../tests/running-program.ts';
import { openShop, until } from '../tests/shop-client.ts';
import { type Load, startLoad } from './load.ts';

export type Trial = { readonly name: Failpoint; readonly nth: number };

export type Survival = {
  /** From the start of the load, or of the process when it dies while it starts, to its death. */
  readonly diedAfterMs: number;
  /** From the start of the next process until it was ready. */
  readonly restartMs: number;
  /** From the last request until nothing was left to do. */
  readonly restMs: number;
  readonly requests: number;
  /** Requests that had no answer, or none that says what became of them. */
  readonly unanswered: number;
  readonly orders: number;
  readonly violations: readonly Violation[];
};

/** What was under way at the provider when a process died is taken up after three of these. */
const paymentTimeoutMs = 300;
const deathTimeoutMs = 20_000;
const restTimeoutMs = 45_000;
/** So many orders are placed after the restart, at least. */
const ordersAfter = 100;
const moreOrdersTimeoutMs = 30_000;

/** Rejects when the failpoint is not reached, or the system does not come back, or breaks its word to a client. */
export async function survive(ending: Ending, trial: Trial): Promise<Survival> {
  const plan = { TWOFOLD_FAILPOINT: `${trial.name}:${trial.nth}` };
  const dataDir = await programDataDir(ending);
  const env = { TWOFOLD_PAYMENT_TIMEOUT_MS: String(paymentTimeoutMs) };
  if (/^(postgres|migration)-/.test(trial.name)) return surviveStart(ending, dataDir, env, plan);
  if (trial.name.startsWith('ledger-')) return surviveProvider(ending, dataDir, env, plan);
  return surviveProgram(ending, dataDir, env, plan, trial.name.startsWith('alone-'));
}

type Env = Readonly<Record<string, string>>;
type Plan = { readonly TWOFOLD_FAILPOINT: string };

async function surviveStart(ending: Ending, dataDir: string, env: Env, plan: Plan): Promise<Survival> {
  const since = performance.now();
  const end = await startTestProgram(ending, dataDir, { ...env, ...plan }).then(
    () => null,
    (error: unknown) => {
      if (error instanceof EndedEarly) return error;
      throw error;
    },
  );
  if (end === null) throw new Error(`${plan.TWOFOLD_FAILPOINT} was not reached while the program started`);
  diedThere(plan, end.signal, end.output);
  const diedAfterMs = performance.now() - since;
  const [program, restartMs] = await timed(() => startTestProgram(ending, dataDir, env));
  const load = startLoad({ shop: () => program.shop });
  ending.after(() => load.abandon());
  return { diedAfterMs, restartMs, ...(await rest(program, load)) };
}

async function surviveProgram(
  ending: Ending,
  dataDir: string,
  env: Env,
  plan: Plan,
  withRival: boolean,
): Promise<Survival> {
  let program = await startTestProgram(ending, dataDir, { ...env, ...plan });
  const rival = withRival ? openShop(await startRival(ending, program)) : undefined;
  const since = performance.now();
  const load = startLoad({ shop: () => program.shop, ...(rival === undefined ? {} : { rival }) });
  ending.after(() => load.abandon());
  const rebuilds = plan.TWOFOLD_FAILPOINT.startsWith('rebuild-');
  if (rebuilds) {
    await startRebuild(program, load);
    await deathOfRebuild(plan, program);
  }
  await death(plan, program);
  const diedAfterMs = performance.now() - since;
  const [next, restartMs] = await timed(() => startTestProgram(ending, dataDir, env));
  program = next;
  if (rebuilds) await startRebuild(program, load);
  return { diedAfterMs, restartMs, ...(await rest(program, load)) };
}

/** Of all read models, with some orders to read; whoever was killed before has left what it has. */
async function startRebuild({ shop }: TestProgram, load: Load): Promise<void> {
  const enough = load.settled() + ordersAfter;
  await until('there are orders to rebuild', async () => (load.settled() >= enough ? true : null), moreOrdersTimeoutMs);
  // The one that was killed is given up once it has not been heard of for a while.
  await until('a rebuild has started', async () => {
    const { status } = await shop.request('POST', '/v1/ops/projections/all/rebuild', { json: {} });
    return status === 202 ? true : null;
  });
}

/** A second process that writes into the catalogue's log: the first has to decide alone now and then. */
async function startRival(ending: Ending, { databaseUrls }: TestProgram): Promise<string> {
  const env = { DATABASE_URL_CATALOG: databaseUrls.catalog };
  const rival = await startTestProcess(ending, ['serve', 'catalog', '--port', '0'], env, /serves catalog at (\S+)/);
  return rival.said[0]!;
}

/** The provider is a process of its own, as a real one is: the program lives on. */
async function surviveProvider(ending: Ending, dataDir: string, env: Env, plan: Plan): Promise<Survival> {
  const port = String(await freePort());
  const startProvider = (more: Env): Promise<TestProcess> => {
    const own = { TWOFOLD_SANDBOX_PORT: port, TWOFOLD_DATA_DIR: dataDir, ...more };
    return startTestProcess(ending, ['serve', 'sandbox'], own, /provider answers at (\S+)/);
  };
  const provider = await startProvider(plan);
  const program = await startTestProgram(ending, dataDir, { ...env, TWOFOLD_PROVIDER_URL: provider.said[0]! });
  const since = performance.now();
  const load = startLoad({ shop: () => program.shop });
  ending.after(() => load.abandon());
  await death(plan, provider);
  const diedAfterMs = performance.now() - since;
  const [, restartMs] = await timed(() => startProvider({}));
  return { diedAfterMs, restartMs, ...(await rest(program, load)) };
}

async function death(plan: Plan, dying: Pick<TestProcess, 'ended' | 'output'>): Promise<void> {
  let signal: NodeJS.Signals | null | undefined;
  void dying.ended().then((ended) => (signal = ended));
  await until(`${plan.TWOFOLD_FAILPOINT} is reached`, async () => (signal === undefined ? null : true), deathTimeoutMs);
  diedThere(plan, signal ?? null, dying.output());
}

/** It is a process of its own; the program that has started it goes down a moment later. */
async function deathOfRebuild(plan: Plan, program: TestProgram): Promise<void> {
  const reached = (): boolean => program.output().includes(`failpoint ${plan.TWOFOLD_FAILPOINT} reached`);
  await until(`${plan.TWOFOLD_FAILPOINT} is reached`, async () => (reached() ? true : null), deathTimeoutMs);
  process.kill(program.pids().node, 'SIGKILL');
}

function diedThere(plan: Plan, signal: NodeJS.Signals | null, output: string): void {
  if (signal === 'SIGKILL' && output.includes(`failpoint ${plan.TWOFOLD_FAILPOINT} reached`)) return;
  throw new Error(`it did not die at ${plan.TWOFOLD_FAILPOINT}, but ended with ${signal ?? 'a code'}:\n${output}`);
}

/** Places some more orders, waits until all is done, and audits. */
async function rest(program: TestProgram, load: Load): Promise<Omit<Survival, 'diedAfterMs' | 'restartMs'>> {
  const enough = load.settled() + ordersAfter;
  await until(
    `${ordersAfter} more orders`,
    async () => (load.failed() || load.settled() >= enough ? true : null),
    moreOrdersTimeoutMs,
  );
  const journal = await load.stop();
  const [open, restMs] = await timed(() => untilAtRest(program.databaseUrls, restTimeoutMs).then(() => [], stillOpen));
  const violations = [...open, ...(await checkInvariants(program.databaseUrls, program.providerUrl, journal))];
  const { sent, unanswered } = load.requests();
  return { restMs, requests: sent, unanswered, orders: journal.placed.length, violations };
}

/** What else is wrong then tells why it did not come to its end. */
function stillOpen(error: unknown): Violation[] {
  const { message, cause } = error as Error;
  return [{ invariant: 'I20', found: cause instanceof Error ? `${message}: ${cause.message}` : message }];
}

async function timed<T>(work: () => Promise<T>): Promise<[T, number]> {
  const since = performance.now();
  return [await work(), performance.now() - since];
}
