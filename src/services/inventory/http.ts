/** What clients ask of inventory. */
import { AdjustStockBody, SkuParams, StockLevel } from '#contracts/http.ts';
import type { CommandRequest, CommandRoute } from '#contracts/routes.ts';
import type { Sku } from '#contracts/values.ts';
import type { CommandBus } from '#cqrs/command-bus.ts';
import { type ClientAnswer, executeForClient, staleVersion } from '#cqrs/command-request.ts';
import type { Positions } from '#cqrs/consistency-token.ts';
import type { Refusal } from '#cqrs/decider.ts';
import { stock } from './stock.ts';
import { listingStream, stockStream } from './streams.ts';

export type InventoryRoutesOptions = {
  readonly bus: CommandBus;
  readonly source: string;
  caughtUp(positions: Positions, waitMs: number): Promise<boolean>;
  /** Waits a moment for all that the catalogue has said by now. */
  hearCatalog(): Promise<boolean>;
  /** The dead letter that keeps what the catalogue has said of `sku`, as of `positions` or of now, from inventory; or null. */
  catalogDeadLetter(sku: Sku, positions?: Positions): string | null;
};

export function inventoryRoutes(options: InventoryRoutesOptions): CommandRoute[] {
  return [
    {
      method: 'POST',
      url: '/v1/products/:sku/stock-adjustments',
      summary: 'Receive or write off pieces of a product',
      tag: 'products',
      audience: 'operator',
      params: SkuParams,
      body: AdjustStockBody,
      answers: { 201: StockLevel },
      ifMatchPart: 2,
      caughtUp: options.caughtUp,
      heldBack: ({ params }: CommandRequest<{ sku: Sku }>, positions) =>
        options.catalogDeadLetter(params.sku, positions),
      handle: (request) => adjustStock(options, request),
    },
  ];
}

async function adjustStock(
  options: InventoryRoutesOptions,
  request: CommandRequest<{ sku: Sku }, AdjustStockBody>,
): Promise<ClientAnswer> {
  const first = await tryToAdjust(options, request, false);
  if ('kept' in first || first.isKept || !namesSomethingUnknown(first.refused)) return first;
  // The catalogue may have listed it a moment ago: listen to all it has said by now, then answer for good.
  const isCaughtUp = await options.hearCatalog();
  const deadLetter = options.catalogDeadLetter(request.params.sku);
  const hasHeard = isCaughtUp && deadLetter === null;
  const second = await tryToAdjust(options, request, hasHeard);
  if ('kept' in second || second.isKept || !namesSomethingUnknown(second.refused)) return second;
  const detail =
    deadLetter === null
      ? 'Inventory has not heard yet of all that the catalogue has: the product may be there. Ask again.'
      : `Inventory could not apply yet what the catalogue says of the product: dead letter ${deadLetter} waits for an operator.`;
  const traceId = request.origin.correlationId;
  return { refused: { code: 'read-model-behind', detail }, isKept: false, replayed: false, traceId };
}

const namesSomethingUnknown = (refusal: Refusal): boolean => refusal.code === 'product-not-found';

function tryToAdjust(
  { bus, source }: InventoryRoutesOptions,
  { params: { sku }, body, origin, idempotency, ifMatch }: CommandRequest<{ sku: Sku }, AdjustStockBody>,
  forGood: boolean,
): Promise<ClientAnswer> {
  return executeForClient({
    bus,
    source,
    origin,
    idempotency,
    reads: [
      { type: listingStream, id: sku },
      { type: stockStream, id: sku },
    ],
    keeps: (refusal) => refusal.code !== 'version-mismatch' && (forGood || !namesSomethingUnknown(refusal)),
    run(scope) {
      const { listed } = scope.state(listingStream, sku);
      // `*` is about the product.
      const isChecked = listed && ifMatch !== 'any';
      const stale = isChecked ? staleVersion(ifMatch, scope.version(stockStream, sku)) : null;
      if (stale !== null) return stale;
      const decision = stock.decide({ type: 'AdjustStock', sku, ...body, listed }, scope.state(stockStream, sku));
      if ('refused' in decision) return decision;
      for (const event of decision.accepted) scope.record(stockStream, sku, event);
      const { onHand, reserved } = scope.state(stockStream, sku);
      const version = scope.version(stockStream, sku);
      return {
        answer: { status: 201, body: { sku, onHand, reserved, available: onHand - reserved, version }, version },
      };
    },
  });
}
