/**
 * I10, of the rows that belong to one order: each is what the projection makes of the order's events. Checkpoints
 * and rows are read in one snapshot, the events up to these checkpoints afterwards, which do not change any more: the
 * comparison is exact whatever is written meanwhile.
 */
import type { CommandServiceName } from '#contracts/service.ts';
import { entityOf, type RecordedEvent } from '#cqrs/event-log.ts';
import { type MemoryReadStore, memoryReadStore } from '#cqrs/memory-read-store.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { ReadTable, Row, Rows } from '#cqrs/read-store.ts';
import { readRows, readText } from '#cqrs/table-rows.ts';
import type { Sql } from '#platform/postgres.ts';
import type { Check, Finding, Looked, Piece, Walk } from '../check.ts';
import { readEvents, typeOf, type WalkParts } from '../evidence.ts';
import { plainRows } from '../plain-rows.ts';
import { rowRepair } from '../repairs.ts';
import { differingRows, type RowDifference } from '../rows.ts';
import { inTurns, isOther, lookIn, readShown, type Seen, type Shown } from './shown.ts';

const readRowCheck: Check = {
  name: 'read-row-is-projection',
  invariants: ['I10'],
  compares:
    'Each row of a read model that belongs to one order is what the projection makes of the events of the order.',
  cost: 'The rows and the events of the order are read once, and the events are folded: some 150 µs.',
  policy: 'automatic',
};

/** The type of the one stream that a service keeps of an order. By name PostgreSQL finds them for half of a join's work. */
const streamOfOrder: Readonly<Partial<Record<CommandServiceName, string>>> = {
  ordering: 'order',
  inventory: 'reservation',
  payments: 'payment',
};
const divergencesOfOrders = `select 'divergence-' || id from divergences where order_id = any($1)`;
const ordersPerSnapshotMax = 500;
/** Names of rows only. */
const namesPerPieceMax = 5_000;

export type OrderRows = ReturnType<typeof orderRows>;

/** `projections` are all those of the read database. */
export function orderRows(parts: WalkParts, projections: readonly Projection[]) {
  const { databases, sourceOf } = parts;
  const folding = projections.filter(({ tables }) => tables.every(({ key }) => key[0] === 'order_id'));
  const tables = folding.flatMap((projection) => projection.tables);
  const services = [...new Set(folding.flatMap((projection) => projection.services))] as CommandServiceName[];

  /**
   * Of these orders: what `read` reads of their rows in each table, as `sql` shows them, and the events that these are made of.
   * Tables of another version are left out.
   */
  async function readWith<T>(
    sql: Sql,
    orderIds: readonly string[],
    read: (sql: Sql, table: ReadTable, where: string, values: readonly unknown[]) => Promise<T>,
  ): Promise<Evidence & { readonly found: readonly (readonly [ReadTable, T])[] }> {
    const shown = await readShown(sql);
    const looked = folding
      .filter((projection) => !isOther(shown, projection))
      .flatMap((projection) => projection.tables);
    const [found, events] = await Promise.all([
      Promise.all(
        looked.map(async (table) => [table, await read(sql, table, 'order_id = any($1)', [orderIds])] as const),
      ),
      Promise.all(services.map(async (service) => [service, await eventsOf(service, shown, orderIds)] as const)),
    ]);
    return { shown, found, events: new Map(events) };
  }

  /** The rows as they are, and as they should be. */
  async function compare(sql: Sql, orderIds: readonly string[]): Promise<Compared> {
    const { shown, found, events } = await readWith(sql, orderIds, readRows);
    const { store, leftOut } = await projected(shown, events, orderIds);
    return {
      shown,
      leftOut,
      rows: found.map(([table, rows]) => ({
        table,
        expected: store.rowsOf(table),
        found: rows.filter((row) => !leftOut.has(row['order_id'] as string)),
      })),
    };
  }

  /** Nearly always: then nobody needs to know what the rows are and should be. */
  async function soundness(sql: Sql, orderIds: readonly string[]): Promise<{ shown: Shown; isSound: boolean }> {
    const { shown, found, events } = await readWith(sql, orderIds, readText);
    const plain = plainRows();
    try {
      await fold(plain.rows, shown, events);
    } catch {
      return { shown, isSound: false };
    }
    return { shown, isSound: found.every(([table, text]) => plain.isSame(table, text)) };
  }

  async function eventsOf(
    service: CommandServiceName,
    { checkpoints, passed }: Shown,
    orderIds: readonly string[],
  ): Promise<RecordedEvent[]> {
    const source = sourceOf(service);
    const reached = folding.map(({ name }) => checkpoints.get(`${name}-of-${source}`) ?? 0);
    const type = streamOfOrder[service];
    const events = await readEvents(
      databases[service],
      parts,
      service,
      `stream ${type === undefined ? `in (${divergencesOfOrders})` : '= any($1)'} and position <= $2 order by position`,
      [type === undefined ? orderIds : orderIds.map((id) => `${type}-${id}`), Math.max(...reached)],
    );
    const skipped = passed.get(source);
    return skipped === undefined ? events : events.filter(({ position }) => !skipped.has(position));
  }

  async function projected(
    shown: Shown,
    events: ReadonlyMap<CommandServiceName, readonly RecordedEvent[]>,
    orderIds: readonly string[],
  ): Promise<{ store: MemoryReadStore; leftOut: ReadonlySet<string> }> {
    const store = memoryReadStore();
    const leftOut = new Set<string>();
    try {
      await store.apply([], (rows) => fold(rows, shown, events));
      return { store, leftOut };
    } catch {
      if (orderIds.length > 1) return oneByOne(shown, events, orderIds);
      // Its log is damaged: that is found there, and what its rows should be nobody can tell.
      leftOut.add(orderIds[0]!);
      return { store: memoryReadStore(), leftOut };
    }
  }

  async function oneByOne(
    shown: Shown,
    events: ReadonlyMap<CommandServiceName, readonly RecordedEvent[]>,
    orderIds: readonly string[],
  ): Promise<{ store: MemoryReadStore; leftOut: ReadonlySet<string> }> {
    const store = memoryReadStore();
    const leftOut = new Set<string>();
    const byOrder = [...events].map(([service, all]) => [service, Map.groupBy(all, orderOf)] as const);
    for (const orderId of orderIds) {
      const own = new Map(byOrder.map(([service, orders]) => [service, orders.get(orderId) ?? []]));
      await store.apply([], (rows) => fold(rows, shown, own)).catch(() => leftOut.add(orderId));
    }
    return { store, leftOut };
  }

  async function fold(
    rows: Rows,
    { checkpoints }: Shown,
    events: ReadonlyMap<CommandServiceName, readonly RecordedEvent[]>,
  ): Promise<void> {
    for (const projection of folding) {
      for (const service of projection.services as CommandServiceName[]) {
        const upTo = checkpoints.get(`${projection.name}-of-${sourceOf(service)}`) ?? 0;
        const all = events.get(service)!;
        const odd = all.find(({ unreadable }) => unreadable !== undefined);
        if (odd !== undefined) throw new Error(`${odd.id} cannot be read`);
        const own = (all.at(-1)?.position ?? 0) <= upTo ? all : all.filter(({ position }) => position <= upTo);
        if (own.length > 0) await projection.apply(service, own, rows);
      }
    }
  }

  /** What is not as it should be. */
  async function differences(sql: Sql, orderIds: readonly string[]): Promise<Seen> {
    const { shown, isSound } = await soundness(sql, orderIds);
    if (isSound) return { shown, findings: [] };
    const { rows } = await compare(sql, orderIds);
    const findings = rows.flatMap(({ table, expected, found }) =>
      differingRows(table, expected, found).map((one) => findingOf(table, one, one.key[0])),
    );
    return { shown, findings };
  }

  return { folding, tables, compare, differences };
}

/** What was read of some orders; beside it what was found, by table. */
type Evidence = {
  readonly shown: Shown;
  readonly events: ReadonlyMap<CommandServiceName, readonly RecordedEvent[]>;
};

type Compared = {
  readonly shown: Shown;
  readonly leftOut: ReadonlySet<string>;
  readonly rows: readonly {
    readonly table: ReadTable;
    readonly expected: readonly Row[];
    readonly found: readonly Row[];
  }[];
};

/** What diverges names its order, if it is about one. */
const orderOf = ({ stream, data }: RecordedEvent): string =>
  typeOf(stream) === 'divergence' ? (data as { readonly orderId: string }).orderId : entityOf(stream);

export const findingOf = (table: ReadTable, { key, expected, found }: RowDifference, orderId?: string): Finding => ({
  check: readRowCheck.name,
  entity: `queries/${table.name}/${key.join('/')}`,
  ...(orderId === undefined ? {} : { orderId }),
  says:
    expected === null
      ? `${table.name} has a row that no event accounts for.`
      : found === null
        ? `A row is missing in ${table.name}.`
        : `A row of ${table.name} is not what its events come to.`,
  expected,
  found,
  repairs: ['re-project'],
});

/**
 * Goes over the orders of ordering's log and then over the rows that have no order there. After `cursor` what is
 * left of the first way comes before the second.
 */
export function readRowsWalk(parts: WalkParts, orders: OrderRows): Walk {
  const { databases } = parts;

  const lookAtOrders = async (orderIds: readonly string[]): Promise<Looked> =>
    orderIds.length === 0
      ? { findings: [] }
      : lookIn(databases.queries, orders.folding, (sql) => orders.differences(sql, orderIds));

  async function lookAtOrdering(after: string, max: number): Promise<Piece> {
    const rows = await databases.ordering.query<{ stream: string }>(
      'audit streams after',
      'select stream from streams where stream > $1 order by stream limit $2',
      [after, max],
    );
    const orderIds = rows.flatMap(({ stream }) => (typeOf(stream) === 'order' ? [entityOf(stream)] : []));
    const last = rows.length < max ? null : rows.at(-1)!.stream;
    const next = last === null ? cursorOf(0, '') : cursorOf(-1, last);
    return { looked: rows.length, ...(await lookAtOrders(orderIds)), next };
  }

  /** Rows of the n-th table whose order is not in the log. */
  async function lookAtRows(n: number, after: string): Promise<Piece> {
    const table = orders.tables[n]!;
    const rows = await databases.queries.query<{ id: string }>(
      `audit orders of ${table.name}`,
      `select distinct order_id as id from (
         select order_id from ${table.name} where order_id > $1 order by order_id limit $2) t order by 1`,
      [after, namesPerPieceMax],
    );
    const ids = rows.map(({ id }) => id);
    const unknown = await databases.ordering.query<{ id: string }>(
      'audit orders that are not there',
      `select id from unnest($1::text[]) as n (id) where not exists (select from streams where stream = 'order-' || id)`,
      [ids],
    );
    const { findings, ...rest } = await inTurns(
      unknown.map(({ id }) => id),
      ordersPerSnapshotMax,
      lookAtOrders,
    );
    const last = ids.at(-1);
    const next = last !== undefined ? cursorOf(n, last) : n + 1 < orders.tables.length ? cursorOf(n + 1, '') : null;
    return {
      ...rest,
      looked: 0,
      findings: findings.filter(({ entity }) => entity.startsWith(`queries/${table.name}/`)),
      next,
    };
  }

  return {
    name: 'read-rows',
    checks: [readRowCheck],

    async size() {
      const [row] = await databases.ordering.query<{ size: number }>(
        'audit size of streams',
        `select greatest(reltuples, 0)::bigint as size from pg_class where oid = 'streams'::regclass`,
      );
      return row?.size ?? 0;
    },

    look(after, entitiesMax) {
      const { way, place } = after === null ? { way: -1, place: '' } : placeOf(after);
      return way < 0 ? lookAtOrdering(place, Math.min(entitiesMax, ordersPerSnapshotMax)) : lookAtRows(way, place);
    },

    async lookAt(entity) {
      return (await lookAtOrders([orderIn(entity)])).findings;
    },

    ...rowRepair(
      parts,
      orders.tables,
      async (sql, entity) => (await orders.differences(sql, [orderIn(entity)])).findings,
    ),

    async freshest(limit) {
      const rows = await databases.ordering.query<{ stream: string }>(
        'audit freshest',
        'select stream from events order by position desc limit $1',
        [limit],
      );
      const streams = new Set(rows.map(({ stream }) => stream).filter((stream) => typeOf(stream) === 'order'));
      return [...streams].map((stream) => `queries/orders/${entityOf(stream)}`);
    },
  };
}

/** `queries/<table>/<order>` and perhaps more. */
const orderIn = (entity: string): string => entity.split('/')[2] ?? '';

/** `way` -1: by ordering's streams; else by the rows of that table. */
const cursorOf = (way: number, place: string): string => JSON.stringify([way, place]);

function placeOf(cursor: string): { readonly way: number; readonly place: string } {
  const [way, place] = JSON.parse(cursor) as [number, string];
  return { way, place };
}
