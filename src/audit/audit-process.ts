/**
 * The walks run in a process of their own, which lets all others go first. What they find is recorded by the process
 * that has started them: it has the log of the audit, and the means to repair.
 */
import type { CommandServiceName } from '#contracts/service.ts';
import { inBackgroundProcess, workForParent } from '#platform/background-process.ts';
import { systemPorts } from '#platform/ports.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import type { DatabaseOwner } from '#platform/settings.ts';
import { type RoundsState, walkRounds } from './rounds.ts';
import type { Sample } from './sampling.ts';
import { type Recorder, type WalkingOptions, walkOnce, type WalkStates } from './walking.ts';
import { createWalks } from './walks.ts';

export type AuditOrder = {
  readonly databaseUrls: Readonly<Record<DatabaseOwner, string>>;
  readonly sources: Readonly<Record<CommandServiceName, string>>;
  readonly providerUrl: string;
  readonly idempotencyRetentionHours: number;
} & (
  | {
      readonly mode: 'rolling';
      /** Where it goes on; null: it has never been here. */
      readonly state: RoundsState | null;
      readonly sharePercent: number;
      readonly periodMs: number;
    }
  /** Everything, or what these checks are about, without resting. */
  | { readonly mode: 'once'; readonly checks: readonly string[] }
);

export type AuditHost = {
  readonly recorder: Recorder;
  onRounds?(state: RoundsState): void;
  onWalks?(states: WalkStates): void;
  /** Is given what tells the process of the walks what was read. */
  whenBegun?(tell: (sample: Sample) => void): void;
  reportTrouble(walk: string, error: unknown): void;
};

type FromWalker =
  | { readonly call: number; readonly method: keyof Recorder; readonly argument: never }
  | { readonly rounds: RoundsState }
  | { readonly walks: WalkStates }
  | { readonly trouble: string; readonly walk: string }
  | { readonly ended: WalkStates }
  | { readonly failed: string };
type ToWalker =
  | { readonly order: AuditOrder }
  | { readonly sample: Sample }
  | { readonly reply: number; readonly result: unknown }
  | { readonly reply: number; readonly failed: string };

/** To each database, of each walk that is under way. */
const connectionsPerWalk = 3;
const walksAtOnceMax = 4;
/** Large enough to spread what a piece costs, small enough to be done at once. */
const pieceEntitiesMax = 500;
/** That wait to be looked at; further ones are let go. */
const samplesMax = 10;

/**
 * What a piece reads lives until its end: a young generation that grows only as it needs to copies it again and again, a
 * tenth of all processor time of the walks. This is as large as it may become anyway.
 */
const nodeOptions = ['--min-semi-space-size=16'];

/** Resolves to where the walks have come once all have ended. Rejects with what stood in the way, or when `signal` ends it. */
export function walkInProcess(order: AuditOrder, host: AuditHost, signal: AbortSignal): Promise<WalkStates> {
  type Call = Extract<FromWalker, { call: number }>;
  async function answer({ call, method, argument }: Call, tell: (message: ToWalker) => void): Promise<void> {
    try {
      tell({ reply: call, result: await host.recorder[method](argument) });
    } catch (error) {
      tell({ reply: call, failed: (error as Error).message });
    }
  }

  return inBackgroundProcess<ToWalker, FromWalker, WalkStates>({
    name: 'the audit',
    script: import.meta.filename,
    nodeOptions,
    signal,
    begun(tell) {
      tell({ order });
      host.whenBegun?.((sample) => tell({ sample }));
    },
    heard(message, tell) {
      if ('ended' in message) return { result: message.ended };
      if ('failed' in message) throw new Error(message.failed);
      if ('call' in message) void answer(message, tell);
      else if ('rounds' in message) host.onRounds?.(message.rounds);
      else if ('walks' in message) host.onWalks?.(message.walks);
      else host.reportTrouble(message.walk, new Error(message.trouble));
      return undefined;
    },
  });
}

async function work(
  order: AuditOrder,
  tell: (message: FromWalker) => void,
  recorder: Recorder,
  samples: () => readonly Sample[],
): Promise<void> {
  const databases = Object.fromEntries(
    Object.entries(order.databaseUrls).map(([owner, url]) => [
      owner,
      openDatabase(url, {
        applicationName: 'twofold audit',
        background: true,
        poolMax: connectionsPerWalk * (order.mode === 'once' ? walksAtOnceMax : 1),
      }),
    ]),
  ) as Record<DatabaseOwner, Database>;
  const options: WalkingOptions = {
    walks: createWalks({
      databases,
      sourceOf: (service) => order.sources[service],
      providerUrl: order.providerUrl,
      ports: systemPorts,
      idempotencyRetentionHours: order.idempotencyRetentionHours,
    }),
    recorder,
    ports: systemPorts,
    sharePercent: order.mode === 'once' ? 100 : order.sharePercent,
    pieceEntitiesMax,
    walksAtOnceMax: order.mode === 'once' ? walksAtOnceMax : 1,
    checks: order.mode === 'once' ? order.checks : [],
    signal: new AbortController().signal,
    reportTrouble: (walk, error) => tell({ walk, trouble: (error as Error).message }),
  };
  try {
    if (order.mode === 'once') {
      tell({ ended: await walkOnce(options, {}, (states) => tell({ walks: states })) });
    } else {
      const changes = (): Promise<string> => headsOf(databases);
      await walkRounds({ ...options, ...order, changes, samples }, order.state, (rounds) => tell({ rounds }));
    }
  } catch (error) {
    tell({ failed: (error as Error).message });
  } finally {
    await Promise.all(Object.values(databases).map((database) => database.end()));
  }
}

/** Where all logs stand, but for that of the audit itself. */
async function headsOf(databases: Readonly<Record<DatabaseOwner, Database>>): Promise<string> {
  const { catalog, ordering, inventory, payments } = databases;
  const heads = await Promise.all(
    [catalog, ordering, inventory, payments].map((database) =>
      database.query<{ position: number }>('head', 'select position from log_head'),
    ),
  );
  return heads.map(([row]) => row?.position ?? 0).join();
}

/** The recorder of the process that has started this one: each call waits for its answer. */
function recorderOfParent(tell: (message: FromWalker) => void): {
  readonly recorder: Recorder;
  replied(message: Extract<ToWalker, { reply: number }>): void;
} {
  const waiting = new Map<number, PromiseWithResolvers<never>>();
  let calls = 0;
  const call =
    (method: keyof Recorder) =>
    (argument: unknown): Promise<never> => {
      calls += 1;
      const answer = Promise.withResolvers<never>();
      waiting.set(calls, answer);
      tell({ call: calls, method, argument: argument as never });
      return answer.promise;
    };
  return {
    recorder: { confirmed: call('confirmed'), gone: call('gone'), open: call('open') },
    replied(message) {
      const answer = waiting.get(message.reply);
      waiting.delete(message.reply);
      if ('failed' in message) answer?.reject(new Error(message.failed));
      else answer?.resolve(message.result as never);
    },
  };
}

if (process.argv[1] === import.meta.filename) {
  workForParent<ToWalker, FromWalker>((tell) => {
    const { recorder, replied } = recorderOfParent(tell);
    const samples: Sample[] = [];
    return (message) => {
      if ('order' in message) void work(message.order, tell, recorder, () => samples.splice(0));
      else if ('sample' in message) samples.push(...(samples.length < samplesMax ? [message.sample] : []));
      else replied(message);
    };
  });
}
