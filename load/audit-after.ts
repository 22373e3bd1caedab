/** What a system finds when it audits itself: whoever passed a load with a divergence has failed. */
import { setTimeout as delay } from 'node:timers/promises';
import type { JobView } from '#contracts/http.ts';
import type { Shop } from '../tests/shop-client.ts';

export type AuditResult =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'ended';
      readonly seconds: number;
      readonly divergences: readonly string[];
      readonly more: boolean;
    }
  | { readonly kind: 'failed'; readonly why: string };

const askEveryMs = 250;
const auditTimeoutMs = 30 * 60_000;

/** Has everything audited and resolves to the divergences that are open. A system without an audit has `none`. */
export async function auditAfter(shop: Shop): Promise<AuditResult> {
  const beganMs = performance.now();
  const isTooLate = (): boolean => performance.now() - beganMs > auditTimeoutMs;
  const begin = () => shop.request<JobView>('POST', '/v1/ops/audits', { json: {} });
  let begun = await begin();
  // Another one is under way, which began before the load had ended.
  for (; begun.status === 409 && !isTooLate(); begun = await begin()) await delay(askEveryMs);
  if (begun.status === 404) return { kind: 'none' };
  if (begun.status !== 202)
    return { kind: 'failed', why: `it was answered ${begun.status} ${JSON.stringify(begun.body)}` };
  let job = begun.body;
  while (job.state === 'running') {
    if (isTooLate()) return { kind: 'failed', why: `not within ${auditTimeoutMs / 60_000} minutes` };
    await delay(askEveryMs);
    const { status, body } = await shop.get<JobView>(`/v1/ops/jobs/${job.id}`);
    if (status !== 200) return { kind: 'failed', why: `its job was answered ${status}` };
    job = body;
  }
  if (job.state !== 'done') return { kind: 'failed', why: job.error ?? `it is ${job.state}` };
  const found = await shop.get<{ items: readonly Divergence[]; nextCursor: string | null }>(
    '/v1/ops/divergences?state=open&limit=100',
  );
  if (found.status !== 200) return { kind: 'failed', why: `divergences were answered ${found.status}` };
  const { items, nextCursor } = found.body;
  return {
    kind: 'ended',
    seconds: (performance.now() - beganMs) / 1_000,
    divergences: items.map(({ check, entity, says }) => `${check}: ${entity}: ${says}`),
    more: nextCursor !== null,
  };
}

type Divergence = { readonly check: string; readonly entity: string; readonly says: string };
