/** Parked messages in memory: the same promises as in PostgreSQL. For logs and read stores in memory. */
import {
  type ConsumerDecisions,
  type DeadLetter,
  type MessageName,
  type ParkedMessage,
  type ParkedMessages,
  type Parking,
  parkedMessagesMax,
} from './parked-messages.ts';

export type MemoryParkedMessages = ParkedMessages & {
  /** Whether all that `parking` takes back is waiting. Throws when it parks a position twice. */
  fits(consumer: string, parking: Parking): boolean;
  /** Writes what fits. */
  write(consumer: string, parking: Parking): void;
};

export function memoryParkedMessages(): MemoryParkedMessages {
  const letters = new Map<string, Map<number, DeadLetter>>();
  const pauses = new Map<string, NonNullable<ConsumerDecisions['pause']>>();

  const of = (consumer: string): DeadLetter[] =>
    [...(letters.get(consumer)?.values() ?? [])].sort((a, b) => a.position - b.position);
  const waitingOf = (consumer: string): DeadLetter[] => of(consumer).filter(isWaiting);
  const put = (consumer: string, letter: DeadLetter): void => {
    const own = letters.get(consumer) ?? new Map<number, DeadLetter>();
    letters.set(consumer, own.set(letter.position, letter));
  };

  return {
    fits(consumer, { parks = [], unparks = [] }) {
      const own = letters.get(consumer);
      const twice = parks.find(({ position }) => own?.has(position) === true && !unparks.includes(position));
      if (twice !== undefined) throw new Error(`${consumer} has parked ${twice.position} already`);
      return unparks.every((position) => {
        const letter = own?.get(position);
        return letter !== undefined && isWaiting(letter);
      });
    },

    write(consumer, { parks = [], unparks = [] }) {
      for (const position of unparks) letters.get(consumer)?.delete(position);
      for (const message of parks) put(consumer, { ...message });
    },

    waiting: async (consumer) =>
      waitingOf(consumer)
        .slice(0, parkedMessagesMax)
        .map((letter) => messageOf(letter)),

    positions: async (consumer) => of(consumer).map((letter) => letter.position),

    async decisions(consumer) {
      const waiting = waitingOf(consumer);
      const retries = waiting.filter((letter) => letter.state === 'retry').length;
      return { waiting: waiting.length, retries, pause: pauses.get(consumer) ?? null };
    },

    async groups({ discarded, consumer, cause, after, limit, itemsAfter = 0, itemsMax }) {
      const groups = new Map<string, { consumer: string; cause: string; letters: DeadLetter[] }>();
      for (const name of letters.keys()) {
        for (const letter of of(name)) {
          if ((letter.state === 'discarded') !== discarded) continue;
          if ((consumer ?? name) !== name || (cause ?? letter.cause) !== letter.cause) continue;
          const key = JSON.stringify([name, letter.cause]);
          const group = groups.get(key) ?? { consumer: name, cause: letter.cause, letters: [] };
          group.letters.push(letter);
          groups.set(key, group);
        }
      }
      return [...groups.values()]
        .sort(byName)
        .filter((group) => after === null || byName(group, after) > 0)
        .slice(0, limit)
        .map((group) => {
          const times = group.letters.map((letter) => letter.parkedAt).sort();
          return {
            consumer: group.consumer,
            cause: group.cause,
            messages: group.letters.length,
            streams: new Set(group.letters.map((letter) => letter.stream)).size,
            firstAt: times[0]!,
            lastAt: times.at(-1)!,
            items: group.letters.filter(({ position }) => position > itemsAfter).slice(0, itemsMax),
          };
        });
    },

    async retry(which, { by, at }) {
      let messages = 0;
      const consumers = new Set<string>();
      for (const consumer of letters.keys()) {
        if (which.consumer !== undefined && which.consumer !== consumer) continue;
        const waiting = waitingOf(consumer);
        const named = waiting.filter((letter) =>
          'position' in which
            ? letter.position === which.position
            : which.cause === undefined || letter.cause === which.cause,
        );
        const streams = new Set(named.map((letter) => letter.stream));
        for (const stream of streams) {
          const queue = waiting.filter((letter) => letter.stream === stream);
          put(consumer, { ...queue[0]!, state: 'retry', decidedBy: by, decidedAt: at });
          messages += queue.length;
          consumers.add(consumer);
        }
      }
      return { messages, consumers: [...consumers].sort() };
    },

    async discard({ consumer, position }: MessageName, { by, at, reason }) {
      const letter = letters.get(consumer)?.get(position);
      if (letter === undefined || !isWaiting(letter)) return letter ?? null;
      const queue = waitingOf(consumer).filter((one) => one.stream === letter.stream);
      const given: DeadLetter = { ...letter, state: 'discarded', decidedBy: by, decidedAt: at, reason };
      put(consumer, given);
      const next = queue[1];
      if (queue[0]!.position === position && next !== undefined) {
        put(consumer, { ...next, state: 'retry', decidedBy: by, decidedAt: at });
      }
      return given;
    },

    async setPause(consumer, paused, { by, at }) {
      pauses.set(consumer, { paused, by, at });
    },
  };
}

const isWaiting = (letter: DeadLetter): letter is DeadLetter & { readonly state: 'parked' | 'retry' } =>
  letter.state !== 'discarded';

function messageOf(letter: DeadLetter): ParkedMessage {
  const { position, stream, eventId, type, cause, detail, attempts, parkedAt } = letter;
  return { position, stream, eventId, type, cause, detail, attempts, parkedAt, state: letter.state as 'parked' };
}

type GroupName = { readonly consumer: string; readonly cause: string };

/** By code units, as PostgreSQL's collation "C" has it. */
function byName(a: GroupName, b: GroupName): number {
  if (a.consumer !== b.consumer) return a.consumer < b.consumer ? -1 : 1;
  if (a.cause === b.cause) return 0;
  return a.cause < b.cause ? -1 : 1;
}
