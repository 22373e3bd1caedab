/**
 * `npm run bench:audit`: how long one full pass over many orders takes, walk by walk, and what it costs in processor time
 * here and in PostgreSQL. It fails on a finding: all of these orders are as they should be.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { parseArgs } from 'node:util';
import { systemPorts } from '#platform/ports.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import { Progress } from '#platform/progress-bar.ts';
import { databaseOwners, type DatabaseOwner } from '#platform/settings.ts';
import type { Walk } from '../src/audit/check.ts';
import { createWalks } from '../src/audit/walks.ts';
import { sourceOf } from '../src/service-map.ts';
import { openEnding, programDataDir, startTestProgram } from '../tests/running-program.ts';
import { until } from '../tests/shop-client.ts';
import { makeManyOrders } from './many-orders.ts';

const { values: flags } = parseArgs({
  options: {
    orders: { type: 'string', default: '20000' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (flags.help) {
  console.log(`Usage: npm run bench:audit [-- OPTIONS]

  --orders N   orders that are audited, about 7 events each (default 20000)

Example:
  npm run bench:audit -- --orders 1000000`);
  process.exit(0);
}

const orders = Number(flags.orders);
const entitiesMax = 500;
const ticksPerSecond = 100;

/** Of what the copied orders have moved. */
const stockSql = `
  with moves as (
    select data ->> 'sku' as sku, (data ->> 'quantity')::bigint as on_hand, 0::bigint as reserved
    from events where type = 'StockAdjusted'
    union all
    select l.sku, case type when 'StockShipped' then -l.quantity else 0 end,
      case type when 'StockReserved' then l.quantity else -l.quantity end
    from events, json_to_recordset(data -> 'lines') as l (sku text, quantity bigint)
    where type in ('StockReserved', 'StockReleased', 'StockShipped')
  ), levels as (
    select sku, count(*)::int as version, sum(on_hand)::bigint as on_hand, sum(reserved)::bigint as reserved
    from moves group by sku
  ), states as (
    update streams s set version = l.version,
      state = json_build_object('onHand', l.on_hand, 'reserved', l.reserved)
    from levels l where s.stream = 'stock-' || l.sku
  )
  update stock s set version = l.version, on_hand = l.on_hand, reserved = l.reserved from levels l where s.sku = l.sku`;

const ending = openEnding();
let failed = false;
try {
  const dataDir = await programDataDir(ending);
  const progress = new Progress(process.stderr);
  progress.begin('writing orders', orders);
  await makeManyOrders(ending, dataDir, orders, (done) => progress.reach(done));
  progress.end();
  const program = await startTestProgram(ending, dataDir, { TWOFOLD_LOG_LEVEL: 'warn' });
  const databases = Object.fromEntries(
    databaseOwners.map((owner) => [
      owner,
      openDatabase(program.databaseUrls[owner], { applicationName: 'bench audit' }),
    ]),
  ) as unknown as Record<DatabaseOwner, Database>;
  await fillTables(databases);
  await fillLedger(databases.payments, join(dataDir, 'sandbox/ledger.sqlite'));
  await untilShown(databases.queries, databases);

  const walks = createWalks({
    databases,
    sourceOf,
    providerUrl: program.providerUrl,
    ports: systemPorts,
    idempotencyRetentionHours: 48,
  });
  for (const walk of walks) await measure(walk.name, databases, [walk]);
  await measure('all at once', databases, walks);
  await Promise.all(Object.values(databases).map((database) => database.end()));
  await program.stop();
} finally {
  await ending.end();
}
process.exitCode = failed ? 1 : 0;

/** Walks side by side: while one folds what it has read, the others read. */
async function measure(
  what: string,
  databases: Record<DatabaseOwner, Database>,
  walks: readonly Walk[],
): Promise<void> {
  const [begun, cpu, servers] = [performance.now(), process.cpuUsage(), cpuMsOf(await serversOf(databases))];
  const passes = await Promise.all(walks.map(onePass));
  const ms = performance.now() - begun;
  const { user, system } = process.cpuUsage(cpu);
  const there = cpuMsOf(await serversOf(databases)) - servers;
  const [looked, found] = [0, 1].map((n) => passes.reduce((sum, pass) => sum + pass[n]!, 0));
  failed ||= found! > 0;
  console.log(
    `${what.padEnd(14)} ${looked} looked at, ${found} found, ${(ms / 1_000).toFixed(1)} s; per order ` +
      `${perOrder((user + system) / 1_000)} µs here, ${perOrder(there)} µs in PostgreSQL`,
  );
}

/** How many entities were looked at, and how many findings there were. */
async function onePass(walk: Walk): Promise<readonly [looked: number, found: number]> {
  let [looked, found] = [0, 0];
  for (let after: string | null = null; ;) {
    const piece = await walk.look(after, entitiesMax);
    looked += piece.looked;
    found += piece.findings.length;
    for (const finding of piece.findings.slice(0, 3)) console.log(JSON.stringify(finding).slice(0, 500));
    if (piece.next === null) return [looked, found];
    after = piece.next;
  }
}

function perOrder(ms: number): string {
  return ((ms * 1_000) / orders).toFixed(0);
}

/** The orders were written into the logs alone. What services keep beside them follows from that. */
async function fillTables({ ordering, inventory, payments }: Record<DatabaseOwner, Database>): Promise<void> {
  const replay = async (database: Database, before: string): Promise<void> => {
    await database.query('', before);
    await database.query(
      '',
      `select write_inline_tables(
         (select json_agg(json_build_object('s', stream, 'v', version, 'state', state)) from streams
          where split_part(stream, '-', 1) in ('order', 'reservation', 'payment')),
         (select json_agg(json_build_object('type', type, 'data', data)) from events where type = 'OrderPlaced'))`,
    );
    await database.query('', 'analyze');
  };
  await replay(ordering, 'truncate order_lines, orders');
  await replay(inventory, 'truncate reservations');
  await inventory.query('', stockSql);
  await replay(payments, 'truncate payments');
}

/** What the provider would have in its ledger. */
async function fillLedger(payments: Database, file: string): Promise<void> {
  const ledger = new DatabaseSync(file, { timeout: 5_000 });
  const add = ledger.prepare(
    `insert into entries (at, kind, key, charge, order_id, amount, currency, reference)
     values ('2026-01-01T00:00:00.000Z', ?, ?, ?, ?, ?, ?, 'made')`,
  );
  const known = new Set(
    (ledger.prepare('select order_id as id from entries').all() as { id: string }[]).map(({ id }) => id),
  );
  for (let after = 0; ;) {
    const rows = await payments.query<{ position: number; type: string; data: string }>(
      '',
      `select position, type, data from events where position > $1 and type in ('PaymentCaptured', 'PaymentRefunded')
       order by position limit 10000`,
      [after],
    );
    if (rows.length === 0) break;
    after = rows.at(-1)!.position;
    ledger.exec('begin');
    for (const { type, data } of rows) {
      const { paymentId, orderId, amount } = JSON.parse(data) as {
        paymentId: string;
        orderId: string;
        amount: { amount: number; currency: string };
      };
      if (known.has(orderId)) continue;
      const kind = type === 'PaymentCaptured' ? 'capture' : 'refund';
      add.run(
        kind,
        kind === 'capture' ? paymentId : `refund-${paymentId}`,
        paymentId,
        orderId,
        amount.amount,
        amount.currency,
      );
    }
    ledger.exec('commit');
  }
  ledger.close();
}

async function untilShown(queries: Database, databases: Record<DatabaseOwner, Database>): Promise<void> {
  await until(
    'all orders are shown',
    async () => {
      for (const service of ['ordering', 'inventory', 'payments'] as const) {
        const [head] = await databases[service].query<{ position: number }>('', 'select position from log_head');
        const behind = await queries.query('', 'select from checkpoints where source = $1 and position < $2', [
          sourceOf(service),
          head!.position,
        ]);
        if (behind.length > 0) return null;
      }
      return true as const;
    },
    1_200_000,
  );
  await queries.query('', 'analyze');
}

async function serversOf(databases: Record<DatabaseOwner, Database>): Promise<number[]> {
  const rows = await databases.queries.query<{ pid: number }>(
    '',
    `select pid from pg_stat_activity where application_name = 'bench audit'`,
  );
  return rows.map(({ pid }) => pid);
}

/** What these processes have used so far. */
function cpuMsOf(pids: readonly number[]): number {
  const ticks = pids.map((pid) => {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    return Number(fields[11]) + Number(fields[12]);
  });
  return (ticks.reduce((sum, one) => sum + one, 0) * 1_000) / ticksPerSecond;
}
