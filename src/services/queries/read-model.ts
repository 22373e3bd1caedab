/** What each file of this room offers: a projection, and the questions that its rows answer. */
import type { Projection } from '#cqrs/projection.ts';
import type { Refusal } from '#cqrs/decider.ts';
import { entityOf, type RecordedEvent } from '#cqrs/event-log.ts';
import type { Caller, QueryRoute } from '#contracts/routes.ts';
import type { Shows } from './parked-streams.ts';
import type { ReadResources } from './cache-audit.ts';

export type Query = Omit<QueryRoute, 'caughtUp' | 'positions' | 'heldBack'> & {
  /** What the answer is made of: while one of these streams is parked, it is not passed off as what a token asks for. */
  shows(request: never): Shows;
};

export type ReadModel = {
  readonly projection: Projection;
  readonly queries: readonly Query[];
  /** How the resources are read that it keeps in the cache, by what their keys begin with, by the rest of the key. */
  readonly resources?: ReadResources;
};

/** An order's own row names its owner: other customers are told that there is none. */
export const maySee = (caller: Caller, owner: string | undefined): boolean =>
  caller.role === 'operator' || owner === undefined || caller.customerId === owner;

/** `act` on what is there already, in this turn, or once it is: what is read from memory waits for nothing. */
export const whenThere = <T, Result>(
  found: T | Promise<T>,
  act: (found: T) => Result | Promise<Result>,
): Result | Promise<Result> => (found instanceof Promise ? found.then(act) : act(found));

export const orderNotFound = (orderId: string): { refused: Refusal } => ({
  refused: { code: 'order-not-found', detail: `There is no order ${orderId}.` },
});

export const customerNotFound = (customerId: string): { refused: Refusal } => ({
  refused: { code: 'customer-not-found', detail: `There is no customer ${customerId}.` },
});

/** For what a schema cannot say: parameters that do not go together. */
export const invalidParameter = (name: string, detail: string): { refused: Refusal } => ({
  refused: { code: 'invalid-request', detail: `/${name} ${detail}.`, errors: [{ pointer: `/${name}`, detail }] },
});

/** A row as a batch leaves it; `before`: as it was, undefined when it is new. */
export type FoldedRow<R> = { readonly before: R | undefined; readonly row: R };

/**
 * Folds `events` onto the rows that `load` finds, by id. Events that a row already includes change
 * nothing, and a row that nothing changes is left out. A stream's first event is taken for new without a
 * look: should it come again, the table's version keeps the row. A gap in the versions is a bug, and throws.
 */
export async function foldRows<R extends { readonly version: number }, Event extends RecordedEvent>(
  events: readonly Event[],
  load: (ids: readonly string[]) => Promise<ReadonlyMap<string, R>>,
  evolve: (before: R | undefined, event: Event) => R,
): Promise<FoldedRow<R>[]> {
  const firsts = new Map<string, number>();
  for (const { stream, version } of events) if (!firsts.has(stream)) firsts.set(stream, version);
  const begun = [...firsts].flatMap(([stream, version]) => (version > 1 ? [entityOf(stream)] : []));
  const prior = begun.length > 0 ? await load(begun) : new Map<string, R>();
  const folded = new Map<string, R>();
  for (const event of events) {
    const id = entityOf(event.stream);
    const row = folded.get(id) ?? prior.get(id);
    const version = row?.version ?? 0;
    if (event.version <= version) continue;
    if (event.version !== version + 1)
      throw new Error(`${event.id} is version ${event.version} of ${event.stream}, but its row is at ${version}`);
    folded.set(id, evolve(row, event));
  }
  return [...folded].map(([id, row]) => ({ before: prior.get(id), row }));
}
