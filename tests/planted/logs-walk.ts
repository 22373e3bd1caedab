/** The checks of the logs themselves, as one more walk. What is stored beside the events is left to the walks over that. */
import type { ShopServiceName } from '#contracts/service.ts';
import type { Anchor } from '#cqrs/event-log.ts';
import { checkAnchor, checkLog, logBeginning, type LogFinding, type LogPlace } from '#cqrs/log-integrity.ts';
import { checkCheckpoints } from '#cqrs/source-epoch.ts';
import type { Database } from '#platform/postgres.ts';
import type { DatabaseOwner } from '#platform/settings.ts';
import type { Finding, Walk } from '../../src/audit/check.ts';
import { auditedServices } from '../../src/audit/evidence.ts';
import { serviceOf, sourceOf } from '../../src/service-map.ts';

export function logsWalk(
  databases: Readonly<Record<DatabaseOwner, Database>>,
  anchors: ReadonlyMap<ShopServiceName, Anchor>,
): Walk {
  return {
    name: 'logs',
    checks: [],
    size: async () => auditedServices.length,
    async look() {
      const findings: Finding[] = [];
      for (const service of auditedServices) {
        const all = await checkAnchor(databases[service], anchors.get(service)!);
        for (let place: LogPlace | null = logBeginning; place !== null;) {
          const piece = await checkLog(databases[service], { place, eventsMax: 1_000, movedByOthers: ['stock'] });
          all.push(...piece.findings);
          place = piece.next;
        }
        findings.push(...all.filter(isOfLog).map((one) => findingOf(sourceOf(service), one)));
      }
      for (const [owner, database] of Object.entries(databases)) {
        const headOf = async (source: string): Promise<number> => {
          const rows = await databases[serviceOf(source)].query<{ position: number }>(
            '',
            'select position from log_head',
          );
          return rows[0]!.position;
        };
        for (const one of await checkCheckpoints(database, headOf))
          findings.push(findingOf(`${owner}/${one.consumer}`, one));
      }
      return { looked: auditedServices.length, findings, next: null };
    },
    lookAt: async () => [],
  };
}

function isOfLog({ kind, position, expected, found }: LogFinding): boolean {
  if (kind === 'slot') return position !== undefined && !found.startsWith(`${expected}, `);
  return kind !== 'stream-missing' && kind !== 'stream-version';
}

const findingOf = (entity: string, { kind, stream, expected, found }: LogFinding): Finding => ({
  check: kind,
  entity,
  says: stream ?? '',
  expected,
  found,
  repairs: [],
});
