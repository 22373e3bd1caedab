/** What audit publishes: what diverges, and what was done about it. Home stream of each: `divergence-<divergenceId>`. */
import Type, { type Static } from 'typebox';
import { Closed, OrderIdSchema, TimeSchema } from './values.ts';

/** How a divergence can be settled by changing something. */
export const repairStrategies = ['re-project', 'last-write-wins', 'correct'] as const;
const RepairStrategy = Type.Union([
  Type.Literal('re-project'),
  Type.Literal('last-write-wins'),
  Type.Literal('correct'),
]);

const divergence = {
  divergenceId: Type.String({ pattern: '^[0-9a-f]{32}$' }),
  orderId: Type.Optional(OrderIdSchema),
  /** When it was seen, or something was done about it. */
  at: TimeSchema,
};
const found = {
  ...divergence,
  check: Type.String(),
  /** What diverges: a stream, a row, a place in a log, a consumer. */
  entity: Type.String(),
  says: Type.String(),
  /** JSON; what is very large is cut. */
  expected: Type.Unknown(),
  found: Type.Unknown(),
  /** Of `expected` and `found`: the same finding again has the same. */
  fingerprint: Type.String(),
  /** What is possible, what is advised first. */
  repairs: Type.Array(RepairStrategy),
};

export const auditEvents = {
  DivergenceFound: Closed(found),
  /** It was over, and is there again; or it was accepted as something else. */
  DivergenceReopened: Closed(found),
  /** It is still there, as something else. */
  DivergenceChanged: Closed(found),
  /** A later look does not see it any more, and nobody has repaired it here. */
  DivergenceGone: Closed(divergence),
  DivergenceRepaired: Closed({
    ...divergence,
    strategy: RepairStrategy,
    by: Type.String(),
    reason: Type.String(),
    before: Type.Unknown(),
    after: Type.Unknown(),
  }),
  DivergenceAccepted: Closed({ ...divergence, by: Type.String(), reason: Type.String() }),
  RepairFailed: Closed({
    ...divergence,
    strategy: RepairStrategy,
    by: Type.String(),
    reason: Type.String(),
    trouble: Type.String(),
  }),
  /** Where the logs stood: a later look can tell whether they still hold what they held then. Home stream: `anchors-logs`. */
  AnchorsTaken: Closed({
    at: TimeSchema,
    anchors: Type.Array(
      Closed({
        source: Type.String(),
        epoch: Type.String(),
        position: Type.Integer({ minimum: 0 }),
        hash: Type.String(),
      }),
    ),
  }),
} as const;

type Events = typeof auditEvents;
export type DivergenceEvent = {
  [Name in Exclude<keyof Events, 'AnchorsTaken'>]: { readonly type: Name; readonly data: Static<Events[Name]> };
}[Exclude<keyof Events, 'AnchorsTaken'>];
export type DivergenceFound = Extract<DivergenceEvent, { type: 'DivergenceFound' }>;
export type AnchorsTaken = { readonly type: 'AnchorsTaken'; readonly data: Static<Events['AnchorsTaken']> };
export type TakenAnchor = AnchorsTaken['data']['anchors'][number];
