/** What the processes of a world stand on, and share. */
import type { ShopServiceName } from '#contracts/service.ts';
import { memoryReadStore, type MemoryReadStore } from '#cqrs/memory-read-store.ts';
import type { BusWeather } from './bus-feed.ts';
import { Counters } from './counters.ts';
import type { Incarnation } from './incarnation.ts';
import { type Changes, LogTables } from './log-tables.ts';
import type { Plan } from './plan.ts';
import { type Random, seededRandom } from './random.ts';
import { Scheduler } from './scheduler.ts';
import { SimulatedServer, type Stage, type Weather } from './simulated-postgres.ts';
import { type LedgerEntry, SimulatedProvider } from './simulated-provider.ts';

export type ByService<T> = Readonly<Record<ShopServiceName, T>>;

export type ReadSide = {
  readonly rows: MemoryReadStore;
  readonly weather: Weather;
  /** Streams that a projection stumbles over. */
  readonly barred: Set<string>;
  /** What waits there, by consumer and position. */
  readonly parked: Set<string>;
};

export type Surroundings = {
  readonly plan: Plan;
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly counters: Counters;
  readonly tables: ByService<LogTables>;
  readonly servers: ByService<SimulatedServer>;
  readonly bus: ByService<BusWeather>;
  readonly provider: SimulatedProvider;
  readonly readSide: ReadSide;
  readonly clients: { lostRequests: number };
  /** Tells whoever reads along. */
  say(who: string, what: string): void;
};

/** What is told of as it happens. */
export type Witness = {
  committed(service: ShopServiceName, changes: Changes, by: string): void;
  entered(entry: LedgerEntry): void;
  /** The provider is asked to charge an order. */
  charging(orderId: string): void;
  /** A process has found these timers to be due. */
  due(streams: readonly string[]): void;
  /** Where an append of a process is; what the witness does to the process happens before the next stage. */
  reached(process: Incarnation, stage: Stage): void;
};

export const calm = { down: false, slowMs: 0, stallMs: 0, lostAnswers: 0 } as const;

export function surroundingsOf(plan: Plan, tell: ((line: string) => void) | undefined, witness: Witness): Surroundings {
  const scheduler = new Scheduler(seededRandom(plan.seed, 'order'));
  const random = seededRandom(plan.seed, 'world');
  const counters = new Counters();
  const say = (who: string, what: string): void => {
    if (tell === undefined) return;
    const seconds = (scheduler.nowMs / 1_000).toFixed(4).padStart(9);
    tell(`${seconds} s  ${who.padEnd(14)} ${what}`);
  };
  const tables = eachService(() => new LogTables());
  const servers = eachService(
    (service) =>
      new SimulatedServer({
        scheduler,
        random,
        tables: tables[service],
        onVisible: (changes, by) => witness.committed(service, changes, by),
        onStage: (process, stage) => witness.reached(process, stage),
        onLostCommit: () => counters.add('lost answer of a commit'),
        onDue: (streams) => witness.due(streams),
      }),
  );
  const entered = (entry: LedgerEntry): void => {
    say('provider', `${entry.kind} ${entry.key}, ${entry.amount}`);
    witness.entered(entry);
  };
  const chance = seededRandom(plan.seed, 'provider');
  const provider = new SimulatedProvider(chance, counters, (orderId) => witness.charging(orderId), entered);
  return {
    plan,
    scheduler,
    random,
    counters,
    tables,
    servers,
    bus: eachService(() => ({ down: false, noise: plan.setting.busNoise })),
    provider,
    readSide: { rows: memoryReadStore(), weather: { ...calm }, barred: new Set(), parked: new Set() },
    clients: { lostRequests: 0 },
    say,
  };
}

const eachService = <T>(make: (service: ShopServiceName) => T): ByService<T> => ({
  catalog: make('catalog'),
  ordering: make('ordering'),
  inventory: make('inventory'),
  payments: make('payments'),
});
