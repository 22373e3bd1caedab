/** One full pass over walks, as an audit on demand makes it. */
import type { Finding, Walk } from '../../src/audit/check.ts';

/** What a whole pass over `walks` finds, one after the other. */
export async function fullPass(walks: readonly Walk[], entitiesMax = 500): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const walk of walks) {
    for (let after: string | null = null; ;) {
      const piece = await walk.look(after, entitiesMax);
      findings.push(...piece.findings);
      if (piece.next === null) break;
      after = piece.next;
    }
  }
  return findings;
}
