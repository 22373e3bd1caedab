/**
 * A history: what concurrent clients asked of a server that was killed meanwhile, what they were told and
 * when, and what the log holds in the end. One JSON object a line; docs/histories.md describes it for
 * checkers other than ours.
 */
import { readFileSync, writeFileSync } from 'node:fs';

/** An operation on one stream. `expect`: the version that it asked for (If-Match); null: any. */
export type Operation =
  | { readonly operation: 'put'; readonly value: string; readonly expect: number | null }
  | { readonly operation: 'place'; readonly value: number }
  | { readonly operation: 'cancel'; readonly value: string };

/**
 * `ok` left the stream at `version`. `fail` has had no effect, ever: `version` and `status` are what the
 * server saw, `not-sent` says that it saw nothing. `info` is unknown: it took place once, or will, or never.
 */
export type Outcome =
  | { readonly type: 'ok'; readonly version: number }
  | { readonly type: 'fail'; readonly code: 'version-mismatch'; readonly version: number }
  | { readonly type: 'fail'; readonly code: 'order-not-cancellable'; readonly status: string }
  | { readonly type: 'fail'; readonly code: 'order-exists' | 'order-not-found' | 'not-sent' }
  | { readonly type: 'info'; readonly code: string };

/** Of `invoke` and of the end of an operation. `time` in nanoseconds of one clock that only goes forward. */
type Moment = { readonly process: number; readonly id: number; readonly time: number; readonly stream: string };

export type HistoryLine =
  | (Moment & { readonly type: 'invoke' } & Operation)
  | (Moment & Outcome)
  | { readonly type: 'kill'; readonly time: number; readonly server: string }
  /** What the log holds. `value` is that of the operation which did it; null: none of the clients did. */
  | {
      readonly type: 'event';
      readonly stream: string;
      readonly version: number;
      readonly event: string;
      readonly value: string | number | null;
    };

/** An operation from its beginning to its end. */
export type Performed = Operation & {
  readonly id: number;
  readonly process: number;
  readonly stream: string;
  readonly invoked: number;
  /** Infinity: it is still under way, for all that is known. */
  readonly ended: number;
  readonly outcome: Outcome;
};

export type LoggedEvent = Extract<HistoryLine, { type: 'event' }>;

export type StreamHistory = {
  readonly stream: string;
  /** In the order in which they began. */
  readonly operations: readonly Performed[];
  /** By version. */
  readonly events: readonly LoggedEvent[];
};

export function writeHistory(file: string, lines: readonly HistoryLine[]): void {
  writeFileSync(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
}

/** Throws on a line that is no JSON. */
export function readHistory(file: string): HistoryLine[] {
  const texts = readFileSync(file, 'utf8').split('\n');
  return texts.flatMap((text, n) => {
    if (text.trim() === '') return [];
    try {
      return [JSON.parse(text) as HistoryLine];
    } catch (error) {
      throw new Error(`line ${n + 1} of ${file} is no JSON`, { cause: error });
    }
  });
}

/** Streams are checked one by one: linearisability of the whole follows from that of its parts. Throws on an end without a beginning. */
export function byStream(lines: readonly HistoryLine[]): StreamHistory[] {
  const performed = new Map<number, Performed>();
  const events: LoggedEvent[] = [];
  for (const line of lines) {
    if (line.type === 'event') events.push(line);
    else if (line.type === 'invoke') {
      const { type: _type, time, ...rest } = line;
      performed.set(line.id, { ...rest, invoked: time, ended: Infinity, outcome: { type: 'info', code: 'no end' } });
    } else if (line.type !== 'kill') {
      const begun = performed.get(line.id);
      if (begun === undefined) throw new Error(`operation ${line.id} of ${line.stream} ends and has not begun`);
      const { process: _process, id: _id, time, stream: _stream, ...outcome } = line;
      performed.set(line.id, { ...begun, ended: outcome.type === 'info' ? Infinity : time, outcome });
    }
  }
  const operations = [...performed.values()].sort((a, b) => a.invoked - b.invoked);
  const streams = new Set([...operations, ...events].map(({ stream }) => stream));
  const operationsOf = Map.groupBy(operations, ({ stream }) => stream);
  const eventsOf = Map.groupBy(events, ({ stream }) => stream);
  return [...streams].map((stream) => ({
    stream,
    operations: operationsOf.get(stream) ?? [],
    events: (eventsOf.get(stream) ?? []).sort((a, b) => a.version - b.version),
  }));
}
