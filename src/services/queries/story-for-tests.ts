/** Tests tell what happened, and get recorded events; and read sides on a database of their own. */
import type { TestContext } from 'node:test';
import type { CatalogEvent } from '#contracts/catalog.ts';
import type { InventoryEvent } from '#contracts/inventory.ts';
import type { OrderingEvent } from '#contracts/ordering.ts';
import type { PaymentEvent } from '#contracts/payments.ts';
import type { Caller, QueryAnswer } from '#contracts/routes.ts';
import type { Positions } from '#cqrs/consistency-token.ts';
import { isEngineError } from '#cqrs/errors.ts';
import { type RecordedEvent, slotOfStream } from '#cqrs/event-log.ts';
import { checkpointSchemaFolder } from '#cqrs/postgres-log.ts';
import { postgresReadStore, readStoreOptions } from '#cqrs/postgres-read-store.ts';
import type { ReadStore } from '#cqrs/read-store.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import { testDatabaseUrl } from '../../../tests/database.ts';
import type { SharedCache } from './shared-cache.ts';
import { createReadModels, openReads, queriesSchema, type ReadDatabases, type ReadModels } from './service.ts';

export type Told = CatalogEvent | OrderingEvent | InventoryEvent | PaymentEvent;
type Service = 'catalog' | 'ordering' | 'inventory' | 'payments' | 'audit';
export type Happened = { readonly service: Service; readonly event: RecordedEvent };

/** Records events as the services would: dense positions per service, dense versions per stream. */
export function story(): {
  tell(told: Told, because?: Partial<{ at: string; cause: string; actor: string }>): Happened;
} {
  const positions = new Map<Service, number>();
  const versions = new Map<string, number>();
  let told = 0;
  return {
    tell(event, { at, cause = 'a-request', actor = 'operator' } = {}) {
      const [service, stream] = homeOf(event);
      const position = (positions.get(service) ?? 0) + 1;
      const version = (versions.get(stream) ?? 0) + 1;
      positions.set(service, position);
      versions.set(stream, version);
      told += 1;
      return {
        service,
        event: {
          ...event,
          id: `${service}-0-${position}`,
          position,
          stream,
          version,
          slot: slotOfStream(stream),
          at: at ?? new Date(Date.UTC(2011, 0, 1) + told * 1_000).toISOString(),
          origin: { actor, correlationId: 'a-request', causationId: cause },
        },
      };
    },
  };
}

function homeOf(event: Told): [Service, string] {
  switch (event.type) {
    case 'ProductAdded':
    case 'ProductChanged':
      return ['catalog', `product-${event.data.sku}`];
    case 'CustomerRegistered':
    case 'CustomerChanged':
      return ['ordering', `customer-${event.data.customerId}`];
    case 'ProductOffered':
      return ['ordering', `offer-${event.data.sku}`];
    case 'ProductListed':
      return ['inventory', `listing-${event.data.sku}`];
    case 'StockAdjusted':
      return ['inventory', `stock-${event.data.sku}`];
    case 'StockReserved':
    case 'StockRejected':
    case 'StockReleased':
    case 'StockShipped':
    case 'ReservationExpired':
    case 'ReservationBarred':
      return ['inventory', `reservation-${event.data.orderId}`];
    default:
      return 'paymentId' in event.data && event.type !== 'OrderCompleted'
        ? ['payments', `payment-${event.data.orderId}`]
        : ['ordering', `order-${event.data.orderId}`];
  }
}

export const customerRegistered = (
  customerId: string,
  fields: Partial<{ name: string; email: string; country: string }> = {},
): Told => ({
  type: 'CustomerRegistered',
  data: { customerId, name: `Customer ${customerId}`, ...fields },
});

export const productAdded = (sku: string, name = `Product ${sku}`, description?: string): Told => ({
  type: 'ProductAdded',
  data: { sku, name, ...(description === undefined ? {} : { description }), price: { amount: 255, currency: 'GBP' } },
});

export function orderPlaced(
  orderId: string,
  fields: Partial<{
    customerId: string;
    customerName: string;
    country: string;
    currency: string;
    placedAt: string;
    lines: { sku: string; name: string; quantity: number; unitPrice: number }[];
  }> = {},
): Told & { type: 'OrderPlaced' } {
  const { customerId = 'alice', customerName, country, currency = 'GBP', placedAt = '2010-12-01T08:26:00Z' } = fields;
  const lines = fields.lines ?? [{ sku: '85123A', name: 'White hanging heart', quantity: 6, unitPrice: 255 }];
  return {
    type: 'OrderPlaced',
    data: {
      orderId,
      customerId,
      ...(customerName === undefined ? {} : { customerName }),
      ...(country === undefined ? {} : { country }),
      currency,
      lines,
      total: { amount: lines.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0), currency },
      payment: { method: 'pm_ok' },
      placedAt,
      deadline: '2030-01-01T00:00:00Z',
      contentHash: 'x',
    },
  };
}

const gbp = (amount: number) => ({ amount, currency: 'GBP' });

/** The later events of an order, each with its least content. */
export const orderEvent = {
  reserved: (orderId: string): Told => ({
    type: 'OrderReserved',
    data: { orderId, total: gbp(1_530), payment: { method: 'pm_ok' } },
  }),
  completed: (orderId: string): Told => ({ type: 'OrderCompleted', data: { orderId, paymentId: `pay-${orderId}` } }),
  failed: (
    orderId: string,
    was: 'pending' | 'reserved',
    code: 'out-of-stock' | 'payment-declined' | 'timed-out',
  ): Told => ({
    type: 'OrderFailed',
    data: { orderId, was, failure: { code, detail: 'So it was.' } },
  }),
  cancelled: (orderId: string, was: 'pending' | 'reserved'): Told => ({
    type: 'OrderCancelled',
    data: { orderId, was },
  }),
  inDoubt: (orderId: string): Told => ({ type: 'OrderPaymentInDoubt', data: { orderId } }),
  refunded: (orderId: string): Told => ({ type: 'OrderRefunded', data: { orderId } }),
  voided: (orderId: string): Told => ({ type: 'OrderPaymentVoided', data: { orderId } }),
} as const;

export type ReadSide = {
  readonly database: Database;
  readonly models: ReadModels;
  /** Applies what happened: neighbours of one service as one batch. */
  given(...happened: readonly Happened[]): Promise<void>;
  /** The route's answer. */
  ask(url: string, request?: Asked): Promise<QueryAnswer>;
  /** The parsed body of an answer that is no refusal. */
  see<View>(url: string, request?: Asked): Promise<View>;
};
type Asked = Partial<{ params: object; query: object; caller: Caller; underToken: boolean }>;

type ReadSideOptions = {
  readonly cacheMb?: number;
  readonly reads?: Pick<ReadDatabases, 'database' | 'plannedOnce'>;
  readonly shared?: SharedCache;
  /** What it says that it has applied. */
  positions?(): Positions;
  caughtUp?(positions: Positions): Promise<boolean>;
};

export async function readSideForTests(t: TestContext, options: ReadSideOptions = {}): Promise<ReadSide> {
  const url = await testDatabaseUrl(t, [checkpointSchemaFolder, queriesSchema]);
  const database = openDatabase(url, { ...readStoreOptions, applicationName: 'test' });
  const reads = openReads(url, { applicationName: 'test reads' });
  t.after(() => Promise.all([database.end(), reads.end()]));
  return readSideOn(database, { ...options, reads });
}

/** One more read side on the same rows: it knows nothing of what the others remember. */
export function readSideOn(
  database: Database,
  {
    cacheMb = 8,
    reads = { database, plannedOnce: database },
    shared,
    positions = () => ({}),
    caughtUp = async () => true,
  }: ReadSideOptions = {},
): ReadSide {
  const models = createReadModels({ ...reads, cacheMb, ...(shared === undefined ? {} : { shared }) });
  const apply = applying(postgresReadStore(database), models);
  const routes = models.routes({ caughtUp, positions, parked: () => [] });

  const ask: ReadSide['ask'] = async (url, request = {}) => {
    const { params = {}, query = {}, caller = { role: 'operator' }, ...more } = request;
    const route = routes.find((one) => one.url === url);
    if (!route) throw new Error(`there is no route ${url}`);
    return route.read({ params, query, caller, ...more } as never);
  };
  return {
    database,
    models,
    async given(...happened) {
      for (const { service, events } of batchesOf(happened)) await apply(service, events);
    },
    ask,
    async see<View>(url: string, request = {}) {
      const answer = await ask(url, request);
      if ('refused' in answer) throw new Error(`refused: ${JSON.stringify(answer.refused)}`);
      return JSON.parse(answer.bytes.toString()) as View;
    },
  };
}

/** As the consumers do: of two sides on the same rows, the one that was overtaken begins anew. */
function applying(
  store: ReadStore,
  models: ReadModels,
): (service: string, events: readonly RecordedEvent[]) => Promise<void> {
  const positions = new Map<string, number>();
  return async function apply(service, events) {
    const consumer = `batches-of-${service}`;
    const from = positions.get(consumer) ?? (await store.checkpoints([consumer])).get(consumer)!;
    const projections = models.projections.filter((one) => one.services.includes(service));
    try {
      const hooks = await store.apply([{ consumer, from, to: from + 1 }], (rows) =>
        Promise.all(projections.map((one) => one.apply(service, events, rows))),
      );
      positions.set(consumer, from + 1);
      for (const hook of hooks) hook?.(store.committed);
    } catch (error) {
      positions.delete(consumer);
      if (!isEngineError(error, 'consumer-fenced')) throw error;
      models.forgetAnswers();
      await apply(service, events);
    }
  };
}

function batchesOf(happened: readonly Happened[]): { service: Service; events: RecordedEvent[] }[] {
  const batches: { service: Service; events: RecordedEvent[] }[] = [];
  for (const { service, event } of happened) {
    const last = batches.at(-1);
    if (last?.service === service) last.events.push(event);
    else batches.push({ service, events: [event] });
  }
  return batches;
}
