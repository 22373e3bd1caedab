/**
 * A system with many orders, made in minutes: a few are placed through HTTP and come to their end; then their events,
 * their states, the tables beside the logs and the provider's ledger are written again and again, under new ids and at
 * times spread over a year, each as the code has recorded it. An audit finds nothing in it.
 */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { InventoryEvent } from '#contracts/inventory.ts';
import { inlineColumns } from '#cqrs/postgres-append.ts';
import { slotOf } from '#cqrs/slots.ts';
import { startEmbeddedPostgres } from '#platform/embedded-postgres.ts';
import { createLogger } from '#platform/logger.ts';
import { systemPorts } from '#platform/ports.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import { databaseOwners } from '#platform/settings.ts';
import { type Level, moveLevel } from '#services/inventory/stock.ts';
import { isCaughtUp } from '../load/metrics.ts';
import { inlineTablesOf } from '../src/service-map.ts';
import { type Ending, startTestProgram } from '../tests/running-program.ts';
import { newId } from '../tests/shop-client.ts';

const copied = ['ordering', 'inventory', 'payments'] as const;
type Copied = (typeof copied)[number];

const modelOrders = 100;
const batchOrders = 1_000;
const caughtUpTimeoutMs = 30_000;
const yearMs = 365 * 86_400_000;

/** Fills the data directory of a program that does not run yet. Resolves to how many events there are now. */
export async function makeManyOrders(
  ending: Ending,
  dataDir: string,
  orders: number,
  onProgress: (done: number) => void,
): Promise<number> {
  const models = await placeModels(ending, dataDir);
  const server = await startEmbeddedPostgres({
    dataDir,
    databases: [...databaseOwners],
    onUnexpectedExit: (error) => {
      throw error;
    },
    logger: createLogger('warn'),
  });
  const ledger = openLedger(join(dataDir, 'sandbox/ledger.sqlite'), models);
  const databases = new Map(
    databaseOwners.map((owner) => [owner, openDatabase(server.url(owner), { applicationName: 'bench', poolMax: 1 })]),
  );
  try {
    const logs = new Map<Copied, ModelLog>();
    for (const service of copied) logs.set(service, await readModels(databases.get(service)!, models));
    const newIds = Array.from({ length: orders }, () => systemPorts.newId());
    const firstMs = Date.now() - yearMs;
    for (let from = 0; from < orders; from += batchOrders) {
      const batch = newIds.slice(from, from + batchOrders).map((orderId, n) => ({
        orderId,
        model: models[(from + n) % models.length]!,
        at: new Date(firstMs + ((from + n) * yearMs) / orders).toISOString(),
      }));
      await Promise.all(copied.map((service) => write(service, databases.get(service)!, logs.get(service)!, batch)));
      ledger.write(batch);
      onProgress(Math.min(from + batchOrders, orders));
    }
    await moveStock(databases.get('inventory')!, logs.get('inventory')!, models, orders);
    return await finish(databases);
  } finally {
    ledger.close();
    await Promise.all([...databases.values()].map((database) => database.end()));
    await server.stop();
  }
}

/** Orders with every ending, through the front door. */
async function placeModels(ending: Ending, dataDir: string): Promise<string[]> {
  const { shop, stop } = await startTestProgram(ending, dataDir);
  const skus = Array.from({ length: modelOrders }, () => newId('sku'));
  const customers = Array.from({ length: modelOrders / 4 }, () => newId('customer'));
  await Promise.all(skus.map((sku) => shop.putProduct(sku).then(() => shop.adjustStock(sku, 100_000))));
  await Promise.all(customers.map((customer) => shop.putCustomer(customer)));
  if (!(await isCaughtUp(shop, caughtUpTimeoutMs))) throw new Error('nobody may order yet what is for sale');
  const place = async (n: number): Promise<string> => {
    const lines = Array.from({ length: 1 + (n % 3) }, (_, line) => ({
      sku: skus[(n + line) % modelOrders]!,
      quantity: 1,
    }));
    const method = n % 20 === 7 ? 'pm_declined' : 'pm_ok';
    const orderId = await shop.place({ customerId: customers[n % customers.length]!, lines, method });
    await shop.waitFinal(orderId);
    if (n % 20 === 13) await shop.cancel(orderId);
    return orderId;
  };
  const placed = await Promise.all(Array.from({ length: modelOrders }, (_, n) => place(n)));
  for (const orderId of placed) await shop.waitFinal(orderId);
  await stop();
  return placed;
}

type ModelEvent = {
  readonly stream: string;
  readonly version: number;
  readonly type: string;
  readonly data: string;
  readonly origin: string;
};
type ModelStream = { readonly stream: string; readonly version: number; readonly state: string };
type ModelLog = {
  position: number;
  readonly events: ReadonlyMap<string, readonly ModelEvent[]>;
  readonly streams: ReadonlyMap<string, readonly ModelStream[]>;
};

async function readModels(database: Database, models: readonly string[]): Promise<ModelLog> {
  const [head] = await database.query<{ position: number }>('', 'select position from log_head');
  const events = await database.query<ModelEvent>(
    '',
    'select stream, version, type, data::text as data, origin::text as origin from events order by position',
  );
  const streams = await database.query<ModelStream>('', 'select stream, version, state::text as state from streams');
  const ofModels = <Row extends { readonly stream: string }>(
    rows: readonly Row[],
  ): ReadonlyMap<string, readonly Row[]> =>
    Map.groupBy(rows, ({ stream }) => models.find((orderId) => stream.endsWith(`-${orderId}`)) ?? '');
  return { position: head!.position, events: ofModels(events), streams: ofModels(streams) };
}

type Copy = { readonly orderId: string; readonly model: string; readonly at: string };

async function write(service: Copied, database: Database, log: ModelLog, copies: readonly Copy[]): Promise<void> {
  const events = copies.flatMap(({ orderId, model, at }) =>
    (log.events.get(model) ?? []).map((event) => ({
      ...event,
      at,
      slot: slotOf(orderId),
      stream: event.stream.replace(model, orderId),
      data: event.data.replaceAll(model, orderId).replace(/"placedAt":"[^"]*"/, `"placedAt":"${at}"`),
    })),
  );
  const streams = copies.flatMap(({ orderId, model, at }) =>
    (log.streams.get(model) ?? []).map((stream) => ({
      ...stream,
      slot: slotOf(orderId),
      stream: stream.stream.replace(model, orderId),
      state: stream.state.replaceAll(model, orderId).replace(/"placedAt":"[^"]*"/, `"placedAt":"${at}"`),
    })),
  );
  const column = <Row, Key extends keyof Row>(rows: readonly Row[], key: Key): Row[Key][] =>
    rows.map((row) => row[key]);
  await database.query(
    '',
    `insert into events (position, at, version, slot, stream, type, data, origin)
     select $1::bigint + n, at, version, slot, stream, type, data, origin
     from unnest($2::timestamptz[], $3::int[], $4::smallint[], $5::text[], $6::text[], $7::json[], $8::json[])
       with ordinality as e (at, version, slot, stream, type, data, origin, n)`,
    [
      log.position,
      column(events, 'at'),
      column(events, 'version'),
      column(events, 'slot'),
      column(events, 'stream'),
      column(events, 'type'),
      column(events, 'data'),
      column(events, 'origin'),
    ],
  );
  await database.query('', chainSql, [log.position, log.position + events.length]);
  log.position += events.length;
  await database.query(
    '',
    `insert into streams (stream, version, slot, state) select * from unnest($1::text[], $2::int[], $3::smallint[], $4::json[])`,
    [column(streams, 'stream'), column(streams, 'version'), column(streams, 'slot'), column(streams, 'state')],
  );
  await writeInlineTables(service, database, streams, events);
}

async function writeInlineTables(
  service: Copied,
  database: Database,
  streams: readonly ModelStream[],
  events: readonly Pick<ModelEvent, 'stream' | 'type' | 'data'>[],
): Promise<void> {
  const batch = {
    writes: streams.map(({ state, ...stream }) => ({ ...stream, state: JSON.parse(state) as unknown })),
    events: events.map(({ data, ...event }) => ({ ...event, data: JSON.parse(data) as object })),
  };
  await database.query('', 'select from write_inline_tables($1)', [inlineColumns(batch, inlineTablesOf[service])]);
}

/** What the copies have taken from the stock, as if each had been reserved and shipped or released. */
async function moveStock(
  database: Database,
  { events }: ModelLog,
  models: readonly string[],
  orders: number,
): Promise<void> {
  const rows = await database.query<ModelStream>(
    '',
    `select stream, version, state::text as state from streams where stream like 'stock-%'`,
  );
  const levels = new Map(
    rows.map(({ stream, version, state }) => [stream, { version, level: JSON.parse(state) as Level }]),
  );
  for (const [n, model] of models.entries()) {
    const copies = Math.floor(orders / models.length) + (n < orders % models.length ? 1 : 0);
    for (const { type, data } of events.get(model) ?? []) {
      const event = { type, data: JSON.parse(data) } as InventoryEvent;
      for (const { sku } of 'lines' in event.data ? event.data.lines : []) {
        const stock = levels.get(`stock-${sku}`)!;
        for (let copy = 0; copy < copies; copy += 1) stock.level = moveLevel(stock.level, event, sku);
        stock.version += copies;
      }
    }
  }
  const moved = [...levels].map(([stream, { version, level }]) => ({ stream, version, state: JSON.stringify(level) }));
  await database.query(
    '',
    `update streams set version = w.version, state = w.state::json
     from unnest($1::text[], $2::int[], $3::text[]) as w (stream, version, state) where streams.stream = w.stream`,
    [moved.map(({ stream }) => stream), moved.map(({ version }) => version), moved.map(({ state }) => state)],
  );
  await writeInlineTables('inventory', database, moved, []);
}

/** The provider's own, of which the models' rows are written again. */
function openLedger(file: string, models: readonly string[]): { write(copies: readonly Copy[]): void; close(): void } {
  const db = new DatabaseSync(file);
  db.exec('pragma synchronous = off');
  type LedgerRow = Record<string, string | number | null>;
  const tables = ['charges', 'refunds', 'entries'].map((name) => {
    const rows = db.prepare(`select * from ${name}`).all() as LedgerRow[];
    const columns = db
      .prepare(`select name from pragma_table_info('${name}') where name <> 'seq'`)
      .all()
      .map((column) => column['name'] as string);
    const insert = db.prepare(`insert into ${name} (${columns.join()}) values (${columns.map(() => '?').join()})`);
    return { columns, insert, ofModels: Map.groupBy(rows, ({ key }) => models.find((id) => String(key).includes(id))) };
  });
  return {
    write(copies) {
      db.exec('begin');
      for (const { columns, insert, ofModels } of tables)
        for (const { orderId, model } of copies)
          for (const row of ofModels.get(model) ?? [])
            insert.run(
              ...columns.map((column) => {
                const value = row[column] ?? null;
                return typeof value === 'string' ? value.replaceAll(model, orderId) : value;
              }),
            );
      db.exec('commit');
    },
    close: () => db.close(),
  };
}

/** The events after a position as one batch, chained to the one before, as `append` does it. */
const chainSql = `
  with batch as (
    update log_head h set position = $2, hash = chained(h.hash, $1::bigint + 1, (
      select '[' || string_agg(event_content(e.position - $1, at, version, slot, stream, type, data, origin),
        ',' order by e.position) || ']'
      from events e where e.position > $1 and e.position <= $2))
    where h.position = $1 returning hash
  )
  insert into batches (first_position, last_position, hash) select $1::bigint + 1, $2, hash from batch`;

/** The services have reacted to all that is in the logs. Only the read side has not. */
async function finish(databases: ReadonlyMap<string, Database>): Promise<number> {
  let events = 0;
  for (const service of databaseOwners) {
    if (service === 'queries') continue;
    const database = databases.get(service)!;
    const [head] = await database.query<{ position: number }>('', 'select position from log_head');
    events += head!.position;
    for (const [listener, its] of databases) {
      if (listener === 'queries') continue;
      await its.query('', 'update checkpoints set position = $1 where consumer = $2', [
        head!.position,
        `${listener}-of-${service}`,
      ]);
    }
    await database.query('', 'vacuum analyze events');
  }
  return events;
}
