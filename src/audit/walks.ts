/** All walks of the audit, except that over the answers in memory. */
import type { CommandServiceName, ShopServiceName } from '#contracts/service.ts';
import type { CommandBus } from '#cqrs/command-bus.ts';
import type { Ports } from '#platform/ports.ts';
import type { Database } from '#platform/postgres.ts';
import type { DatabaseOwner } from '#platform/settings.ts';
import type { Walk } from './check.ts';
import { logWalk } from './log-walk.ts';

export type WalkParts = {
  readonly databases: Readonly<Record<DatabaseOwner, Database>>;
  sourceOf(service: CommandServiceName): string;
  /** `http://host:port` of the payment provider, whose ledger is read. */
  readonly providerUrl: string;
  readonly ports: Ports;
  readonly idempotencyRetentionHours: number;
  /** Only where all services run; without it nothing is repaired. */
  readonly corrections?: {
    readonly buses: Readonly<Record<ShopServiceName, CommandBus>>;
    /** Rows of the read database were replaced: whoever remembers some here asks anew at once; others do within seconds. */
    rowsReplaced(): void;
  };
};

export function createWalks(parts: WalkParts): Walk[] {
  return [logWalk(parts)];
}
