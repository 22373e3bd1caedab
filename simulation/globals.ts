/** While a world runs, whoever asks the machine for time, timers or chance is stopped by an error. */
import { createRequire } from 'node:module';

const RealDate = Date;

/** Puts errors in the place of the machine's clock, timers and chance; returns what puts them back. */
export function forbidAmbientTimeAndChance(): () => void {
  const restores: (() => void)[] = [];
  const forbid = (holder: object, name: string): void => {
    const original = Object.getOwnPropertyDescriptor(holder, name);
    if (original === undefined) return;
    const refuse = (): never => {
      throw new Error(`${name} was asked for in a simulated world: take it from the ports`);
    };
    Object.defineProperty(holder, name, { value: refuse, configurable: true, writable: true });
    restores.push(() => Object.defineProperty(holder, name, original));
  };

  class NoDate extends RealDate {
    constructor(...given: ConstructorParameters<typeof RealDate> | []) {
      if (given.length === 0) throw new Error('new Date() was asked for in a simulated world: take it from the ports');
      super(...(given as [number]));
    }
    static override now(): never {
      throw new Error('Date.now was asked for in a simulated world: take it from the ports');
    }
  }
  globalThis.Date = NoDate as unknown as DateConstructor;
  restores.push(() => {
    globalThis.Date = RealDate;
  });
  for (const name of ['setTimeout', 'setInterval', 'setImmediate']) forbid(globalThis, name);
  forbid(Math, 'random');
  // `performance.now` stands on a prototype.
  const clock: unknown = Object.getPrototypeOf(performance);
  forbid(Object.hasOwn(performance, 'now') ? performance : (clock as object), 'now');
  for (const name of ['randomUUID', 'getRandomValues']) forbid(Object.getPrototypeOf(crypto) as object, name);
  const module = createRequire(import.meta.url)('node:crypto') as object;
  for (const name of ['randomUUID', 'randomBytes', 'randomInt', 'randomUUIDv7']) forbid(module, name);

  return () => {
    for (const restore of restores.reverse()) restore();
  };
}
