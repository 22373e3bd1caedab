/** The simulated server beside the real one: the same contracts, and the same answers to the same histories. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventLogContract } from '#cqrs/event-log.contract.ts';
import type { AppendBatch, AppendResult, EventLog } from '#cqrs/event-log.ts';
import { eventVersionsContract } from '#cqrs/event-types.contract.ts';
import { parkedMessagesContract } from '#cqrs/parked-messages.contract.ts';
import { logSchemaFolders, openPostgresLog } from '#cqrs/postgres-log.ts';
import { testDatabase } from '../tests/database.ts';
import { type Random, seededRandom } from './random.ts';
import type { Scheduler } from './scheduler.ts';
import { logsInStoppedTime, simulatedLogs } from './simulated-log.fixture.ts';

eventLogContract('simulated log', (t) => simulatedLogs(t, 'orders.0').open());
parkedMessagesContract('simulated log', (t) => simulatedLogs(t, 'orders.0').open());
eventVersionsContract('simulated log', (t, eventTypes) => simulatedLogs(t, 'orders.0').open(eventTypes));

const histories = 12;
const stepsPerHistory = 80;

test(`the simulated server and PostgreSQL answer ${histories} random histories alike, and end with the same content`, async (t) => {
  const firstSeed = Number(process.env['SIMULATION_SEED'] ?? 1);
  for (let seed = firstSeed; seed < firstSeed + histories; seed += 1) {
    await t.test(`seed ${seed} (replay with SIMULATION_SEED=${seed})`, async (own) => {
      const database = await testDatabase(own, logSchemaFolders);
      const real = await Promise.all([1, 2].map(() => openPostgresLog({ database, source: 'orders.0' })));
      own.after(() => real.forEach((log) => log.close()));
      const simulated = simulatedLogs(own, 'orders.0', seed);
      const model = await Promise.all([1, 2].map(() => simulated.open()));
      const random = seededRandom(seed, 'history');
      const known: Known = { versions: new Map(), checkpoints: new Map(), parked: new Map(), keys: 0 };
      for (let step = 0; step < stepsPerHistory; step += 1) {
        const writer = random.below(2);
        const act = actionOf(random, known);
        const [is, should] = [await answerOf(act, model[writer]!), await answerOf(act, real[writer]!)];
        assert.deepEqual(is, should, `step ${step}: ${act.what}`);
        act.learn(should);
      }
      const [is, should] = [await contentOf(model[0]!), await contentOf(real[0]!)];
      assert.deepEqual(is, should, 'the content at the end');
    });
  }
});

async function contentOf(log: EventLog): Promise<object> {
  return {
    head: await log.head(),
    hash: (await log.anchor()).hash,
    events: await log.read(0, 1_000),
    states: byStream(await log.load(streams)),
    due: byStream(await log.due(timeOf(3_600), 100)),
    checkpoints: await Promise.all(consumers.map((consumer) => log.checkpoint(consumer))),
    waiting: await Promise.all(consumers.map((consumer) => log.parked.waiting(consumer))),
    discarded: await log.parked.groups({ discarded: true, after: null, limit: 100, itemsMax: 100 }),
  };
}

/** What the history so far has left, as far as is needed to make steps that mostly succeed. */
type Known = {
  readonly versions: Map<string, number>;
  readonly checkpoints: Map<string, number>;
  readonly parked: Map<string, number[]>;
  keys: number;
};
type Action = { readonly what: string; ask(log: EventLog): Promise<unknown>; learn(answer: unknown): void };

const streams = ['order-a', 'order-b', 'stock-tea', 'stock-pot'];
const consumers = ['x-of-y', 'z-of-y'];
const timeOf = (seconds: number): string => new Date(Date.UTC(2026, 0, 1, 0, 0, seconds)).toISOString();
const nothing = (): void => {};

function actionOf(random: Random, known: Known): Action {
  const draw = random.next();
  const decision = { by: 'operator', at: timeOf(random.below(60)) };
  const consumer = random.pick(consumers);
  if (draw < 0.55) return appendOf(batchOf(random, known), known, random.chance(0.2));
  if (draw < 0.65)
    return { what: 'load', ask: (log) => log.load([...streams, 'order-none']).then(byStream), learn: nothing };
  if (draw < 0.72) {
    const [position, limit] = [random.below(8), random.whole(1, 20)];
    return { what: 'read', ask: (log) => log.read(position, limit), learn: nothing };
  }
  if (draw < 0.8) {
    const now = timeOf(random.below(60));
    return { what: 'due', ask: (log) => log.due(now, 10).then(byStream), learn: nothing };
  }
  if (draw < 0.85) return { what: 'checkpoint', ask: (log) => log.checkpoint(consumer), learn: nothing };
  if (draw < 0.9) return { what: 'waiting', ask: (log) => log.parked.waiting(consumer), learn: nothing };
  if (draw < 0.93) return { what: 'decisions', ask: (log) => log.parked.decisions(consumer), learn: nothing };
  if (draw < 0.96) return { what: 'retry', ask: (log) => log.parked.retry({ consumer }, decision), learn: nothing };
  if (draw < 0.98) {
    const paused = random.chance(0.5);
    return { what: 'pause', ask: (log) => log.parked.setPause(consumer, paused, decision), learn: nothing };
  }
  const position = random.pick(known.parked.get(consumer) ?? [1]);
  const which = { consumer, position };
  return { what: 'discard', ask: (log) => log.parked.discard(which, { ...decision, reason: 'no' }), learn: nothing };
}

/** Has time pass until `work` is done. */
async function during<T>(scheduler: Scheduler, work: Promise<T>): Promise<T> {
  let done = false;
  const ended = work.finally(() => (done = true));
  while (!done) {
    await settled();
    await scheduler.run(scheduler.nowMs + 1_000, () => done);
  }
  return ended;
}

/** Resolves when no promise is left that something waits for, but for time to pass. */
const settled = (): Promise<unknown> => new Promise((resolve) => setImmediate(resolve));

const byStream = <T extends { stream: string }>(rows: readonly T[]): T[] =>
  [...rows].sort((a, b) => (a.stream < b.stream ? -1 : 1));

/** Sometimes wrong: at another version, under a key or a checkpoint that is taken, twice in one batch. */
function batchOf(random: Random, known: Known): AppendBatch {
  const chosen = random.shuffled(streams).slice(0, random.whole(0, 3));
  const events: AppendBatch['events'][number][] = [];
  const checks: { stream: string; version: number }[] = [];
  const writes: AppendBatch['writes'][number][] = [];
  for (const stream of chosen) {
    const version = known.versions.get(stream) ?? 0;
    checks.push({ stream, version: random.chance(0.9) ? version : version + random.pick([-1, 1]) });
    const count = random.whole(0, 2);
    for (let n = 1; n <= count; n += 1) {
      const data = { text: random.pick(['ä "q" \\ \u2028', '', 'x'.repeat(50)]), n: random.below(10), none: null };
      const origin = { actor: random.pick(['operator', 'x-of-y']), correlationId: 'c', causationId: `r${n}` };
      const at = timeOf(random.below(60));
      // A version that the stream has already is refused even where nobody has checked it.
      const taken = random.chance(0.03) && version > 0;
      events.push({ stream, version: taken ? version : version + n, type: 'Happened', data, at, origin });
    }
    if (count === 0) continue;
    const dueAt = random.chance(0.4) ? timeOf(random.below(60)) : null;
    writes.push({ stream, version: version + count, state: { n: random.below(100), s: [1, { a: null }] }, dueAt });
  }
  const keys = Array.from({ length: random.below(3) }, () => ({
    caller: 'operator',
    key: random.chance(0.8) ? `k${(known.keys += 1)}` : `k${random.below(known.keys + 1)}`,
    fingerprint: random.pick(['f', 'g']),
    answer: random.pick([{ status: 201, body: { a: [1] } }, undefined]),
    at: timeOf(0),
  }));
  const moved = random.chance(0.5) ? random.shuffled(consumers).slice(0, random.whole(1, 2)) : [];
  return { checks, events, writes, keys, checkpoints: moved.map((consumer) => moveOf(random, known, consumer)) };
}

function moveOf(random: Random, known: Known, consumer: string): AppendBatch['checkpoints'][number] {
  const from = known.checkpoints.get(consumer) ?? 0;
  const to = from + random.below(4);
  const waiting = known.parked.get(consumer) ?? [];
  const unparks = random.chance(0.3) ? waiting.slice(0, 1) : [];
  const passed = Array.from({ length: to - from }, (_, n) => from + n + 1);
  const parks = random.chance(0.4) ? [...passed, ...(random.chance(0.5) ? unparks : [])] : [];
  return {
    consumer,
    from: random.chance(0.9) ? from : from + 1,
    to,
    ...(unparks.length === 0 ? {} : { unparks }),
    ...(parks.length === 0
      ? {}
      : {
          parks: parks.map((position) => ({
            position,
            stream: `order-${position % 2}`,
            eventId: `y-0-${position}`,
            type: 'Happened',
            cause: random.pick(['bad', 'worse']),
            detail: 'it is',
            attempts: random.below(6),
            parkedAt: timeOf(random.below(60)),
            state: random.pick(['parked', 'retry'] as const),
          })),
        }),
  };
}

function appendOf(batch: AppendBatch, known: Known, alone: boolean): Action {
  const names = batch.checks.map(({ stream }) => stream);
  return {
    what: `${alone ? 'append alone' : 'append'} ${JSON.stringify(batch)}`,
    async ask(log) {
      const result = await (alone ? log.appendAlone(names, () => batch) : log.append(batch));
      return 'appended' in result ? result : inOrderOf(result);
    },
    learn(answer) {
      if (typeof answer !== 'object' || answer === null || !('appended' in answer)) return;
      for (const { stream, version } of batch.writes) known.versions.set(stream, version);
      for (const { consumer, to, parks = [], unparks = [] } of batch.checkpoints) {
        known.checkpoints.set(consumer, to);
        const left = (known.parked.get(consumer) ?? []).filter((position) => !unparks.includes(position));
        known.parked.set(consumer, [...left, ...parks.map(({ position }) => position)]);
      }
    },
  };
}

/** What stands against a batch is a set. */
const inOrderOf = (result: Extract<AppendResult, { conflicts: unknown }>): object => ({
  ...result,
  conflicts: [...result.conflicts].sort(),
  fenced: [...result.fenced].sort(),
  duplicates: [...result.duplicates].sort((a, b) => (a.key < b.key ? -1 : 1)),
});

/** The answer, or the SQLSTATE that it was refused with. */
const answerOf = (act: Action, log: EventLog): Promise<unknown> =>
  act.ask(log).catch((error: unknown) => ({ refusedBy: (error as { code?: string }).code ?? String(error) }));

test('a batch that begins like that of another worker is not taken for it, when its own answer is lost', async () => {
  const at = timeOf(0);
  const origin = { actor: 'x-of-y', correlationId: 'c', causationId: 'y-0-1' };
  const event = (stream: string) => ({ stream, version: 1, type: 'Happened', data: {}, at, origin });
  const batch = (...names: readonly string[]): AppendBatch => ({
    checks: names.map((stream) => ({ stream, version: 0 })),
    events: names.map(event),
    writes: names.map((stream) => ({ stream, version: 1, state: {}, dueAt: null })),
    keys: [],
    checkpoints: [{ consumer: 'x-of-y', from: 0, to: names.length }],
  });
  for (let seed = 1; seed <= 20; seed += 1) {
    const { server, scheduler, open } = logsInStoppedTime('orders.0', seed);
    const [first, second] = [await during(scheduler, open()), await during(scheduler, open())];
    for (const log of [first, second]) await during(scheduler, log.append({ ...batch(), checkpoints: [] }));
    const late = second.append(batch('order-a', 'order-b'));
    await settled();
    // What is on its way now is lost, or arrives all the same.
    server.cut();
    await during(scheduler, first.append(batch('order-a')));
    const answer = await during(scheduler, late);
    if ('appended' in answer) assert.deepEqual(await during(scheduler, first.read(0, 10)), answer.appended);
    else assert.deepEqual(answer.fenced, ['x-of-y']);
  }
});

test('a batch whose connection broke while it was being recorded is waited for, and found', async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const { server, scheduler, open } = logsInStoppedTime('orders.0', seed);
    const log = await during(scheduler, open());
    const nothingYet: AppendBatch = { checks: [], events: [], writes: [], keys: [], checkpoints: [] };
    await during(scheduler, log.append(nothingYet));
    // Recording takes longer than coming back.
    server.weather.stallMs = 5_000;
    const origin = { actor: 'operator', correlationId: 'c', causationId: 'r' };
    const answered = log.append({
      ...nothingYet,
      checks: [{ stream: 'order-a', version: 0 }],
      events: [{ stream: 'order-a', version: 1, type: 'Happened', data: {}, at: timeOf(0), origin }],
      writes: [{ stream: 'order-a', version: 1, state: {}, dueAt: null }],
    });
    await settled();
    await scheduler.run(scheduler.nowMs + 10_000, () => server.locked);
    server.cut();
    const answer = await during(scheduler, answered);
    assert.ok('appended' in answer, JSON.stringify(answer));
    assert.equal(await during(scheduler, log.head()), 1);
  }
});
