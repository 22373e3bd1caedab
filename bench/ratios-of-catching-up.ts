/** Ratios 8 and 9: how fast the read side catches up, beside COPY of its rows, and beside the events that a full load appends. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { startEmbeddedPostgres } from '#platform/embedded-postgres.ts';
import { createLogger } from '#platform/logger.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import { createReadModels } from '#services/queries/service.ts';
import { type Ending, programDataDir, startTestProgram, type TestProgram } from '../tests/running-program.ts';
import { caughtUp, shownUpTo } from './long-work.ts';
import { makeManyOrders } from './many-orders.ts';
import { openOrderLoad } from './order-load.ts';
import { startOwnSystem } from './own-system.ts';
import { byPair } from './pairs.ts';
import { type Bench, figure, type Group } from './ratio-groups.ts';
import type { Measured, RatioName } from './ratio-table.ts';

export const catchingUp: Group = {
  ratios: [8, 9],
  async measure({ ending, wanted, quick, progress, inTurn }) {
    const dataDir = await programDataDir(ending);
    const orders = quick ? 1_000 : 100_000;
    progress.begin('writing orders', orders);
    const events = await makeManyOrders(ending, dataDir, orders, (done) => progress.reach(done));
    progress.end();
    const readSide = readSideOf(ending, dataDir, events);
    const load = wanted.has(9) ? await openFullLoad(ending, quick, progress) : null;
    const rates = await inTurn('catching up', {
      caughtUp: () => readSide.catchUp(),
      copied: () => (wanted.has(8) ? readSide.copy() : Promise.resolve(0)),
      async appended() {
        if (load === null) return 0;
        await readSide.stop();
        return load.appendedPerSecond();
      },
    });
    const catchUps = figure('caught up by the live projections', 'events a second', rates.caughtUp);
    const data = `${events.toLocaleString('en')} events of ${orders.toLocaleString('en')} orders, read models emptied before each block`;
    const outcomes = new Map<RatioName, Measured>();
    if (wanted.has(8))
      outcomes.set(8, {
        pairs: byPair(rates.caughtUp, rates.copied),
        figures: [catchUps, figure('COPY into the same tables, indexes in place', 'rows a second', rates.copied)],
        notes: [data, `checked: every order is shown, ${readSide.rows().toLocaleString('en')} rows each time`],
      });
    if (load !== null)
      outcomes.set(9, {
        pairs: byPair(rates.caughtUp, rates.appended),
        figures: [catchUps, figure('appended in profile A', 'events a second', rates.appended)],
        notes: [data, load.says()],
      });
    return outcomes;
  },
};

/** The read side of the system whose data are in `dataDir`, which does not run yet. */
function readSideOf(ending: Ending, dataDir: string, events: number) {
  let running: TestProgram | null = null;
  let tables: readonly string[] = [];
  let rows: number | null = null;

  const start = async (): Promise<TestProgram> =>
    (running ??= await startTestProgram(ending, dataDir, { TWOFOLD_LOG_LEVEL: 'error' }));

  async function stop(): Promise<void> {
    await running?.stop();
    running = null;
  }

  async function withQueries<T>(work: (database: Database) => Promise<T>): Promise<T> {
    const { databaseUrls } = await start();
    const database = openDatabase(databaseUrls.queries, { applicationName: 'bench', statementTimeoutMs: 0 });
    return work(database).finally(() => database.end());
  }

  /** Every order is shown, and there are as many rows as the time before. */
  async function checkRows(database: Database): Promise<void> {
    const found = await countRows(database, 'public', tables);
    rows ??= found;
    if (found !== rows) throw new Error(`the read side has ${found} rows after it caught up, ${rows} the time before`);
    const { databaseUrls } = await start();
    const ordering = openDatabase(databaseUrls.ordering, { applicationName: 'bench', poolMax: 1 });
    const placed = await countRows(ordering, 'public', ['orders']).finally(() => ordering.end());
    const shown = await countRows(database, 'public', ['orders']);
    if (shown !== placed) throw new Error(`the read side shows ${shown} of ${placed} orders after it caught up`);
  }

  return {
    /** Events a second, from none to all. */
    async catchUp(): Promise<number> {
      await stop();
      await forgetReadModels(dataDir);
      const program = await start();
      const { position } = await shownUpTo(program.shop);
      const began = performance.now();
      await caughtUp(program, { begin() {}, reach() {}, end() {} }, events);
      const rate = ((events - position) * 1_000) / (performance.now() - began);
      await withQueries(async (database) => {
        const { projections } = createReadModels({ database, cacheMb: 0 });
        tables = projections.flatMap((projection) => projection.tables.map(({ name }) => name));
        await checkRows(database);
      });
      return rate;
    },
    /** Rows a second, of the rows that are there now. */
    copy: () => withQueries((database) => copyTables(database, tables)),
    /** While others are measured. */
    stop,
    rows: () => rows ?? 0,
  };
}

/** As if there had never been any: they are made from the logs again when the system starts. */
async function forgetReadModels(dataDir: string): Promise<void> {
  const server = await startEmbeddedPostgres({
    dataDir,
    databases: [],
    onUnexpectedExit: (error) => {
      throw error;
    },
    logger: createLogger('warn'),
  });
  const postgres = openDatabase(server.url('postgres'), { applicationName: 'bench', poolMax: 1 });
  try {
    await postgres.query('', 'drop database if exists queries');
  } finally {
    await postgres.end();
    await server.stop();
  }
}

async function copyTables(database: Database, tables: readonly string[]): Promise<number> {
  const [server] = await database.query<{ folder: string }>('', `select current_setting('data_directory') as folder`);
  // The only folder that is surely the server's own.
  const fileOf = (table: string): string => join(server!.folder, `bench-${table}.copy`);
  try {
    // What catching up has left to PostgreSQL: done meanwhile, it would slow COPY down.
    await database.query('', 'vacuum analyze');
    for (const table of tables) await database.query('', `copy public.${table} to '${fileOf(table)}' (format binary)`);
    await database.query('', 'create schema copied');
    for (const table of tables)
      await database.query('', `create table copied.${table} (like public.${table} including all)`);
    const began = performance.now();
    for (const table of tables)
      await database.query('', `copy copied.${table} from '${fileOf(table)}' (format binary)`);
    const tookMs = performance.now() - began;
    const copied = await countRows(database, 'copied', tables);
    const there = await countRows(database, 'public', tables);
    if (copied !== there) throw new Error(`COPY has written ${copied} rows of ${there}`);
    return (copied * 1_000) / tookMs;
  } finally {
    await database.query('', 'drop schema if exists copied cascade');
    for (const table of tables) rmSync(fileOf(table), { force: true });
  }
}

async function countRows(database: Database, schema: string, tables: readonly string[]): Promise<number> {
  let rows = 0;
  for (const table of tables) {
    const [count] = await database.query<{ rows: number }>('', `select count(*) as rows from ${schema}.${table}`);
    rows += count!.rows;
  }
  return rows;
}

/** Profile A, or as much of it as is answered without an error. */
async function openFullLoad(ending: Ending, quick: boolean, progress: Bench['progress']) {
  const system = await startOwnSystem(ending);
  const load = await openOrderLoad(ending, system, { products: quick ? 20 : 1_000, customers: quick ? 20 : 10_000 });
  const wish = {
    orderShare: 0.1,
    connections: quick ? 200 : 10_000,
    seconds: quick ? 1 : 10,
    warmUpSeconds: quick ? 0.5 : 6,
  };
  let requestsPerSecond = quick ? 200 : 10_000;
  const lowest = requestsPerSecond / 20;

  /** The rate falls until it is kept. */
  async function appendedPerSecond(): Promise<number> {
    for (;;) {
      const { freshness, totals, seconds, overload } = await load.run({ ...wish, requestsPerSecond });
      const [offered, answered] = [totals.offered, totals.answered].map(sumOf) as [number, number];
      const isKept = overload === null && (quick || answered >= offered * keptShare);
      if (freshness !== null && isKept) return freshness.events / seconds;
      requestsPerSecond *= 0.8;
      if (requestsPerSecond < lowest) throw new Error('profile A is not answered even at a twentieth of its rate');
    }
  }

  progress.begin('profile A', 1);
  await appendedPerSecond();
  progress.reach(1);
  progress.end();
  return {
    appendedPerSecond,
    says: () =>
      `profile A at ${requestsPerSecond.toFixed(0)} requests/s over ${wish.connections.toLocaleString('en')} connections, a tenth of them orders; checked: ${load.checked()}`,
  };
}

/** Of what was offered: with less of it answered in its time, a queue grows. */
const keptShare = 0.95;
const sumOf = (counts: Readonly<Record<string, number>>): number =>
  Object.values(counts).reduce((sum, one) => sum + one, 0);
