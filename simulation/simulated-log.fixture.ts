/** A real log over a simulated server, for tests that await it: virtual time passes by itself as long as the test lasts. */
import type { TestContext } from 'node:test';
import type { EventLog } from '#cqrs/event-log.ts';
import type { EventTypes } from '#cqrs/event-types.ts';
import { openPostgresLog } from '#cqrs/postgres-log.ts';
import { Incarnation } from './incarnation.ts';
import { LogTables } from './log-tables.ts';
import { seededRandom } from './random.ts';
import { Scheduler } from './scheduler.ts';
import { SimulatedServer } from './simulated-postgres.ts';

export type SimulatedLogs = {
  readonly server: SimulatedServer;
  readonly scheduler: Scheduler;
  /** A log of its own, as of another process. */
  open(eventTypes?: EventTypes): Promise<EventLog>;
};

/** An empty database of `source`, on a server of its own. */
export function simulatedLogs(t: TestContext, source: string, seed = 1): SimulatedLogs {
  const logs = logsInStoppedTime(source, seed);
  let ended = false;
  t.after(() => {
    ended = true;
  });
  const letTimePass = async (): Promise<void> => {
    const { scheduler } = logs;
    while (!ended) {
      await scheduler.run(scheduler.nowMs + 60_000, () => ended);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  void letTimePass();
  return logs;
}

/** As above; time passes as far as the test has its scheduler run. */
export function logsInStoppedTime(source: string, seed: number): SimulatedLogs {
  const scheduler = new Scheduler(seededRandom(seed, 'order'));
  const random = seededRandom(seed, 'world');
  const server = new SimulatedServer({
    scheduler,
    random,
    tables: new LogTables(),
    onVisible: () => {},
    onStage: () => {},
    onLostCommit: () => {},
    onDue: () => {},
  });
  let processes = 0;
  return {
    server,
    scheduler,
    open(eventTypes) {
      const process = new Incarnation(`process-${(processes += 1)}`, scheduler, random, { skewMs: 0 });
      const database = server.databaseFor(process);
      const types = eventTypes === undefined ? {} : { eventTypes };
      return openPostgresLog({ database, source, ports: process.ports, ...types });
    },
  };
}
