/** What clients ask of ordering. */
import { createHash } from 'node:crypto';
import {
  CancelOrderBody,
  CustomerParams,
  CustomerVersion,
  OrderCancelledAnswer,
  OrderParams,
  OrderPlacedAnswer,
  PlaceOrderBody,
  PutCustomerBody,
} from '#contracts/http.ts';
import type { CommandRequest, CommandRoute } from '#contracts/routes.ts';
import type { CustomerId, OrderId, Sku } from '#contracts/values.ts';
import type { CommandBus, Scope } from '#cqrs/command-bus.ts';
import { type AnswerOrRefusal, type ClientAnswer, executeForClient, staleVersion } from '#cqrs/command-request.ts';
import type { Positions } from '#cqrs/consistency-token.ts';
import type { Refusal } from '#cqrs/decider.ts';
import { customer } from './customer.ts';
import { order } from './order.ts';
import { customerStream, offerStream, orderStream } from './streams.ts';

export type OrderingRoutesOptions = {
  readonly bus: CommandBus;
  readonly source: string;
  readonly orderDeadlineSeconds: number;
  newId(): OrderId;
  caughtUp(positions: Positions, waitMs: number): Promise<boolean>;
  /** Waits a moment for catalogue entries that are known to be on their way. */
  hearCatalog(thoroughly: boolean): Promise<boolean>;
  /** The dead letter that keeps what the catalogue has said of one of `skus`, as of `positions` or of now, from ordering; or null. */
  catalogDeadLetter(skus: readonly Sku[], positions?: Positions): string | null;
};

export function orderingRoutes(options: OrderingRoutesOptions): CommandRoute[] {
  const { caughtUp } = options;
  return [
    {
      method: 'PUT',
      url: '/v1/customers/:customerId',
      summary: 'Register or change a customer',
      tag: 'customers',
      audience: 'customer',
      params: CustomerParams,
      body: PutCustomerBody,
      answers: { 200: CustomerVersion, 201: CustomerVersion },
      caughtUp,
      handle: (request) => putCustomer(options, request),
    },
    {
      method: 'POST',
      url: '/v1/orders',
      summary: 'Place an order',
      tag: 'orders',
      audience: 'customer',
      body: PlaceOrderBody,
      answers: { 201: OrderPlacedAnswer },
      caughtUp,
      heldBack: ({ body }: CommandRequest<unknown, PlaceOrderBody>, positions) =>
        options.catalogDeadLetter(skusOf(body), positions),
      handle: (request) => placeOrder(options, request),
    },
    {
      method: 'POST',
      url: '/v1/orders/:orderId/cancel',
      summary: 'Cancel an order that is not final',
      tag: 'orders',
      audience: 'customer',
      params: OrderParams,
      body: CancelOrderBody,
      answers: { 200: OrderCancelledAnswer },
      caughtUp,
      handle: (request) => cancelOrder(options, request),
    },
  ];
}

const refusedAtOnce = (refused: Refusal, traceId: string): ClientAnswer => ({
  refused,
  isKept: false,
  replayed: false,
  traceId,
});

async function putCustomer(
  { bus, source }: OrderingRoutesOptions,
  request: CommandRequest<{ customerId: CustomerId }, PutCustomerBody>,
): Promise<ClientAnswer> {
  const { origin, idempotency, caller, ifMatch } = request;
  const { customerId } = request.params;
  if (caller.role === 'customer' && caller.customerId !== customerId) {
    return refusedAtOnce(
      { code: 'forbidden', detail: 'A customer can change only its own record.' },
      origin.correlationId,
    );
  }
  return executeForClient({
    bus,
    source,
    origin,
    idempotency,
    reads: [{ type: customerStream, id: customerId }],
    run(scope) {
      const before = scope.version(customerStream, customerId);
      const stale = staleVersion(ifMatch, before);
      if (stale !== null) return stale;
      const decision = customer.decide(
        { type: 'RegisterCustomer', customerId, ...request.body },
        scope.state(customerStream, customerId),
      );
      if ('refused' in decision) return decision;
      for (const event of decision.accepted) scope.record(customerStream, customerId, event);
      const version = scope.version(customerStream, customerId);
      return { answer: { status: before === 0 ? 201 : 200, body: { customerId, version }, version } };
    },
  });
}

async function placeOrder(
  options: OrderingRoutesOptions,
  request: CommandRequest<unknown, PlaceOrderBody>,
): Promise<ClientAnswer> {
  const { origin, caller, body } = request;
  const privileged = body.placedAt !== undefined || body.lines.some((line) => line.unitPrice !== undefined);
  if (caller.role === 'customer') {
    const refusal = (detail: string) => refusedAtOnce({ code: 'forbidden', detail }, origin.correlationId);
    if (caller.customerId !== body.customerId) return refusal('A customer can order only for itself.');
    if (privileged) return refusal('Only operators may set placedAt and unitPrice.');
  }
  const orderId = body.orderId ?? options.newId();
  await options.hearCatalog(false);
  const first = await tryToPlace(options, request, orderId, false);
  if ('kept' in first || first.isKept || !namesSomethingUnknown(first.refused)) return first;
  // The catalogue may have said so a moment ago: listen to all it has said by now, then answer for good.
  const isCaughtUp = await options.hearCatalog(true);
  const deadLetter = options.catalogDeadLetter(skusOf(body));
  const hasHeard = isCaughtUp && deadLetter === null;
  const second = await tryToPlace(options, request, orderId, hasHeard);
  if ('kept' in second || second.isKept || !namesSomethingUnknown(second.refused)) return second;
  const detail =
    deadLetter === null
      ? 'Ordering has not heard yet of all that the catalogue has: a product that is named may be there. Ask again.'
      : `Ordering could not apply yet what the catalogue says of a product: dead letter ${deadLetter} waits for an operator.`;
  return refusedAtOnce({ code: 'read-model-behind', detail }, origin.correlationId);
}

const skusOf = ({ lines }: PlaceOrderBody): Sku[] => [...new Set(lines.map((line) => line.sku))];

const namesSomethingUnknown = (refusal: Refusal): boolean => refusal.code === 'unknown-product';

function tryToPlace(
  { bus, source, orderDeadlineSeconds }: OrderingRoutesOptions,
  request: CommandRequest<unknown, PlaceOrderBody>,
  orderId: OrderId,
  forGood: boolean,
): Promise<ClientAnswer> {
  const { body, origin, idempotency, ifMatch } = request;
  return executeForClient({
    bus,
    source,
    origin,
    idempotency,
    reads: [
      { type: orderStream, id: orderId, likelyNew: true },
      { type: customerStream, id: body.customerId },
      ...skusOf(body).map((sku) => ({ type: offerStream, id: sku })),
    ],
    keeps: (refusal) => refusal.code !== 'version-mismatch' && (forGood || !namesSomethingUnknown(refusal)),
    run(scope) {
      // `*` is about the list of orders, which is there.
      const stale = ifMatch === 'any' ? null : staleVersion(ifMatch, scope.version(orderStream, orderId));
      if (stale !== null) return stale;
      const buyer = scope.state(customerStream, body.customerId);
      const decision = order.decide(
        {
          type: 'PlaceOrder',
          orderId,
          customerId: body.customerId,
          customer: buyer.status === 'none' ? null : buyer,
          lines: body.lines.map((line) => {
            const offered = scope.state(offerStream, line.sku);
            return { ...line, offer: offered.status === 'none' ? null : offered };
          }),
          payment: body.payment,
          placedAt: body.placedAt === undefined ? scope.now : new Date(body.placedAt).toISOString(),
          deadline: new Date(Date.parse(scope.now) + orderDeadlineSeconds * 1_000).toISOString(),
          contentHash: contentHash(body),
        },
        scope.state(orderStream, orderId),
      );
      if ('refused' in decision) return decision;
      for (const event of decision.accepted) scope.record(orderStream, orderId, event);
      return placedAnswer(scope, orderId);
    },
  });
}

/** What the order was when it was placed: the same answer also when it is sent again later. */
function placedAnswer(scope: Scope, orderId: OrderId): AnswerOrRefusal {
  const placed = scope.state(orderStream, orderId);
  if (placed.status === 'none') throw new Error(`order ${orderId} was accepted and is not there`);
  const body: OrderPlacedAnswer = { orderId, status: 'pending', total: placed.total, version: 1 };
  return { answer: { status: 201, body, version: 1, location: `/v1/orders/${orderId}` } };
}

/** Of what the client asked for; the id and what the catalogue says are no part of it. */
function contentHash({ customerId, lines, payment, placedAt }: PlaceOrderBody): string {
  const content = [
    customerId,
    payment.method,
    placedAt === undefined ? null : new Date(placedAt).toISOString(),
    lines.map((line) => [line.sku, line.quantity, line.unitPrice?.amount ?? null, line.unitPrice?.currency ?? null]),
  ];
  return createHash('sha256').update(JSON.stringify(content)).digest('base64url');
}

async function cancelOrder(
  { bus, source }: OrderingRoutesOptions,
  request: CommandRequest<{ orderId: OrderId }, CancelOrderBody>,
): Promise<ClientAnswer> {
  const { origin, idempotency, caller, ifMatch } = request;
  const { orderId } = request.params;
  return executeForClient({
    bus,
    source,
    origin,
    idempotency,
    reads: [{ type: orderStream, id: orderId }],
    run(scope) {
      const state = scope.state(orderStream, orderId);
      const foreign = state.status === 'none' || (caller.role === 'customer' && state.customerId !== caller.customerId);
      if (foreign) return { refused: { code: 'order-not-found', detail: `There is no order ${orderId}.` } };
      const stale = staleVersion(ifMatch, scope.version(orderStream, orderId));
      if (stale !== null) return stale;
      const decision = order.decide({ type: 'CancelOrder', ...request.body }, state);
      if ('refused' in decision) return decision;
      for (const event of decision.accepted) scope.record(orderStream, orderId, event);
      const version = scope.version(orderStream, orderId);
      return { answer: { status: 200, body: { orderId, status: 'cancelled', version }, version } };
    },
  });
}
