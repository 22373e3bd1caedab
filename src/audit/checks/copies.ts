/**
 * What other services have copied of the catalogue. Ordering's copy is read with how far ordering has come in the
 * catalogue's log, and compared with what that said up to there: exact whatever is changed meanwhile.
 */
import { entityOf } from '#cqrs/event-log.ts';
import { orderingCorrections } from '#services/ordering/service.ts';
import type { Check, Finding, Walk } from '../check.ts';
import { originOf } from '../corrections.ts';
import { inSnapshot, passedBy, readFacts, type WalkParts } from '../evidence.ts';
import { idIn, noLongerWrong } from '../repairs.ts';
import { byCatalogue } from './by-catalogue.ts';

const copyCheck: Check = {
  name: 'copy-is-catalogue',
  invariants: ['I3'],
  compares:
    'What ordering offers is what the catalogue said last of the product, as far as ordering has heard; inventory knows each product.',
  cost: 'The last event of a product is read in two databases: some 20 µs.',
  policy: 'ask',
};

type Offered = { readonly name: string; readonly price: { readonly amount: number; readonly currency: string } };

/** What the catalogue says of a product, as ordering would offer it; undefined: it does not have it. */
async function cataloguedOf(
  parts: WalkParts,
  skus: readonly string[],
  upTo: number,
): Promise<ReadonlyMap<string, Offered>> {
  const events = await readFacts(
    parts.databases.catalog,
    'catalog',
    'stream = any($1) and position <= $2 order by position',
    [skus.map((sku) => `product-${sku}`), upTo],
  );
  // The last one of each stays.
  return new Map(events.map(({ stream, data }) => [entityOf(stream), offeredOf(data)]));
}

function offeredOf(data: object): Offered {
  const { name, price } = data as Offered;
  return { name, price: { amount: price.amount, currency: price.currency } };
}

export function copiesWalk(parts: WalkParts): Walk {
  const { databases, sourceOf } = parts;

  async function lookAtProducts(skus: readonly string[]): Promise<Finding[]> {
    const [ordering, inventory] = await Promise.all([
      inSnapshot(databases.ordering, async (sql) => ({
        passed: await passedBy(sql, 'ordering-of-catalog'),
        offers: await readFacts(sql, 'ordering', 'stream = any($1) order by stream, version', [
          skus.map((sku) => `offer-${sku}`),
        ]),
      })),
      inSnapshot(databases.inventory, async (sql) => ({
        passed: await passedBy(sql, 'inventory-of-catalog'),
        listings: await sql.query<{ stream: string }>(
          'audit listings',
          'select distinct stream from events where stream = any($1)',
          [skus.map((sku) => `listing-${sku}`)],
        ),
      })),
    ]);
    const [offered, listed] = await Promise.all([
      cataloguedOf(parts, skus, ordering.passed.position),
      cataloguedOf(parts, skus, inventory.passed.position),
    ]);
    const copies = new Map(ordering.offers.map(({ stream, data }) => [entityOf(stream), offeredOf(data)]));
    const listings = new Set(inventory.listings.map(({ stream }) => entityOf(stream)));
    return skus.flatMap((sku): Finding[] => {
      const [expected, found] = [offered.get(sku) ?? null, copies.get(sku) ?? null];
      const isSame = JSON.stringify(expected) === JSON.stringify(found);
      const isUnheard = listed.has(sku) && !listings.has(sku) && !inventory.passed.parked.has(`product-${sku}`);
      return [
        ...(isSame || ordering.passed.parked.has(`product-${sku}`)
          ? []
          : [
              {
                check: copyCheck.name,
                entity: `${sourceOf('ordering')}/offer-${sku}`,
                says: `Ordering offers ${sku} as something else than the catalogue.`,
                expected,
                found,
                repairs: expected === null ? [] : (['last-write-wins'] as const),
              },
            ]),
        ...(isUnheard
          ? [
              {
                check: copyCheck.name,
                entity: `${sourceOf('inventory')}/listing-${sku}`,
                says: `Inventory has passed ${sku} of the catalogue, and does not know it.`,
                expected: 'listed',
                found: null,
                repairs: [],
              },
            ]
          : []),
      ];
    });
  }

  return {
    name: 'copies',
    checks: [copyCheck],

    ...byCatalogue({
      catalog: databases.catalog,
      others: { database: databases.ordering, table: 'products' },
      lookAtProducts: async (skus) => ({ findings: await lookAtProducts(skus) }),
    }),

    lookAt: (entity) => lookAtProducts([idIn(entity)]),

    ...(parts.corrections === undefined
      ? {}
      : {
          /** What the catalogue says now wins. */
          async repair(finding, mandate) {
            const sku = idIn(finding.entity);
            const offered = (await cataloguedOf(parts, [sku], Number.MAX_SAFE_INTEGER)).get(sku);
            if (offered === undefined) throw noLongerWrong(finding.entity);
            const { ordering } = parts.corrections!.buses;
            return orderingCorrections(ordering).offerProduct(sku, offered, originOf(finding, mandate));
          },
        }),
  };
}
