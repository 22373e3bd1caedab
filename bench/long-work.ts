/** Waiting for what takes minutes in a running system, with its progress shown. */
import type { JobView } from '#contracts/http.ts';
import type { Progress } from '#platform/progress-bar.ts';
import type { TestProgram } from '../tests/running-program.ts';
import { type Shop, until } from '../tests/shop-client.ts';

const timeoutMs = 3_600_000;

/** Resolves once the read side has applied `events` events, and all that there are. */
export async function caughtUp(
  { shop }: Pick<TestProgram, 'shop'>,
  progress: Pick<Progress, 'begin' | 'reach' | 'end'>,
  events: number,
): Promise<void> {
  progress.begin('projecting', events);
  await until(
    'the read side has caught up',
    async () => {
      const { position, lag } = await shownUpTo(shop);
      progress.reach(position);
      return position >= events && lag === 0 ? true : null;
    },
    timeoutMs,
  );
  progress.end();
}

/** Events of all logs that the read side has applied, and how many it has not. */
export async function shownUpTo(shop: Shop): Promise<{ readonly position: number; readonly lag: number }> {
  const { body } = await shop.get<{ details: { consumer: string; position: number; lag: number }[] }>('/readyz');
  const readSide = body.details.filter(({ consumer }) => consumer.startsWith('projections-of-'));
  const sum = (of: (one: (typeof readSide)[number]) => number): number =>
    readSide.reduce((all, one) => all + of(one), 0);
  return { position: sum(({ position }) => position), lag: sum(({ lag }) => lag) };
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
