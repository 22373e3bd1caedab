/** Whether a run has kept what the profiles ask for. */
import type { AuditResult } from './audit-after.ts';
import type { Measured } from './measure.ts';
import { limits } from './profiles.ts';

export type Verdict = {
  readonly what: string;
  readonly found: string;
  readonly must: string;
  /** Empty: there is none. */
  readonly aim: string;
  readonly kept: boolean;
  /** How long something took: a machine that does other things, too, may miss it. */
  readonly isTime: boolean;
};

/** `audit` null: it was not asked for. */
export function judge(
  { latencies, freshness, totals, brokenOff }: Measured,
  audit: AuditResult | null,
): readonly Verdict[] {
  const errors = Object.values(totals.errors).reduce((sum, count) => sum + count, 0);
  const ends = latencies['ends'];
  const verdicts: Verdict[] = [];
  const within = (what: string, ms: number | undefined, { must, aim }: { must: number; aim: number }): void => {
    if (ms === undefined) return;
    verdicts.push({
      what,
      found: `${shown(ms)} ms`,
      must: `< ${must} ms`,
      aim: `${aim} ms`,
      kept: ms < must,
      isTime: true,
    });
  };
  within('orders placed, p99', latencies['place']?.p99, limits.place);
  within('reads, p99', latencies['reads']?.p99, limits.reads);
  within('own writes readable under their token, p99', latencies['own write']?.p99, limits.freshness);
  if (freshness !== null) {
    const { must, aim } = limits.freshness;
    const found = freshness.allShown ? `≤ ${shown(freshness.p99)} ms` : 'not all shown';
    // A bound of a bucket: what is in it is below or equal.
    const kept = freshness.allShown && freshness.p99 <= must;
    const what = 'freshness of all events, p99';
    verdicts.push({ what, found, must: `< ${must} ms`, aim: `${aim} ms`, kept, isTime: freshness.allShown });
  }
  if (ends !== undefined) {
    const { must, aim } = limits.ends;
    const found = totals.ordersOpen > 0 ? `${totals.ordersOpen} of ${ends.count} never` : `${shown(ends.max)} ms`;
    const kept = totals.ordersOpen === 0 && ends.max < must;
    const isTime = totals.ordersOpen === 0;
    verdicts.push({ what: 'orders final, all of them', found, must: `< ${must} ms`, aim: `${aim} ms`, kept, isTime });
  }
  verdicts.push({ what: 'errors', found: String(errors), must: '0', aim: '0', kept: errors === 0, isTime: false });
  if (brokenOff !== null)
    verdicts.push({ what: 'run to its end', found: brokenOff, must: 'yes', aim: '', kept: false, isTime: false });
  if (audit !== null && audit.kind !== 'none') verdicts.push(auditVerdict(audit));
  return verdicts;
}

/** `smoke`: whatever the times are. */
export const isPassed = (verdicts: readonly Verdict[], smoke: boolean): boolean =>
  verdicts.every(({ kept, isTime }) => kept || (smoke && isTime));

function auditVerdict(audit: Exclude<AuditResult, { kind: 'none' }>): Verdict {
  const what = 'divergences after a full audit';
  if (audit.kind === 'failed')
    return { what, found: `it failed: ${audit.why}`, must: '0', aim: '0', kept: false, isTime: false };
  const count = audit.divergences.length;
  return {
    what,
    found: `${count}${audit.more ? ' and more' : ''}`,
    must: '0',
    aim: '0',
    kept: count === 0,
    isTime: false,
  };
}

const shown = (ms: number): string => (ms >= 100 || Number.isInteger(ms) ? ms.toFixed(0) : ms.toFixed(1));
