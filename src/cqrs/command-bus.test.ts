import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import {
  type CommandBus,
  type CommandBusOptions,
  createCommandBus,
  type Scope,
  type StreamRef,
  type StreamType,
  type Work,
} from './command-bus.ts';
import { EngineError } from './errors.ts';
import type { AppendBatch, EventLog } from './event-log.ts';
import { openMemoryLog } from './memory-log.ts';
import { logSchemaFolders, openPostgresLog } from './postgres-log.ts';
import { systemPorts } from '#platform/ports.ts';
import { testDatabase } from '../../tests/database.ts';
import { until } from '../../tests/shop-client.ts';

type Account = { readonly balance: number; readonly entries: number };
type Moved = { readonly type: 'Moved'; readonly data: { readonly by: Readonly<Record<string, number>> } };

/** An account per id; an event may move several. */
const account: StreamType<Account> = {
  name: 'account',
  initial: { balance: 0, entries: 0 },
  evolve: ({ balance, entries }, event, id) => ({
    balance: balance + ((event as Moved).data.by[id] ?? 0),
    entries: entries + 1,
  }),
};
const ref = (id: string, likelyNew = false): StreamRef => ({ type: account, id, ...(likelyNew ? { likelyNew } : {}) });
const moved = (by: Record<string, number>): Moved => ({ type: 'Moved', data: { by } });

const origin = { actor: 'operator', correlationId: 'c', causationId: 'r' };
const instant = Date.parse('2026-01-02T03:04:05.678Z');

/** Adds to one account; its result is the balance that it leaves. */
const add = (id: string, amount: number, more: Partial<Work<number>> = {}): Work<number> => ({
  reads: [ref(id)],
  origin,
  run(scope) {
    scope.record(account, id, moved({ [id]: amount }));
    return scope.state(account, id).balance;
  },
  ...more,
});
const look = (id: string): Work<Account> => ({
  reads: [ref(id)],
  origin,
  run: (scope) => scope.state(account, id),
});
const keyed = (key: string, fingerprint = 'f', caller = 'operator') => ({
  idempotency: { caller, key, fingerprint },
});

const busOf = (log: EventLog, more: Partial<CommandBusOptions> = {}): CommandBus =>
  createCommandBus({ log, ports: { ...systemPorts, now: () => instant }, ...more });

/** The log in memory, with what the bus asks of it noted, and steps put before its own. */
function watchedLog(before: { append?(batch: AppendBatch): void | Promise<void>; load?(): void } = {}) {
  const log = openMemoryLog('bank.0');
  const asked = { appended: [] as AppendBatch[], loaded: [] as (readonly string[])[], alone: 0 };
  const watched: EventLog = {
    ...log,
    async append(batch) {
      asked.appended.push(batch);
      await before.append?.(batch);
      return log.append(batch);
    },
    appendAlone(streams, decide) {
      asked.alone += 1;
      return log.appendAlone(streams, decide);
    },
    async load(streams) {
      asked.loaded.push(streams);
      before.load?.();
      return log.load(streams);
    },
  };
  return { log: watched, direct: log, asked };
}

const streamsOf = (batch: AppendBatch | undefined): string[] => batch?.events.map((event) => event.stream) ?? [];
const balanceIn = async (log: EventLog, id: string): Promise<number | undefined> =>
  ((await log.load([`account-${id}`]))[0]?.state as Account | undefined)?.balance;
const refusedWith = (code: string) => (error: unknown) => error instanceof EngineError && error.code === code;

test('commands given in the same turn go in one batch, each decided on what the one before left', async () => {
  const { log, asked } = watchedLog();
  const bus = busOf(log);
  const done = await Promise.all(Array.from({ length: 500 }, () => bus.execute(add('a', 1))));
  assert.deepEqual(
    done.map((one) => one.result),
    Array.from({ length: 500 }, (_, n) => n + 1),
  );
  assert.deepEqual(
    done.map((one) => one.position),
    Array.from({ length: 500 }, (_, n) => n + 1),
  );
  assert.equal(asked.appended.length, 1);
  assert.deepEqual(asked.appended[0]?.checks, [{ stream: 'account-a', version: 0 }]);
  assert.equal(asked.appended[0]?.writes.length, 1, 'the stream is written once');
  assert.deepEqual(bus.statistics(), { queued: 0, batches: 1, works: 500, conflicts: 0 });
});

test('what is given while a batch is on its way gathers for the next one', async () => {
  const gate = Promise.withResolvers<void>();
  const sent = Promise.withResolvers<void>();
  const { log, asked } = watchedLog({
    append() {
      sent.resolve();
      return gate.promise;
    },
  });
  const bus = busOf(log);
  const first = bus.execute(add('a', 1));
  await sent.promise;
  const rest = ['b', 'c', 'd'].map((id) => bus.execute(add(id, 1)));
  assert.equal(bus.statistics().queued, 3);
  gate.resolve();
  await Promise.all([first, ...rest]);
  assert.deepEqual(asked.appended.map(streamsOf), [['account-a'], ['account-b', 'account-c', 'account-d']]);
});

test('a command hears of its own events only, as they were recorded', async () => {
  const log = openMemoryLog('bank.0');
  const bus = busOf(log);
  const because = { actor: 'timer', correlationId: 'd', causationId: 'bank-0-1', traceparent: '00-a-b-01' };
  const [first, , last] = await Promise.all([
    bus.execute(add('a', 1)),
    bus.execute(look('a')),
    bus.execute({
      reads: [],
      origin,
      run(scope) {
        scope.record(account, 'a', moved({ a: 2 }));
        scope.because(because);
        scope.record(account, 'b', moved({ b: 3 }));
        return scope.now;
      },
    }),
  ]);
  const at = '2026-01-02T03:04:05.678Z';
  assert.equal(last.result, at);
  const recorded = await log.read(0, 10);
  assert.deepEqual([...first.events, ...last.events], recorded);
  assert.deepEqual(
    recorded.map((event) => [event.stream, event.version, event.at, event.origin]),
    [
      ['account-a', 1, at, origin],
      ['account-a', 2, at, origin],
      ['account-b', 1, at, because],
    ],
  );
});

test('a command that records nothing is told the position that it has seen', async () => {
  const log = openMemoryLog('bank.0');
  const bus = busOf(log);
  await bus.execute(add('a', 1));
  const done = await bus.execute(look('a'));
  assert.deepEqual(done, { result: { balance: 1, entries: 1 }, replayed: false, position: 1, events: [] });
});

test('a command that throws fails alone and leaves no trace in its neighbours', async () => {
  const { log, asked } = watchedLog();
  const bus = busOf(log);
  const failing = add('a', 1_000, {
    run(scope) {
      scope.record(account, 'a', moved({ a: 1_000, b: 1_000 }), [ref('b')]);
      throw new Error('no such rule');
    },
  });
  const [before, refused, after, other] = await Promise.allSettled([
    bus.execute(add('a', 1)),
    bus.execute(failing),
    bus.execute(add('a', 2)),
    bus.execute(add('b', 5)),
  ]);
  assert.deepEqual([before, after, other].map(resultOf), [1, 3, 5]);
  assert.match(String((refused as PromiseRejectedResult).reason), /no such rule/);
  assert.equal(asked.appended.length, 1);
  assert.deepEqual(
    (await log.read(0, 10)).map((event) => [event.stream, event.version]),
    [
      ['account-a', 1],
      ['account-a', 2],
      ['account-b', 1],
    ],
  );
});

test('one event moves several streams, or none of them', async () => {
  const log = openMemoryLog('bank.0');
  const bus = busOf(log);
  const transfer: Work<number[]> = {
    reads: ['a', 'b', 'c'].map((id) => ref(id)),
    origin,
    run(scope) {
      scope.record(account, 'a', moved({ a: -7, b: 3, c: 4 }), [ref('b'), ref('c')]);
      return ['a', 'b', 'c'].map((id) => scope.version(account, id));
    },
  };
  assert.deepEqual((await bus.execute(transfer)).result, [1, 1, 1]);
  await bus.execute(add('b', 1));
  assert.deepEqual(await Promise.all(['a', 'b', 'c'].map((id) => balanceIn(log, id))), [-7, 4, 4]);
  const [first, second] = await log.read(0, 10);
  assert.deepEqual([first?.stream, first?.version], ['account-a', 1]);
  assert.deepEqual([second?.stream, second?.version], ['account-b', 2], 'a stream that was moved counts it');
});

test('a stream that was not named is loaded when it is met, all those of one event together', async () => {
  const { log, asked } = watchedLog();
  await busOf(log).execute(add('b', 10));
  await busOf(log).execute(add('c', 20));
  asked.loaded.length = 0;
  let runs = 0;
  const done = await busOf(log).execute({
    reads: [ref('a')],
    origin,
    run(scope) {
      runs += 1;
      scope.record(account, 'a', moved({ b: 1, c: 1 }), [ref('b'), ref('c')]);
      return [scope.state(account, 'b').balance, scope.state(account, 'd').balance, scope.version(account, 'a')];
    },
  });
  assert.deepEqual(done.result, [11, 0, 1]);
  assert.deepEqual(asked.loaded, [['account-a'], ['account-b', 'account-c'], ['account-d']]);
  assert.equal(runs, 3);
  assert.deepEqual(
    asked.appended.at(-1)?.checks.map((check) => [check.stream, check.version]),
    [
      ['account-a', 0],
      ['account-b', 1],
      ['account-c', 1],
      ['account-d', 0],
    ],
  );
});

test('a stream that was not named and is in memory costs no second run', async () => {
  const { log, asked } = watchedLog();
  const bus = busOf(log);
  await Promise.all([bus.execute(add('b', 10)), bus.execute(add('c', 20))]);
  asked.loaded.length = 0;
  let runs = 0;
  const done = await bus.execute({
    reads: [],
    origin,
    run(scope) {
      runs += 1;
      scope.record(account, 'b', moved({ b: 1, c: 1 }), [ref('c')]);
      return [scope.state(account, 'b').balance, scope.state(account, 'c').balance];
    },
  });
  assert.deepEqual(done.result, [11, 21]);
  assert.deepEqual([runs, asked.loaded], [1, []]);
});

test('what the bus has written it remembers, as far as its memory reaches', async () => {
  const { log, asked } = watchedLog();
  const bus = busOf(log, { cachedStreamsMax: 1 });
  await bus.execute(add('a', 1));
  await bus.execute(add('a', 1));
  assert.deepEqual(asked.loaded, [['account-a']]);
  await bus.execute(add('b', 1));
  assert.equal((await bus.execute(add('a', 1))).result, 3);
  assert.deepEqual(asked.loaded, [['account-a'], ['account-b'], ['account-a']]);
});

test('a stream that is over makes room in memory, and may still be decided on', async () => {
  const { log, asked } = watchedLog();
  const bus = busOf(log);
  const type: StreamType<Account> = { ...account, isOver: ({ entries }) => entries === 2 };
  const addTo = (id: string): Work<number> => ({
    ...add(id, 1),
    reads: [{ type, id, likelyNew: true }],
    run(scope) {
      scope.record(type, id, moved({ [id]: 1 }));
      return scope.state(type, id).balance;
    },
  });
  await bus.execute(addTo('a'));
  await bus.execute(addTo('a'));
  assert.deepEqual(asked.loaded, [], 'as long as it is not over it is remembered');
  const named = { ...addTo('a'), reads: [{ type, id: 'a' }] };
  assert.equal((await bus.execute(named)).result, 3);
  assert.equal((await bus.execute(named)).result, 4);
  assert.deepEqual(asked.loaded, [['account-a']]);
});

test('a stream that is most likely new is not asked for', async () => {
  const { log, asked } = watchedLog();
  await busOf(log).execute(add('a', 1, { reads: [ref('a', true)] }));
  assert.deepEqual(asked.loaded, []);
  assert.equal(await balanceIn(log, 'a'), 1);
});

test('a stream that was wrongly thought new is found out, and decided on anew', async () => {
  const { log, direct } = watchedLog();
  await busOf(direct).execute(add('a', 1));
  const bus = busOf(log);
  const [wrong, other] = await Promise.all([
    bus.execute(add('a', 10, { reads: [ref('a', true)] })),
    bus.execute(add('b', 5)),
  ]);
  assert.equal(wrong.result, 11);
  assert.equal(other.result, 5);
  assert.equal(await balanceIn(log, 'a'), 11);
});

test('two buses on one log lose no effect on a stream that both keep writing', async () => {
  // Each append takes a turn of the event loop, so that the two overtake each other.
  const { log } = watchedLog({ append: () => setImmediate() });
  const buses = [busOf(log, { batchWorksMax: 10 }), busOf(log, { batchWorksMax: 7 })];
  const done = await Promise.all(
    Array.from({ length: 400 }, (_, n) => buses[n % 2]!.execute(add(n % 5 === 0 ? `cold-${n}` : 'hot', 1))),
  );
  assert.equal(await balanceIn(log, 'hot'), 320);
  const hot = done.flatMap((one) => one.events.filter((event) => event.stream === 'account-hot'));
  assert.deepEqual(
    hot.map((event) => event.version).sort((a, b) => a - b),
    Array.from({ length: 320 }, (_, n) => n + 1),
  );
  for (const one of done) {
    if (one.events[0]?.stream === 'account-hot') assert.equal(one.result, one.events[0].version);
  }
  assert.ok(buses.some((bus) => bus.statistics().conflicts > 0));
  assert.equal(
    buses.reduce((sum, bus) => sum + bus.statistics().works, 0),
    400,
  );
});

test('an answer that was decided on what another has changed since is not given', async () => {
  const log = openMemoryLog('bank.0');
  const bus = busOf(log);
  await bus.execute(add('a', 1));
  await busOf(log).execute(add('a', 10));
  assert.equal((await bus.execute(look('a'))).result.balance, 11);
});

test('a command that throws on what another has changed since succeeds when it is repeated', async () => {
  const log = openMemoryLog('bank.0');
  const bus = busOf(log);
  await bus.execute(add('a', 1));
  await busOf(log).execute(add('a', 10));
  const spend = add('a', -5, {
    reads: [],
    run(scope) {
      if (scope.state(account, 'a').balance < 5) throw new Error('not enough');
      scope.record(account, 'a', moved({ a: -5 }));
      return scope.state(account, 'a').balance;
    },
  });
  const outcomes = [await Promise.allSettled([bus.execute(spend)]), await Promise.allSettled([bus.execute(spend)])];
  assert.equal(resultOf(outcomes[1]![0]), 6);
});

/** A log on which somebody else is always faster with the hot account, until a command is alone. */
function contestedLog() {
  const { log, direct, asked } = watchedLog({
    async append(batch) {
      const isHot = batch.checks.some((check) => check.stream === 'account-hot');
      if (isHot) await busOf(direct).execute(add('hot', 1));
    },
  });
  return { log, asked };
}

test('after three conflicts a command is decided alone, and gets through', async () => {
  const { log, asked } = contestedLog();
  const bus = busOf(log);
  let runs = 0;
  const stubborn = add('hot', 100, {
    run(scope) {
      runs += 1;
      scope.record(account, 'hot', moved({ hot: 100 }));
      return scope.state(account, 'hot').balance;
    },
  });
  const [done, neighbour] = await Promise.all([bus.execute(stubborn), bus.execute(add('cold', 1))]);
  assert.equal(done.result, 103);
  assert.equal(neighbour.result, 1);
  assert.equal(runs, 4);
  assert.equal(asked.alone, 1);
  assert.equal(bus.statistics().conflicts, 3);
  assert.equal((await bus.execute(look('cold'))).result.balance, 1);
  assert.equal(await balanceIn(log, 'hot'), 103);
});

test('a command that is decided alone may meet further streams, and may fail', async () => {
  const { log, asked } = contestedLog();
  const bus = busOf(log);
  await bus.execute(add('b', 10));
  const done = await bus.execute(
    add('hot', 100, {
      run(scope) {
        scope.record(account, 'hot', moved({ hot: 100, b: 1 }), [ref('b')]);
        return scope.state(account, 'b').balance + scope.state(account, 'c').balance;
      },
    }),
  );
  assert.equal(done.result, 11);
  assert.equal(asked.alone, 3, 'once per step that met new streams');
  assert.equal((await bus.execute(add('b', 1))).result, 12);

  let runs = 0;
  const failing = add('hot', 0, {
    run(scope) {
      runs += 1;
      if (runs > 3) throw new Error('not after all');
      scope.record(account, 'hot', moved({}));
      return 0;
    },
  });
  await assert.rejects(bus.execute(failing), /not after all/);
  assert.equal((await bus.execute(add('cold', 1))).result, 1);
});

test('a command that is decided alone and keeps meeting further streams is given up', async () => {
  const { log } = contestedLog();
  const endless = add('hot', 0, {
    run(scope) {
      const met = scope.version(account, 'hot') < 3 ? 0 : 20;
      for (let n = 0; n < met; n += 1) scope.version(account, `s${n}`);
      scope.record(account, 'hot', moved({}));
      return met;
    },
  });
  await assert.rejects(busOf(log).execute(endless), /not loaded/);
  assert.equal(await balanceIn(log, 'hot'), 3);
});

test('a command that is decided alone is held against its key and its checkpoint as any other', async () => {
  const { log } = contestedLog();
  const bus = busOf(log);
  await bus.execute(add('a', 1, { ...keyed('k'), checkpoint: { consumer: 'c', from: 0, to: 5 } }));
  // Each conflict is found first, so that the command goes the whole way.
  const hidden = (batch: AppendBatch): AppendBatch => ({ ...batch, keys: [], checkpoints: [] });
  const late: EventLog = { ...log, append: (batch) => log.append(hidden(batch)) };
  const outcomes = await Promise.allSettled([
    busOf(late).execute(add('hot', 100, keyed('k'))),
    busOf(late).execute(add('hot', 100, keyed('k', 'g'))),
    busOf(late).execute(add('hot', 100, { checkpoint: { consumer: 'c', from: 0, to: 9 } })),
  ]);
  const [replayed, reused, fenced] = outcomes;
  assert.equal(resultOf(replayed), 1);
  assert.ok(refusedWith('idempotency-key-reused')((reused as PromiseRejectedResult).reason));
  assert.ok(refusedWith('consumer-fenced')((fenced as PromiseRejectedResult).reason));
  assert.ok((await balanceIn(log, 'hot'))! < 100);
});

test('the same key again gets the first answer, and has no second effect', async () => {
  const log = openMemoryLog('bank.0');
  const bus = busOf(log);
  const first = await bus.execute(add('a', 1, keyed('k')));
  await bus.execute(add('a', 10));
  for (const asked of [bus, busOf(log)]) {
    assert.deepEqual(await asked.execute(add('a', 1, keyed('k'))), {
      result: first.result,
      replayed: true,
      position: 2,
      events: [],
    });
  }
  assert.equal(await balanceIn(log, 'a'), 11);
  assert.equal((await bus.execute(add('a', 1))).result, 12);
});

test('the same key for another request is refused, and for another caller is another key', async () => {
  const log = openMemoryLog('bank.0');
  const bus = busOf(log);
  await bus.execute(add('a', 1, keyed('k')));
  await assert.rejects(bus.execute(add('a', 1, keyed('k', 'other'))), refusedWith('idempotency-key-reused'));
  assert.equal((await bus.execute(add('a', 1, keyed('k', 'f', 'customer:ada')))).replayed, false);
  assert.equal(await balanceIn(log, 'a'), 2);
});

test('the same key given twice in the same turn has one effect and one answer', async () => {
  const log = openMemoryLog('bank.0');
  const bus = busOf(log);
  const [first, again, reused, other] = await Promise.allSettled([
    bus.execute(add('a', 1, keyed('k'))),
    bus.execute(add('a', 1, keyed('k'))),
    bus.execute(add('a', 5, keyed('k', 'g'))),
    bus.execute(add('b', 1)),
  ]);
  assert.deepEqual([first, again, other].map(resultOf), [1, 1, 1]);
  assert.ok(refusedWith('idempotency-key-reused')((reused as PromiseRejectedResult).reason));
  assert.equal(await balanceIn(log, 'a'), 1);
});

test('what is kept is what `keep` says, and a result that is not kept leaves its key free', async () => {
  const log = openMemoryLog('bank.0');
  const bus = busOf(log);
  const changing = (more: Partial<Work<number>>) => bus.execute(add('a', 1, { ...keyed('k'), ...more }));
  assert.equal((await changing({ keep: () => undefined })).result, 1);
  assert.equal((await changing({ keep: () => undefined })).result, 2);
  assert.equal((await changing({ keep: (result) => result * 100 })).result, 3);
  assert.deepEqual([(await changing({})).result, await balanceIn(log, 'a')], [300, 3]);
});

test('a key that is taken is found also by a command that would not keep its result', async () => {
  const log = openMemoryLog('bank.0');
  const bus = busOf(log);
  await bus.execute(add('a', 1, keyed('k')));
  const again = await bus.execute(add('a', 1, { ...keyed('k'), keep: () => undefined }));
  assert.deepEqual([again.replayed, again.result], [true, 1]);
  assert.equal(await balanceIn(log, 'a'), 1);
});

test('a replay does not disturb its neighbours, and what was decided on top of it is decided anew', async () => {
  const { log, asked } = watchedLog();
  const bus = busOf(log);
  await bus.execute(add('a', 1, keyed('k')));
  asked.appended.length = 0;
  const runs = { before: 0, onTop: 0, onTopOfThat: 0, apart: 0 };
  const counted = (name: keyof typeof runs, work: Work<number>): Work<number> => ({
    ...work,
    run(scope: Scope) {
      runs[name] += 1;
      return work.run(scope);
    },
  });
  const done = await Promise.all([
    bus.execute(counted('before', add('a', 10))),
    bus.execute(add('a', 1, keyed('k'))),
    bus.execute(
      counted('onTop', {
        ...add('a', 100),
        run(scope) {
          scope.record(account, 'a', moved({ a: 100, b: 1 }), [ref('b')]);
          return scope.state(account, 'a').balance;
        },
      }),
    ),
    bus.execute(counted('onTopOfThat', add('b', 1_000))),
    bus.execute(counted('apart', add('c', 1))),
  ]);
  assert.deepEqual(
    done.map((one) => [one.result, one.replayed]),
    [
      [11, false],
      [1, true],
      [111, false],
      [1_001, false],
      [1, false],
    ],
  );
  assert.deepEqual(runs, { before: 1, onTop: 2, onTopOfThat: 2, apart: 1 });
  assert.deepEqual(asked.appended.slice(1).map(streamsOf), [
    ['account-a', 'account-c'],
    ['account-a', 'account-b'],
  ]);
  assert.deepEqual(await Promise.all(['a', 'b', 'c'].map((id) => balanceIn(log, id))), [111, 1_001, 1]);
});

test('a checkpoint moves with the effect, and a worker that was overtaken fails alone', async () => {
  const log = openMemoryLog('bank.0');
  const bus = busOf(log);
  await bus.execute(add('a', 1, { checkpoint: { consumer: 'c', from: 0, to: 7 } }));
  assert.equal(await log.checkpoint('c'), 7);
  const [overtaken, onTop, apart, other] = await Promise.allSettled([
    bus.execute(add('a', 10, { checkpoint: { consumer: 'c', from: 0, to: 9 } })),
    bus.execute(add('a', 100)),
    bus.execute(add('b', 1)),
    bus.execute(add('b', 1, { checkpoint: { consumer: 'other', from: 0, to: 3 } })),
  ]);
  assert.ok(refusedWith('consumer-fenced')((overtaken as PromiseRejectedResult).reason));
  assert.deepEqual([onTop, apart, other].map(resultOf), [101, 1, 2]);
  assert.deepEqual([await log.checkpoint('c'), await log.checkpoint('other')], [7, 3]);
  assert.equal(await balanceIn(log, 'a'), 101);
});

test('two workers that move the same checkpoint in the same turn: one has an effect', async () => {
  const log = openMemoryLog('bank.0');
  const bus = busOf(log);
  const move = () => bus.execute(add('a', 1, { checkpoint: { consumer: 'c', from: 0, to: 7 } }));
  const [first, second] = await Promise.allSettled([move(), move()]);
  assert.equal(resultOf(first), 1);
  assert.ok(refusedWith('consumer-fenced')((second as PromiseRejectedResult).reason));
  assert.equal(await balanceIn(log, 'a'), 1);
});

test('a full queue refuses at once, and takes commands again when it has room', async () => {
  const log = openMemoryLog('bank.0');
  const bus = busOf(log, { queueWorksMax: 2 });
  const taken = [bus.execute(add('a', 1)), bus.execute(add('a', 1))];
  await assert.rejects(bus.execute(add('a', 1)), refusedWith('overloaded'));
  await Promise.all(taken);
  assert.equal((await bus.execute(add('a', 1))).result, 3);
});

test('the bus tells how long a command waits, by who has waited for longest and by how many wait', async () => {
  let nowMs = 1_000;
  let answer = Promise.withResolvers<void>();
  const { log, asked } = watchedLog({ append: () => answer.promise });
  const bus = busOf(log, { ports: { ...systemPorts, elapsed: () => nowMs } });
  const give = (count: number) => Array.from({ length: count }, () => bus.execute(add('a', 1)));
  const sent = (batches: number) => until('it is on its way', async () => asked.appended[batches - 1] ?? null);
  /** Has the batch on its way take `ms` more. */
  const settleAfter = (ms: number): void => {
    nowMs += ms;
    answer.resolve();
    answer = Promise.withResolvers();
  };
  assert.equal(bus.waitMs(), 0);
  const given = give(1);
  nowMs += 10;
  assert.equal(bus.waitMs(), 10);
  await sent(1);
  assert.equal(bus.waitMs(), 0, 'what is on its way does not wait for its batch');
  given.push(...give(2));
  nowMs += 20;
  assert.equal(bus.waitMs(), 20);
  settleAfter(20);
  await sent(2);
  given.push(...give(8));
  nowMs += 99;
  assert.equal(bus.waitMs(), 99, 'a crowd that has just come is one batch');
  nowMs += 1;
  assert.equal(bus.waitMs(), 320, 'one took 40 ms, and eight are waiting');
  nowMs += 300;
  assert.equal(bus.waitMs(), 400, 'no less than the first has been waiting');
  settleAfter(0);
  await sent(3);
  assert.equal(bus.waitMs(), 0);
  settleAfter(0);
  await Promise.all(given);
  assert.equal(bus.waitMs(), 0);
});

test('a batch has a limit of commands', async () => {
  const { log, asked } = watchedLog();
  const bus = busOf(log, { batchWorksMax: 4 });
  await Promise.all(Array.from({ length: 10 }, (_, n) => bus.execute(add(`a${n}`, 1))));
  assert.deepEqual(
    asked.appended.map((batch) => batch.events.length),
    [4, 4, 2],
  );
  assert.equal(bus.statistics().batches, 3);
});

test('a batch has a limit of streams that it reads', async () => {
  const { log, asked } = watchedLog();
  const bus = busOf(log);
  const wide = (from: number) => Array.from({ length: 8_000 }, (_, n) => ref(`s${from + n}`, true));
  await Promise.all([0, 1, 2, 3, 4].map((n) => bus.execute(add('a', 1, { reads: wide(n * 8_000) }))));
  assert.deepEqual(
    asked.appended.map((batch) => batch.events.length),
    [3, 2],
  );
});

test('a log that cannot be written fails what is under way, and later commands go on', async () => {
  let down = true;
  const { log } = watchedLog({
    append() {
      if (!down) return;
      down = false;
      throw new EngineError('log-unavailable', 'no answer');
    },
  });
  const bus = busOf(log, { batchWorksMax: 2 });
  const [first, second, queued] = await Promise.allSettled([
    bus.execute(add('a', 1)),
    bus.execute(add('a', 1)),
    bus.execute(add('a', 1)),
  ]);
  for (const one of [first, second]) assert.ok(refusedWith('log-unavailable')((one as PromiseRejectedResult).reason));
  assert.equal(resultOf(queued), 1, 'what was waiting goes on');
  assert.equal((await bus.execute(add('a', 1))).result, 2);
});

test('after an append whose answer was lost, commands are decided on what the log holds', async () => {
  const memory = openMemoryLog('bank.0');
  let lose = false;
  const log: EventLog = {
    ...memory,
    async append(batch) {
      const result = await memory.append(batch);
      if (lose) throw new EngineError('log-unavailable', 'no answer');
      return result;
    },
  };
  const bus = busOf(log);
  await bus.execute(add('a', 10));
  lose = true;
  await assert.rejects(bus.execute(add('a', 1, keyed('k'))), refusedWith('log-unavailable'));
  lose = false;
  assert.equal((await bus.execute(add('a', 1))).result, 12);
  assert.equal(bus.statistics().conflicts, 0, 'what was remembered is forgotten at once');
  const repeated = await bus.execute(add('a', 1, keyed('k')));
  assert.deepEqual([repeated.result, repeated.replayed], [11, true]);
});

test('a log that cannot be read fails what needs it, and later commands go on', async () => {
  let down = true;
  const { log } = watchedLog({
    load() {
      if (down) throw new EngineError('log-unavailable', 'no answer');
    },
  });
  const bus = busOf(log);
  await assert.rejects(bus.execute(add('a', 1)), refusedWith('log-unavailable'));
  const [onDemand, neighbour] = await Promise.allSettled([
    bus.execute(add('b', 1, { reads: [] })),
    bus.execute(add('n', 1, { reads: [ref('n', true)] })),
  ]);
  assert.ok(refusedWith('log-unavailable')((onDemand as PromiseRejectedResult).reason));
  assert.equal(resultOf(neighbour), 1);
  down = false;
  assert.equal((await bus.execute(add('a', 1))).result, 1);
  assert.equal((await bus.execute(add('b', 1, { reads: [] }))).result, 1);
});

test('of a batch that the database refuses as a whole only the guilty command fails', async () => {
  const { log } = watchedLog({
    append(batch) {
      const guilty = batch.writes.some((write) => (write.state as Account).balance < 0);
      if (guilty) throw new Error('violates check constraint "balance"');
    },
  });
  const bus = busOf(log);
  const [before, guilty, after, other] = await Promise.allSettled([
    bus.execute(add('a', 1)),
    bus.execute(add('a', -100)),
    bus.execute(add('a', 2)),
    bus.execute(add('b', 1)),
  ]);
  assert.match(String((guilty as PromiseRejectedResult).reason), /violates check/);
  assert.deepEqual([before, after, other].map(resultOf), [1, 3, 1]);
  assert.equal((await log.read(0, 10)).length, 3);
});

test('the timer of a stream follows from its state', async () => {
  const log = openMemoryLog('bank.0');
  const due: StreamType<Account> = {
    ...account,
    dueAt: ({ balance }) => (balance > 0 ? '2026-01-01T00:00:00.000Z' : null),
  };
  const bus = busOf(log);
  const set = (by: number) =>
    bus.execute({ reads: [], origin, run: (scope) => scope.record(due, 'a', moved({ a: by })) });
  await set(1);
  assert.deepEqual(await log.due('2026-01-02T00:00:00.000Z', 10), [
    { stream: 'account-a', dueAt: '2026-01-01T00:00:00.000Z', last: { id: 'bank-0-1', origin } },
  ]);
  await set(-1);
  assert.deepEqual(await log.due('2026-01-02T00:00:00.000Z', 10), []);
});

function resultOf<Result>(settled: PromiseSettledResult<{ readonly result: Result }> | undefined): Result {
  assert.ok(settled !== undefined);
  if (settled.status === 'rejected') throw settled.reason;
  return settled.value.result;
}

test('what was mended in the log is decided on once the bus has been told', async (t) => {
  const database = await testDatabase(t, [...logSchemaFolders]);
  const log = await openPostgresLog({ database, source: 'bank.0' });
  t.after(() => log.close());
  const bus = busOf(log);
  await bus.execute(add('a', 1));
  const mend = (balance: number): Promise<unknown> =>
    database.query('', `update streams set state = json_build_object('balance', $1::int, 'entries', 1)`, [balance]);

  await mend(100);
  assert.equal((await bus.execute(look('a'))).result.balance, 1, 'what it remembers is of the same version');
  bus.forget(['account-a']);
  assert.equal((await bus.execute(look('a'))).result.balance, 100);

  // Told while a batch is under way that was decided on what was there before.
  const underWay = bus.execute(add('a', 1));
  await setImmediate();
  bus.forget(['account-a']);
  await underWay;
  await mend(1_000);
  assert.equal((await bus.execute(look('a'))).result.balance, 1_000);
});
