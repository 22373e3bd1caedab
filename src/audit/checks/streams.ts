/**
 * I21: what a service stores beside its events is what they come to. Streams, events and tables are read in one
 * snapshot, in which they were written together: the comparison is exact whatever is written meanwhile.
 */
import type { Audited, CommandServiceName } from '#contracts/service.ts';
import type { AnyStreamType } from '#cqrs/command-bus.ts';
import { entityOf, eventId, slotOfStream } from '#cqrs/event-log.ts';
import type { Row } from '#cqrs/read-store.ts';
import { type InlineTable, readRows, utcTime } from '#cqrs/table-rows.ts';
import type { Sql } from '#platform/postgres.ts';
import { movedByOthers } from '#services/inventory/service.ts';
import type { Check, Finding, Piece, Walk } from '../check.ts';
import { auditedServices, type Fact, inSnapshot, readFacts, typeOf, type WalkParts } from '../evidence.ts';
import { stateRepair } from '../repairs.ts';
import { differingRows } from '../rows.ts';
import { oddStep } from './arrows.ts';
import { slotsCheck, versionFindings, versionsCheck } from './versions.ts';

const stateCheck: Check = {
  name: 'state-is-fold',
  invariants: ['I21'],
  compares:
    'The state that is stored of a stream is what its events come to, with their version, its slot and its timer.',
  cost: 'The events of the stream are read once and folded: some 50 µs.',
  policy: 'ask',
};
const inlineTableCheck: Check = {
  name: 'inline-table-is-fold',
  invariants: ['I21'],
  compares: 'The rows that a service keeps beside its log are what the events of their streams come to.',
  cost: 'The rows are read once; the events are at hand.',
  policy: 'ask',
};
const arrowCheck: Check = {
  name: 'status-steps',
  invariants: ['I15'],
  compares: 'Each event of an order, a reservation or a payment may come after the one before.',
  cost: 'The events are at hand.',
  policy: 'ask',
};

/** The audit records what it finds as the others record what happens. */
const services = [...auditedServices, 'audit'] as const;
const streamsPerSnapshotMax = 500;
/** A piece ends before the stream that has no room any more; the first one is read whole. */
const eventsPerSnapshotMax = 20_000;
const namesPerPieceMax = 5_000;

/** A stream as it should be stored, with the rows of its tables. */
export type Folded = {
  readonly stream: string;
  readonly version: number;
  readonly slot: number;
  /** RFC 3339. */
  readonly dueAt: string | null;
  readonly state: unknown;
  readonly events: readonly Fact[];
};

/** What the events of one stream come to; null: nobody can tell, because its log is damaged. */
function foldStream(type: AnyStreamType, stream: string, events: readonly Fact[]): Folded | null {
  const id = entityOf(stream);
  let state: unknown = type.initial;
  try {
    for (const [n, event] of events.entries()) {
      if (event.version !== n + 1 || event.unreadable !== undefined) return null;
      state = type.evolve(state, event, id);
    }
    const dueAt = type.dueAt?.(state) ?? null;
    return {
      stream,
      version: events.length,
      slot: slotOfStream(stream),
      dueAt: dueAt === null ? null : new Date(dueAt).toISOString(),
      state,
      events,
    };
  } catch {
    return null;
  }
}

type StoredStream = {
  readonly stream: string;
  readonly version: number;
  readonly slot: number;
  readonly due: string | null;
  readonly state: unknown;
};

export async function readStreams(sql: Sql, where: string, values: readonly unknown[]): Promise<StoredStream[]> {
  const [found] = await sql.query<{ rows: string | null }>(
    `audit streams where ${where}`,
    `select json_agg(s) as rows from (
       select stream, version, slot, due_at as due, state from streams where ${where}) s`,
    values,
  );
  return (JSON.parse(found?.rows ?? '[]') as StoredStream[]).map((row) => ({
    ...row,
    due: row.due === null ? null : utcTime(row.due),
  }));
}

/** What is found of a stream's row; null: nothing. */
export function stateFinding(
  source: string,
  stream: string,
  folded: Shape | null,
  stored: Shape | null,
): Finding | null {
  if (folded !== null && stored !== null && isSameState(folded, stored)) return null;
  return {
    check: stateCheck.name,
    entity: `${source}/${stream}`,
    ...orderOf(stream),
    says:
      stored === null
        ? `The state of ${stream} is missing.`
        : folded === null
          ? `A state of ${stream} is stored, which has no events.`
          : `The state of ${stream} is not what its events come to.`,
    expected: folded,
    found: stored,
    repairs: ['re-project'],
  };
}

/** As it is stored. */
export type Shape = {
  readonly version: number;
  readonly slot: number;
  readonly dueAt: string | null;
  readonly state: unknown;
};

const isSameState = (a: Shape, b: Shape): boolean =>
  a.version === b.version && a.slot === b.slot && a.dueAt === b.dueAt && isSameJson(a.state, b.state);

/** Whether both would be the same JSON, in whatever order the fields stand. */
function isSameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const [one, other] = [a as Record<string, unknown>, b as Record<string, unknown>];
  for (const key in one) if (!isSameJson(one[key], other[key])) return false;
  for (const key in other) if (other[key] !== undefined && one[key] === undefined) return false;
  return true;
}

const orderOf = (stream: string): { readonly orderId?: string } =>
  /^(order|reservation|payment)-/.test(stream) ? { orderId: entityOf(stream) } : {};

export function inlineFindings(
  service: CommandServiceName,
  { table, of }: InlineTable,
  expected: readonly Row[],
  found: readonly Row[],
): Finding[] {
  return differingRows(table, expected, found).map(({ key, expected: should, found: is }) => ({
    check: inlineTableCheck.name,
    entity: `${service}/${table.name}/${key.join('/')}`,
    ...orderOf(`${of}-${key[0]}`),
    says:
      should === null
        ? `${table.name} of ${service} has a row that no event accounts for.`
        : is === null
          ? `A row is missing in ${table.name} of ${service}.`
          : `A row of ${table.name} of ${service} is not what its events come to.`,
    expected: should,
    found: is,
    repairs: ['re-project'],
  }));
}

/** Where the walk has come to in one service; `way` -1: by its streams, else by the rows of that table. */
type Place = { readonly way: number; readonly after: string };
type Places = Readonly<Record<CommandServiceName, Place | null>>;

/** Goes over the streams of all services at once: while one is folded, the others are read. */
export function streamsWalk(parts: WalkParts, audited: Readonly<Record<CommandServiceName, Audited>>): Walk {
  const { databases, sourceOf } = parts;
  const typesOf = new Map(services.flatMap((service) => audited[service].streams.map((type) => [type.name, type])));
  const tablesOfAll = Object.fromEntries(
    services.map((service) => [service, audited[service].tables.filter(({ of }) => !movedByOthers.includes(of))]),
  ) as unknown as Record<CommandServiceName, readonly InlineTable[]>;
  const tablesOf = (service: CommandServiceName): readonly InlineTable[] => tablesOfAll[service];
  const placeOf = (entity: string): ReturnType<typeof streamOf> => streamOf(entity, parts, audited);

  async function lookAtStreams(service: CommandServiceName, after: string, max: number): Promise<ServicePiece> {
    return inSnapshot(databases[service], async (sql) => {
      const [bound] = await sql.query<{ stream: string }>(
        'audit bound of streams',
        'select stream from streams where stream > $1 order by stream offset $2 limit 1',
        [after, max - 1],
      );
      const upTo = bound?.stream ?? null;
      const events = await eventsBetween(sql, service, after, upTo);
      const end = events.cutAfter ?? upTo;
      const { findings, looked } = await compare(sql, service, events.events, after, end);
      return { findings, looked, next: end === null ? firstTable(service) : { way: -1, after: end } };
    });
  }

  /** Of whole streams. `cutAfter`: the last one, when there were too many events. */
  async function eventsBetween(
    sql: Sql,
    service: CommandServiceName,
    after: string,
    upTo: string | null,
  ): Promise<{ readonly events: readonly Fact[]; readonly cutAfter: string | null }> {
    const events =
      upTo === null
        ? await readFacts(sql, service, 'stream > $1 order by stream, version limit $2', [after, eventsPerSnapshotMax])
        : await readFacts(sql, service, 'stream > $1 and stream <= $2 order by stream, version limit $3', [
            after,
            upTo,
            eventsPerSnapshotMax,
          ]);
    if (events.length < eventsPerSnapshotMax) return { events, cutAfter: null };
    const last = events.at(-1)!.stream;
    const whole = events.filter(({ stream }) => stream !== last);
    if (whole.length > 0) return { events: whole, cutAfter: whole.at(-1)!.stream };
    // One that has more of them than fit comes alone.
    return {
      events: await readFacts(sql, service, 'stream = $1 order by version', [last]),
      cutAfter: last,
    };
  }

  async function compare(
    sql: Sql,
    service: CommandServiceName,
    events: readonly Fact[],
    after: string,
    upTo: string | null,
  ): Promise<{ findings: Finding[]; looked: number }> {
    const stored = await (upTo === null
      ? readStreams(sql, 'stream > $1', [after])
      : readStreams(sql, 'stream > $1 and stream <= $2', [after, upTo]));
    return compareStreams(sql, service, events, stored);
  }

  async function compareStreams(
    sql: Sql,
    service: CommandServiceName,
    events: readonly Fact[],
    stored: readonly StoredStream[],
  ): Promise<{ findings: Finding[]; looked: number }> {
    const source = sourceOf(service);
    const byStream = Map.groupBy(events, ({ stream }) => stream);
    const rows = new Map(stored.map((row) => [row.stream, row]));
    const findings: Finding[] = [];
    const sound: Folded[] = [];
    const streams = [...new Set([...byStream.keys(), ...rows.keys()])];
    for (const stream of streams) {
      const own = byStream.get(stream) ?? [];
      const moved = movedByOthers.includes(typeOf(stream));
      for (const one of versionFindings(source, stream, own, moved)) findings.push({ ...one, ...orderOf(stream) });
      if (moved) continue;
      const type = typesOf.get(typeOf(stream));
      const folded = type === undefined || own.length === 0 ? null : foldStream(type, stream, own);
      // What cannot be folded is found in the log.
      if (folded === null && own.length > 0) continue;
      const row = rows.get(stream) ?? null;
      const found = stateFinding(source, stream, folded && shapeOf(folded), row && shapeOf({ ...row, dueAt: row.due }));
      if (found !== null) findings.push(found);
      if (folded !== null) sound.push(folded);
      const odd = oddStep(typeOf(stream), own);
      if (odd !== undefined) findings.push(oddFinding(source, stream, odd));
    }
    for (const inline of tablesOf(service)) {
      const own = sound.filter(({ stream }) => typeOf(stream) === inline.of);
      if (own.length === 0) continue;
      const found = await readRows(sql, inline.table, `${inline.table.key[0]} = any($1)`, [
        own.map(({ stream }) => entityOf(stream)),
      ]);
      findings.push(
        ...inlineFindings(
          service,
          inline,
          own.flatMap((one) => rowsOf(inline, one)),
          found,
        ),
      );
    }
    return { findings, looked: streams.length };
  }

  const firstTable = (service: CommandServiceName): Place | null =>
    tablesOf(service).length > 0 ? { way: 0, after: '' } : null;

  /** Rows of the n-th table whose stream is not there. */
  async function lookAtRows(service: CommandServiceName, n: number, after: string): Promise<ServicePiece> {
    const inline = tablesOf(service)[n]!;
    const { table, of } = inline;
    const key = table.key[0]!;
    return inSnapshot(databases[service], async (sql) => {
      const names = await sql.query<{ id: string; known: boolean }>(
        `audit names of ${table.name}`,
        `select id, exists (select from streams where stream = $3 || id) or
           exists (select from events where stream = $3 || id) as known
         from (select distinct ${key} as id from (
           select ${key} from ${table.name} where ${key} > $1 order by ${key} limit $2) t) n order by id`,
        [after, namesPerPieceMax, `${of}-`],
      );
      const unknown = names.filter(({ known }) => !known).map(({ id }) => id);
      const rows = unknown.length === 0 ? [] : await readRows(sql, table, `${key} = any($1)`, [unknown]);
      const last = names.at(-1)?.id;
      const next = last !== undefined ? { way: n, after: last } : { way: n + 1, after: '' };
      return {
        looked: 0,
        findings: inlineFindings(service, inline, [], rows),
        next: next.way < tablesOf(service).length ? next : null,
      };
    });
  }

  async function lookIn(sql: Sql, entity: string): Promise<Finding[]> {
    const { service, stream } = placeOf(entity);
    const [events, stored] = await Promise.all([
      readFacts(sql, service, 'stream = $1 order by version', [stream]),
      readStreams(sql, 'stream = $1', [stream]),
    ]);
    const { findings } = await compareStreams(sql, service, events, stored);
    const untold = events.length > 0 ? [] : tablesOf(service).filter(({ of }) => of === typeOf(stream));
    for (const inline of untold) {
      const rows = await readRows(sql, inline.table, `${inline.table.key[0]} = $1`, [entityOf(stream)]);
      findings.push(...inlineFindings(service, inline, [], rows));
    }
    return findings;
  }

  return {
    name: 'streams',
    checks: [stateCheck, inlineTableCheck, arrowCheck, versionsCheck, slotsCheck],

    async size() {
      const sizes = await Promise.all(
        services.map((service) =>
          databases[service].query<{ size: number }>(
            'audit size of streams',
            `select greatest(reltuples, 0)::bigint as size from pg_class where oid = 'streams'::regclass`,
          ),
        ),
      );
      return sizes.reduce((sum, rows) => sum + (rows[0]?.size ?? 0), 0);
    },

    async look(after, entitiesMax): Promise<Piece> {
      const places = after === null ? everywhere : { ...everywhere, ...(JSON.parse(after) as Partial<Places>) };
      const open = services.filter((service) => places[service] !== null);
      const max = Math.min(streamsPerSnapshotMax, entitiesMax);
      const pieces = await Promise.all(
        open.map(async (service) => {
          const { way, after: from } = places[service]!;
          return [
            service,
            way < 0 ? await lookAtStreams(service, from, max) : await lookAtRows(service, way, from),
          ] as const;
        }),
      );
      const next = { ...places, ...Object.fromEntries(pieces.map(([service, piece]) => [service, piece.next])) };
      return {
        looked: pieces.reduce((sum, [, { looked }]) => sum + looked, 0),
        findings: pieces.flatMap(([, { findings }]) => findings),
        next: Object.values(next).every((place) => place === null) ? null : JSON.stringify(next),
      };
    },

    async lookAt(entity) {
      const [source, position] = entity.split('@');
      const service = services.find((one) => position !== undefined && sourceOf(one) === source);
      if (service === undefined) return inSnapshot(databases[placeOf(entity).service], (sql) => lookIn(sql, entity));
      return inSnapshot(databases[service], async (sql) => {
        const rows = await sql.query<{ stream: string }>('stream at', 'select stream from events where position = $1', [
          position,
        ]);
        return rows[0] === undefined ? [] : lookIn(sql, `${source}/${rows[0].stream}`);
      });
    },

    ...stateRepair(parts, { placeOf, tables: tablesOfAll, lookIn }),

    async freshest(limit) {
      const streams = await Promise.all(
        auditedServices.map(async (service) => {
          const rows = await databases[service].query<{ stream: string }>(
            'audit freshest',
            'select stream from events order by position desc limit $1',
            [Math.ceil(limit / auditedServices.length)],
          );
          return [...new Set(rows.map(({ stream }) => `${sourceOf(service)}/${stream}`))];
        }),
      );
      return streams.flat();
    },
  };
}

type ServicePiece = { readonly findings: readonly Finding[]; readonly looked: number; readonly next: Place | null };

const everywhere = Object.fromEntries(services.map((service) => [service, { way: -1, after: '' }])) as Places;

const rowsOf = (inline: InlineTable, { stream, version, state, events }: Folded): readonly Row[] =>
  inline.rowsOf({ id: entityOf(stream), version, state: state as never, events });

export const shapeOf = ({ version, slot, dueAt, state }: Shape): Shape => ({ version, slot, dueAt, state });

function oddFinding(
  source: string,
  stream: string,
  { event, after }: NonNullable<ReturnType<typeof oddStep<Fact>>>,
): Finding {
  return {
    check: arrowCheck.name,
    entity: `${source}/${stream}`,
    ...orderOf(stream),
    says: `${event.type} of ${stream} comes after ${after}, which cannot be.`,
    expected: `what may come after ${after}`,
    found: eventId(source, event.position),
    repairs: [],
  };
}

/** Of a stream, `ordering.0/order-42`, or of a row, `ordering/orders/42`. */
function streamOf(
  entity: string,
  { sourceOf }: Pick<WalkParts, 'sourceOf'>,
  audited: Readonly<Record<CommandServiceName, Audited>>,
): { readonly service: CommandServiceName; readonly stream: string } {
  const [owner = '', name = '', key = ''] = entity.split('/');
  for (const service of services) {
    if (owner === sourceOf(service)) return { service, stream: name };
    const inline = audited[service].tables.find(({ table }) => owner === service && table.name === name);
    if (inline !== undefined) return { service, stream: `${inline.of}-${key}` };
  }
  throw new Error(`there is no ${entity} in a service`);
}
