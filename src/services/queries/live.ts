/** The live streams of the read side, and what they are made of. */
import type { StreamRoute } from '#contracts/routes.ts';
import type { Positions } from '#cqrs/consistency-token.ts';
import type { ReportTrouble } from '#cqrs/consumer.ts';
import type { Feed } from '#cqrs/feed.ts';
import type { Ports } from '#platform/ports.ts';
import type { Database } from '#platform/postgres.ts';
import { eventStreams } from './event-streams.ts';
import { orderStreams } from './order-streams.ts';
import type { FindOrder } from './orders.ts';

export type LiveParts = {
  /** One of every log. */
  readonly feeds: readonly Feed[];
  /** The last position of a source, asked of its database. */
  headOf(source: string): Promise<number>;
  /** Whether the read side has applied `positions`, waiting up to `waitMs`. */
  caughtUp(positions: Positions, waitMs: number): Promise<boolean>;
  /** What the read side has applied. */
  positions(): Positions;
  readonly reportTrouble: ReportTrouble;
  readonly ports?: Ports;
};

export type Streams = { readonly routes: readonly StreamRoute[]; stop(): Promise<void> };

export function liveStreams(database: Database, findOrder: FindOrder, parts: LiveParts): Streams {
  const kinds = [orderStreams(database, findOrder, parts), eventStreams(database, parts)];
  return {
    routes: kinds.flatMap(({ routes }) => routes),
    async stop() {
      await Promise.all(kinds.map((kind) => kind.stop()));
    },
  };
}
