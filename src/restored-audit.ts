/** The audit of data that come from a backup, before anything runs on them. */
import type { Finding } from '#audit/check.ts';
import { walkOnce } from '#audit/walking.ts';
import { createWalks } from '#audit/walks.ts';
import { systemPorts } from '#platform/ports.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import { type DatabaseOwner, databaseOwners } from '#platform/settings.ts';
import { startSandboxProvider } from '#services/payments/sandbox-provider.ts';
import { sourceOf } from './service-map.ts';

/** What only says something of a system that runs, and what a restore has checked already. */
const leftOut = ['stuck', 'logs'];
/** Reads the ledger. */
const withLedger = 'orders-across';
/** The ledger is younger than the rest: what it alone knows is for the audit of the running system to settle. */
const checksLeftOut = ['ledger-agrees', 'charged-once', 'effect-has-order'];
const pieceEntitiesMax = 500;
const walksAtOnceMax = 4;
const connectionsMax = 6;

/**
 * Looks once at everything in the databases at `urls`, with the payment provider's ledger beside them (null: it is not
 * ours). Resolves to what diverges, or cannot be looked at; null: some database is not there, and nothing was looked at.
 */
export async function auditRestored(
  urls: ReadonlyMap<string, string>,
  ledgerFile: string | null,
  signal: AbortSignal,
  onProgress: (done: number, of: number) => void,
): Promise<readonly Pick<Finding, 'check' | 'entity' | 'says'>[] | null> {
  if (databaseOwners.some((owner) => !urls.has(owner))) return null;
  const databases = Object.fromEntries(
    databaseOwners.map((owner) => [
      owner,
      openDatabase(urls.get(owner)!, { applicationName: 'twofold backup', poolMax: connectionsMax }),
    ]),
  ) as Record<DatabaseOwner, Database>;
  const provider = ledgerFile === null ? null : await startSandboxProvider({ host: '127.0.0.1', port: 0, ledgerFile });
  const found: Finding[] = [];
  try {
    const walks = createWalks({
      databases,
      sourceOf,
      providerUrl: provider?.url ?? '',
      ports: systemPorts,
      // Of what is left out.
      idempotencyRetentionHours: 0,
    }).filter(({ name }) => !leftOut.includes(name) && (provider !== null || name !== withLedger));
    const states = await walkOnce(
      {
        walks,
        recorder: {
          async confirmed(findings) {
            found.push(...findings);
            return [];
          },
          async gone() {},
          open: async () => [],
        },
        ports: systemPorts,
        sharePercent: 100,
        pieceEntitiesMax,
        walksAtOnceMax,
        checks: walks
          .flatMap((walk) => walk.checks.map(({ name }) => name))
          .filter((name) => !checksLeftOut.includes(name)),
        signal,
        reportTrouble: () => {},
      },
      {},
      (now) => {
        const sum = (of: 'looked' | 'of'): number => Object.values(now).reduce((total, state) => total + state[of], 0);
        onProgress(Math.min(sum('looked'), sum('of')), sum('of'));
      },
    );
    signal.throwIfAborted();
    // Data in which something is wrong are restored all the same: they are what there is.
    const troubles = Object.entries(states).flatMap(([walk, { trouble }]) =>
      trouble === null ? [] : [{ check: walk, entity: 'everything', says: `It could not be looked at: ${trouble}.` }],
    );
    return [...found, ...troubles];
  } finally {
    await provider?.stop();
    await Promise.all(Object.values(databases).map((database) => database.end()));
  }
}
