/**
 * Takes the commands of one log through their rules and into it. Nobody appends alone: one batch is
 * on its way to the database while the next gathers, so a batch is as large as the load makes it and
 * an idle system waits for nothing. Within a batch commands are decided one after the other, each on
 * the state that the one before left, so a hot stream costs no more than many cold ones.
 */
import { LRUCache } from 'lru-cache';
import { failpoint } from '#platform/failpoint.ts';
import { type Ports, systemPorts, timeNow } from '#platform/ports.ts';
import { batchOf, type Decided, decide, NotLoaded, type Queued, type Stored, type View } from './command-batch.ts';
import type { DomainEvent } from './decider.ts';
import { EngineError } from './errors.ts';
import type { AppendResult, CheckpointMove, EventLog, Origin, RecordedEvent, StreamId } from './event-log.ts';
import { streamId } from './event-log.ts';

/** A kind of stream: how its state follows from its events, and when it wants to be woken. */
export type StreamType<State = unknown> = {
  /** Before the dash in a stream's name; has no dash itself. */
  readonly name: string;
  readonly initial: State;
  /** Pure. `id` is the stream's own: an event may move several streams. */
  evolve(state: State, event: DomainEvent, id: string): State;
  /** RFC 3339, or null: nothing to wait for. */
  dueAt?(state: State): string | null;
  /** Whether nothing more is expected of it: then it makes room in memory for those of which something is. Default: never. */
  isOver?(state: State): boolean;
};

/** A stream of whatever state. */
// oxlint-disable-next-line typescript/no-explicit-any -- a state is both taken and given: nothing narrower fits all
export type AnyStreamType = StreamType<any>;

export type StreamRef = {
  readonly type: AnyStreamType;
  readonly id: string;
  /** Most likely absent: it is decided on as new without asking; the append finds out if that was wrong. */
  readonly likelyNew?: boolean;
};

/** What a command sees and leaves behind while it is decided. */
export type Scope = {
  /** RFC 3339: one instant for the whole batch. */
  readonly now: string;
  state<State>(type: StreamType<State>, id: string): State;
  version(type: AnyStreamType, id: string): number;
  /** Records `event` in its home stream, and moves the state of the streams in `also` by it. */
  record(type: AnyStreamType, id: string, event: DomainEvent, also?: readonly StreamRef[]): void;
  /** Says what the events recorded from here on follow from. */
  because(origin: Origin): void;
};

export type Work<Result> = {
  /** The streams that `run` looks at, as far as known: they are loaded together, any other one when it is met. */
  readonly reads: readonly StreamRef[];
  readonly origin: Origin;
  /** Decides. May run again when another writer was faster; leaves nothing behind but what it records. */
  run(scope: Scope): Result;
  readonly idempotency?: { readonly caller: string; readonly key: string; readonly fingerprint: string } | undefined;
  /** What is kept under the key; undefined: this result is not kept. Default: the result. */
  keep?(result: Result): unknown;
  readonly checkpoint?: CheckpointMove;
};

export type Done<Result> = {
  /** The result of `run`, or what was kept under the key. */
  readonly result: Result;
  readonly replayed: boolean;
  /** A position of the log that includes the effect. */
  readonly position: number;
  readonly events: readonly RecordedEvent[];
};

export type CommandBus = {
  /**
   * Resolves once the effect is durable. Rejects with `overloaded`, `log-unavailable`,
   * `consumer-fenced`, `idempotency-key-reused`, or with what `run` threw; then nothing was recorded
   * (after `log-unavailable` that is unknown: repeat under the same key).
   */
  execute<Result>(work: Work<Result>): Promise<Done<Result>>;
  /**
   * Takes what is stored of these streams from the log again. For whoever has mended a state in place: its version says
   * nothing of that.
   */
  forget(streams: readonly StreamId[]): void;
  /**
   * How long a command waits for its batch, in milliseconds: as long as the one has that was given first, and once that is
   * long, as long as all who wait will take together, at the rate of the batches of late.
   */
  waitMs(): number;
  /** What the bus has done since it was made. */
  statistics(): {
    readonly queued: number;
    readonly batches: number;
    readonly works: number;
    readonly conflicts: number;
  };
};

export type CommandBusOptions = {
  readonly log: EventLog;
  readonly ports?: Ports;
  readonly batchWorksMax?: number;
  readonly queueWorksMax?: number;
  readonly cachedStreamsMax?: number;
};

/** After so many conflicts a command is decided alone, while nobody else can append. */
const attemptsMax = 3;
/** How often such a command may turn out to need further streams. */
const aloneAttemptsMax = 10;
/** Bounds a batch of large commands: an order of 2,000 lines reads 2,002 streams. */
const batchReadsMax = 20_000;
/** Before the first has waited for so long a crowd is one batch, and the rate of smaller ones says nothing of it. */
const longWaitMs = 100;
/** Of what is known of the rate, each batch takes the place of so much. */
const batchWeight = 0.25;

/**
 * The bus of one log. Several buses, in several processes, may share a log; being alone only makes it faster.
 *
 * Promises:
 * - commands given in the same turn go in one batch, each decided on what the one before left
 * - a command that throws fails alone and leaves no trace in its neighbours
 * - of a batch that the database refuses as a whole only the guilty command fails
 * - the same key again gets the first answer, and has no second effect
 * - a checkpoint moves with the effect, and a worker that was overtaken fails alone
 * - two buses on one log lose no effect on a stream that both keep writing
 * - after three conflicts a command is decided alone, and gets through
 * - a stream that was not named and is in memory costs no second run
 * - a stream that is over makes room in memory, and may still be decided on
 * - after an append whose answer was lost, commands are decided on what the log holds
 * - a full queue refuses at once, and takes commands again when it has room
 * - the bus tells how long a command waits, by who has waited for longest and by how many wait
 * - what was mended in the log is decided on once the bus has been told
 */
export function createCommandBus(options: CommandBusOptions): CommandBus {
  const { log, ports = systemPorts } = options;
  const batchWorksMax = options.batchWorksMax ?? 1_000;
  // More than requests may be under way: what follows from commands finds room however many clients wait.
  const queueWorksMax = options.queueWorksMax ?? 30_000;
  const cache = new LRUCache<StreamId, Stored>({ max: options.cachedStreamsMax ?? 20_000 });
  /** While a batch is under way: what it has made of these is not kept. */
  const forgotten = new Set<StreamId>();
  const counts = { batches: 0, works: 0, conflicts: 0 };
  let queue: Queued[] = [];
  let running = false;
  /** Of batches that have left somebody waiting: their time, and how many commands they had. */
  let fullBatchMs = 0;
  let worksInFullBatch = 0;

  async function run(): Promise<void> {
    while (queue.length > 0) {
      forgotten.clear();
      const batch = nextBatch();
      const beganMs = ports.elapsed();
      await runBatch(batch);
      if (queue.length > 0) {
        fullBatchMs += (ports.elapsed() - beganMs - fullBatchMs) * batchWeight;
        worksInFullBatch += (batch.length - worksInFullBatch) * batchWeight;
      }
    }
    running = false;
  }

  function waitMs(): number {
    if (queue.length === 0) return 0;
    const waitedMs = ports.elapsed() - queue[0]!.givenMs;
    if (waitedMs < longWaitMs || worksInFullBatch === 0) return waitedMs;
    return Math.max(waitedMs, (queue.length * fullBatchMs) / worksInFullBatch);
  }

  function nextBatch(): Queued[] {
    const claimed = new Set<string>();
    let works = 0;
    let reads = 0;
    while (works < queue.length && works < batchWorksMax && reads < batchReadsMax) {
      const { work } = queue[works]!;
      // The log says of a key or a checkpoint how it stood before the batch: the same one again has to wait for the next.
      const claims = claimsOf(work);
      if (claims.some((claim) => claimed.has(claim))) break;
      for (const claim of claims) claimed.add(claim);
      reads += work.reads.length;
      works += 1;
    }
    const batch = queue.slice(0, works);
    queue = queue.slice(works);
    return batch;
  }

  async function runBatch(batch: readonly Queued[]): Promise<void> {
    const alone = batch.filter((queued) => queued.attempts >= attemptsMax);
    let underWay = batch.filter((queued) => queued.attempts < attemptsMax);
    for (const queued of alone) await runAlone(queued).catch(queued.reject);
    try {
      const view = await loadView(underWay);
      let decided = await decideAll(underWay, view);
      while (decided.length > 0) {
        underWay = decided.map((one) => one.queued);
        counts.batches += 1;
        const result = await appendOrSplit(decided, view);
        if (result === 'split') return;
        if ('appended' in result) return settle(decided, result);
        decided = withoutBad(decided, view, result);
      }
    } catch (error) {
      // Nothing in memory can be trusted about what the database holds now.
      cache.clear();
      for (const queued of underWay) queued.reject(error);
    }
  }

  /** The state of every stream that the batch is known to read: from memory, else in one query. */
  async function loadView(batch: readonly Queued[]): Promise<View> {
    const view: View = new Map();
    const missing = new Map<StreamId, unknown>();
    for (const { work, attempts } of batch) {
      for (const { type, id, likelyNew } of work.reads) {
        const stream = streamId(type.name, id);
        if (view.has(stream) || remember(view, stream)) continue;
        if (likelyNew === true && attempts === 0) view.set(stream, { version: 0, state: type.initial, base: 0 });
        else missing.set(stream, type.initial);
      }
    }
    await loadInto(view, missing);
    return view;
  }

  function remember(view: View, stream: StreamId): boolean {
    const cached = cache.get(stream);
    if (cached === undefined) return false;
    const { version, state } = cached;
    view.set(stream, { version, state, base: version });
    return true;
  }

  async function loadInto(view: View, missing: ReadonlyMap<StreamId, unknown>): Promise<void> {
    if (missing.size === 0) return;
    for (const [stream, initial] of missing) view.set(stream, { version: 0, state: initial, base: 0 });
    for (const { stream, version, state } of await log.load([...missing.keys()])) {
      view.set(stream, { version, state, base: version });
    }
  }

  /** Decides one after the other. A command that throws fails alone and leaves no trace in the view. */
  async function decideAll(batch: readonly Queued[], view: View): Promise<Decided[]> {
    const now = timeNow(ports);
    const decided: Decided[] = [];
    for (const queued of batch) {
      try {
        decided.push(await decideOne(queued, view, now));
      } catch (error) {
        // What is remembered may have been overtaken by another writer: whoever tries again decides on what the log holds.
        for (const stream of view.keys()) cache.delete(stream);
        queued.reject(error);
      }
    }
    return decided;
  }

  async function decideOne(queued: Queued, view: View, now: string): Promise<Decided> {
    for (;;) {
      const before: View = new Map();
      try {
        return decide(queued, view, before, now, remember);
      } catch (error) {
        for (const [stream, entry] of before) view.set(stream, entry);
        if (!(error instanceof NotLoaded)) throw error;
        await loadInto(view, error.streams);
      }
    }
  }

  async function appendOrSplit(decided: readonly Decided[], view: View): Promise<AppendResult | 'split'> {
    try {
      failpoint('batch-decided');
      return await log.append(batchOf(decided, view));
    } catch (error) {
      if (error instanceof EngineError || decided.length === 1) throw error;
      // The database refused the batch as a whole, say by a check of an inline table: each command on
      // its own, so that only the guilty one fails.
      cache.clear();
      for (const { queued } of decided) await runBatch([queued]);
      return 'split';
    }
  }

  function settle(decided: readonly Decided[], result: Extract<AppendResult, { appended: unknown }>): void {
    failpoint('batch-appended');
    let next = 0;
    counts.works += decided.length;
    for (const { queued, result: answer, events, writes } of decided) {
      for (const [stream, { version, state, isOver }] of writes) {
        if (isOver || forgotten.has(stream)) cache.delete(stream);
        else cache.set(stream, { version, state });
      }
      const own = result.appended.slice(next, next + events.length);
      next += events.length;
      queued.resolve({ result: answer, replayed: false, position: own.at(-1)?.position ?? result.head, events: own });
    }
  }

  /**
   * Nothing was recorded. Takes out what stood against it, and whatever was decided on top of that;
   * returns what can be sent again as it is.
   */
  function withoutBad(
    decided: readonly Decided[],
    view: View,
    found: Extract<AppendResult, { conflicts: unknown }>,
  ): Decided[] {
    const tainted = new Set<StreamId>(found.conflicts);
    for (const stream of found.conflicts) cache.delete(stream);
    counts.conflicts += found.conflicts.length;
    const again: Queued[] = [];
    const good: Decided[] = [];
    for (const one of decided) {
      const { work } = one.queued;
      const duplicate = found.duplicates.find(
        (kept) => kept.caller === work.idempotency?.caller && kept.key === work.idempotency.key,
      );
      const fenced = work.checkpoint !== undefined && found.fenced.includes(work.checkpoint.consumer);
      const onTainted = one.reads.some((stream) => tainted.has(stream));
      if (duplicate === undefined && !fenced && !onTainted) {
        good.push(one);
        continue;
      }
      for (const stream of one.writes.keys()) tainted.add(stream);
      if (duplicate !== undefined) settleDuplicate(one.queued, duplicate);
      else if (fenced) one.queued.reject(overtaken(work.checkpoint.consumer));
      else again.push(one.queued);
    }
    for (const stream of view.keys()) if (tainted.has(stream)) cache.delete(stream);
    requeue(again);
    return good;
  }

  function settleDuplicate(queued: Queued, kept: { fingerprint: string; answer: unknown; head: number }): void {
    if (kept.fingerprint === queued.work.idempotency?.fingerprint) {
      queued.resolve({ result: kept.answer, replayed: true, position: kept.head, events: [] });
    } else {
      queued.reject(new EngineError('idempotency-key-reused', 'the idempotency key was used for another request'));
    }
  }

  function requeue(works: readonly Queued[]): void {
    for (const queued of works) queued.attempts += 1;
    queue = [...works, ...queue];
  }

  /** The slow way that no other writer can spoil. */
  async function runAlone(queued: Queued): Promise<void> {
    const streams = new Map<StreamId, unknown>();
    for (const { type, id } of queued.work.reads) streams.set(streamId(type.name, id), type.initial);
    const now = timeNow(ports);
    for (let attempt = 1; ; attempt += 1) {
      const view: View = new Map();
      let decided: Decided | null = null;
      try {
        const result = await log.appendAlone([...streams.keys()], (rows) => {
          for (const [stream, initial] of streams) view.set(stream, { version: 0, state: initial, base: 0 });
          for (const { stream, version, state } of rows) view.set(stream, { version, state, base: version });
          // Only what was locked and read counts here.
          decided = decide(queued, view, new Map(), now, () => false);
          return batchOf([decided], view);
        });
        for (const stream of view.keys()) cache.delete(stream);
        if ('appended' in result) settle([decided!], result);
        else if (withoutBad([decided!], view, result).length > 0)
          throw new Error('a batch was refused, and nothing stood against it');
        return;
      } catch (error) {
        if (!(error instanceof NotLoaded) || attempt >= aloneAttemptsMax) throw error;
        for (const [stream, initial] of error.streams) streams.set(stream, initial);
      }
    }
  }

  return {
    execute<Result>(work: Work<Result>) {
      if (queue.length >= queueWorksMax) {
        return Promise.reject(new EngineError('overloaded', `${queueWorksMax} commands are waiting already`));
      }
      return new Promise<Done<Result>>((resolve, reject) => {
        const givenMs = ports.elapsed();
        queue.push({ work, resolve: resolve as (done: Done<unknown>) => void, reject, givenMs, attempts: 0 });
        if (!running) {
          running = true;
          // What arrives in the same turn of the event loop joins the first batch.
          ports.soon(() => void run());
        }
      });
    },
    forget(streams) {
      for (const stream of streams) {
        cache.delete(stream);
        forgotten.add(stream);
      }
    },
    waitMs,
    statistics: () => ({ queued: queue.length, ...counts }),
  };
}

const overtaken = (consumer: string): EngineError =>
  new EngineError('consumer-fenced', `the checkpoint of ${consumer} has been moved by another worker`);

const claimsOf = ({ idempotency, checkpoint }: Work<unknown>): string[] => [
  ...(idempotency === undefined ? [] : [JSON.stringify([idempotency.caller, idempotency.key])]),
  ...(checkpoint === undefined ? [] : [checkpoint.consumer]),
];
