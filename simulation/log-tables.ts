/**
 * The tables of a log, and what its statements make of them: a model of `src/cqrs/schema/`, statement by
 * statement under the names that the log gives them.
 */
import { chainedHash, hashOfNothing } from '#cqrs/batch-hash.ts';
import pg from 'pg';

/** An error that a statement ends with, by its SQLSTATE. */
export class SqlError extends pg.DatabaseError {
  constructor(code: string, message: string) {
    super(message, message.length, 'error');
    this.code = code;
  }
}

export type EventRow = {
  readonly position: number;
  readonly at: string;
  readonly version: number;
  readonly slot: number;
  readonly stream: string;
  readonly type: string;
  readonly data: string;
  readonly origin: string;
};
export type StreamRow = {
  readonly version: number;
  readonly slot: number;
  readonly dueAt: string | null;
  readonly state: string;
};
export type KeyRow = {
  readonly caller: string;
  readonly key: string;
  readonly fingerprint: string;
  readonly answer: string;
};

/** A row of `parked_messages`. */
export type ParkedRow = {
  readonly consumer: string;
  readonly position: number;
  readonly stream: string;
  readonly eventId: string;
  readonly type: string;
  readonly cause: string;
  readonly detail: string;
  readonly attempts: number;
  readonly parkedAt: string;
  readonly state: 'parked' | 'retry' | 'discarded';
  readonly decidedBy?: string;
  readonly decidedAt?: string;
  readonly reason?: string;
};
export type Move = {
  readonly consumer: string;
  readonly from: number;
  readonly to: number;
  readonly unparks: readonly number[];
  readonly parks: readonly Omit<ParkedRow, 'consumer'>[];
};

export type BatchRow = { readonly firstPosition: number; readonly lastPosition: number; readonly hash: string };

/** What one transaction does to the tables. */
export type Changes = {
  readonly events: readonly EventRow[];
  /** Of the events, when there are some. */
  readonly batch: BatchRow | null;
  readonly streams: ReadonlyMap<string, StreamRow>;
  readonly keys: readonly KeyRow[];
  readonly moves: readonly Move[];
};

/** A batch as `append` is given it, in columns (`src/cqrs/postgres-append.ts`), as rows. */
type Sent = {
  readonly checks: readonly { readonly stream: string; readonly version: number }[];
  readonly content: string | null;
  readonly events: readonly Omit<EventRow, 'position'>[];
  readonly writes: readonly (StreamRow & { readonly stream: string })[];
  readonly keys: readonly (Omit<KeyRow, 'answer'> & { readonly answer: string | null })[];
  readonly moves: readonly Move[];
};

function readBatch(values: readonly unknown[]): Sent {
  const given = values as readonly (string | null)[];
  // An array literal is JSON in other brackets.
  const array = <T>(n: number): T[] => JSON.parse(`[${(given[n] ?? '{}').slice(1, -1)}]`) as T[];
  const lines = (n: number): string[] => given[n]?.split('\n') ?? [];
  const [data, origins, states, answers] = [lines(8), lines(9), lines(14), lines(19)];
  const [checked, versions, slots, types, times] = [1, 4, 5, 6, 7].map((n) => array(n)) as [
    number[],
    number[],
    number[],
    string[],
    string[],
  ];
  const [stateVersions, stateSlots, dues] = [array<number>(11), array<number>(12), array<string | null>(13)];
  const [names, fingerprints] = [array<string>(16), array<string>(17)];
  type Told = { c: string; f: number; t: number; u?: number[]; p?: Omit<ParkedRow, 'consumer'>[] };
  return {
    checks: array<string>(0).map((stream, n) => ({ stream, version: checked[n]! })),
    content: given[2]!,
    events: array<string>(3).map((stream, n) => ({
      stream,
      version: versions[n]!,
      slot: slots[n]!,
      type: types[n]!,
      at: times[n]!,
      data: data[n]!,
      origin: origins[n]!,
    })),
    writes: array<string>(10).map((stream, n) => ({
      stream,
      version: stateVersions[n]!,
      slot: stateSlots[n]!,
      dueAt: dues[n]!,
      state: states[n]!,
    })),
    keys: array<string>(15).map((caller, n) => ({
      caller,
      key: names[n]!,
      fingerprint: fingerprints[n]!,
      answer: answers[n] === '' ? null : answers[n]!,
    })),
    moves: (JSON.parse(given[20] ?? '[]') as Told[]).map(({ c, f, t, u = [], p = [] }) => ({
      consumer: c,
      from: f,
      to: t,
      unparks: u,
      parks: p,
    })),
  };
}

export class LogTables {
  source: string | null = null;
  readonly epoch = '00000000-0000-4000-8000-000000000001';
  readonly events: EventRow[] = [];
  readonly batches: BatchRow[] = [];
  readonly streams = new Map<string, StreamRow>();
  /** Those of `streams` that have a timer. */
  readonly due = new Map<string, string>();
  /** By caller and key. */
  readonly keys = new Map<string, KeyRow>();
  readonly checkpoints = new Map<string, number>();
  /** By consumer, which epoch of its source it goes by. */
  readonly sourceEpochs = new Map<string, string>();
  /** By consumer and position. */
  readonly parked = new Map<string, ParkedRow>();
  readonly pauses = new Map<string, { readonly paused: boolean; readonly by: string; readonly at: string }>();
  /** Streams that no transaction may write: a check of an inline table that a bug runs into. */
  readonly barred = new Set<string>();
  readonly #versions = new Map<string, number>();

  get head(): number {
    return this.events.length;
  }

  eventAt(stream: string, version: number): EventRow | undefined {
    const position = this.#versions.get(`${stream}@${version}`);
    return position === undefined ? undefined : this.events[position - 1];
  }

  /** What `append` answers and, unless something stands against the batch, what it changes. */
  append(values: readonly unknown[]): { row: object; changes: Changes | null } {
    const sent = readBatch(values);
    const { head } = this;
    const conflicts = sent.checks
      .filter(({ stream, version }) => (this.streams.get(stream)?.version ?? 0) !== version)
      .map(({ stream }) => stream);
    const duplicates = sent.keys.flatMap(({ caller, key }) => {
      const kept = this.keys.get(nameOf(caller, key));
      return kept === undefined ? [] : [kept];
    });
    const fenced = sent.moves
      .filter(
        ({ consumer, from, unparks }) =>
          (this.checkpoints.get(consumer) ?? 0) !== from ||
          unparks.some((position) => !this.#waits(consumer, position)),
      )
      .map(({ consumer }) => consumer);
    if (conflicts.length + duplicates.length + fenced.length > 0) {
      const json = (rows: readonly unknown[]): string | null => (rows.length === 0 ? null : JSON.stringify(rows));
      const answered = duplicates.map((kept) => ({ ...kept, answer: JSON.parse(kept.answer) as unknown }));
      const row = { head, conflicts: json(conflicts), duplicates: json(answered), fenced: json(fenced) };
      return { row, changes: null };
    }
    const row = { head, conflicts: null, duplicates: null, fenced: null };
    return { row, changes: this.#changesOf(sent) };
  }

  #waits(consumer: string, position: number): boolean {
    const row = this.parked.get(nameOf(consumer, position));
    return row !== undefined && row.state !== 'discarded';
  }

  apply({ events, batch, streams, keys, moves }: Changes): void {
    if (batch !== null) this.batches.push(batch);
    for (const event of events) {
      this.events.push(event);
      this.#versions.set(`${event.stream}@${event.version}`, event.position);
    }
    for (const [stream, row] of streams) {
      this.streams.set(stream, row);
      if (row.dueAt === null) this.due.delete(stream);
      else this.due.set(stream, row.dueAt);
    }
    for (const row of keys) this.keys.set(nameOf(row.caller, row.key), row);
    for (const { consumer, to, unparks, parks } of moves) {
      this.checkpoints.set(consumer, to);
      for (const position of unparks) this.parked.delete(nameOf(consumer, position));
      for (const row of parks) this.parked.set(nameOf(consumer, row.position), { consumer, ...row });
    }
  }

  get hash(): string {
    return this.batches.at(-1)?.hash ?? hashOfNothing;
  }

  #changesOf({ content, events, writes, keys, moves }: Sent): Changes {
    const versions = new Set<string>();
    for (const { stream, version } of events) {
      const name = `${stream}@${version}`;
      if (this.#versions.has(name) || versions.has(name)) throw uniqueViolation('events_stream_version_key');
      versions.add(name);
    }
    const streams = new Map<string, StreamRow>();
    for (const { stream, ...row } of writes) {
      if (streams.has(stream)) throw new SqlError('21000', 'on conflict do update cannot affect a row a second time');
      if (this.barred.has(stream)) throw new SqlError('23514', `the row of ${stream} violates a check`);
      streams.set(stream, row);
    }
    const taken = keys.flatMap(({ answer, ...key }) => (answer === null ? [] : [{ ...key, answer }]));
    if (new Set(taken.map(({ caller, key }) => nameOf(caller, key))).size < taken.length) {
      throw uniqueViolation('idempotency_keys_pkey');
    }
    if (new Set(moves.map(({ consumer }) => consumer)).size < moves.length) {
      throw new SqlError('21000', 'on conflict do update cannot affect a row a second time');
    }
    for (const { consumer, unparks, parks } of moves) {
      const again = parks.find(
        ({ position }) => this.parked.has(nameOf(consumer, position)) && !unparks.includes(position),
      );
      if (again !== undefined) throw uniqueViolation('parked_messages_pkey');
    }
    return {
      events: events.map((event, n) => ({ ...event, position: this.head + n + 1 })),
      batch:
        content === null
          ? null
          : {
              firstPosition: this.head + 1,
              lastPosition: this.head + events.length,
              hash: chainedHash(this.hash, this.head + 1, content),
            },
      streams,
      keys: taken,
      moves,
    };
  }
}

/** What the log reads, by the name of the statement. */
export const statements: Readonly<Record<string, (tables: LogTables, values: readonly unknown[]) => object[]>> = {
  claim(tables, [source]) {
    tables.source ??= source as string;
    return [];
  },
  owner: (tables) => [{ source: tables.source }],
  limit: () => [],
  // Nobody listens: every process looks by itself.
  listeners: () => [{ listened: false }],
  head: (tables) => [{ position: tables.head }],
  anchor: (tables) => [{ epoch: tables.epoch, position: tables.head, hash: tables.hash }],
  read(tables, [position, limit]) {
    return tables.events.slice(position as number, (position as number) + (limit as number));
  },
  load: (tables, [streams]) =>
    (streams as readonly string[]).flatMap((stream) => {
      const row = tables.streams.get(stream);
      return row === undefined ? [] : [{ stream, version: row.version, state: row.state }];
    }),
  due: (tables, [now, limit]) =>
    [...tables.due]
      .flatMap(([stream, dueAt]) => (dueAt <= (now as string) ? [{ stream, dueAt }] : []))
      .sort((a, b) => (a.dueAt < b.dueAt ? -1 : a.dueAt > b.dueAt ? 1 : 0))
      .slice(0, limit as number)
      .map(({ stream, dueAt }) => {
        const last = tables.eventAt(stream, tables.streams.get(stream)!.version);
        return { stream, dueAt, position: last?.position ?? null, origin: last?.origin ?? null };
      }),
  checkpoint(tables, [consumer]) {
    const position = tables.checkpoints.get(consumer as string);
    return position === undefined ? [] : [{ position }];
  },
  'epochs of sources': (tables, [consumers, now]) =>
    (consumers as readonly string[]).flatMap((consumer) => {
      const epoch = tables.sourceEpochs.get(consumer);
      if (epoch === undefined || (epoch !== now && !tables.checkpoints.get(consumer))) return [];
      return [{ consumer, epoch }];
    }),
  'remember source'(tables, [consumers, , epoch]) {
    for (const consumer of consumers as readonly string[]) {
      if (tables.sourceEpochs.has(consumer) && tables.checkpoints.get(consumer)) continue;
      tables.sourceEpochs.set(consumer, epoch as string);
      tables.checkpoints.set(consumer, tables.checkpoints.get(consumer) ?? 0);
    }
    return [];
  },
  'parked messages': (tables, [consumer, limit]) =>
    waitingOf(tables, consumer as string)
      .slice(0, limit as number)
      .map(({ consumer: _consumer, decidedBy: _by, decidedAt: _at, ...row }) => row),
  'parked positions': (tables, [consumer]) =>
    [...tables.parked.values()]
      .filter((row) => row.consumer === consumer)
      .sort((a, b) => a.position - b.position)
      .map(({ position }) => ({ position })),
  'dead letters': (tables, [discarded, consumer, cause, afterConsumer, afterCause, limit, itemsMax, itemsAfter]) => {
    const groups = new Map<string, ParkedRow[]>();
    for (const row of [...tables.parked.values()].sort((a, b) => a.position - b.position)) {
      const wanted = [consumer ?? row.consumer, cause ?? row.cause];
      if ((row.state === 'discarded') !== discarded || wanted[0] !== row.consumer || wanted[1] !== row.cause) continue;
      const name = JSON.stringify([row.consumer, row.cause]);
      groups.set(name, [...(groups.get(name) ?? []), row]);
    }
    return [...groups.values()]
      .map((rows) => {
        const times = rows.map(({ parkedAt }) => parkedAt).sort();
        const items = rows
          .filter(({ position }) => position > (itemsAfter as number))
          .slice(0, itemsMax as number)
          .map(({ consumer: _consumer, ...letter }) => letter);
        return {
          consumer: rows[0]!.consumer,
          cause: rows[0]!.cause,
          messages: rows.length,
          streams: new Set(rows.map(({ stream }) => stream)).size,
          firstAt: times[0],
          lastAt: times.at(-1),
          items: JSON.stringify(items),
        };
      })
      .filter(
        (group) => afterConsumer == null || byName([group.consumer, group.cause], [afterConsumer, afterCause]) > 0,
      )
      .sort((a, b) => byName([a.consumer, a.cause], [b.consumer, b.cause]))
      .slice(0, limit as number);
  },
  decisions(tables, [consumer]) {
    const waiting = waitingOf(tables, consumer as string);
    const retries = waiting.filter(({ state }) => state === 'retry').length;
    const pause = tables.pauses.get(consumer as string);
    return [
      { waiting: waiting.length, retries, paused: pause?.paused ?? null, by: pause?.by ?? null, at: pause?.at ?? null },
    ];
  },
  'retry dead letters'(tables, [consumer, position, cause, by, at]) {
    const waiting = [...tables.parked.values()].filter(({ state }) => state !== 'discarded');
    const named = waiting.filter(
      (row) =>
        (consumer === undefined || row.consumer === consumer) &&
        (position === undefined || row.position === position) &&
        (cause === undefined || row.cause === cause),
    );
    const queues = new Set(named.map((row) => nameOf(row.consumer, row.stream)));
    return [...queues].map((name) => {
      const queue = waiting
        .filter((row) => nameOf(row.consumer, row.stream) === name)
        .sort((a, b) => a.position - b.position);
      const [first] = queue;
      const decided = { decidedBy: by as string, decidedAt: at as string };
      tables.parked.set(nameOf(first!.consumer, first!.position), { ...first!, ...decided, state: 'retry' });
      return { consumer: first!.consumer, messages: queue.length };
    });
  },
  'discard dead letter'(tables, [consumer, position, by, at, reason]) {
    const row = tables.parked.get(nameOf(consumer as string, position as number));
    if (row === undefined || row.state === 'discarded') return [];
    const decided = { decidedBy: by as string, decidedAt: at as string };
    const queue = waitingOf(tables, row.consumer).filter(({ stream }) => stream === row.stream);
    tables.parked.set(nameOf(row.consumer, row.position), {
      ...row,
      ...decided,
      state: 'discarded',
      reason: reason as string,
    });
    const next = queue[0]?.position === row.position ? queue[1] : undefined;
    if (next !== undefined)
      tables.parked.set(nameOf(next.consumer, next.position), { ...next, ...decided, state: 'retry' });
    return [];
  },
  'discarded dead letter'(tables, [consumer, position]) {
    const row = tables.parked.get(nameOf(consumer as string, position as number));
    if (row === undefined) return [];
    const { consumer: _consumer, ...letter } = row;
    return [{ letter: JSON.stringify(letter) }];
  },
  'set pause'(tables, [consumer, paused, by, at]) {
    tables.pauses.set(consumer as string, { paused: paused as boolean, by: by as string, at: at as string });
    return [];
  },
  find(tables, [stream, version, limit]) {
    const first = tables.eventAt(stream as string, version as number);
    return first === undefined ? [] : tables.events.slice(first.position - 1, first.position - 1 + (limit as number));
  },
};

/** As the database compares rows of texts by their bytes. */
function byName(a: readonly unknown[], b: readonly unknown[]): number {
  for (const [n, text] of a.entries()) {
    if (text !== b[n]) return String(text) < String(b[n]) ? -1 : 1;
  }
  return 0;
}

const waitingOf = (tables: LogTables, consumer: string): ParkedRow[] =>
  [...tables.parked.values()]
    .filter((row) => row.consumer === consumer && row.state !== 'discarded')
    .sort((a, b) => a.position - b.position);

const nameOf = (caller: string, key: string | number): string => `${caller} ${key}`;

const uniqueViolation = (constraint: string): SqlError =>
  new SqlError('23505', `duplicate key value violates unique constraint ${constraint}`);
