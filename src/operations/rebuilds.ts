/** What operators see of read models, and how they have them rebuilt. */
import { JobView, ProjectionList, ReadModelParams, RebuildBody } from '#contracts/http.ts';
import type { CommandRequest, CommandRoute, QueryRoute } from '#contracts/routes.ts';
import type { ClientAnswer } from '#cqrs/command-request.ts';
import type { Consumer } from '#cqrs/consumer.ts';
import { EngineError } from '#cqrs/errors.ts';
import { serviceOf } from '#cqrs/event-log.ts';
import type { Projection } from '#cqrs/projection.ts';
import type { RebuildProgress, RebuildReport } from '#cqrs/rebuild.ts';
import { dropPrevious, goBack } from '#cqrs/rebuild-switch.ts';
import { type Ports, sleep } from '#platform/ports.ts';
import type { Database } from '#platform/postgres.ts';
import type { Jobs } from './jobs.ts';
import type { AnsweredOnce } from './kept-answers.ts';

export type RebuildsOptions = {
  /** The read database. */
  readonly database: Database;
  readonly projections: readonly Projection[];
  /** Of the read side, in this process. */
  readonly consumers: readonly Consumer[];
  readonly jobs: Jobs;
  readonly answeredOnce: AnsweredOnce;
  readonly ports: Ports;
  reportTrouble(who: string, error: unknown): void;
  /** Rebuilds `readModels`, or only compares them. */
  rebuild(
    options: { readonly readModels: readonly string[]; readonly sharePercent: number; readonly checkOnly: boolean },
    tell: (progress: RebuildProgress) => void,
    signal: AbortSignal,
  ): Promise<RebuildReport>;
};

export type Rebuilds = {
  readonly routes: readonly (CommandRoute | QueryRoute)[];
  /**
   * Rebuilds what another version of the code has made, until it is done, with growing pauses after what fails. Resolves when all
   * read models are of this one's: at once, if nothing has changed.
   */
  bringUpToDate(signal: AbortSignal): Promise<void>;
};

const kind = 'rebuild';
const sharePercentDefault = 50;
/** A new version waits for its read models: it is not yet answering, so it takes all the time there is. */
const upToDateSharePercent = 90;
const askAgainMs = 1_000;
const tryAgainFirstMs = 5_000;
const tryAgainMostMs = 300_000;
/** More than this behind its source, a read model is said to be catching up. */
const liveLagMax = 1_000;

/**
 * Promises:
 * - what another version of the code has made is rebuilt, and tried again until that is done
 */
export function createRebuilds(options: RebuildsOptions): Rebuilds {
  const shared = { tag: 'operations', audience: 'operator', caughtUp: async () => true } as const;
  return {
    routes: [
      {
        ...shared,
        method: 'GET',
        url: '/v1/ops/projections',
        summary: 'The read models: how far each has come, and what is being done about it',
        answers: { 200: ProjectionList },
        positions: () => nowhere,
        read: async () => ({ bytes: JSON.stringify(await list(options)) }),
      },
      {
        ...shared,
        method: 'POST',
        url: '/v1/ops/projections/:name/rebuild',
        summary: 'Rebuild a read model beside the live one, compare, and switch',
        params: ReadModelParams,
        body: RebuildBody,
        answers: { 202: JobView },
        handle: (request) => options.answeredOnce(request, () => start(options, request)),
      },
    ],
    bringUpToDate: (signal) => bringUpToDate(options, signal),
  };
}

async function list({ database, projections, consumers, jobs }: RebuildsOptions): Promise<ProjectionList> {
  const [states, positions, job] = await Promise.all([statesOf(database), positionsOf(database), jobs.running(kind)]);
  return {
    items: projections.map(({ name, services, version }) => {
      const state = states.get(name);
      const folding = consumers.filter(({ source }) => services.includes(serviceOf(source)));
      const sources = folding.map(({ source, head }) => {
        const position = positions.get(`${name}-of-${source}`) ?? 0;
        return { source, position, head: Math.max(head(), position), lag: Math.max(0, head() - position) };
      });
      const sum = (of: 'position' | 'head' | 'lag'): number => sources.reduce((total, one) => total + one[of], 0);
      const rebuilding = job !== null && (job.subject === 'all' || job.subject.split(',').includes(name));
      return {
        name,
        version: state?.version ?? version,
        mode: rebuilding
          ? 'rebuilding'
          : (state?.version ?? version) !== version
            ? 'waiting'
            : folding.some((consumer) => consumer.paused() !== null)
              ? 'paused'
              : sum('lag') > liveLagMax
                ? 'catching-up'
                : 'live',
        position: sum('position'),
        head: sum('head'),
        lag: sum('lag'),
        sources,
        previous:
          state?.previousVersion == null ? null : { version: state.previousVersion, since: state.previousSince! },
        ...(rebuilding ? { job: job.id } : {}),
      };
    }),
  };
}

async function start(
  options: RebuildsOptions,
  { params: { name }, body, origin }: CommandRequest<ReadModelParams, RebuildBody>,
): Promise<ClientAnswer> {
  const { projections } = options;
  const chosen = name === 'all' ? projections : projections.filter((projection) => projection.name === name);
  const refused = (code: string, detail: string): ClientAnswer => ({
    refused: { code, detail },
    // What stands in the way goes away by itself.
    isKept: code !== 'rebuild-running',
    replayed: false,
    traceId: origin.correlationId,
  });
  if (chosen.length === 0) {
    const names = projections.map((projection) => projection.name).join(', ');
    return refused('projection-not-found', `There is no read model ${name}; there are ${names}, and \`all\`.`);
  }
  const begun = await startJob(options, chosen, name, origin.actor, body);
  if ('running' in begun)
    return refused('rebuild-running', `${begun.running.id} is under way, of ${begun.running.subject}.`);
  return {
    kept: { status: 202, body: begun.started, location: `/v1/ops/jobs/${begun.started.id}` },
    replayed: false,
    positions: nowhere,
  };
}

function startJob(
  { database, consumers, jobs, ports, rebuild }: RebuildsOptions,
  chosen: readonly Projection[],
  subject: string,
  by: string,
  { action = 'rebuild', sharePercent = sharePercentDefault }: RebuildBody,
): ReturnType<Jobs['start']> {
  return jobs.start({
    kind,
    subject,
    by,
    async run(tell, signal) {
      try {
        switch (action) {
          case 'rebuild':
          case 'check': {
            const readModels = chosen.map(({ name }) => name);
            return await rebuild({ readModels, sharePercent, checkOnly: action === 'check' }, tell, signal);
          }
          case 'back':
            await goBack(database, chosen, ports);
            return { back: chosen.map(({ name }) => name) };
          case 'drop-previous':
            return { dropped: await dropPrevious(database, chosen) };
        }
      } finally {
        // What they remember of the rows is not to be answered with for a moment longer.
        for (const consumer of consumers) consumer.wake();
      }
    },
  });
}

async function bringUpToDate(options: RebuildsOptions, signal: AbortSignal): Promise<void> {
  const { ports, reportTrouble } = options;
  for (let pauseMs = tryAgainFirstMs; !signal.aborted; pauseMs = Math.min(2 * pauseMs, tryAgainMostMs)) {
    try {
      return await rebuildOutdated(options, signal);
    } catch (error) {
      reportTrouble('read models', error);
      await sleep(ports, pauseMs, signal);
    }
  }
}

async function rebuildOutdated(options: RebuildsOptions, signal: AbortSignal): Promise<void> {
  const { database, jobs, ports, projections } = options;
  for (;;) {
    const states = await statesOf(database);
    const outdated = projections.filter(({ name, version }) => (states.get(name)?.version ?? version) < version);
    if (outdated.length === 0 || signal.aborted) return;
    const subject = outdated.map(({ name }) => name).join();
    const begun = await startJob(options, outdated, subject, 'update', { sharePercent: upToDateSharePercent });
    const { id } = 'started' in begun ? begun.started : begun.running;
    for (let job = await jobs.get(id); job?.state === 'running' && !signal.aborted; job = await jobs.get(id)) {
      await sleep(ports, askAgainMs, signal);
    }
    const ended = await jobs.get(id);
    if (ended?.state === 'failed' && 'started' in begun && !signal.aborted) {
      throw new EngineError('rebuild-refused', `the rebuild of ${subject} has failed: ${ended.error}`);
    }
  }
}

type ReadModelState = {
  readonly version: number;
  readonly previousVersion: number | null;
  readonly previousSince: string | null;
};

async function statesOf(database: Database): Promise<Map<string, ReadModelState>> {
  const rows = await database.query<ReadModelState & { readonly name: string }>(
    'read models',
    `select name, version, previous_version as "previousVersion",
       to_char(previous_since at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as "previousSince" from read_models`,
  );
  return new Map(rows.map(({ name, ...state }) => [name, state]));
}

async function positionsOf(database: Database): Promise<Map<string, number>> {
  const rows = await database.query<{ consumer: string; position: number }>(
    'positions of read models',
    'select consumer, position from checkpoints',
  );
  return new Map(rows.map(({ consumer, position }) => [consumer, position]));
}

const nowhere = {};
