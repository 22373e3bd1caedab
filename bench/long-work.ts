/** Waiting for what takes minutes in a running system, with its progress shown. */
import type { JobView } from '#contracts/http.ts';
import type { Progress } from '#platform/progress-bar.ts';
import type { TestProgram } from '../tests/running-program.ts';
import { until } from '../tests/shop-client.ts';

const timeoutMs = 3_600_000;

/** Resolves once the read side has applied `events` events, and all that there are. */
export async function caughtUp({ shop }: TestProgram, progress: Progress, events: number): Promise<void> {
  progress.begin('projecting', events);
  await until(
    'the read side has caught up',
    async () => {
      const { body } = await shop.get<{ details: { consumer: string; position: number; lag: number }[] }>('/readyz');
      const readSide = body.details.filter(({ consumer }) => consumer.startsWith('projections-of-'));
      const position = readSide.reduce((sum, one) => sum + one.position, 0);
      progress.reach(position);
      return position >= events && readSide.every(({ lag }) => lag === 0) ? true : null;
    },
    timeoutMs,
  );
  progress.end();
}

/** Has an operator's job done, and resolves to its outcome. Rejects when it fails. */
export async function jobDone<Outcome>({ shop }: TestProgram, path: string, json: object): Promise<Outcome> {
  const begun = await shop.request<JobView>('POST', path, { json });
  const job = await until(
    `the job of ${path} has ended`,
    async () => {
      const { body } = await shop.get<JobView>(`/v1/ops/jobs/${begun.body.id}`);
      return body.state === 'running' ? null : body;
    },
    timeoutMs,
  );
  if (job.state !== 'done') throw new Error(`the job of ${path} has failed: ${job.error}`);
  return job.outcome as Outcome;
}
