/** The processes of a world: where they run, how they start, and how they are killed. */
import { publishedEvents } from '#contracts/event-types.ts';
import type { ShopServiceName, Service, ServiceParts } from '#contracts/service.ts';
import { createCommandBus } from '#cqrs/command-bus.ts';
import type { Consumer } from '#cqrs/consumer.ts';
import { EngineError } from '#cqrs/errors.ts';
import { type CheckpointMove, type EventLog, serviceOf } from '#cqrs/event-log.ts';
import { createEventTypes, type EventTypes } from '#cqrs/event-types.ts';
import { type Feed, localFeed } from '#cqrs/feed.ts';
import { openPostgresLog } from '#cqrs/postgres-log.ts';
import { postgresLogReader } from '#cqrs/postgres-log-reader.ts';
import type { Projection } from '#cqrs/projection.ts';
import { startProjections } from '#cqrs/projections.ts';
import type { Database } from '#platform/postgres.ts';
import { startCatalog } from '#services/catalog/service.ts';
import { startInventory } from '#services/inventory/service.ts';
import { startOrdering } from '#services/ordering/service.ts';
import { startPayments } from '#services/payments/service.ts';
import { createReadModels } from '#services/queries/service.ts';
import { busFeed } from './bus-feed.ts';
import type { Reachable } from './clients.ts';
import { type Clock, Incarnation } from './incarnation.ts';
import { commandServices, type Role } from './plan.ts';
import { simulatedReadStore } from './simulated-read-store.ts';
import type { Stage } from './simulated-postgres.ts';
import type { Surroundings } from './surroundings.ts';

/** How long a process takes to come up again that could not start. */
const startAgainMs = 300;
/** How long it takes to put another version of a process in its place. */
const deployMs = 20;

/** A place where a process runs, or does not. */
export type Post = {
  readonly name: string;
  readonly services: readonly Role[];
  readonly clock: Clock;
  lives: number;
  running: Life | null;
  /** What was taken for dead, and goes on. */
  readonly zombies: Life[];
  /** What a fault asks of the next append that reaches a stage. */
  readonly crashes: { stage: Stage; nth: number; forMs: number }[];
  /** A type of event that the version to be started does not know. */
  unknownType: string | null;
};
export type Life = {
  readonly process: Incarnation;
  readonly feeds: Map<ShopServiceName, Feed & { heard(head: number): void }>;
  readonly consumers: Consumer[];
  readonly readSide: Consumer[];
  /** Whether all that it carries runs. */
  started: boolean;
  readonly reachable: Map<Role, Reachable>;
};

export class Processes {
  readonly posts = new Map<string, Post>();
  readonly #of: Surroundings;

  constructor(surroundings: Surroundings) {
    this.#of = surroundings;
    const { processes, skewsMs } = surroundings.plan.setting;
    for (const [name, services] of Object.entries(processes)) {
      const clock = { skewMs: skewsMs[name] ?? 0 };
      const post = { name, services, clock, lives: 0, running: null, zombies: [], crashes: [], unknownType: null };
      this.posts.set(name, post);
    }
  }

  /** All that live: those that run, and those that were taken for dead. */
  lives(): Life[] {
    const lives = [...this.posts.values()].flatMap(({ zombies, running }) =>
      running === null ? zombies : [...zombies, running],
    );
    return lives.filter(({ process }) => process.alive);
  }

  /** Starts a process at a post. */
  start(post: Post): void {
    post.lives += 1;
    const process = new Incarnation(`${post.name}#${post.lives}`, this.#of.scheduler, this.#of.random, post.clock);
    const life: Life = { process, feeds: new Map(), consumers: [], readSide: [], started: false, reachable: new Map() };
    post.running = life;
    this.#of.say(process.name, 'starts');
    this.#boot(post, life).catch((error: unknown) => {
      this.#of.say(process.name, `does not start: ${(error as Error).message}`);
      if (post.running === life) this.crash(post, startAgainMs);
    });
  }

  /** Kills what runs at a post; it is started again after a while. */
  crash(post: Post, forMs: number): void {
    const life = post.running;
    if (life === null) return;
    this.kill(life);
    post.running = null;
    this.#of.scheduler.after(forMs, 'start again', null, () => {
      if (post.running === null) this.start(post);
    });
  }

  kill(life: Life): void {
    this.#of.say(life.process.name, 'is killed');
    life.process.kill();
    for (const service of commandServices) this.#of.servers[service].forget(life.process);
  }

  /** Puts a version in the place of what runs; one that does not know a type of event, or the newest. */
  replaceVersion(post: Post, unknownType: string | null): void {
    post.unknownType = unknownType;
    if (post.running !== null) this.crash(post, deployMs);
  }

  /** An append of a process has come to a stage: it may be the one to be killed at. */
  reached(process: Incarnation, stage: Stage): void {
    for (const post of this.posts.values()) {
      if (post.running?.process !== process) continue;
      for (const crash of post.crashes) {
        if (crash.stage !== stage || (crash.nth -= 1) > 0) continue;
        post.crashes.splice(post.crashes.indexOf(crash), 1);
        this.#of.counters.add(`crash: ${stage}`);
        this.crash(post, crash.forMs);
        return;
      }
    }
  }

  /** A log has grown: processes elsewhere hear of it, or not. */
  grown(service: ShopServiceName): void {
    const { servers, random } = this.#of;
    const { head } = servers[service].tables;
    for (const { process, feeds } of this.lives()) {
      const feed = feeds.get(service);
      // A notification may be lost: the poll is what a feed relies on.
      if (feed === undefined || random.chance(0.1)) continue;
      process.deliver(random.between(0.5, 25), 'notification', () => feed.heard(head));
    }
  }

  /** The processes that answer for a service at the moment. */
  reachable(service: Role): Reachable[] {
    return [...this.posts.values()].flatMap((post) => {
      const reachable = post.running?.reachable.get(service);
      return reachable === undefined ? [] : [reachable];
    });
  }

  /** Whether every service has heard all that the others have said. */
  isCaughtUp(): boolean {
    for (const post of this.posts.values()) {
      if (post.running === null) return false;
      if (!post.running.started) return false;
      for (const consumer of post.running.consumers) {
        const service = serviceOf(consumer.source) as ShopServiceName;
        if (consumer.progress.position < this.#of.servers[service].tables.head || consumer.parked() > 0) return false;
      }
    }
    return true;
  }

  async #boot(post: Post, life: Life): Promise<void> {
    const { process } = life;
    const { ports } = process;
    const { setting } = this.#of.plan;
    const services = commandServices.filter((service) => post.services.includes(service));
    const logs = new Map<ShopServiceName, EventLog>();
    for (const service of services) {
      const database = this.#of.servers[service].databaseFor(process);
      const { appendTimeoutMs } = setting;
      const eventTypes = eventTypesOf(service);
      logs.set(
        service,
        await openPostgresLog({ database, source: `${service}.0`, eventTypes, appendTimeoutMs, ports }),
      );
    }
    const feeds = new Map<ShopServiceName, Feed>();
    const feedOf = (service: ShopServiceName): Feed => {
      const known = feeds.get(service);
      if (known !== undefined) return known;
      const log = logs.get(service);
      const feed = log === undefined ? this.#busFeedOf(service, life, post.unknownType) : localFeed(log, ports);
      feeds.set(service, feed);
      return feed;
    };
    for (const [service, log] of logs) {
      const parts: ServiceParts = {
        log,
        bus: createCommandBus({
          log: this.#watched(log, post, life),
          ports,
          cachedStreamsMax: setting.cachedStreamsMax,
          batchWorksMax: setting.batchWorksMax,
        }),
        ports,
        feedOf,
        headOf: (other) =>
          postgresLogReader(this.#of.servers[other as ShopServiceName].databaseFor(process), `${other}.0`).head(),
        reportTrouble: (who, error) => this.#trouble(process, who, error),
      };
      const { routes, consumers } = this.#startService(service, parts, process);
      life.consumers.push(...consumers);
      life.reachable.set(service, { process, routes });
    }
    if (post.services.includes('queries')) this.#startReadSide(life, feedOf);
    life.started = true;
  }

  #startService(name: ShopServiceName, parts: ServiceParts, process: Incarnation): Service {
    const { setting } = this.#of.plan;
    switch (name) {
      case 'catalog':
        return startCatalog(parts);
      case 'ordering':
        return startOrdering({ ...parts, orderDeadlineSeconds: setting.orderDeadlineSeconds });
      case 'inventory':
        return startInventory({ ...parts, reservationTtlSeconds: setting.reservationTtlSeconds });
      case 'payments': {
        const timeoutMs = setting.paymentTimeoutMs;
        const later = (ms: number, kind: string, act: () => void): void =>
          void this.#of.scheduler.after(ms, kind, null, act);
        const provider = this.#of.provider.clientFor(process, timeoutMs, later);
        return startPayments({ ...parts, provider, timeoutMs, attemptsMax: setting.paymentAttemptsMax });
      }
    }
  }

  #startReadSide({ process, consumers, readSide }: Life, feedOf: (service: ShopServiceName) => Feed): void {
    const { ports } = process;
    const store = simulatedReadStore({
      process,
      rows: this.#of.readSide.rows,
      weather: this.#of.readSide.weather,
      random: this.#of.random,
      counters: this.#of.counters,
      onCommitted: (moves) => this.#readSideMoved(moves),
    });
    // Rows are read through the store; nobody asks a question that needs SQL.
    const readModels = createReadModels({ database: noDatabase, cacheMb: 0 });
    for (const service of commandServices) {
      readSide.push(
        startProjections({
          feed: feedOf(service),
          ports,
          store,
          projections: readModels.projections.map((projection) => this.#poisonable(projection)),
          onResume: () => readModels.forgetAnswers(),
          reportTrouble: (who, error) => this.#trouble(process, who, error),
        }),
      );
    }
    consumers.push(...readSide);
  }

  #readSideMoved(moves: readonly CheckpointMove[]): void {
    for (const { consumer, parks = [], unparks = [] } of moves) {
      for (const position of unparks) this.#of.readSide.parked.delete(`${consumer} ${position}`);
      for (const { position } of parks) this.#of.readSide.parked.add(`${consumer} ${position}`);
      if (parks.length > 0) this.#of.counters.add('read side: parked');
      if (unparks.length > 0 && parks.length === 0) this.#of.counters.add('read side: replayed');
    }
  }

  /** As it is; of the orders, one that stumbles over what is poisoned. */
  #poisonable(projection: Projection): Projection {
    if (projection.name !== 'orders') return projection;
    return {
      ...projection,
      apply: async (service, events, rows) => {
        const bad = events.find(({ stream }) => this.#of.readSide.barred.has(stream));
        if (bad !== undefined) throw new Error(`cannot fold ${bad.stream}`);
        return projection.apply(service, events, rows);
      },
    };
  }

  #busFeedOf(service: ShopServiceName, life: Life, unknownType: string | null): Feed {
    const database = this.#of.servers[service].databaseFor(life.process);
    const feed = busFeed({
      process: life.process,
      log: postgresLogReader(database, `${service}.0`, eventTypesOf(service, unknownType)),
      weather: this.#of.bus[service],
      random: this.#of.random,
      counters: this.#of.counters,
    });
    life.feeds.set(service, feed);
    return feed;
  }

  /** The log as it is, with what it answers counted. */
  #watched(log: EventLog, post: Post, life: Life): EventLog {
    const seen = (name: string, times: number): void => {
      if (times > 0) this.#of.counters.add(name, times);
    };
    return {
      ...log,
      append: async (batch) => {
        const result = await log.append(batch);
        if ('conflicts' in result) {
          seen('conflict', result.conflicts.length);
          seen('key known', result.duplicates.length);
          seen('worker fenced', result.fenced.length);
          if (post.zombies.includes(life)) seen('zombie fenced', result.fenced.length);
        }
        return result;
      },
      appendAlone: (streams, decide) => {
        seen('decided alone', 1);
        return log.appendAlone(streams, decide);
      },
    };
  }

  #trouble(process: Incarnation, who: string, error: unknown): void {
    this.#of.say(process.name, `${who} is in trouble: ${(error as Error).message}`);
    if (error instanceof EngineError) return this.#of.counters.add(`trouble: ${error.code}`);
    const { name } = error as Error;
    this.#of.counters.add(`trouble: ${name}`);
  }
}

const eventTypes = new Map<string, EventTypes>();

/** The registry of a service's events; of an older version that does not know `unknownType` yet, where one is given. */
function eventTypesOf(service: ShopServiceName, unknownType: string | null = null): EventTypes {
  const name = `${service} ${unknownType}`;
  const known = eventTypes.get(name);
  if (known !== undefined) return known;
  const { newest, older } = publishedEvents[service];
  const types = createEventTypes({
    newest: Object.fromEntries(Object.entries(newest).filter(([type]) => type !== unknownType)),
    older,
  });
  eventTypes.set(name, types);
  return types;
}

const noDatabase: Database = {
  query: () => Promise.reject(new Error('nobody asks the read database in SQL here')),
  transaction: () => Promise.reject(new Error('nobody asks the read database in SQL here')),
  pin: () => Promise.reject(new Error('nobody asks the read database in SQL here')),
  end: async () => {},
};
