/**
 * What the audit's checks are made of. Checks that read the same rows share a walk: it goes over everything
 * once, in pieces, so that it can be slowed down, stopped, and gone on with.
 */

/** How a divergence can be settled. */
export type Strategy = 're-project' | 'last-write-wins' | 'correct' | 'accept';

/** One thing that is compared, all over the system. */
export type Check = {
  /** Stable, kebab-case: `state-is-fold`. */
  readonly name: string;
  /** As in the list of what must always hold: `I21`. */
  readonly invariants: readonly string[];
  /** A sentence. */
  readonly compares: string;
  /** A sentence: what looking at one entity takes. */
  readonly cost: string;
  /** Whether a divergence is repaired at once, by the first of its finding's repairs, or waits for an operator. */
  readonly policy: 'automatic' | 'ask';
};

/** Something that does not hold, as one look saw it. It is a divergence once a later look says the same. */
export type Finding = {
  /** The name of the check. */
  readonly check: string;
  /** What diverges: a stream (`ordering.0/order-42`), a row (`queries/orders/42`), a place in a log (`inventory.0@1234`), a consumer. */
  readonly entity: string;
  /** The order that it concerns, if it concerns one. */
  readonly orderId?: string;
  /** A sentence for people. */
  readonly says: string;
  /** JSON. */
  readonly expected: unknown;
  /** JSON. */
  readonly found: unknown;
  /** What can be done, what is advised first. `accept` is always possible and not among them. */
  readonly repairs: readonly Exclude<Strategy, 'accept'>[];
};

/** What a look at some entities came to. */
export type Looked = {
  readonly findings: readonly Finding[];
  /** What could not be looked at, and why. */
  readonly leftOut?: string;
};

export type Piece = Looked & {
  /** How many entities were looked at. */
  readonly looked: number;
  /** Where to go on; null: the walk has come to its end. */
  readonly next: string | null;
};

/** Who repairs, and why: it is recorded with what the repair did. */
export type Mandate = { readonly strategy: Exclude<Strategy, 'accept'>; readonly by: string; readonly reason: string };

export type Walk = {
  /** Stable, kebab-case: `order-streams`. */
  readonly name: string;
  readonly checks: readonly Check[];
  /** How many entities there are, about. */
  size(): Promise<number>;
  /** Looks at up to `entitiesMax` entities of each log after `after`; null: from the start. Blocks no writer. */
  look(after: string | null, entitiesMax: number): Promise<Piece>;
  /** Looks at one entity with fresh reads. */
  lookAt(entity: string): Promise<readonly Finding[]>;
  /** For how long its looks have only waited, all together: that is no work. */
  waitedMs?(): number;
  /** The entities that changed last, the freshest first: they are looked at before the walk comes to them. */
  freshest?(limit: number): Promise<readonly string[]>;
  /** Settles `finding`, and nothing else; resolves to what was there before and is there now. Rejects when it is no longer as found. */
  repair?(finding: Finding, mandate: Mandate): Promise<{ readonly before: unknown; readonly after: unknown }>;
};
