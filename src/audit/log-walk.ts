/**
 * The walk over the logs: are they what they were when they were written, and has nobody applied more than there is? What
 * is stored beside the events, and versions and slots of these, are left to the walk over states, which sees more of them.
 */
import type { CommandServiceName } from '#contracts/service.ts';
import type { Anchor } from '#cqrs/event-log.ts';
import {
  checkAnchor,
  checkLog,
  logBeginning,
  type LogFinding,
  type LogFindingKind,
  type LogPlace,
} from '#cqrs/log-integrity.ts';
import { checkCheckpoints } from '#cqrs/source-epoch.ts';
import type { Database } from '#platform/postgres.ts';
import type { DatabaseOwner } from '#platform/settings.ts';
import type { Check, Finding, Piece, Walk } from './check.ts';
import { type Anchors, anchorsId } from './streams.ts';

export type LogWalkParts = {
  readonly databases: Readonly<Record<DatabaseOwner, Database>>;
  sourceOf(service: CommandServiceName): string;
};

type Log = { readonly source: string; readonly database: Database };

const services = ['catalog', 'ordering', 'inventory', 'payments', 'audit'] as const;

const check = (name: string, invariants: readonly string[], compares: string, cost: string): Check => ({
  name,
  invariants,
  compares,
  cost,
  policy: 'ask',
});
const checks = {
  'log-positions': check(
    'log-positions',
    ['I2'],
    'The events of a log stand at 1, 2, 3 … up to its head, and none beyond.',
    'One index range per piece.',
  ),
  'log-hash-chain': check(
    'log-hash-chain',
    ['I18'],
    'Each batch of a log comes to its hash, and goes on from the batch before; the head has the last one.',
    'Each event is read and hashed once, in the database: some 7 µs per event.',
  ),
  'log-anchors': check(
    'log-anchors',
    ['I18'],
    'A log still holds what it held when its anchors were taken.',
    'One look-up per anchor, 32 anchors at most.',
  ),
  'checkpoint-within-log': check(
    'checkpoint-within-log',
    ['I3'],
    'No consumer has applied more than there is.',
    'One read per database.',
  ),
} as const;
type CheckName = keyof typeof checks;

/** By kind; the others are found by the walk over states. */
const checkOf: Readonly<Partial<Record<LogFindingKind, CheckName>>> = {
  'positions-missing': 'log-positions',
  'beyond-head': 'log-positions',
  'head-differs': 'log-hash-chain',
  'batch-missing': 'log-hash-chain',
  'batch-overlaps': 'log-hash-chain',
  'batch-hash': 'log-hash-chain',
  'anchor-beyond-head': 'log-anchors',
  'anchor-differs': 'log-anchors',
  'checkpoint-beyond-head': 'checkpoint-within-log',
};

/** Looking at one place again takes in a batch, which is never larger. */
const rangeMax = 100_000;

/** Where the walk has come to: in which log, and where there. After the last log the consumers follow. */
type Place = {
  readonly log: number;
  readonly place: LogPlace;
  /** Where the log ended when its turn came: writers may be faster than who looks. */
  readonly upTo: number;
};

/** Damage to a log cannot be repaired: its divergences are settled by restoring a backup, or accepted. */
export function logWalk({ databases, sourceOf }: LogWalkParts): Walk {
  const logs: readonly Log[] = services.map((service) => ({
    source: sourceOf(service),
    database: databases[service],
  }));
  const consumers = Object.entries(databases);

  const headOf = async (source: string): Promise<number> => {
    const log = logs.find((one) => one.source === source);
    if (log === undefined) return Infinity;
    const rows = await log.database.query<{ position: number }>('head', 'select position from log_head');
    return rows[0]?.position ?? 0;
  };

  async function lookAtConsumers(): Promise<Finding[]> {
    const found: Finding[] = [];
    for (const [owner, database] of consumers) {
      for (const finding of await checkCheckpoints(database, headOf))
        found.push(findingOf(`${owner}/${finding.consumer}`, [finding], 'A consumer has applied more than there is'));
    }
    return found;
  }

  async function lookAtAnchors({ source, database }: Log): Promise<Finding[]> {
    const found: LogFinding[] = [];
    for (const anchor of await anchorsOf(source)) {
      found.push(...(await checkAnchor(database, anchor)));
      // The later ones say the same.
      if (found.length > 0) break;
    }
    return found.length === 0
      ? []
      : [findingOf(`${source}@anchors`, found, `${source} does not hold what it held when its anchor was taken`)];
  }

  /** The first is the oldest. */
  async function anchorsOf(source: string): Promise<Anchor[]> {
    const rows = await databases.audit.query<{ state: string }>(
      'kept anchors',
      'select state from streams where stream = $1',
      [`anchors-${anchorsId}`],
    );
    const { taken } = rows[0] === undefined ? { taken: [] } : (JSON.parse(rows[0].state) as Anchors);
    return taken.flatMap(({ anchors }) => anchors.filter((anchor) => anchor.source === source));
  }

  return {
    name: 'logs',
    checks: Object.values(checks),

    async size() {
      const sizes = await Promise.all(
        logs.map(({ database }) =>
          database.query<{ size: number }>('size of log', 'select position as size from log_head'),
        ),
      );
      return sizes.reduce((sum, rows) => sum + (rows[0]?.size ?? 0), 0);
    },

    async look(after, entitiesMax): Promise<Piece> {
      const from: Place = after === null ? { log: 0, place: logBeginning, upTo: 0 } : (JSON.parse(after) as Place);
      const { log, place } = from;
      const at = logs[log];
      if (at === undefined) return { looked: consumers.length, findings: await lookAtConsumers(), next: null };
      const { source, database } = at;
      const upTo = place.part === 'head' ? await headOf(source) : from.upTo;
      const piece = await checkLog(database, { place, eventsMax: entitiesMax, movedByOthers: null });
      const findings = grouped(at, piece.findings, place.part);
      if (place.part === 'head') findings.push(...(await lookAtAnchors(at)));
      const isLeft = piece.next?.part === 'events' && piece.next.after < upTo;
      const next: Place = isLeft ? { log, place: piece.next, upTo } : { log: log + 1, place: logBeginning, upTo: 0 };
      return { looked: lookedAt(place, piece.next), findings, next: JSON.stringify(next) };
    },

    async lookAt(entity) {
      const log = logs.find(({ source }) => entity.startsWith(`${source}@`));
      if (log === undefined) return lookAtConsumers();
      const { source, database } = log;
      const at = entity.slice(source.length + 1);
      if (at === 'anchors') return lookAtAnchors(log);
      const place = at === 'head' ? logBeginning : await before(database, Number(at));
      const piece = await checkLog(database, { place, eventsMax: 1, movedByOthers: null });
      return grouped(log, piece.findings, place.part);
    },

    /** The last batch of each log. */
    async freshest(limit) {
      const entities = await Promise.all(
        logs.slice(0, limit).map(async ({ source, database }) => {
          const rows = await database.query<{ first: number }>(
            'last batch',
            'select first_position as first from batches order by last_position desc limit 1',
          );
          return rows.map(({ first }) => `${source}@${first}`);
        }),
      );
      return entities.flat();
    },
  };
}

/** Where the batch begins that holds a position, or the positions that none holds. */
async function before(database: Database, position: number): Promise<LogPlace> {
  const rows = await database.query<{ after: number | null }>(
    'batch before',
    'select max(last_position) as after from batches where last_position < $1',
    [position],
  );
  return { part: 'events', after: Math.max(rows[0]?.after ?? 0, position - rangeMax) };
}

const lookedAt = (place: LogPlace, next: LogPlace | null): number =>
  place.part === 'events' && next?.part === 'events' ? next.after - place.after : 1;

/** One finding per check and place, whatever is wrong there. */
function grouped({ source }: Log, found: readonly LogFinding[], part: LogPlace['part']): Finding[] {
  const groups = new Map<string, { readonly entity: string; readonly findings: LogFinding[] }>();
  for (const finding of found) {
    const entity = `${source}@${part === 'head' ? part : finding.position}`;
    const key = `${checkOf[finding.kind]} ${entity}`;
    const group = groups.get(key) ?? { entity, findings: [] };
    groups.set(key, group);
    group.findings.push(finding);
  }
  return [...groups.values()].map(({ entity, findings }) =>
    findingOf(entity, findings, `${source} is not what it was when it was written`),
  );
}

function findingOf(entity: string, findings: readonly LogFinding[], what: string): Finding {
  const [first] = findings as readonly [LogFinding];
  const kinds = [...new Set(findings.map(({ kind }) => kind))].join(', ');
  return {
    check: checkOf[first.kind]!,
    entity,
    says: `${what}: ${kinds}${placeOf(first)}. Only a backup can bring back what it was.`,
    expected: findings.map(({ expected }) => expected),
    found: findings.map(({ found }) => found),
    repairs: [],
  };
}

const placeOf = ({ position, lastPosition }: LogFinding): string =>
  position === undefined ? '' : ` at ${position}${lastPosition === undefined ? '' : ` to ${lastPosition}`}`;
