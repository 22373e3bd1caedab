/** The bodies of the audit's part of the HTTP contract. */
import Type, { type Static } from 'typebox';
import { repairStrategies } from './audit.ts';
import { AddressedIdSchema, Closed, NOT_BLANK, TimeSchema } from './values.ts';

const OneOf = <T extends string>(...words: T[]) => Type.Unsafe<T>(Type.String({ enum: words }));
const CheckName = Type.String({ pattern: '^[a-z][a-z0-9-]{0,62}$' });
const OrNull = <T extends Parameters<typeof Type.Array>[0]>(schema: T) => Type.Union([schema, Type.Null()]);

export const AuditBody = Closed({
  checks: Type.Optional(
    Type.Array(CheckName, {
      minItems: 1,
      maxItems: 100,
      uniqueItems: true,
      description: 'the checks to be made; without it all of them',
    }),
  ),
});
export type AuditBody = Static<typeof AuditBody>;

const WalkProgress = {
  name: Type.String(),
  looked: Type.Integer({ minimum: 0, description: 'entities looked at in this round' }),
  of: Type.Integer({ minimum: 0, description: 'entities there are, about' }),
};

export const AuditsView = Closed({
  checks: Type.Array(
    Closed({
      name: Type.String(),
      invariants: Type.Array(Type.String()),
      compares: Type.String(),
      cost: Type.String(),
      policy: OneOf('automatic', 'ask'),
      walk: Type.String({ description: 'checks of one walk read the same rows' }),
      open: Type.Integer({ minimum: 0, description: 'divergences that are open' }),
      lastLookedAt: OrNull(TimeSchema),
    }),
  ),
  rolling: Closed({
    state: Type.Unsafe<'off' | 'starting' | 'walking' | 'waiting' | 'silent'>(
      Type.String({
        enum: ['off', 'starting', 'walking', 'waiting', 'silent'],
        description: '`waiting`: for the next round; `silent`: not heard of for three minutes',
      }),
    ),
    sharePercent: Type.Integer({ minimum: 0, description: 'of one core' }),
    periodMinutes: Type.Integer({ minimum: 1 }),
    periodKept: Type.Boolean({ description: 'false: the round takes longer than the period' }),
    roundBeganAt: OrNull(TimeSchema),
    heardAt: OrNull(TimeSchema),
    progress: Type.Number({ minimum: 0, maximum: 1, description: 'of the round' }),
    walks: Type.Array(
      Closed({
        ...WalkProgress,
        ended: Type.Boolean(),
        lastEndedAt: OrNull(TimeSchema),
        trouble: Type.Optional(Type.String({ description: 'why it could not come to its end' })),
      }),
    ),
    lastRound: OrNull(
      Closed({
        beganAt: TimeSchema,
        endedAt: TimeSchema,
        looked: Type.Integer({ minimum: 0 }),
        sharePercent: Type.Number({ minimum: 0, description: 'of one core, as it turned out' }),
      }),
    ),
  }),
  job: Type.Optional(Type.String({ description: 'of the full audit under way' })),
});
export type AuditsView = Static<typeof AuditsView>;

/** What a full audit's job has come to. */
export type AuditOutcome = {
  readonly walks: readonly {
    readonly name: string;
    readonly looked: number;
    readonly workedMs: number;
    /** Divergences met, also those known before. */
    readonly found: number;
    /** Of them, those beyond the number that is recorded per check. */
    readonly notRecorded: number;
  }[];
  /** Divergences of the checks made that are open now, by check. */
  readonly open: Readonly<Record<string, number>>;
};

export const divergenceStates = ['open', 'repaired', 'accepted', 'gone'] as const;
export const strategies = [...repairStrategies, 'accept'] as const;

export const DivergenceParams = Closed({ id: AddressedIdSchema });
export type DivergenceParams = Static<typeof DivergenceParams>;

export const DivergenceQuery = Closed({
  state: Type.Optional(OneOf(...divergenceStates)),
  check: Type.Optional(CheckName),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 20 })),
  cursor: Type.Optional(Type.String({ minLength: 1, maxLength: 1_024 })),
});
export type DivergenceQuery = Static<typeof DivergenceQuery>;

export const DivergenceView = Closed({
  id: Type.String(),
  check: Type.String(),
  entity: Type.String({ description: 'a stream, a row, a place in a log, or a consumer' }),
  orderId: Type.Optional(Type.String()),
  state: OneOf(...divergenceStates),
  says: Type.String(),
  expected: Type.Unknown({ description: 'JSON; what is very large is cut' }),
  found: Type.Unknown({ description: 'JSON; what is very large is cut' }),
  diff: Type.Array(Type.String(), { description: 'the JSON paths that differ, 50 at most' }),
  firstSeen: TimeSchema,
  lastSeen: TimeSchema,
  since: Type.String({ format: 'date-time', description: 'RFC 3339: since when it has this state' }),
  repairs: Type.Array(OneOf(...strategies), { description: 'what is possible, what is advised first' }),
  acts: Type.Array(
    Closed({
      what: OneOf('repaired', 'repair-failed', 'accepted'),
      at: TimeSchema,
      by: Type.String(),
      reason: Type.String(),
      strategy: Type.Optional(OneOf(...repairStrategies)),
      before: Type.Optional(Type.Unknown()),
      after: Type.Optional(Type.Unknown()),
      trouble: Type.Optional(Type.String({ description: 'why the repair failed' })),
    }),
    { description: 'what was done about it, the latest last' },
  ),
  version: Type.Integer({ minimum: 1 }),
});
export type DivergenceView = Static<typeof DivergenceView>;
export const DivergenceList = Closed({ items: Type.Array(DivergenceView), nextCursor: OrNull(Type.String()) });
export type DivergenceList = Static<typeof DivergenceList>;

export const ResolveBody = Closed({
  strategy: OneOf(...strategies),
  reason: Type.String({ minLength: 1, maxLength: 500, pattern: NOT_BLANK }),
});
export type ResolveBody = Static<typeof ResolveBody>;

const Anchor = Closed({
  source: Type.String(),
  epoch: Type.String({ description: 'of the life of the log' }),
  position: Type.Integer({ minimum: 0 }),
  hash: Type.String({ description: 'SHA-256 of all up to there' }),
});
export const AnchorsView = Closed({
  now: Type.Array(Anchor, { description: 'where the logs stand; kept elsewhere, it proves later what they held' }),
  kept: Type.Array(Closed({ at: TimeSchema, anchors: Type.Array(Anchor) }), {
    description: 'what the audit compares with, the latest first',
  }),
});
export type AnchorsView = Static<typeof AnchorsView>;
