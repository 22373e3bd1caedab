/** Long work that an operator asks for: it goes on when the request is answered, and tells how far it has come. */
import { hash } from 'node:crypto';
import { JobParams, JobView } from '#contracts/http.ts';
import type { QueryRequest, QueryRoute } from '#contracts/routes.ts';
import { type Ports, sleep, timeNow } from '#platform/ports.ts';
import type { Database } from '#platform/postgres.ts';

export type JobProgress = { readonly phase?: string; readonly done: number; readonly of: number };

export type Job = {
  readonly kind: string;
  readonly subject: string;
  /** Who asked for it. */
  readonly by: string;
  /** Resolves to the outcome, plain JSON. */
  run(tell: (progress: JobProgress) => void, signal: AbortSignal): Promise<object>;
};

export type Jobs = {
  /** Starts a job, unless one of its kind is under way: then that one. */
  start(job: Job): Promise<{ readonly started: JobView } | { readonly running: JobView }>;
  get(id: string): Promise<JobView | null>;
  /** The one of that kind that is under way, here or in another process. */
  running(kind: string): Promise<JobView | null>;
  /** Ends those of this process; they are `failed`. */
  stop(): Promise<void>;
};

const writeEveryMs = 500;
/** A job that has not been heard of for so long has died with its process. */
const silentMaxMs = 15_000;
const jobsKeptMax = 1_000;

/**
 * `database` has the tables of the folder `checkpoints`.
 *
 * Promises:
 * - of several that are asked for at once one is begun, and the others are told which
 * - who asks for a job just as another one ends is told of that one
 * - what a job has come to is written down, also when the database is away just then
 */
export function createJobs(
  database: Database,
  options: { readonly ports: Ports; reportTrouble(who: string, error: unknown): void },
): Jobs {
  const { ports, reportTrouble } = options;
  const underWay = new Map<string, { readonly stop: AbortController; readonly ended: Promise<void> }>();

  async function find(where: string, name: string, values: readonly unknown[]): Promise<JobView | null> {
    const rows = await database.query<JobRow>(
      name,
      `${selectJob} where ${where} order by started_at desc limit 1`,
      values,
    );
    return rows[0] === undefined ? null : viewOf(rows[0], ports.now());
  }

  const get = (id: string): Promise<JobView | null> => find('id = $1', 'job', [id]);
  const running = (kind: string): Promise<JobView | null> =>
    find(`kind = $1 and state = 'running' and heard_at > $2`, 'running job', [kind, aliveSince()]);
  const aliveSince = (): string => new Date(ports.now() - silentMaxMs).toISOString();

  async function work(id: string, job: Job, signal: AbortSignal): Promise<void> {
    let progress: JobProgress = { done: 0, of: 0 };
    let rates: Rates = { phase: undefined, since: ports.elapsed(), from: 0 };
    let writing: Promise<unknown> = Promise.resolve();
    const write = (text: string, name: string, values: readonly unknown[]): void => {
      writing = writing
        .then(() => database.query(name, text, values))
        .catch((error: unknown) => reportTrouble(id, error));
    };
    const noted = (): string => JSON.stringify({ ...progress, rate: rateOf(progress, rates, ports.elapsed()) });
    const cancel = ports.every(writeEveryMs, () =>
      write('update jobs set heard_at = $2, progress = $3 where id = $1', 'job goes on', [id, timeNow(ports), noted()]),
    );
    let state = 'done';
    let outcome: object;
    try {
      outcome = await job.run((told) => {
        if (told.phase !== rates.phase) rates = { phase: told.phase, since: ports.elapsed(), from: told.done };
        progress = told;
      }, signal);
    } catch (error) {
      state = 'failed';
      outcome = { error: (error as Error).message };
      reportTrouble(id, error);
    } finally {
      cancel();
    }
    await writing;
    for (let isWritten = false; !isWritten;) {
      try {
        await database.query(
          'job has ended',
          'update jobs set heard_at = $2, progress = $3, state = $4, outcome = $5 where id = $1',
          [id, timeNow(ports), noted(), state, JSON.stringify(outcome)],
        );
        isWritten = true;
      } catch (error) {
        reportTrouble(id, error);
        if (signal.aborted) break;
        await sleep(ports, writeEveryMs, signal);
      }
    }
    underWay.delete(id);
  }

  return {
    get,
    running,
    async start(job) {
      const id = `${job.kind}-${ports.newId()}`;
      const rows = await database.transaction(async (sql) => {
        // Who starts one at the same time sees this one.
        await sql.query('start jobs one by one', 'select pg_advisory_xact_lock(hashtext($1))', [`job ${job.kind}`]);
        // One statement: a job that ends meanwhile stands in the way, or does not.
        return sql.query<JobRow>(
          'start job',
          `with other as (${selectJob} where kind = $2 and state = 'running' and heard_at > $6),
           begun as (
             insert into jobs (id, kind, subject, state, started_by, started_at, heard_at, progress)
             select $1, $2, $3, 'running', $4, $5::timestamptz, $5::timestamptz, '{"done":0,"of":0,"rate":0}'
             where not exists (select from other))
           select * from other`,
          [id, job.kind, job.subject, job.by, timeNow(ports), aliveSince()],
        );
      });
      if (rows[0] !== undefined) return { running: viewOf(rows[0], ports.now()) };
      await database.query(
        'forget jobs',
        `delete from jobs where id in (select id from jobs order by started_at desc offset $1)`,
        [jobsKeptMax],
      );
      const stop = new AbortController();
      underWay.set(id, { stop, ended: work(id, job, stop.signal) });
      return { started: (await get(id))! };
    },
    async stop() {
      const all = [...underWay.values()];
      for (const { stop } of all) stop.abort();
      await Promise.all(all.map(({ ended }) => ended));
    },
  };
}

/** Of the jobs in all databases that have some. */
export const jobRoute = (all: readonly Jobs[]): QueryRoute => ({
  method: 'GET',
  url: '/v1/ops/jobs/:id',
  summary: 'How far a job has come, and what came of it',
  tag: 'operations',
  audience: 'operator',
  params: JobParams,
  answers: { 200: JobView },
  caughtUp: async () => true,
  positions: () => ({}),
  async read({ params: { id } }: QueryRequest<JobParams>) {
    const found = await Promise.all(all.map((jobs) => jobs.get(id)));
    const job = found.find((one) => one !== null);
    if (job === undefined) return { refused: { code: 'job-not-found', detail: `There is no job ${id}.` } };
    const bytes = JSON.stringify(job);
    // A job has no version: what is told of it changes with time, too.
    return { bytes, etag: hash('sha256', bytes, 'base64url') };
  },
});

/** Where a phase began: rates are those of the phase. */
type Rates = { readonly phase: string | undefined; readonly since: number; readonly from: number };

function rateOf({ done }: JobProgress, { since, from }: Rates, now: number): number {
  const seconds = (now - since) / 1_000;
  return seconds < 0.1 ? 0 : Math.round((10 * (done - from)) / seconds) / 10;
}

type JobRow = Pick<JobView, 'id' | 'kind' | 'subject' | 'startedBy' | 'startedAt'> & {
  readonly state: 'running' | 'done' | 'failed';
  readonly heardAt: string;
  readonly progress: string;
  readonly outcome: string | null;
};

const time = (column: string): string => `to_char(${column} at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;
const selectJob = `
  select id, kind, subject, state, started_by as "startedBy", ${time('started_at')} as "startedAt",
    ${time('heard_at')} as "heardAt", progress, outcome from jobs`;

function viewOf(row: JobRow, nowMs: number): JobView {
  const { heardAt, outcome, progress, state, ...shown } = row;
  const { phase, done, of, rate } = JSON.parse(progress) as JobProgress & { readonly rate: number };
  const silent = state === 'running' && nowMs - Date.parse(heardAt) > silentMaxMs;
  const came = outcome === null ? null : (JSON.parse(outcome) as { error?: string });
  return {
    ...shown,
    state: silent ? 'interrupted' : state,
    ...(phase === undefined ? {} : { phase }),
    progress: state === 'done' ? 1 : of === 0 ? 0 : Math.min(1, done / of),
    done,
    of,
    rate,
    secondsLeft: state === 'running' && rate > 0 ? Math.ceil((of - done) / rate) : state === 'done' ? 0 : null,
    ...(came === null ? {} : state === 'failed' ? { error: came.error ?? '' } : { outcome: came }),
  };
}
