/** Orders as they were: folded from their events by the same rules as the order that is shown now. */
import type { OrderQuery } from '#contracts/http.ts';
import type { QueryAnswer } from '#contracts/routes.ts';
import type { Refusal } from '#cqrs/decider.ts';
import type { Database } from '#platform/postgres.ts';
import { bodyOf, evolve, type OrderEventRecord, type OrderRow } from './order-view.ts';
import { invalidParameter } from './read-model.ts';
import type { Resource } from './resource-cache.ts';
import { rfc3339, utcTime } from './utc-time.ts';

/** An order has about five events of its own; one whose payment stays in doubt has more. */
const eventsFoldedMax = 1_000;

/**
 * The order in the version that is asked for, byte for byte as it was answered then; `now` with neither
 * parameter. As of a time it is the newest version whose `updatedAt` is not after it: the writer's clock
 * decides, also about orders that were placed under an earlier `placedAt`.
 */
export function orderThen(
  database: Database,
  orderId: string,
  now: Resource,
  { version, asOf }: OrderQuery,
): QueryAnswer | Promise<QueryAnswer> {
  if (version !== undefined && asOf !== undefined)
    return invalidParameter('asOf', 'cannot be asked for together with `version`');
  if (version !== undefined) return inVersion(database, orderId, now, version);
  if (asOf !== undefined) return atTime(database, orderId, now, utcTime(asOf));
  return now;
}

/** The order after each of its events, the first one first, as far as the history has them without a gap. */
export async function versionsOf(database: Database, orderId: string): Promise<OrderRow[]> {
  const events = await database.query<{ id: string; version: number; type: string; at: string; data: string }>(
    'read versions of an order',
    `select id, version, type, data, ${rfc3339('at')} as at
     from order_events where order_id = $1 and starts_with(id, 'ordering-') order by version limit $2`,
    [orderId, eventsFoldedMax],
  );
  const rows: OrderRow[] = [];
  for (const event of events) {
    const before = rows.at(-1);
    // Parked, and not in the history yet.
    if (event.version !== (before?.version ?? 0) + 1) break;
    rows.push(evolve(before, { ...event, data: JSON.parse(event.data) as object } as unknown as OrderEventRecord));
  }
  return rows;
}

async function inVersion(database: Database, orderId: string, now: Resource, version: number): Promise<QueryAnswer> {
  if (version === now.revision) return now;
  if (version > now.revision) return versionNotFound(now, `Order ${orderId} is in version ${now.revision}.`);
  const row = (await versionsOf(database, orderId))[version - 1];
  return row === undefined ? historyBehind(orderId) : answerOf(row);
}

async function atTime(database: Database, orderId: string, now: Resource, time: string): Promise<QueryAnswer> {
  const rows = await versionsOf(database, orderId);
  const [first] = rows;
  if (first === undefined || rows.length < now.revision) return historyBehind(orderId);
  // The newest by version, not by time: a clock that was set back makes no older version newer.
  const row = rows.findLast(({ updated_at: at }) => at <= time);
  return row === undefined
    ? versionNotFound(now, `Order ${orderId} was not there yet at ${time}: it is since ${first.updated_at}.`)
    : answerOf(row);
}

const answerOf = (row: OrderRow): QueryAnswer => ({ bytes: bodyOf(row), etag: String(row.version) });

const versionNotFound = (now: Resource, detail: string): { refused: Refusal } => ({
  refused: { code: 'version-not-found', detail, currentVersion: now.revision },
});

const historyBehind = (orderId: string): { refused: Refusal } => ({
  refused: { code: 'read-model-behind', detail: `The history of order ${orderId} is behind the order.` },
});
