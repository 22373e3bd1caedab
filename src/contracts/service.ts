/** What every command service is made of, and what it is given. The same plan for all of them. */
import type { AnyStreamType, CommandBus } from '#cqrs/command-bus.ts';
import type { Consumer, ReportTrouble } from '#cqrs/consumer.ts';
import type { EventLog } from '#cqrs/event-log.ts';
import type { Feed } from '#cqrs/feed.ts';
import type { InlineTable } from '#cqrs/table-rows.ts';
import type { Timers } from '#cqrs/timers.ts';
import type { Ports } from '#platform/ports.ts';
import type { CommandRoute } from './routes.ts';

/** The services of a shop. */
export type ShopServiceName = 'catalog' | 'ordering' | 'inventory' | 'payments';
/** All that record events: `audit` records what diverges. */
export type CommandServiceName = ShopServiceName | 'audit';

export type ServiceParts = {
  readonly log: EventLog;
  readonly bus: CommandBus;
  readonly ports: Ports;
  /** A feed of another service's log. */
  feedOf(service: CommandServiceName): Feed;
  /** The head of another service's log, asked of its database. */
  headOf(service: CommandServiceName): Promise<number>;
  readonly reportTrouble: ReportTrouble;
};

/** A service while it runs. */
export type RunningService = {
  readonly consumers: readonly Consumer[];
  readonly timers: Timers | null;
  /** What it calls outside of the system; `open` calls have no answer yet, the oldest of them for `oldestMs`. */
  readonly outside?: {
    readonly name: string;
    statistics(): { readonly calls: number; readonly open: number; readonly oldestMs: number };
  };
  /** Stops what only this service has, beyond consumers and timers. */
  stop?(): void | Promise<void>;
};

export type Service = RunningService & { readonly routes: readonly CommandRoute[] };

/** What a service stores that follows from its log: the states of its streams, and the tables beside them. */
export type Audited = {
  readonly streams: readonly AnyStreamType[];
  readonly tables: readonly InlineTable[];
};
