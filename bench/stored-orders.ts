/** A system in which many orders are stored, at rest: what is measured in it pays for nothing that came before. */
import { openDatabase } from '#platform/postgres.ts';
import { type Ending, programDataDir, startTestProgram, type TestProgram } from '../tests/running-program.ts';
import { caughtUp } from './long-work.ts';
import { makeManyOrders } from './many-orders.ts';
import { type OwnSystem, startOwnSystem } from './own-system.ts';
import type { Bench } from './ratio-groups.ts';

/** Of an order, nearly: from when it is placed until it is completed. */
const eventsPerOrder = 7;

export type StoredOrders = { readonly system: OwnSystem; readonly events: number };

/** Resolves once about so many events are stored and projected; 0: none but of what is for sale. */
export async function startWithStored(
  ending: Ending,
  progress: Bench['progress'],
  events: number,
  env: Readonly<Record<string, string>> = {},
): Promise<StoredOrders> {
  if (events === 0) return { system: await startOwnSystem(ending, undefined, env), events };
  const dataDir = await programDataDir(ending);
  const orders = Math.ceil(events / eventsPerOrder);
  progress.begin(`writing ${events.toLocaleString('en')} events: orders`, orders);
  const written = await makeManyOrders(ending, dataDir, orders, (done) => progress.reach(done));
  progress.end();
  // While the read side is so far behind, commands are turned away: whoever commands has to come later.
  const program = await startTestProgram(ending, dataDir, { TWOFOLD_LOG_LEVEL: 'error' });
  await caughtUp(program, progress, written);
  await tidy(program);
  await program.stop();
  return { system: await startOwnSystem(ending, dataDir, env), events: written };
}

/** What PostgreSQL would do by itself in the minutes to come: nobody is to pay for it while something is measured. */
async function tidy({ databaseUrls }: TestProgram): Promise<void> {
  const options = { applicationName: 'bench', poolMax: 1, statementTimeoutMs: 0 };
  for (const url of Object.values(databaseUrls)) {
    const database = openDatabase(url, options);
    await database.query('', 'vacuum analyze').finally(() => database.end());
  }
  const database = openDatabase(databaseUrls.ordering, options);
  await database.query('', 'checkpoint').finally(() => database.end());
}
