/** The streams that audit keeps: one per divergence, and one of the anchors that it has taken of all logs. */
import type { AnchorsTaken } from '#contracts/audit.ts';
import type { StreamType } from '#cqrs/command-bus.ts';
import type { InlineTable } from '#cqrs/table-rows.ts';
import { type Divergence, divergence } from './divergence.ts';

export const divergenceStream: StreamType<Divergence> = {
  name: 'divergence',
  initial: divergence.initial,
  evolve: (state, event) => divergence.evolve(state, event as never),
};

/** What the table beside the audit's log is given by its appends, as `schema/102-rows-come-in-columns.sql` writes it. */
export const auditTables: readonly InlineTable[] = [
  {
    of: divergenceStream.name,
    table: {
      name: 'divergences',
      key: ['id'],
      columns: {
        id: 'text',
        check_name: 'text',
        entity: 'text',
        order_id: 'text',
        status: 'text',
        first_seen: 'timestamptz',
        last_seen: 'timestamptz',
        version: 'integer',
        state: 'json',
      },
    },
    rowsOf({ id, version, state }) {
      const now = state as Divergence;
      if (now.status === 'none') return [];
      const { seen, status, firstSeen, seenAt } = now;
      return [
        {
          id,
          check_name: seen.check,
          entity: seen.entity,
          order_id: seen.orderId ?? null,
          status,
          first_seen: firstSeen,
          last_seen: seenAt,
          version,
          state: JSON.stringify(now),
        },
      ];
    },
  },
];

/** The latest last. */
export type Anchors = { readonly taken: readonly AnchorsTaken['data'][] };

const takenMax = 32;

export const anchorsStream: StreamType<Anchors> = {
  name: 'anchors',
  initial: { taken: [] },
  evolve: ({ taken }, event) => ({ taken: thinned([...taken, (event as AnchorsTaken).data]) }),
};
export const anchorsId = 'logs';

/** Of the older half every other one goes: the further back, the fewer, and the first always stays. */
function thinned<T>(taken: readonly T[]): readonly T[] {
  if (taken.length <= takenMax) return taken;
  const half = taken.length / 2;
  return taken.filter((_one, n) => n > half || n % 2 === 0);
}
