/** Somebody who looks after parked messages: has them tried again, gives up what nobody can take, pauses consumers. */
import type { ShopServiceName } from '#contracts/service.ts';
import type { ParkedMessages } from '#cqrs/parked-messages.ts';
import { postgresParkedMessages } from '#cqrs/postgres-parked-messages.ts';
import { sleep, timeNow } from '#platform/ports.ts';
import { Incarnation } from './incarnation.ts';
import { commandServices } from './plan.ts';
import type { Surroundings } from './surroundings.ts';

const tryAgainMs = 500;
const lookAfterEveryMs = 2_000;

export class Operator {
  readonly #of: Surroundings;
  readonly #process: Incarnation;
  /** What is being done, by service. */
  readonly #doing = new Map<ShopServiceName, Promise<unknown>>();

  constructor(surroundings: Surroundings) {
    this.#of = surroundings;
    this.#process = new Incarnation('operator', surroundings.scheduler, surroundings.random, { skewMs: 0 });
  }

  /** From now on nothing stays parked, if it can be helped. */
  lookAfterAll(): void {
    for (const service of commandServices) this.retryParked(service);
    this.retryReadSide();
    this.#process.ports.after(lookAfterEveryMs, () => this.lookAfterAll());
  }

  setPause(service: ShopServiceName, consumer: string, paused: boolean): void {
    this.#operate(service, (parked, decision) => parked.setPause(consumer, paused, decision));
  }

  retryReadSide(): void {
    void this.#of.readSide.rows.parked.retry({}, { by: 'operator', at: timeNow(this.#process.ports) });
  }

  retryParked(service: ShopServiceName): void {
    const { tables } = this.#of.servers[service];
    const letters = [...tables.parked.values()].filter(({ state }) => state === 'parked');
    // An order that was never held may be given up: it fails by its deadline, and its end finds nothing.
    const given = letters.find(({ consumer, type }) => consumer === 'inventory-of-ordering' && type === 'OrderPlaced');
    if (this.#of.plan.setting.discards && given !== undefined && given.cause !== 'queued-behind') {
      this.#of.counters.add('parked message discarded');
      this.#operate(service, (parked, decision) => parked.discard(given, { ...decision, reason: 'given up' }));
    }
    if (letters.length === 0) return;
    this.#of.counters.add('parked messages tried again');
    this.#operate(service, (parked, decision) => parked.retry({}, decision));
  }

  /** An operator does something about parked messages: one thing after the other, each until the database answers. */
  #operate(
    service: ShopServiceName,
    act: (parked: ParkedMessages, decision: { by: string; at: string }) => Promise<unknown>,
  ): void {
    const { ports } = this.#process;
    const parked = postgresParkedMessages(this.#of.servers[service].databaseFor(this.#process));
    const untilDone = (): Promise<unknown> =>
      act(parked, { by: 'operator', at: timeNow(ports) }).catch(() => sleep(ports, tryAgainMs).then(untilDone));
    const before = this.#doing.get(service) ?? Promise.resolve();
    this.#doing.set(service, before.then(untilDone));
  }
}
