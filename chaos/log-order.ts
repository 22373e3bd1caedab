/**
 * Whether a history agrees with the order that the log itself gives: the versions of a stream. Every
 * operation that was confirmed is in it once and at the version that was told, none that was refused is,
 * one that nobody knows is there once or not at all; and what ended before something else began comes first.
 */
import type { LoggedEvent, Performed, StreamHistory } from './history.ts';

/** What does not hold, in words; nothing when all does. */
export function contradictions({ stream, operations, events }: StreamHistory): string[] {
  const found: string[] = [];
  events.forEach(({ version }, n) => {
    if (version !== n + 1) found.push(`${stream} has version ${version} where ${n + 1} should be`);
  });
  const byValue = Map.groupBy(
    events.filter((event) => event.value !== null),
    effectOf,
  );
  const known = new Set(operations.map(effectOf));
  for (const [effect, [event]] of byValue) {
    if (!known.has(effect)) found.push(`version ${event!.version} of ${stream} is ${effect}, which nobody asked for`);
  }
  const writes: Placed[] = [];
  for (const done of operations) {
    const effects = byValue.get(effectOf(done)) ?? [];
    found.push(...effectsOf(done, effects));
    if (effects[0] !== undefined) writes.push({ done, version: effects[0].version });
  }
  writes.sort((a, b) => a.version - b.version);
  found.push(...againstTime(stream, writes));
  for (const done of operations) {
    const seen = seenBy(done, events);
    if (seen !== null) found.push(...againstWrites(done, seen, writes));
  }
  return found;
}

type Placed = { readonly done: Performed; readonly version: number };

/** The same for an operation and for the event that records it. */
const effectOf = (one: Performed | LoggedEvent): string =>
  `${'event' in one ? (operationOf[one.event] ?? one.event) : one.operation} ${one.value}`;

const operationOf: Readonly<Record<string, string>> = {
  ProductAdded: 'put',
  ProductChanged: 'put',
  CustomerRegistered: 'put',
  CustomerChanged: 'put',
  OrderPlaced: 'place',
  OrderCancelled: 'cancel',
};

/** Whether the log has of one operation what its client was told. */
function effectsOf(done: Performed, effects: readonly LoggedEvent[]): string[] {
  const { outcome } = done;
  const versions = effects.map(({ version }) => version).join(' and ');
  if (effects.length > 1) return [`${nameOf(done)} took effect ${effects.length} times, as versions ${versions}`];
  switch (outcome.type) {
    case 'ok':
      if (effects.length === 0)
        return [`${nameOf(done)} was confirmed as version ${outcome.version}, and is not there`];
      return effects[0]!.version === outcome.version
        ? []
        : [`${nameOf(done)} was confirmed as version ${outcome.version}, and is version ${versions}`];
    case 'fail':
      return effects.length === 0 ? [] : [`${nameOf(done)} was refused, and is version ${versions}`];
    case 'info':
      return [];
  }
}

/** Whether the versions go the way of time. */
function againstTime(stream: string, writes: readonly Placed[]): string[] {
  let latest: Placed | undefined;
  for (const write of writes) {
    if (latest !== undefined && write.done.ended < latest.done.invoked) {
      return [
        `${nameOf(write.done)} had ended before ${nameOf(latest.done)} began, and comes after it in ${stream}: ` +
          `as version ${write.version}, after ${latest.version}`,
      ];
    }
    if (latest === undefined || write.done.invoked > latest.done.invoked) latest = write;
  }
  return [];
}

/** Between which versions a refusal must have looked at its stream; null: it saw nothing. */
type Seen = { readonly atLeast: number; readonly below: number };

function seenBy({ outcome, stream }: Performed, events: readonly LoggedEvent[]): Seen | null {
  if (outcome.type !== 'fail') return null;
  switch (outcome.code) {
    case 'not-sent':
      return null;
    case 'version-mismatch':
      return { atLeast: outcome.version, below: outcome.version + 1 };
    case 'order-exists':
      return { atLeast: 1, below: Infinity };
    case 'order-not-found':
      return { atLeast: 0, below: 1 };
    case 'order-not-cancellable': {
      const type = { completed: 'OrderCompleted', failed: 'OrderFailed', cancelled: 'OrderCancelled' }[outcome.status];
      const end = events.find(({ event }) => event === type && stream.startsWith('order-'));
      return { atLeast: end?.version ?? Infinity, below: Infinity };
    }
  }
}

/** Whether a refusal can have seen that, when it looked: nothing that began later, and all that had ended before. */
function againstWrites(done: Performed, { atLeast, below }: Seen, writes: readonly Placed[]): string[] {
  if (atLeast === Infinity) return [`${nameOf(done)} was told of an end that is not in the log`];
  const early = writes.find((write) => write.version <= atLeast && write.done.invoked > done.ended);
  if (early !== undefined) return [`${nameOf(done)} has seen ${nameOf(early.done)}, which began after it had ended`];
  const missed = writes.find((write) => write.version >= below && write.done.ended < done.invoked);
  if (missed !== undefined)
    return [`${nameOf(done)} has not seen ${nameOf(missed.done)}, which had ended before it began`];
  return [];
}

const nameOf = ({ id, operation, value, stream }: Performed): string => `${operation} ${value} (${id}) of ${stream}`;
