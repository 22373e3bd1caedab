/** What operators ask of the audit: full audits, what diverges, how it is settled, and where the logs stand. */
import {
  AnchorsView,
  AuditBody,
  type AuditOutcome,
  AuditsView,
  DivergenceList,
  DivergenceParams,
  DivergenceQuery,
  DivergenceView,
  ResolveBody,
} from '#contracts/audit-http.ts';
import type { TakenAnchor } from '#contracts/audit.ts';
import { JobView } from '#contracts/http.ts';
import type { CommandRequest, CommandRoute, QueryAnswer, QueryRequest, QueryRoute } from '#contracts/routes.ts';
import type { CommandBus, Scope, StreamRef } from '#cqrs/command-bus.ts';
import {
  type AnswerOrRefusal,
  type ClientAnswer,
  type ClientCommand,
  executeForClient,
  staleVersion,
} from '#cqrs/command-request.ts';
import type { Refusal } from '#cqrs/decider.ts';
import { cursorsOf } from '#platform/cursors.ts';
import type { Ports } from '#platform/ports.ts';
import type { Database } from '#platform/postgres.ts';
import type { Check, Walk } from './check.ts';
import { type Divergence, divergence } from './divergence.ts';
import { differences } from './finding.ts';
import type { Recording } from './recording.ts';
import { isLate, type RollingAudit, type Running } from './running.ts';
import { type Anchors, anchorsId, divergenceStream } from './streams.ts';

/** What the audit needs of whoever runs jobs. */
export type AuditJobs = {
  start(job: {
    readonly kind: string;
    readonly subject: string;
    readonly by: string;
    run(
      tell: (progress: { readonly phase: string; readonly done: number; readonly of: number }) => void,
      signal: AbortSignal,
    ): Promise<object>;
  }): Promise<{ readonly started: JobView } | { readonly running: JobView }>;
  running(kind: string): Promise<JobView | null>;
};

export type AuditRoutesOptions = {
  readonly bus: CommandBus;
  readonly source: string;
  /** Of the audit. */
  readonly database: Database;
  /** All there are, wherever they run. */
  readonly walks: readonly Pick<Walk, 'name' | 'checks'>[];
  readonly recording: Recording;
  readonly running: Running;
  readonly jobs: AuditJobs;
  anchors(): Promise<readonly TakenAnchor[]>;
  readonly sharePercent: number;
  readonly periodMs: number;
  readonly ports: Ports;
};

const jobKind = 'audit';
const limitDefault = 20;
/** A rolling audit that was not heard of for so long has ended with its process, or hangs. */
const silentMs = 180_000;

export function auditRoutes(options: AuditRoutesOptions): (CommandRoute | QueryRoute)[] {
  const shared = { tag: 'audit', audience: 'operator', caughtUp: async () => true } as const;
  return [
    {
      ...shared,
      method: 'POST',
      url: '/v1/ops/audits',
      summary: 'Look at everything once, at full speed',
      body: AuditBody,
      answers: { 202: JobView },
      handle: (request) =>
        answeredOnce(options, request, [], async () => {
          const begun = await start(options, request);
          return () => begun;
        }),
    },
    {
      ...shared,
      method: 'GET',
      url: '/v1/ops/audits',
      summary: 'What is checked, and how far the rolling audit has come',
      answers: { 200: AuditsView },
      positions: () => nowhere,
      read: async () => ({ bytes: JSON.stringify(await auditsView(options)) }),
    },
    {
      ...shared,
      method: 'GET',
      url: '/v1/ops/divergences',
      summary: 'What diverges, or did, the latest found first',
      query: DivergenceQuery,
      answers: { 200: DivergenceList },
      positions: () => nowhere,
      read: (request) => list(options, request),
    },
    {
      ...shared,
      method: 'GET',
      url: '/v1/ops/divergences/:id',
      summary: 'One divergence, with what was done about it',
      params: DivergenceParams,
      answers: { 200: DivergenceView },
      positions: () => nowhere,
      async read({ params: { id } }: QueryRequest<DivergenceParams>): Promise<QueryAnswer> {
        const found = await find(options.database, id);
        return found === null
          ? { refused: notFound(id) }
          : // Seen again is no new version.
            { bytes: JSON.stringify(found), etag: `${found.version}.${Date.parse(found.lastSeen)}` };
      },
    },
    {
      ...shared,
      method: 'POST',
      url: '/v1/ops/divergences/:id/resolve',
      summary: 'Settle a divergence: repair it in one of the ways that it names, or accept it',
      params: DivergenceParams,
      body: ResolveBody,
      answers: { 200: DivergenceView },
      handle: (request) => resolve(options, request),
    },
    {
      ...shared,
      method: 'GET',
      url: '/v1/ops/anchors',
      summary: 'Where the logs stand, with the proof of all before; to be kept elsewhere',
      answers: { 200: AnchorsView },
      positions: () => nowhere,
      read: async () => ({ bytes: JSON.stringify(await anchorsView(options)) }),
    },
  ];
}

/**
 * What the request has come to, kept under its key in the audit's own log. Nothing is prepared for a key that is known there. A
 * process that dies after it has prepared and before the answer is kept may be asked again: what was done is harmless then, or
 * refused.
 */
async function answeredOnce(
  { bus, source }: AuditRoutesOptions,
  { origin, idempotency }: Pick<ClientCommand, 'origin' | 'idempotency'>,
  reads: readonly StreamRef[],
  prepare: () => Promise<(scope: Scope) => AnswerOrRefusal>,
): Promise<ClientAnswer> {
  const command = { bus, source, origin, idempotency };
  if (idempotency !== undefined) {
    // The log is asked for the key; a refusal that is not kept does not take it.
    const before = await executeForClient({ ...command, reads: [], run: () => unknownKey, keeps: () => false });
    if (!('refused' in before) || before.refused !== unknownKey.refused) return before;
  }
  return executeForClient({ ...command, reads, run: await prepare(), keeps: ({ code }) => !passing.includes(code) });
}

const unknownKey = { refused: { code: 'not-found', detail: 'The Idempotency-Key is not known.' } };
/** Refusals that go away without anybody's doing, or with the next request. */
const passing: readonly string[] = ['version-mismatch', 'audit-running'];

async function start(
  options: AuditRoutesOptions,
  { body: { checks = [] }, origin }: CommandRequest<Record<string, never>, AuditBody>,
): Promise<AnswerOrRefusal> {
  const { walks, jobs, running, database } = options;
  const known = walks.flatMap((walk) => walk.checks.map(({ name }) => name));
  const unknown = checks.filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    const detail = `There is no check ${unknown.join(', ')}; there are ${known.join(', ')}.`;
    return { refused: { code: 'unknown-check', detail, checks: known } };
  }
  const begun = await jobs.start({
    kind: jobKind,
    subject: checks.length === 0 ? 'all' : checks.join(),
    by: origin.actor,
    async run(tell, signal): Promise<AuditOutcome> {
      const { walks: walked } = await running.full(checks, tell, signal);
      const open = await openByCheck(database);
      const made = Object.entries(open).filter(([check]) => checks.length === 0 || checks.includes(check));
      return { walks: walked, open: Object.fromEntries(made) };
    },
  });
  if ('running' in begun) {
    const detail = `${begun.running.id} is under way, of ${begun.running.subject}.`;
    return { refused: { code: 'audit-running', detail } };
  }
  return { answer: { status: 202, body: begun.started, location: `/v1/ops/jobs/${begun.started.id}` } };
}

async function auditsView(options: AuditRoutesOptions): Promise<AuditsView> {
  const { walks, database, recording, running, jobs } = options;
  const [rolling, open, job] = await Promise.all([running.rolling(), openByCheck(database), jobs.running(jobKind)]);
  const checkView = (walk: string, check: Check): AuditsView['checks'][number] => {
    const { name, invariants, compares, cost } = check;
    const policy = recording.policyOf(check);
    const lastLookedAt = rolling?.walks[walk]?.endedAt ?? null;
    return { name, invariants: [...invariants], compares, cost, policy, walk, open: open[name] ?? 0, lastLookedAt };
  };
  return {
    checks: walks.flatMap((walk) => walk.checks.map((check) => checkView(walk.name, check))),
    rolling: rollingView(options, rolling),
    ...(job === null ? {} : { job: job.id }),
  };
}

function rollingView(
  { sharePercent, periodMs, ports }: AuditRoutesOptions,
  rolling: RollingAudit | null,
): AuditsView['rolling'] {
  const settings = { sharePercent, periodMinutes: periodMs / 60_000 };
  if (rolling === null) {
    const state = sharePercent === 0 ? ('off' as const) : ('starting' as const);
    const nothing = { roundBeganAt: null, heardAt: null, progress: 0, walks: [], lastRound: null };
    return { state, ...settings, periodKept: true, ...nothing };
  }
  const isSilent = ports.now() - Date.parse(rolling.heardAt) > silentMs;
  const entries = Object.entries(rolling.walks);
  const sum = (of: 'looked' | 'of'): number => entries.reduce((total, [, walk]) => total + walk[of], 0);
  const { last } = rolling;
  return {
    state: sharePercent === 0 ? 'off' : isSilent ? 'silent' : rolling.ended ? 'waiting' : 'walking',
    ...settings,
    periodKept: !isLate(rolling, periodMs, ports.now()),
    roundBeganAt: rolling.beganAt,
    heardAt: rolling.heardAt,
    progress: rolling.ended ? 1 : Math.min(1, sum('looked') / Math.max(1, sum('of'))),
    walks: entries.map(([name, { looked, of, ended, endedAt, trouble }]) => ({
      name,
      looked,
      of,
      ended,
      lastEndedAt: endedAt,
      ...(trouble === null ? {} : { trouble }),
    })),
    lastRound:
      last === null
        ? null
        : {
            beganAt: last.beganAt,
            endedAt: last.endedAt,
            looked: last.looked,
            sharePercent: percent(last.workedMs, Date.parse(last.endedAt) - Date.parse(last.beganAt)),
          },
  };
}

const percent = (part: number, whole: number): number => Math.round((1_000 * part) / Math.max(1, whole)) / 10;

/** How many divergences are open, of the checks that have any. */
export async function openByCheck(database: Database): Promise<Record<string, number>> {
  const rows = await database.query<{ check: string; open: number }>(
    'open by check',
    `select check_name as check, count(*) as open from divergences where status = 'open' group by check_name`,
  );
  return Object.fromEntries(rows.map(({ check, open }) => [check, open]));
}

async function list(
  { database }: AuditRoutesOptions,
  { query }: QueryRequest<Record<string, never>, DivergenceQuery>,
): Promise<QueryAnswer> {
  const { state, check, limit = limitDefault, cursor } = query;
  const cursors = cursorsOf(['divergences', state, check], isPlace);
  const after = cursors.read(cursor);
  if (after === 'malformed') return malformedCursor;
  const rows = await database.query<DivergenceRow>(
    'list divergences',
    `${selectDivergence}
     where ($1::text is null or status = $1) and ($2::text is null or check_name = $2)
       and ($3::timestamptz is null or (first_seen, id) < ($3, $4))
     order by first_seen desc, id desc limit $5`,
    [state ?? null, check ?? null, after?.[0] ?? null, after?.[1] ?? null, limit + 1],
  );
  const items = rows.slice(0, limit).map(viewOfRow);
  const last = items.at(-1);
  const answer: DivergenceList = {
    items,
    nextCursor: last !== undefined && rows.length > limit ? cursors.write([last.firstSeen, last.id]) : null,
  };
  return { bytes: JSON.stringify(answer) };
}

function resolve(
  options: AuditRoutesOptions,
  request: CommandRequest<DivergenceParams, ResolveBody>,
): Promise<ClientAnswer> {
  const { database, recording } = options;
  const { origin, ifMatch } = request;
  const { id } = request.params;
  const { strategy, reason } = request.body;
  const by = origin.actor;
  return answeredOnce(options, request, [{ type: divergenceStream, id }], async () => {
    const found = await find(database, id);
    if (found === null) return () => ({ refused: notFound(id) });
    const asItIs = (scope: Scope): AnswerOrRefusal => {
      const version = scope.version(divergenceStream, id);
      const body = viewOf({ id, lastSeen: found.lastSeen, version, state: scope.state(divergenceStream, id) });
      return { answer: { status: 200, body, version } };
    };
    if (strategy === 'accept') {
      return (scope) => {
        const stale = staleVersion(ifMatch, scope.version(divergenceStream, id));
        if (stale !== null) return stale;
        const command = { type: 'Accept', by, reason, at: scope.now } as const;
        const decision = divergence.decide(command, scope.state(divergenceStream, id));
        if ('refused' in decision) return decision;
        for (const event of decision.accepted) scope.record(divergenceStream, id, event);
        return asItIs(scope);
      };
    }
    const stale = staleVersion(ifMatch, found.version);
    if (stale !== null) return () => stale;
    const settled = await recording.repair(id, { strategy, by, reason }, origin);
    return 'refused' in settled ? () => settled : asItIs;
  });
}

async function anchorsView({ database, anchors }: AuditRoutesOptions): Promise<AnchorsView> {
  const rows = await database.query<{ state: string }>('kept anchors', 'select state from streams where stream = $1', [
    `anchors-${anchorsId}`,
  ]);
  const { taken } = rows[0] === undefined ? { taken: [] } : (JSON.parse(rows[0].state) as Anchors);
  return { now: [...(await anchors())], kept: [...taken].reverse() };
}

type DivergenceRow = {
  readonly id: string;
  readonly lastSeen: string;
  readonly version: number;
  readonly state: string;
};

const selectDivergence = `
  select id, to_char(last_seen at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as "lastSeen", version, state
  from divergences`;

async function find(database: Database, id: string): Promise<DivergenceView | null> {
  const rows = await database.query<DivergenceRow>('one divergence', `${selectDivergence} where id = $1`, [id]);
  return rows[0] === undefined ? null : viewOfRow(rows[0]);
}

const viewOfRow = ({ state, ...row }: DivergenceRow): DivergenceView =>
  viewOf({ ...row, state: JSON.parse(state) as Divergence });

type Shown = Omit<DivergenceRow, 'state'> & { readonly state: Divergence };

function viewOf({ id, lastSeen, version, state }: Shown): DivergenceView {
  if (state.status === 'none') throw new Error(`the divergence ${id} is there and was never found`);
  const { status, seen, firstSeen, since, acts } = state;
  const { check, entity, orderId, says, expected, found, repairs } = seen;
  return {
    id,
    check,
    entity,
    ...(orderId === undefined ? {} : { orderId }),
    state: status,
    says,
    expected,
    found,
    diff: differences(expected, found),
    firstSeen,
    lastSeen,
    since,
    repairs: status === 'open' ? [...repairs, 'accept'] : [],
    acts: acts.map((act) => ({ ...act })),
    version,
  };
}

const nowhere = {};
const notFound = (id: string): Refusal => ({ code: 'divergence-not-found', detail: `There is no divergence ${id}.` });

const malformedCursor: QueryAnswer = {
  refused: {
    code: 'malformed-cursor',
    detail: 'The cursor is not one of this list: send it with the filters of the page before.',
    errors: [{ pointer: '/cursor', detail: 'is not one of this list' }],
  },
};

/** PostgreSQL knows no year 0, and no 30th of February. */
const isPlace = (end: readonly unknown[]): end is [firstSeen: string, id: string] => {
  const [firstSeen, id] = end;
  return (
    end.length === 2 &&
    typeof firstSeen === 'string' &&
    /^(?!0000)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(firstSeen) &&
    !Number.isNaN(Date.parse(firstSeen)) &&
    new Date(firstSeen).toISOString() === firstSeen &&
    typeof id === 'string' &&
    /^[0-9a-f]{32}$/.test(id)
  );
};
