/** The walk over the answers that a process keeps in memory. It runs in that process: nobody else has them. */
import type { ReadModels } from '#services/queries/service.ts';
import type { Check, Finding, Walk } from './check.ts';

const check: Check = {
  name: 'cache-is-row',
  invariants: ['I16'],
  compares: 'An answer that is kept in memory is no newer than its row, and has the bytes that the row comes to.',
  cost: 'One read of a row per answer, of the process that answers.',
  policy: 'automatic',
};

const prefix = 'cache/';

export function cacheWalk(
  readModels: Pick<ReadModels, 'answerKeys' | 'auditCache' | 'forgetAnswer' | 'cacheStats'>,
): Walk {
  /** Those there were when the walk began: what is read meanwhile moves to the front. */
  let keys: readonly string[] = [];

  async function findings(which: readonly string[]): Promise<Finding[]> {
    // Side by side: one after the other each would wait for its read alone.
    const found = await Promise.all(which.map((key) => readModels.auditCache([key])));
    return found.flat().map(({ key, difference, kept, row }) => ({
      check: check.name,
      entity: `${prefix}${key}`,
      ...(key.startsWith('order/') ? { orderId: key.slice('order/'.length) } : {}),
      says: `The answer for ${key} that is kept in memory is not what its row says: ${difference}.`,
      expected: { row },
      found: { kept, difference },
      repairs: ['re-project'],
    }));
  }

  return {
    name: 'cache',
    checks: [check],
    size: async () => readModels.cacheStats().entries,
    async look(after, entitiesMax) {
      if (after === null) keys = readModels.answerKeys();
      const from = Number(after ?? 0);
      const chosen = keys.slice(from, from + entitiesMax);
      const next = from + chosen.length < keys.length ? String(from + chosen.length) : null;
      return { looked: chosen.length, findings: await findings(chosen), next };
    },
    lookAt: (entity) => findings([entity.slice(prefix.length)]),
    async repair(finding) {
      readModels.forgetAnswer(finding.entity.slice(prefix.length));
      return { before: finding.found, after: 'forgotten: the next read makes it of its row' };
    },
  };
}
