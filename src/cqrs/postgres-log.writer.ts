/** One of several processes that append to the same log: a child of the test. Arguments: url, number, events. */
import { openDatabase } from '#platform/postgres.ts';
import { createCommandBus, type StreamType } from './command-bus.ts';
import { openPostgresLog } from './postgres-log.ts';

const [url, number, wanted] = process.argv.slice(2) as [string, string, string];
const database = openDatabase(url, { applicationName: `writer ${number}` });
const log = await openPostgresLog({ database, source: 'orders.0' });
const bus = createCommandBus({ log });
const own: StreamType<number> = { name: 'own', initial: 0, evolve: (state) => state + 1 };
const shared: StreamType<number> = { name: 'shared', initial: 0, evolve: (state) => state + 1 };
const origin = { actor: `writer-${number}`, correlationId: 'c', causationId: 'r' };

let left = Number(wanted);
async function caller(lane: number): Promise<void> {
  while (left > 0) {
    left -= 1;
    // One in a hundred goes to a stream that all processes write.
    const ref = left % 100 === 0 ? { type: shared, id: 'all' } : { type: own, id: `${number}-${lane}` };
    await bus.execute({
      reads: [ref],
      origin,
      run: (scope) => scope.record(ref.type, ref.id, { type: 'Happened', data: { left } }),
    });
  }
}
await Promise.all(Array.from({ length: 256 }, (_, lane) => caller(lane)));
log.close();
await database.end();
