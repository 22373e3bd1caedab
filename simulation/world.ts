/**
 * The world of a plan: the real services, command bus, log, reactions and timers in simulated processes,
 * over simulated databases, bus, provider and clients, under one scheduler. Faults strike, are mended,
 * and what must hold is checked.
 */
import type { ShopServiceName } from '#contracts/service.ts';
import { entityOf } from '#cqrs/event-log.ts';
import { reachAll } from '#cqrs/progress.ts';
import { Auditor, checkChain, checkEndings, checkOverdue, type Happened, isAtRest, Violation } from './checks.ts';
import { checkJournal, type Done, type Entry, startClients } from './clients.ts';
import { Faults } from './faults.ts';
import { forbidAmbientTimeAndChance } from './globals.ts';
import { worldBeganAt } from './incarnation.ts';
import type { Changes } from './log-tables.ts';
import { Operator } from './operator.ts';
import { type Command, commandServices, type Plan, undisturbed } from './plan.ts';
import { Processes } from './processes.ts';
import { seededRandom } from './random.ts';
import { checkOwnWrite, checkReadRows, isHeldBack } from './read-rows.ts';
import { countEvent } from './sightings.ts';
import { type Surroundings, surroundingsOf } from './surroundings.ts';

export type Outcome = {
  readonly violation: { readonly invariant: string; readonly found: string } | null;
  readonly traceHash: string;
  readonly steps: number;
  /** How long the world lasted, in its own time. */
  readonly lastedMs: number;
  readonly counts: ReadonlyMap<string, number>;
};

/** How long after the last fault everything has to be at rest, beyond the deadlines. */
const restWithinMs = 180_000;
const lookEveryMs = 250;
/** Between finding a timer due and its effect. */
const timerUnderWayMs = 20;
/** Between reading that a payment is wanted and calling the provider. */
const chargeUnderWayMs = 2_000;
/** How long a client waits for the read side to have heard of what it has written. */
const readWaitMs = 2_000;
/** How late a timer may be; with a call to the provider that is not answered, and the one after it. */
const overdueMs = 2_500;
const settlingMs = 10_000;

/** Runs the world of `plan` to its end. `tell` hears what happens, as lines. */
export async function runWorld(plan: Plan, tell?: (line: string) => void): Promise<Outcome> {
  const restore = forbidAmbientTimeAndChance();
  const world = new World(plan, tell);
  const unheard: unknown[] = [];
  const hear = (error: unknown): void => void unheard.push(error);
  process.on('unhandledRejection', hear);
  const failure = await world.run().then(
    () => null,
    (error: unknown) => error,
  );
  restore();
  const outcome = world.outcome(failure);
  // An error that nobody hears of would have ended the real process.
  await new Promise((resolve) => setImmediate(resolve));
  process.off('unhandledRejection', hear);
  if (outcome.violation !== null || unheard.length === 0) return outcome;
  return { ...outcome, violation: violationOf(unheard[0]) };
}

function violationOf(failure: unknown): Outcome['violation'] {
  if (failure === null) return null;
  if (failure instanceof Violation) return { invariant: failure.invariant, found: failure.message };
  return {
    invariant: 'bug',
    found: failure instanceof Error ? (failure.stack ?? failure.message) : JSON.stringify(failure),
  };
}

class World {
  readonly #plan: Plan;
  readonly #of: Surroundings;
  readonly #processes: Processes;
  readonly #faults: Faults;
  readonly #auditor: Auditor;
  /** When each timer was last found to be due. */
  readonly #dueAt = new Map<string, number>();
  readonly #violations: Violation[] = [];
  /** Whether one process alone calls the provider, and no fault touches it or its database. */
  readonly #paysInPeace: boolean;
  /** When each payment was withdrawn. */
  readonly #withdrawnAt = new Map<string, number>();

  constructor(plan: Plan, tell: ((line: string) => void) | undefined) {
    this.#plan = plan;
    this.#of = surroundingsOf(plan, tell, {
      committed: (service, changes, by) => this.#committed(service, changes, by),
      entered: (entry) => this.#check(() => this.#auditor.entered(entry)),
      charging: (orderId) => this.#check(() => this.#charging(orderId)),
      reached: (process, stage) => this.#processes.reached(process, stage),
      due: (streams) => {
        for (const stream of streams) this.#dueAt.set(stream, this.#of.scheduler.nowMs);
      },
    });
    const payers = Object.values(plan.setting.processes).filter((services) => services.includes('payments'));
    this.#paysInPeace = payers.length === 1 && undisturbed(plan).includes('payments');
    this.#auditor = new Auditor(this.#of.tables);
    this.#processes = new Processes(this.#of);
    this.#faults = new Faults(this.#of, this.#processes, new Operator(this.#of));
  }

  async run(): Promise<void> {
    const plan = this.#plan;
    for (const post of this.#processes.posts.values()) this.#processes.start(post);
    for (const fault of plan.faults)
      this.#of.scheduler.after(fault.atMs, 'fault', null, () => this.#faults.strike(fault));
    const clients = startClients(
      {
        scheduler: this.#of.scheduler,
        random: seededRandom(plan.seed, 'clients'),
        counters: this.#of.counters,
        weather: this.#of.clients,
        reachable: (service) => this.#processes.reachable(service),
        onDone: (command, answer) => this.#readOwnWrite(command, answer),
      },
      plan.commands,
    );
    this.#watchOverdue();
    const stopped = (): boolean => this.#violations.length > 0;
    await this.#of.scheduler.run(plan.healAtMs, stopped);
    if (!stopped()) this.#faults.heal();
    const giveUpAt = plan.healAtMs + plan.setting.orderDeadlineSeconds * 1_000 + restWithinMs;
    let lookAt = plan.healAtMs;
    while (!stopped() && this.#of.scheduler.nowMs < giveUpAt) {
      lookAt += lookEveryMs;
      await this.#of.scheduler.run(lookAt, stopped);
      if (
        !clients.busy() &&
        this.#processes.isCaughtUp() &&
        this.#waiting() === 0 &&
        isAtRest(this.#auditor, this.#of.tables)
      )
        break;
    }
    const [violation] = this.#violations;
    if (violation !== undefined) throw violation;
    await this.#checkAtRest(clients.journal);
  }

  /** A client reads what it has just written, from a process that says to have come that far. */
  #readOwnWrite(command: Command, answer: Done): void {
    const lives = [...this.#processes.posts.values()].flatMap(({ running }) => (running === null ? [] : [running]));
    const { readSide = [] } = lives.find((life) => life.readSide.length > 0) ?? {};
    if (readSide.length === 0) return;
    const followed = new Map(readSide.map((consumer) => [consumer.source, consumer.progress]));
    void reachAll(answer.positions, followed, readWaitMs).then((reached) => {
      if (!reached) return;
      if (isHeldBack(command, answer, readSide)) return this.#of.counters.add('own write held back');
      this.#of.counters.add('own write read');
      this.#check(() => checkOwnWrite(command, answer, this.#of.readSide.rows));
    });
  }

  /** Looks every now and then whether what is due has been done, where nothing stands in the way. */
  #watchOverdue(): void {
    const services = undisturbed(this.#plan);
    const look = (): void => {
      if (this.#faults.healed) return;
      for (const service of services) {
        const clocks = [...this.#processes.posts.values()].filter((post) => post.services.includes(service));
        const slowest = Math.min(...clocks.map(({ clock }) => clock.skewMs));
        const graceMs = service === 'payments' ? settlingMs : overdueMs;
        const now = new Date(worldBeganAt + this.#of.scheduler.nowMs + slowest - graceMs).toISOString();
        this.#check(() => checkOverdue(this.#auditor, service, now));
      }
      this.#of.scheduler.after(lookEveryMs, 'look', null, look);
    };
    this.#of.scheduler.after(lookEveryMs, 'look', null, look);
  }

  outcome(failure: unknown): Outcome {
    for (const { process } of this.#processes.lives()) process.kill();
    const { traceHash, taken, nowMs } = this.#of.scheduler;
    const violation = violationOf(failure);
    return { violation, traceHash, steps: taken, lastedMs: nowMs, counts: this.#of.counters.counts };
  }

  async #checkAtRest(journal: readonly Entry[]): Promise<void> {
    if (this.#waiting() > 0) throw new Violation('I14', `${this.#waiting()} messages stay parked for ever`);
    for (const service of commandServices) checkChain(service, this.#of.tables[service]);
    checkEndings(this.#auditor, this.#of.tables);
    checkJournal(journal, this.#auditor);
    if (!this.#processes.isCaughtUp()) throw new Violation('I3', 'a consumer is behind for ever');
    await checkReadRows(this.#auditor, this.#of.readSide.rows);
  }

  /** How many messages are parked in all databases. */
  #waiting(): number {
    const rows = commandServices.flatMap((service) => [...this.#of.servers[service].tables.parked.values()]);
    return rows.filter(({ state }) => state !== 'discarded').length + this.#of.readSide.parked.size;
  }

  #check(check: () => void): void {
    try {
      check();
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.#of.say('VIOLATION', error.message);
      this.#violations.push(error);
    }
  }

  #committed(service: ShopServiceName, changes: Changes, by: string): void {
    this.#check(() => {
      for (const event of this.#auditor.committed(service, changes)) {
        this.#of.scheduler.witness(`${event.id} ${event.type} ${event.stream}`);
        countEvent(this.#of.counters, event, this.#auditor);
        this.#countTimerRace(event);
        if (event.type === 'PaymentWithdrawn') this.#withdrawnAt.set(entityOf(event.stream), this.#of.scheduler.nowMs);
        this.#of.say(by, `${event.id}  ${event.type} of ${event.stream}, because of ${event.origin.causationId}`);
      }
    });
    for (const { parks, unparks } of changes.moves) {
      for (const { cause } of parks) this.#of.counters.add(`parked: ${cause}`);
      if (unparks.length > 0 && parks.length === 0) this.#of.counters.add('parked message replayed');
    }
    const writer = this.#processes.lives().find(({ process }) => process.name === by);
    if (writer === undefined) this.#of.counters.add('committed after its process died');
    this.#processes.grown(service);
  }

  /** I8, where nothing stands in the way: no more charges than there are attempts, and none for what nobody wants. */
  #charging(orderId: string): void {
    if (!this.#paysInPeace) return;
    const { attempts = 0 } = this.#auditor.stateOf<{ attempts?: number }>('payment', orderId) ?? {};
    if (attempts >= this.#plan.setting.paymentAttemptsMax)
      throw new Violation('I8', `order ${orderId} is charged once more after ${attempts} attempts`);
    const since = this.#of.scheduler.nowMs - (this.#withdrawnAt.get(orderId) ?? Infinity);
    if (since > chargeUnderWayMs)
      throw new Violation('I8', `order ${orderId} is charged ${since} ms after it has ended`);
  }

  /** A timer was found due, and while it was on its way somebody else ended the order. */
  #countTimerRace({ type, stream, origin }: Happened): void {
    if (!['OrderCompleted', 'OrderCancelled', 'OrderFailed'].includes(type) || origin.actor === 'order-deadline')
      return;
    const foundMs = this.#dueAt.get(stream) ?? -Infinity;
    if (this.#of.scheduler.nowMs - foundMs < timerUnderWayMs) this.#of.counters.add('timer against completion');
  }
}
