/** What goes wrong in a world, and how it is mended. */
import type { Operator } from './operator.ts';
import { commandServices, type Fault } from './plan.ts';
import type { Processes } from './processes.ts';
import type { SimulatedServer } from './simulated-postgres.ts';
import { calm, type Surroundings } from './surroundings.ts';

export class Faults {
  readonly #of: Surroundings;
  readonly #processes: Processes;
  readonly #operator: Operator;
  #healed = false;

  constructor(surroundings: Surroundings, processes: Processes, operator: Operator) {
    this.#of = surroundings;
    this.#processes = processes;
    this.#operator = operator;
  }

  /** Whether everything works again, for good. */
  get healed(): boolean {
    return this.#healed;
  }

  /** Has a fault strike now, and mends it when its time is over. */
  strike(fault: Fault): void {
    this.#of.say('FAULT', JSON.stringify(fault));
    this.#of.counters.add(`fault: ${fault.kind}`);
    const mend = (act: () => void): unknown => this.#of.scheduler.after(fault.forMs, 'mended', null, act);
    const post = 'process' in fault ? this.#processes.posts.get(fault.process)! : null;
    switch (fault.kind) {
      case 'crash':
        return this.#processes.crash(post!, fault.forMs);
      case 'crash-at':
        return void post!.crashes.push({ stage: fault.stage, nth: fault.nth, forMs: fault.forMs });
      case 'pause': {
        const process = post!.running?.process;
        process?.pause();
        return void mend(() => process?.resume());
      }
      case 'replace': {
        const life = post!.running;
        if (life === null) return;
        life.process.pause();
        post!.zombies.push(life);
        this.#processes.start(post!);
        return void mend(() => life.process.resume());
      }
      case 'database-down': {
        const server = this.#of.servers[fault.service];
        server.weather.down = true;
        server.restart();
        return void mend(() => {
          server.weather.down = false;
        });
      }
      case 'database-restart':
        return this.#of.servers[fault.service].restart();
      case 'connections-cut':
        return this.#cutOften(this.#of.servers[fault.service], fault.forMs);
      case 'database-slow':
        return this.#for(fault.forMs, this.#of.servers[fault.service].weather, 'slowMs', fault.slowMs);
      case 'database-stalls':
        return this.#for(fault.forMs, this.#of.servers[fault.service].weather, 'stallMs', fault.stallMs);
      case 'answers-lost':
        return this.#for(fault.forMs, this.#of.servers[fault.service].weather, 'lostAnswers', fault.probability);
      case 'bus-down':
        this.#of.bus[fault.service].down = true;
        return void mend(() => {
          this.#of.bus[fault.service].down = false;
        });
      case 'bus-storm':
        return this.#for(fault.forMs, this.#of.bus[fault.service], 'noise', 0.9);
      case 'provider-down':
        this.#of.provider.weather.down = true;
        return void mend(() => {
          this.#of.provider.weather.down = false;
        });
      case 'provider-slow':
        return this.#for(fault.forMs, this.#of.provider.weather, 'slowMs', fault.slowMs);
      case 'provider-failing':
        return this.#for(fault.forMs, this.#of.provider.weather, 'failing', fault.probability);
      case 'provider-answers-lost':
        return this.#for(fault.forMs, this.#of.provider.weather, 'lostAnswers', fault.probability);
      case 'clock-jump':
        post!.clock.skewMs += fault.byMs;
        return;
      case 'requests-lost':
        return this.#for(fault.forMs, this.#of.clients, 'lostRequests', fault.probability);
      case 'poison': {
        const { service, stream } = fault;
        const barred = service === 'queries' ? this.#of.readSide.barred : this.#of.servers[service].tables.barred;
        barred.add(stream);
        return void mend(() => {
          barred.delete(stream);
          if (service === 'queries') this.#operator.retryReadSide();
          else this.#operator.retryParked(service);
        });
      }
      case 'older-version':
        this.#processes.replaceVersion(post!, fault.type);
        return void mend(() => this.#processes.replaceVersion(post!, null));
      case 'consumer-paused':
        this.#operator.setPause(fault.service, fault.consumer, true);
        return void mend(() => this.#operator.setPause(fault.service, fault.consumer, false));
      case 'read-database-down':
        this.#of.readSide.weather.down = true;
        return void mend(() => {
          this.#of.readSide.weather.down = false;
        });
      case 'read-answers-lost':
        return this.#for(fault.forMs, this.#of.readSide.weather, 'lostAnswers', fault.probability);
    }
  }

  /** Everything works again: what was taken for dead is dead, what was stopped goes on, clocks agree. */
  heal(): void {
    this.#healed = true;
    this.#of.say('HEALED', '');
    // A clock that is put right never goes back here: what it has promised for later would be years away.
    const ahead = Math.max(0, ...[...this.#processes.posts.values()].map(({ clock }) => clock.skewMs));
    const setAhead = this.#of.plan.faults.some((fault) => fault.kind === 'clock-jump' && fault.byMs > 0);
    const furthest = setAhead ? Math.max(ahead, 600_000) : ahead;
    for (const post of this.#processes.posts.values()) {
      post.clock.skewMs = furthest;
      post.crashes.length = 0;
      if (post.unknownType !== null) this.#processes.replaceVersion(post, null);
      for (const zombie of post.zombies) if (zombie.process.alive) this.#processes.kill(zombie);
      post.running?.process.resume();
      if (post.running === null) this.#processes.start(post);
    }
    for (const service of commandServices) {
      Object.assign(this.#of.servers[service].weather, calm);
      Object.assign(this.#of.bus[service], { down: false, noise: this.#of.plan.setting.busNoise });
    }
    Object.assign(this.#of.provider.weather, { ...calm, failing: 0 });
    Object.assign(this.#of.readSide.weather, calm);
    this.#of.clients.lostRequests = 0;
    this.#of.readSide.barred.clear();
    for (const service of commandServices) {
      const { barred, pauses } = this.#of.servers[service].tables;
      barred.clear();
      for (const [consumer, { paused }] of pauses) {
        if (paused) this.#operator.setPause(service, consumer, false);
      }
    }
    this.#operator.lookAfterAll();
  }

  #cutOften(server: SimulatedServer, forMs: number): void {
    server.cut();
    const nextMs = this.#of.random.between(5, 200);
    if (forMs > nextMs)
      this.#of.scheduler.after(nextMs, 'cut', null, () => this.#healed || this.#cutOften(server, forMs - nextMs));
  }

  #for<Name extends string>(forMs: number, weather: Record<Name, number>, name: Name, value: number): void {
    weather[name] = value;
    this.#of.scheduler.after(forMs, 'mended', null, () => {
      // The bus is never quite at rest.
      weather[name] = name === 'noise' ? this.#of.plan.setting.busNoise : 0;
    });
  }
}
