/** What clients ask of catalog. */
import { ProductVersion, PutProductBody, SkuParams } from '#contracts/http.ts';
import type { CommandRequest, CommandRoute } from '#contracts/routes.ts';
import type { Sku } from '#contracts/values.ts';
import type { CommandBus } from '#cqrs/command-bus.ts';
import { type ClientAnswer, executeForClient, staleVersion } from '#cqrs/command-request.ts';
import type { Positions } from '#cqrs/consistency-token.ts';
import { product } from './product.ts';
import { productStream } from './streams.ts';

export type CatalogRoutesOptions = {
  readonly bus: CommandBus;
  readonly source: string;
  caughtUp(positions: Positions, waitMs: number): Promise<boolean>;
};

export function catalogRoutes(options: CatalogRoutesOptions): CommandRoute[] {
  return [
    {
      method: 'PUT',
      url: '/v1/products/:sku',
      summary: 'Add or change a product',
      tag: 'products',
      audience: 'operator',
      params: SkuParams,
      body: PutProductBody,
      answers: { 200: ProductVersion, 201: ProductVersion },
      caughtUp: options.caughtUp,
      handle: (request) => putProduct(options, request),
    },
  ];
}

function putProduct(
  { bus, source }: CatalogRoutesOptions,
  { params: { sku }, body, origin, idempotency, ifMatch }: CommandRequest<{ sku: Sku }, PutProductBody>,
): Promise<ClientAnswer> {
  return executeForClient({
    bus,
    source,
    origin,
    idempotency,
    reads: [{ type: productStream, id: sku }],
    run(scope) {
      const before = scope.version(productStream, sku);
      const stale = staleVersion(ifMatch, before);
      if (stale !== null) return stale;
      const decision = product.decide({ type: 'PutProduct', sku, ...body }, scope.state(productStream, sku));
      if ('refused' in decision) return decision;
      for (const event of decision.accepted) scope.record(productStream, sku, event);
      const version = scope.version(productStream, sku);
      return { answer: { status: before === 0 ? 201 : 200, body: { sku, version }, version } };
    },
  });
}
