/** The bodies of the HTTP contract: one source for validation, types and OpenAPI. */
import Type, { type Static } from 'typebox';
import { FailureSchema } from './ordering.ts';
import {
  AddressedIdSchema,
  Closed,
  CustomerIdSchema,
  linesPerOrderMax,
  MoneySchema,
  NOT_BLANK,
  OrderIdSchema,
  PaymentIdSchema,
  PriceSchema,
  QuantitySchema,
  SkuSchema,
  TimeSchema,
} from './values.ts';

const Version = Type.Integer({ minimum: 1, description: 'the number in the ETag' });
const Name = Type.String({ minLength: 1, maxLength: 300 });
/** Listed with a message of its own so that a client sees which words are allowed. */
const OneOf = <T extends string>(...words: T[]) => Type.Unsafe<T>(Type.String({ enum: words }));

export const orderStatuses = ['pending', 'reserved', 'completed', 'failed', 'cancelled'] as const;
export type OrderStatus = (typeof orderStatuses)[number];
export const paymentStatuses = ['none', 'pending', 'captured', 'declined', 'refunded', 'unknown'] as const;
export type PaymentStatus = (typeof paymentStatuses)[number];
export const paymentMethods = ['pm_ok', 'pm_declined', 'pm_slow', 'pm_reply_lost', 'pm_flaky', 'pm_down'] as const;

// Commands

export const SkuParams = Closed({ sku: SkuSchema });
export type SkuParams = Static<typeof SkuParams>;
export const CustomerParams = Closed({ customerId: CustomerIdSchema });
export type CustomerParams = Static<typeof CustomerParams>;
export const OrderParams = Closed({ orderId: OrderIdSchema });
export type OrderParams = Static<typeof OrderParams>;

export const PutProductBody = Closed({
  name: Name,
  description: Type.Optional(Type.String({ maxLength: 10_000 })),
  price: PriceSchema,
});
export type PutProductBody = Static<typeof PutProductBody>;
export const ProductVersion = Closed({ sku: SkuSchema, version: Version });

export const AdjustStockBody = Closed({
  quantity: Type.Integer({
    minimum: -1_000_000_000,
    maximum: 1_000_000_000,
    not: { const: 0 },
    description: 'pieces received (positive) or written off (negative)',
  }),
  reason: Type.String({ minLength: 1, maxLength: 500 }),
});
export type AdjustStockBody = Static<typeof AdjustStockBody>;
export const StockLevel = Closed({
  sku: SkuSchema,
  onHand: Type.Integer(),
  reserved: Type.Integer(),
  available: Type.Integer(),
  version: Version,
});
export type StockLevel = Static<typeof StockLevel>;

export const PutCustomerBody = Closed({
  name: Name,
  email: Type.Optional(Type.String({ format: 'email', maxLength: 320 })),
  country: Type.Optional(Type.String({ minLength: 1, maxLength: 100 })),
});
export type PutCustomerBody = Static<typeof PutCustomerBody>;
export const CustomerVersion = Closed({ customerId: CustomerIdSchema, version: Version });

export const PlaceOrderBody = Closed({
  orderId: Type.Optional(OrderIdSchema),
  customerId: CustomerIdSchema,
  lines: Type.Array(Closed({ sku: SkuSchema, quantity: QuantitySchema, unitPrice: Type.Optional(PriceSchema) }), {
    minItems: 1,
    maxItems: linesPerOrderMax,
  }),
  payment: Closed({ method: OneOf(...paymentMethods) }),
  placedAt: Type.Optional(TimeSchema),
});
export type PlaceOrderBody = Static<typeof PlaceOrderBody>;
export const OrderPlacedAnswer = Closed({
  orderId: OrderIdSchema,
  status: OneOf('pending'),
  total: MoneySchema,
  version: Version,
});
export type OrderPlacedAnswer = Static<typeof OrderPlacedAnswer>;

export const CancelOrderBody = Closed({ reason: Type.Optional(Type.String({ minLength: 1, maxLength: 500 })) });
export type CancelOrderBody = Static<typeof CancelOrderBody>;
export const OrderCancelledAnswer = Closed({ orderId: OrderIdSchema, status: OneOf('cancelled'), version: Version });

// Queries

const limit = Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 20 }));
const cursor = Type.Optional(Type.String({ minLength: 1, maxLength: 1_024 }));
const text = Type.Optional(
  Type.String({ minLength: 1, maxLength: 200, pattern: NOT_BLANK, description: 'words to look for' }),
);

/** With neither: as it is. */
export const OrderQuery = Closed({
  version: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 2_147_483_647, description: 'as it was in this version' }),
  ),
  asOf: Type.Optional(
    Type.String({
      format: 'date-time',
      description: 'RFC 3339: as it was at this time, by `updatedAt` of its versions; not together with `version`',
    }),
  ),
});
export type OrderQuery = Static<typeof OrderQuery>;

export const PageQuery = Closed({ limit, cursor });
export type PageQuery = Static<typeof PageQuery>;

export const orderSorts = ['placedAt', '-placedAt', 'total', '-total'] as const;
export const OrderListQuery = Closed({
  customerId: Type.Optional(CustomerIdSchema),
  status: Type.Optional(OneOf(...orderStatuses)),
  sku: Type.Optional(SkuSchema),
  placedFrom: Type.Optional(TimeSchema),
  placedTo: Type.Optional(TimeSchema),
  minTotal: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: 'minor units' })),
  q: text,
  sort: Type.Optional(OneOf(...orderSorts)),
  limit,
  cursor,
});
export type OrderListQuery = Static<typeof OrderListQuery>;

export const productSorts = ['sku', '-sku', 'name', '-name'] as const;
export const ProductListQuery = Closed({
  q: text,
  inStock: Type.Optional(Type.Boolean()),
  sort: Type.Optional(OneOf(...productSorts)),
  limit,
  cursor,
});
export type ProductListQuery = Static<typeof ProductListQuery>;

export const SalesQuery = Closed({
  from: Type.Optional(TimeSchema),
  to: Type.Optional(TimeSchema),
  bucket: Type.Optional(OneOf('hour', 'day', 'month')),
  by: Type.Optional(OneOf('country')),
});
export type SalesQuery = Static<typeof SalesQuery>;

export const OrderView = Closed({
  orderId: OrderIdSchema,
  customerId: CustomerIdSchema,
  status: OneOf(...orderStatuses),
  failure: Type.Optional(FailureSchema),
  lines: Type.Array(Closed({ sku: SkuSchema, name: Type.String(), quantity: QuantitySchema, unitPrice: PriceSchema })),
  total: MoneySchema,
  payment: Closed({ status: OneOf(...paymentStatuses), method: Type.String() }),
  placedAt: TimeSchema,
  updatedAt: TimeSchema,
  version: Version,
});
export type OrderView = Static<typeof OrderView>;

const Page = <T extends Parameters<typeof Type.Array>[0]>(item: T) =>
  Closed({ items: Type.Array(item), nextCursor: Type.Union([Type.String(), Type.Null()]) });

export const OrderList = Page(OrderView);

export const HistoryView = Closed({
  items: Type.Array(
    Closed({
      version: Version,
      type: Type.String(),
      at: TimeSchema,
      data: Type.Object({}),
      actor: Type.String(),
      causation: Type.String(),
      service: Type.String(),
      id: Type.String(),
    }),
  ),
});

/** One thing that happened, in any service. */
export const LiveEventView = Closed({
  id: Type.String(),
  service: Type.String(),
  stream: Type.String(),
  version: Version,
  type: Type.String(),
  at: TimeSchema,
  data: Type.Object({}),
  actor: Type.String(),
  causation: Type.String(),
  unreadable: Type.Optional(
    Closed({ reason: Type.String(), detail: Type.String() }, { description: 'why this version cannot take the event' }),
  ),
});
export type LiveEventView = Static<typeof LiveEventView>;

export const CustomerView = Closed({
  customerId: CustomerIdSchema,
  name: Type.String(),
  email: Type.Optional(Type.String()),
  country: Type.Optional(Type.String()),
  orders: Type.Integer({ minimum: 0, description: 'orders placed' }),
  spent: Type.Array(MoneySchema, { description: 'of completed orders, one entry per currency' }),
  lastOrderAt: Type.Optional(TimeSchema),
  version: Version,
});
export type CustomerView = Static<typeof CustomerView>;

export const ProductView = Closed({
  sku: SkuSchema,
  name: Type.String(),
  description: Type.Optional(Type.String()),
  price: PriceSchema,
  availability: Closed({ onHand: Type.Integer(), reserved: Type.Integer(), available: Type.Integer() }),
  version: Version,
});
export type ProductView = Static<typeof ProductView>;
export const ProductList = Page(ProductView);

export const OrderPaymentsView = Closed({
  orderId: OrderIdSchema,
  paymentId: Type.Optional(PaymentIdSchema),
  status: OneOf(...paymentStatuses),
  amount: Type.Optional(MoneySchema),
  method: Type.Optional(Type.String()),
  attempts: Type.Array(Closed({ at: TimeSchema, outcome: Type.String(), detail: Type.Optional(Type.String()) })),
  captures: Type.Array(Closed({ at: TimeSchema, amount: MoneySchema, providerReference: Type.String() })),
  refunds: Type.Array(Closed({ at: TimeSchema, amount: MoneySchema, providerReference: Type.String() })),
  version: Type.Integer({ minimum: 0 }),
});
export type OrderPaymentsView = Static<typeof OrderPaymentsView>;

export const SalesReport = Closed({
  buckets: Type.Array(
    Closed({
      start: TimeSchema,
      country: Type.Optional(Type.String()),
      orders: Type.Integer(),
      units: Type.Integer(),
      revenue: Type.Array(MoneySchema),
    }),
  ),
});
export type SalesReport = Static<typeof SalesReport>;

// Operations

const ConsumerName = Type.String({ pattern: '^[A-Za-z0-9._-]{1,100}$' });
const Cause = Type.String({ minLength: 1, maxLength: 200 });

export const DeadLetterParams = Closed({ id: AddressedIdSchema });
export type DeadLetterParams = Static<typeof DeadLetterParams>;
export const ConsumerParams = Closed({ name: ConsumerName });
export type ConsumerParams = Static<typeof ConsumerParams>;

export const DeadLetterQuery = Closed({
  state: Type.Optional(OneOf('waiting', 'discarded')),
  consumer: Type.Optional(ConsumerName),
  cause: Type.Optional(Cause),
  limit,
  cursor,
});
export type DeadLetterQuery = Static<typeof DeadLetterQuery>;

export const DeadLetterView = Closed({
  id: Type.String({ description: '`<consumer>-<position>`' }),
  consumer: Type.String(),
  stream: Type.String(),
  type: Type.String(),
  position: Type.Integer({ minimum: 1, description: 'in the log that the consumer listens to' }),
  eventId: Type.String(),
  cause: Type.String({ description: '`queued-behind`: it only waits for an earlier message of its stream' }),
  detail: Type.String(),
  attempts: Type.Integer({ minimum: 0 }),
  parkedAt: TimeSchema,
  state: OneOf('parked', 'retry', 'discarded'),
  decidedBy: Type.Optional(Type.String()),
  decidedAt: Type.Optional(TimeSchema),
  reason: Type.Optional(Type.String({ description: 'why it was discarded' })),
});
export type DeadLetterView = Static<typeof DeadLetterView>;

export const DeadLetterList = Closed({
  groups: Type.Array(
    Closed({
      cause: Type.String(),
      consumer: Type.String(),
      messages: Type.Integer({ minimum: 1 }),
      streams: Type.Integer({ minimum: 1 }),
      firstAt: TimeSchema,
      lastAt: TimeSchema,
      items: Type.Array(DeadLetterView, {
        description: 'by position: the first 20; where `consumer` and `cause` name the group, a page of up to `limit`',
      }),
    }),
  ),
  nextCursor: Type.Union([Type.String(), Type.Null()]),
});
export type DeadLetterList = Static<typeof DeadLetterList>;

export const RetryBody = Closed({});
/** With neither: all there are. */
export const RetryGroupBody = Closed({ cause: Type.Optional(Cause), consumer: Type.Optional(ConsumerName) });
export type RetryGroupBody = Static<typeof RetryGroupBody>;
export const RetryAnswer = Closed({
  messages: Type.Integer({ minimum: 0, description: 'how many will be tried again, each stream in order' }),
});
export const DiscardBody = Closed({ reason: Type.String({ minLength: 1, maxLength: 500 }) });
export type DiscardBody = Static<typeof DiscardBody>;

export const PauseBody = Closed({});
export const PauseAnswer = Closed({ consumer: Type.String(), paused: Type.Boolean() });

/** Of a read model, or `all` of them together. */
export const ReadModelParams = Closed({ name: AddressedIdSchema });
export type ReadModelParams = Static<typeof ReadModelParams>;

export const rebuildActions = ['rebuild', 'check', 'back', 'drop-previous'] as const;
export const RebuildBody = Closed({
  action: Type.Optional(
    Type.Unsafe<(typeof rebuildActions)[number]>(
      Type.String({
        enum: [...rebuildActions],
        default: 'rebuild',
        description:
          '`check` compares and leaves everything as it is; `back` has the tables from before the last rebuild answer again; `drop-previous` gives up the way back',
      }),
    ),
  ),
  sharePercent: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 100,
      default: 50,
      description: 'of the time it works; the rest is left to those who read and write',
    }),
  ),
});
export type RebuildBody = Static<typeof RebuildBody>;

export const JobParams = Closed({ id: AddressedIdSchema });
export type JobParams = Static<typeof JobParams>;

export const JobView = Closed({
  id: Type.String(),
  kind: Type.String(),
  subject: Type.String(),
  state: OneOf('running', 'done', 'failed', 'interrupted'),
  startedBy: Type.String(),
  startedAt: TimeSchema,
  phase: Type.Optional(Type.String()),
  progress: Type.Number({ minimum: 0, maximum: 1 }),
  done: Type.Integer({ minimum: 0 }),
  of: Type.Integer({ minimum: 0 }),
  rate: Type.Number({ minimum: 0, description: 'per second' }),
  secondsLeft: Type.Union([Type.Number({ minimum: 0 }), Type.Null()], { description: 'null: not known' }),
  outcome: Type.Optional(Type.Object({}, { description: 'what came of it' })),
  error: Type.Optional(Type.String({ description: 'why it failed' })),
});
export type JobView = Static<typeof JobView>;

const InLog = {
  position: Type.Integer({ minimum: 0, description: 'what the read model includes' }),
  head: Type.Integer({ minimum: 0, description: 'what there is' }),
  lag: Type.Integer({ minimum: 0, description: 'events between the two' }),
};
export const ProjectionList = Closed({
  items: Type.Array(
    Closed({
      name: Type.String(),
      version: Type.Integer({ minimum: 1, description: 'of the code that has made its rows' }),
      mode: OneOf('live', 'catching-up', 'rebuilding', 'paused', 'waiting'),
      ...InLog,
      sources: Type.Array(Closed({ source: Type.String(), ...InLog })),
      previous: Type.Union([Closed({ version: Type.Integer(), since: TimeSchema }), Type.Null()], {
        description: 'the tables from before the last rebuild, to which there is a way back',
      }),
      job: Type.Optional(Type.String({ description: 'of the rebuild under way' })),
    }),
  ),
});
export type ProjectionList = Static<typeof ProjectionList>;

const topologyStatuses = ['up', 'failing', 'paused', 'elsewhere'] as const;
export const TopologyView = Closed({
  nodes: Type.Array(
    Closed({
      id: Type.String(),
      kind: OneOf('gateway', 'command-service', 'query-service', 'payment-provider'),
      name: Type.String(),
      status: Type.Unsafe<(typeof topologyStatuses)[number]>(
        Type.String({
          enum: [...topologyStatuses],
          description: '`elsewhere`: not in this process, which does not know how it is',
        }),
      ),
      detail: Type.Optional(Type.String({ description: 'what is wrong' })),
      readModels: Type.Optional(Type.Array(Type.String())),
    }),
  ),
  edges: Type.Array(
    Closed({
      from: Type.String(),
      to: Type.String(),
      kind: OneOf('events', 'requests', 'calls'),
      name: Type.String({ description: 'of events: the consumer' }),
      ratePerSecond: Type.Number({ minimum: 0, description: 'over the last 10 s' }),
      lagEvents: Type.Integer({ minimum: 0, description: 'not applied yet; of requests and calls: not answered yet' }),
      lagSeconds: Type.Union([Type.Number({ minimum: 0 }), Type.Null()], {
        description: 'how long the oldest of those has been waiting; null: its log cannot be asked',
      }),
      parked: Type.Optional(Type.Integer({ minimum: 0, description: 'messages parked, for an operator' })),
      paused: Type.Optional(Type.String({ description: 'why it takes no events' })),
      freshness: Type.Optional(
        Type.Union([Closed({ events: Type.Integer(), p50Ms: Type.Number(), p99Ms: Type.Number() }), Type.Null()], {
          description: 'from being recorded to being shown, of the events of the last minute; null: there were none',
        }),
      ),
    }),
  ),
});
export type TopologyView = Static<typeof TopologyView>;

/** RFC 9457; further members say more about some problems. */
export const ProblemBody = Type.Object({
  type: Type.String(),
  title: Type.String(),
  status: Type.Integer(),
  detail: Type.String(),
  instance: Type.String(),
  code: Type.String(),
  traceId: Type.String(),
  errors: Type.Optional(Type.Array(Closed({ pointer: Type.String(), detail: Type.String() }))),
});
