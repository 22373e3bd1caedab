/** What each file of this room offers: a projection, and the questions that its rows answer. */
import type { Projection } from '#cqrs/projection.ts';
import type { Refusal } from '#cqrs/decider.ts';
import type { RecordedEvent } from '#cqrs/event-log.ts';
import type { Caller, QueryRoute } from '#contracts/routes.ts';

export type Query = Omit<QueryRoute, 'caughtUp' | 'positions'>;

export type ReadModel = { readonly projection: Projection; readonly queries: readonly Query[] };

/** An order's own row names its owner: other customers are told that there is none. */
export const maySee = (caller: Caller, owner: string | undefined): boolean =>
  caller.role === 'operator' || owner === undefined || caller.customerId === owner;

export const orderNotFound = (orderId: string): { refused: Refusal } => ({
  refused: { code: 'order-not-found', detail: `There is no order ${orderId}.` },
});

export const customerNotFound = (customerId: string): { refused: Refusal } => ({
  refused: { code: 'customer-not-found', detail: `There is no customer ${customerId}.` },
});

/**
 * Folds `events` onto the views that `load` finds, by id. Events that a view already includes change
 * nothing, and a view that nothing changes is left out. A gap in the versions is a bug, and throws.
 */
export async function foldViews<View extends { readonly version: number }, Event extends RecordedEvent>(
  events: readonly Event[],
  idOf: (event: Event) => string,
  load: (begun: ReadonlyMap<string, number>) => Promise<ReadonlyMap<string, View>>,
  evolve: (view: View | undefined, event: Event) => View,
): Promise<Map<string, View>> {
  /** The version that the first event of an id follows, where there is one. */
  const begun = new Map<string, number>();
  const seen = new Set<string>();
  for (const event of events) {
    const id = idOf(event);
    if (!seen.has(id) && event.version > 1) begun.set(id, event.version - 1);
    seen.add(id);
  }
  const prior = begun.size > 0 ? await load(begun) : new Map<string, View>();
  const folded = new Map<string, View>();
  for (const event of events) {
    const id = idOf(event);
    const view = folded.get(id) ?? prior.get(id);
    const version = view?.version ?? 0;
    if (event.version <= version) continue;
    if (event.version !== version + 1)
      throw new Error(`${event.id} is version ${event.version} of ${event.stream}, but its view is at ${version}`);
    folded.set(id, evolve(view, event));
  }
  // Rows are always locked in the same order, so that two workers never wait for each other in a ring.
  return new Map([...folded].sort(([a], [b]) => (a < b ? -1 : 1)));
}
