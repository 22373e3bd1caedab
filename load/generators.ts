/** The generators, seen from the process that started them: one run of them, and what they measured together. */
import { type ChildProcess, execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { Latencies } from './latencies.ts';
import { CannotLoad } from './shop.ts';
import type { FromGenerator, Plan, Second, ToGenerator, Totals } from './plan.ts';

export type Generators = {
  readonly pids: readonly number[];
  /** Lets them begin. Resolves when all have ended; rejects when one fails. */
  run(): Promise<readonly Totals[]>;
  /** Has them come to the end of their run at once. */
  stop(): void;
  /** Lets them go; until then their figures can be read. */
  dismiss(): void;
};

/**
 * Starts one process per plan. Resolves when all connections stand; rejects with what kept one from it. Each second of
 * all of them together is told to `onSecond`.
 */
export async function startGenerators(
  plans: readonly Plan[],
  onSecond: (second: Second) => void,
  ending: { after(work: () => unknown): void },
): Promise<Generators> {
  const children = plans.map(() =>
    fork(`${import.meta.dirname}/generator.ts`, {
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    }),
  );
  for (const child of children) {
    ending.after(() => endChild(child));
    takeTurns(child);
  }
  const inStep = addUp(children.length, onSecond);
  const prepared = children.map(async (child, n) => {
    const said = heard(child, 'ready', inStep);
    say(child, { kind: 'prepare', plan: plans[n]! });
    await said;
  });
  await Promise.all(prepared);
  return {
    pids: children.map(({ pid }) => pid!),
    run: () =>
      Promise.all(
        children.map(async (child) => {
          const said = heard(child, 'done', inStep);
          say(child, { kind: 'begin' });
          return (await said).totals;
        }),
      ),
    stop() {
      for (const child of children) say(child, { kind: 'stop' });
    },
    dismiss() {
      for (const child of children) if (child.connected) child.disconnect();
    },
  };
}

const say = (child: ChildProcess, message: ToGenerator): void => {
  if (child.connected) child.send(message);
};

/**
 * Has a generator read answers when a processor is free or its turn has come, and not take that of the server that has just sent one:
 * elsewhere it would not be on the server's machine. What it waits counts as the server's all the same. Linux only.
 */
function takeTurns({ pid }: ChildProcess): void {
  if (pid !== undefined) execFile('chrt', ['--batch', '--pid', '0', String(pid)], () => {});
}

async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}

/** Resolves to the message of that kind; hands seconds on. Rejects when the generator fails or ends before. */
function heard<Kind extends FromGenerator['kind']>(
  child: ChildProcess,
  kind: Kind,
  onSecond: (second: Second) => void,
): Promise<Extract<FromGenerator, { kind: Kind }>> {
  return new Promise((resolve, reject) => {
    const hear = (message: FromGenerator): void => {
      if (message.kind === 'second') onSecond(message.second);
      else if (message.kind === 'failed') settle(() => reject(new Error(message.why)));
      else if (message.kind === kind) settle(() => resolve(message as Extract<FromGenerator, { kind: Kind }>));
    };
    const exit = (code: number | null, signal: string | null): void =>
      settle(() => reject(new CannotLoad(`a generator has ended by itself (${signal ?? code})`)));
    const settle = (act: () => void): void => {
      child.off('message', hear).off('exit', exit);
      act();
    };
    child.on('message', hear).on('exit', exit);
  });
}

/** Seconds of several generators as one: they begin together, and tell in the same second or the next. */
export function addUp(generators: number, onSecond: (second: Second) => void): (second: Second) => void {
  const heardOf = new Map<number, Second[]>();
  return (second) => {
    const at = Math.round(second.atMs / 1_000);
    heardOf.set(at, [...(heardOf.get(at) ?? []), second]);
    for (const [one, seconds] of heardOf) {
      // Whoever has not told of it by now has ended.
      if (seconds.length < generators && one > at - 2) continue;
      heardOf.delete(one);
      onSecond(sumOf(seconds));
    }
  };
}

function sumOf(seconds: readonly Second[]): Second {
  const latencies = new Latencies();
  for (const one of seconds) latencies.add(one.latencies);
  const sum = (of: (one: Second) => number): number => seconds.reduce((all, one) => all + of(one), 0);
  return {
    atMs: seconds[0]!.atMs,
    offered: sum(({ offered }) => offered),
    answered: sum(({ answered }) => answered),
    errors: sum(({ errors }) => errors),
    retries: sum(({ retries }) => retries),
    shed: sum(({ shed }) => shed),
    good: sum(({ good }) => good),
    waiting: sum(({ waiting }) => waiting),
    underWay: sum(({ underWay }) => underWay),
    openOrders: sum(({ openOrders }) => openOrders),
    latencies: latencies.export(),
  };
}

/** What all have measured, as if it had been one. */
export function totalOf(totals: readonly Totals[]): Totals {
  const latencies = new Latencies();
  for (const one of totals) latencies.add(one.latencies);
  const counts = (of: (one: Totals) => Readonly<Record<string, number>>): Record<string, number> => {
    const sum: Record<string, number> = {};
    for (const one of totals) for (const [name, count] of Object.entries(of(one))) sum[name] = (sum[name] ?? 0) + count;
    return sum;
  };
  const sum = (of: (one: Totals) => number): number => totals.reduce((all, one) => all + of(one), 0);
  return {
    offered: counts(({ offered }) => offered),
    answered: counts(({ answered }) => answered),
    errors: counts(({ errors }) => errors),
    examples: totals.flatMap(({ examples }) => examples),
    retries: counts(({ retries }) => retries),
    reopened: sum(({ reopened }) => reopened),
    ordersPlaced: sum(({ ordersPlaced }) => ordersPlaced),
    ordersOpen: sum(({ ordersOpen }) => ordersOpen),
    latencies: latencies.export(),
  };
}
