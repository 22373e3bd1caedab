/**
 * A feed over an at-least-once bus: what it hands over may come late, twice, out of order and with holes
 * in between. Only the next events after a position are worth anything to a consumer.
 */
import type { LogReader, RecordedEvent } from '#cqrs/event-log.ts';
import type { Feed } from '#cqrs/feed.ts';
import { Progress } from '#cqrs/progress.ts';
import { sleep } from '#platform/ports.ts';
import type { Counters } from './counters.ts';
import type { Incarnation } from './incarnation.ts';
import type { Random } from './random.ts';

export type BusWeather = { down: boolean; noise: number };

const pollEveryMs = 1_000;
/** How far back a broker goes when it hands over again what was handed over already. */
const repeatedEventsMax = 4;

/** The feed of `log` in one process, and what tells it that the log has grown. */
export function busFeed(options: {
  readonly process: Incarnation;
  readonly log: LogReader;
  readonly weather: BusWeather;
  readonly random: Random;
  readonly counters: Counters;
}): Feed & { heard(head: number): void } {
  const { process, log, weather, random, counters } = options;
  const progress = new Progress(0, process.ports);
  let asked = false;

  return {
    source: log.source,
    knownHead: () => progress.position,
    anchor: () => log.anchor(),
    interrupt: () => progress.release(),
    close: async () => {},
    heard: (head) => progress.advance(head),

    async next(position, limit, waitMs) {
      if (weather.down) {
        await sleep(process.ports, Math.min(waitMs, pollEveryMs));
        return [];
      }
      if (!asked) {
        progress.advance(await log.head());
        asked = true;
      }
      if (progress.position <= position && waitMs > 0) {
        await progress.reach(position + 1, Math.min(waitMs, pollEveryMs));
      }
      const noisy = random.chance(weather.noise);
      const from = noisy ? Math.max(0, position - random.below(repeatedEventsMax)) : position;
      const events = await log.read(from, limit);
      if (events.length > 0) progress.advance(events.at(-1)!.position);
      return noisy ? disturbed(events, position) : events;
    },
  };

  function disturbed(events: readonly RecordedEvent[], position: number): RecordedEvent[] {
    let given = [...events];
    if (random.chance(0.4)) given = given.flatMap((event) => (random.chance(0.5) ? [event, event] : [event]));
    if (random.chance(0.3) && given.length > 1) {
      given.splice(random.below(given.length), 1);
      counters.add('bus: hole');
    }
    if (random.chance(0.3) && given.length > 1) {
      given = random.shuffled(given);
      counters.add('bus: reordered');
    }
    const seen = new Set<number>();
    for (const event of given) {
      if (event.position <= position || seen.has(event.position)) counters.add(`duplicate ${event.type}`);
      seen.add(event.position);
    }
    return given;
  }
}
