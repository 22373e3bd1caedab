/** Ratios 6, 7 and 10: commands through HTTP, and orders with all that follows from them. */
import { openDatabase } from '#platform/postgres.ts';
import { syncsPerSecond } from '../load/machine.ts';
import type { Server } from './bare-server.ts';
import { startBareServer } from './bare-server.ts';
import { closedLoop, isWhole, requestOf } from './closed-loop.ts';
import { hotBesideSpread } from './hot-beside-spread.ts';
import { openOrderLoad } from './order-load.ts';
import { openOneRowInserts } from './one-row-inserts.ts';
import { type OwnSystem, settled, startOwnSystem } from './own-system.ts';
import { byPair } from './pairs.ts';
import { type Bench, figure, type Group } from './ratio-groups.ts';
import type { Measured, RatioName } from './ratio-table.ts';

const syncs = async (): Promise<number> => syncsPerSecond();
const syncFigure = (blocks: readonly number[]) => figure('fdatasync of 4 KiB', 'a second', blocks);

export const commands: Group = {
  ratios: [6, 7, 10],
  async measure(bench) {
    const outcomes = new Map<RatioName, Measured>();
    const system = await startOwnSystem(bench.ending);
    if (bench.wanted.has(6)) outcomes.set(6, await besideEcho(bench, system));
    if (bench.wanted.has(10)) outcomes.set(10, await hotBesideSpread(bench, system));
    if (bench.wanted.has(7)) outcomes.set(7, await besideCommit(bench, system));
    return outcomes;
  },
};

/** Customers registered: a command whose price is its own. An order's would be that of the whole saga. */
async function besideEcho({ ending, quick, warmInTurn }: Bench, system: OwnSystem): Promise<Measured> {
  const bare = await startBareServer(ending);
  const [connections, seconds] = [256, quick ? 0.3 : 3];
  const body = (n: number): string =>
    JSON.stringify({ name: `Customer ${String(n).padStart(9, '0')}`, country: 'Germany' });
  let sent = 0;
  let echoed = 0;
  const loop = (server: Server, next: () => Buffer, isRight: (answer: Buffer) => boolean) =>
    closedLoop(server, {
      connections,
      seconds,
      request: next,
      isAnswer: (arrived) => isWhole(arrived, 'HTTP/1.1 201 ', isRight),
    });
  const register = async (): Promise<number> => {
    const { perSecond } = await loop(
      system.server,
      () => requestOf('PUT', `/v1/customers/bench-${(sent += 1)}`, system.operatorToken, body(sent)),
      (answer) => answer.includes('"version":1'),
    );
    await settled(system);
    return perSecond;
  };
  const length = body(0).length;
  const echo = async (): Promise<number> => {
    const next = (): Buffer => requestOf('POST', '/echo', system.operatorToken, body((echoed += 1)));
    return (await loop(bare, next, (answer) => answer.length === length)).perSecond;
  };
  const rates = await warmInTurn('ratio 6', { register, echo, syncs });
  const database = openDatabase(system.program.databaseUrls.ordering, { applicationName: 'bench', poolMax: 1 });
  const [row] = await database
    .query<{ customers: number }>('', `select count(*) as customers from customers where customer_id like 'bench-%'`)
    .finally(() => database.end());
  if (row!.customers !== sent) throw new Error(`${row!.customers} customers are there of ${sent} that were registered`);
  return {
    pairs: byPair(rates.register, rates.echo),
    figures: [
      figure('customers registered', 'a second', rates.register),
      figure('bare POST echo', 'a second', rates.echo),
      syncFigure(rates.syncs),
    ],
    notes: [
      `${connections} connections, blocks of ${seconds} s, a token with each; checked: ${sent.toLocaleString('en')} customers are there`,
    ],
  };
}

/** Orders by schedule, beside a single client whose every insert is committed, in the same PostgreSQL. */
async function besideCommit({ ending, quick, inTurn, progress }: Bench, system: OwnSystem): Promise<Measured> {
  const [seconds, writesPerSecond] = [quick ? 1 : 8, quick ? 50 : 1_000];
  const postgres = openDatabase(system.program.databaseUrls.ordering, { applicationName: 'bench', poolMax: 1 });
  await postgres.query('', 'create database bench').finally(() => postgres.end());
  const inserts = await openOneRowInserts(
    ending,
    system.program.databaseUrls.ordering.replace('/ordering?', '/bench?'),
  );
  const commits = async (): Promise<number> => (await inserts.run(1, seconds)).p99Ms!;
  const load = await openOrderLoad(ending, system, { products: quick ? 20 : 1_000, customers: 500 });
  const wish = {
    requestsPerSecond: writesPerSecond,
    orderShare: 1,
    connections: 500,
    seconds,
    warmUpSeconds: quick ? 1 : 4,
  };
  const overloads: string[] = [];
  const writes = async (): Promise<number> => {
    const { latencies, overload } = await load.run(wish);
    if (overload !== null) overloads.push(overload);
    return latencies['place']!.p99;
  };
  progress.begin('ratio 7, warming up', 1);
  await writes();
  progress.reach(1);
  progress.end();
  const times = await inTurn('ratio 7', { writes, commits, syncs });
  return {
    pairs: byPair(
      times.writes,
      times.commits.map((ms) => 2 * ms),
    ),
    figures: [
      figure(`orders placed at ${writesPerSecond.toLocaleString('en')} a second, p99`, 'ms', times.writes),
      figure(`commits of one client by ${inserts.by}, p99`, 'ms', times.commits),
      syncFigure(times.syncs),
    ],
    notes: [
      `blocks of ${seconds} s, from the intended moment to the answer, the saga beside it; checked: ${load.checked()}`,
      ...(overloads.length === 0 ? [] : [`too much was asked in ${overloads.length} blocks, such as: ${overloads[0]}`]),
    ],
  };
}
