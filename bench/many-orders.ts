/**
 * A system with many orders, made in minutes: a few are placed through HTTP and come to their end; then their events
 * and states are written into the logs again and again, under new ids and at times spread over a year, each as the
 * code has recorded it. Inline tables (stock, reservations) are left as they are.
 */
import { slotOf } from '#cqrs/slots.ts';
import { startEmbeddedPostgres } from '#platform/embedded-postgres.ts';
import { createLogger } from '#platform/logger.ts';
import { systemPorts } from '#platform/ports.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import { databaseOwners } from '#platform/settings.ts';
import { type Ending, startTestProgram } from '../tests/running-program.ts';
import { newId } from '../tests/shop-client.ts';

const copied = ['ordering', 'inventory', 'payments'] as const;
type Copied = (typeof copied)[number];

const modelOrders = 100;
const batchOrders = 1_000;
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
      await Promise.all(copied.map((service) => write(databases.get(service)!, logs.get(service)!, batch)));
      onProgress(Math.min(from + batchOrders, orders));
    }
    return await finish(databases);
  } finally {
    await Promise.all([...databases.values()].map((database) => database.end()));
    await server.stop();
  }
}

/** Orders with every ending, through the front door. */
async function placeModels(ending: Ending, dataDir: string): Promise<string[]> {
  const { shop, stop } = await startTestProgram(ending, dataDir);
  const skus = Array.from({ length: modelOrders }, () => newId('sku'));
  const customers = Array.from({ length: modelOrders / 4 }, () => newId('customer'));
  for (const sku of skus) {
    await shop.putProduct(sku);
    await shop.adjustStock(sku, 100_000);
  }
  for (const customer of customers) await shop.putCustomer(customer);
  const placed: string[] = [];
  for (let n = 0; n < modelOrders; n += 1) {
    const lines = Array.from({ length: 1 + (n % 3) }, (_, line) => ({
      sku: skus[(n + line) % modelOrders]!,
      quantity: 1,
    }));
    const method = n % 20 === 7 ? 'pm_declined' : 'pm_ok';
    const orderId = await shop.place({ customerId: customers[n % customers.length]!, lines, method });
    await shop.waitFinal(orderId);
    if (n % 20 === 13) await shop.cancel(orderId);
    placed.push(orderId);
  }
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

async function write(database: Database, log: ModelLog, copies: readonly Copy[]): Promise<void> {
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
