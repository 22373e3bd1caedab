/**
 * The read database as one process sees it: rows and checkpoints are shared and durable; the way there
 * takes its time, and an answer may be lost after the commit.
 */
import type { CheckpointMove } from '#cqrs/event-log.ts';
import type { MemoryReadStore } from '#cqrs/memory-read-store.ts';
import type { ReadStore } from '#cqrs/read-store.ts';
import { DatabaseUnavailable } from '#platform/postgres.ts';
import type { Counters } from './counters.ts';
import type { Incarnation } from './incarnation.ts';
import type { Random } from './random.ts';
import type { Weather } from './simulated-postgres.ts';

export function simulatedReadStore(options: {
  readonly process: Incarnation;
  readonly rows: MemoryReadStore;
  readonly weather: Weather;
  readonly random: Random;
  readonly counters: Counters;
  /** Told of each move of a checkpoint once it is committed. */
  onCommitted(moves: readonly CheckpointMove[]): void;
}): ReadStore {
  const { process, rows, weather, random, counters } = options;

  /** Goes on after a while in the life of the process: what it has under way ends with it. */
  const travel = (kind: string): Promise<void> =>
    new Promise((resolve, reject) =>
      process.deliver(random.between(0.1, 1.5) + random.next() * weather.slowMs, kind, () => {
        if (weather.down) reject(new DatabaseUnavailable('the read database does not answer'));
        else resolve();
      }),
    );

  return {
    parked: rows.parked,
    committed: (table, key) => rows.committed(table, key),

    takeOver: (readModels) => rows.takeOver(readModels),
    assertCurrent: (consumers) => rows.assertCurrent(consumers),

    async rememberSource(...of) {
      await travel('remember source');
      return rows.rememberSource(...of);
    },

    async checkpoints(consumers) {
      await travel('ask checkpoints');
      return rows.checkpoints(consumers);
    },

    async apply(moves, work) {
      await travel('begin');
      const result = await rows.apply(moves, async (given) => {
        const answer = await work({
          ...given,
          async load(table, keys) {
            await travel('load rows');
            return given.load(table, keys);
          },
        });
        await travel('commit rows');
        return answer;
      });
      options.onCommitted(moves);
      if (random.chance(weather.lostAnswers)) {
        counters.add('read side: answer lost after commit');
        throw new DatabaseUnavailable('the connection broke under the commit');
      }
      await travel('committed rows');
      return result;
    },
  };
}
