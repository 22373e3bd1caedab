/** Something to try things on: put in by the same routes that clients use, on the very first start. */
import type { CommandRequest, CommandRoute, Route } from '#contracts/routes.ts';
import type { Consumer } from '#cqrs/consumer.ts';
import { mergePositions, type Positions } from '#cqrs/consistency-token.ts';
import { systemPorts } from '#platform/ports.ts';

const products = [
  { sku: 'TEA-EARL-GREY', name: 'Earl Grey, 100 g', amount: 690, quantity: 500 },
  { sku: 'TEA-ASSAM', name: 'Assam, 100 g', amount: 590, quantity: 500 },
  { sku: 'TEA-SENCHA', name: 'Sencha, 100 g', amount: 890, quantity: 200 },
  { sku: 'POT-CLAY', name: 'Clay teapot, 0.8 l', amount: 4_500, quantity: 40 },
  { sku: 'POT-GLASS', name: 'Glass teapot, 1 l', amount: 3_200, quantity: 60 },
  { sku: 'CUP-WHITE', name: 'White cup', amount: 950, quantity: 300 },
  { sku: 'CUP-BLUE', name: 'Blue cup', amount: 1_050, quantity: 300 },
  { sku: 'TIN-SMALL', name: 'Tea tin, small', amount: 450, quantity: 1_000 },
  { sku: 'SIEVE', name: 'Steel sieve', amount: 790, quantity: 150 },
  { sku: 'KETTLE', name: 'Kettle, 1.7 l', amount: 5_900, quantity: 1 },
] as const;

const customers = [
  { customerId: 'ada', name: 'Ada Byron', email: 'ada@example.org', country: 'United Kingdom' },
  { customerId: 'emmy', name: 'Emmy Noether', email: 'emmy@example.org', country: 'Germany' },
  { customerId: 'grace', name: 'Grace Hopper', email: 'grace@example.org', country: 'United States' },
] as const;

const visibleWithinMs = 5_000;

/** Resolves once everything can be read. */
export async function seedDemoData(routes: readonly Route[], readSide: readonly Consumer[]): Promise<void> {
  const command = async (method: string, url: string, params: object, body: object): Promise<Positions> => {
    const route = routes.find((one): one is CommandRoute => one.method === method && one.url === url);
    if (route === undefined) throw new Error(`demo data needs ${method} ${url}, which this process does not carry`);
    const id = systemPorts.newId();
    const request: CommandRequest = {
      params: params as Record<string, string>,
      body,
      caller: { role: 'operator' },
      ifMatch: null,
      // A first start that was cut off begins again, and doubles nothing.
      idempotency: {
        caller: 'demo-data',
        key: JSON.stringify([method, url, params]),
        fingerprint: JSON.stringify(body),
      },
      origin: { actor: 'demo-data', correlationId: id, causationId: id },
    };
    const answer = await route.handle(request as never);
    if ('refused' in answer) throw new Error(`demo data was refused: ${answer.refused.detail}`);
    return answer.positions;
  };

  const put = await Promise.all([
    ...products.map(({ sku, name, amount }) =>
      command('PUT', '/v1/products/:sku', { sku }, { name, price: { amount, currency: 'EUR' } }),
    ),
    ...customers.map(({ customerId, ...body }) => command('PUT', '/v1/customers/:customerId', { customerId }, body)),
  ]);
  const stocked = await Promise.all(
    products.map(({ sku, quantity }) =>
      command('POST', '/v1/products/:sku/stock-adjustments', { sku }, { quantity, reason: 'first delivery' }),
    ),
  );
  const positions = [...put, ...stocked].reduce(mergePositions, {});
  await Promise.all(
    readSide.map((consumer) => consumer.progress.reach(positions[consumer.source] ?? 0, visibleWithinMs)),
  );
}
