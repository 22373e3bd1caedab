/**
 * What waits as dead letters is missing from the rows, however far these have come. An answer that might
 * show some of it is not passed off as what a consistency token asks for; one that provably does not, is.
 */
import type { ParkedStream } from '#cqrs/consumer.ts';
import { entityOf } from '#cqrs/event-log.ts';
import type { Database } from '#platform/postgres.ts';
import { soughtSku, tsqueryOf } from './search-words.ts';

/** What an answer is made of. */
export type Shows = {
  /** These streams, by name, */
  readonly streams?: readonly string[];
  /** and any of these types, such as `order`, */
  readonly types?: readonly string[];
  /** of which it does not show those that belong elsewhere. */
  readonly elsewhere?: Elsewhere;
};

/** Of these orders' ids, those that certainly belong elsewhere: what is not known of an order is not certain. */
type Elsewhere = (orderIds: readonly string[]) => Promise<ReadonlySet<string>>;

/** Of more parked streams than this it is not asked where they belong: the answer is held back. */
const askedMax = 1_000;

/** The dead letter of the first among `parked` that the answer may show, or null. */
export async function firstShown(
  parked: readonly ParkedStream[],
  { streams = [], types = [], elsewhere }: Shows,
): Promise<string | null> {
  const named = parked.find(({ stream }) => streams.includes(stream));
  if (named !== undefined) return named.deadLetter;
  const ofType = parked.filter(({ stream }) => types.includes(stream.slice(0, stream.indexOf('-'))));
  if (ofType.length === 0 || elsewhere === undefined || ofType.length > askedMax) return ofType[0]?.deadLetter ?? null;
  const others = await elsewhere(ofType.map(({ stream }) => entityOf(stream)));
  return ofType.find(({ stream }) => !others.has(entityOf(stream)))?.deadLetter ?? null;
}

/** By the row of each, which has named the customer since the order was placed. */
export const ordersOfOthers = (database: Database, customerId: string): Elsewhere =>
  orderIdsFrom(database, 'orders of others', 'from orders where order_id = any($1) and customer_id <> $2', customerId);

/** By what each order is found by, which is all of its SKUs. */
export const ordersWithout = (database: Database, sku: string): Elsewhere =>
  orderIdsFrom(
    database,
    'orders without a product',
    'from placed_orders where order_id = any($1) and not words @@ $2::tsquery',
    tsqueryOf([soughtSku(sku)]),
  );

const orderIdsFrom =
  (database: Database, name: string, from: string, value: string): Elsewhere =>
  async (orderIds) => {
    const rows = await database.query<{ order_id: string }>(name, `select order_id ${from}`, [orderIds, value]);
    return new Set(rows.map((row) => row.order_id));
  };
