import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Counters, missing } from './counters.ts';
import { mutants } from './mutants.ts';
import { planOf } from './plan.ts';
import { seededRandom } from './random.ts';
import { shrink, without } from './shrink.ts';
import type { Report } from './worker.ts';
import { runSeeds } from './workforce.ts';
import { runWorld } from './world.ts';

const worlds = 300;

test(`in ${worlds} worlds everything holds, whatever crashes, lags, lies or repeats itself`, async () => {
  const failures: string[] = [];
  const counters = new Counters();
  const orders = { from: 1, to: worlds, workers: 1, seedsPerTurn: worlds, stopAtFirst: true };
  await runSeeds(orders, (report) => {
    counters.addAll(report.counts);
    for (const { seed, found } of report.failures) failures.push(`npm run simulate -- --seed ${seed}: ${found}`);
  });
  assert.deepEqual(failures, []);
  // A small run may miss the rarest states, and not the common ones.
  const common = ['OrderCompleted', 'OrderRefunded', 'worker fenced', 'conflict', 'parked: queued-behind'];
  assert.deepEqual(
    missing(counters).filter((state) => common.includes(state)),
    [],
  );
});

test('a seed gives the same world each time', async () => {
  for (const seed of [7, 8, 9]) {
    const [first, second] = [await runWorld(planOf(seed)), await runWorld(planOf(seed))];
    assert.equal(first.traceHash, second.traceHash);
    assert.deepEqual(first.counts, second.counts);
  }
  assert.notEqual((await runWorld(planOf(7))).traceHash, (await runWorld(planOf(8))).traceHash);
});

test('while a world runs, the clock, the timers and the chance of the machine are out of reach', async () => {
  const reached: string[] = [];
  const attempts: Readonly<Record<string, () => unknown>> = {
    'Date.now': () => Date.now(),
    'new Date()': () => new Date(),
    'performance.now': () => performance.now(),
    'Math.random': () => Math.random(),
    setTimeout: () => setTimeout(() => {}, 1),
    setImmediate: () => setImmediate(() => {}),
    'crypto.randomUUID': () => crypto.randomUUID(),
  };
  let told = 0;
  await runWorld(planOf(1), () => {
    told += 1;
    if (told > 1) return;
    for (const [name, ask] of Object.entries(attempts)) {
      try {
        ask();
        reached.push(name);
      } catch (error) {
        assert.match((error as Error).message, /in a simulated world/);
      }
    }
    assert.equal(new Date(0).toISOString(), '1970-01-01T00:00:00.000Z');
  });
  assert.ok(told > 1);
  assert.deepEqual(reached, []);
  for (const ask of Object.values(attempts)) assert.ok(ask() !== undefined);
});

test('a safeguard that is switched off is noticed, with a seed that shows it', async () => {
  const failures: Report['failures'][number][] = [];
  const { name } = mutants.find((one) => one.name.startsWith('the checkpoint is in the transaction'))!;
  const orders = { from: 1, to: 100, workers: 1, seedsPerTurn: 10, stopAtFirst: true, mutant: name };
  await runSeeds(orders, (report) => failures.push(...report.failures));
  assert.equal(failures.length, 1);
  assert.equal(failures[0]?.invariant, 'I3');
});

test('a mutant that nobody knows fails its run', async () => {
  const orders = { from: 1, to: 1, workers: 1, seedsPerTurn: 1, stopAtFirst: true, mutant: 'no such safeguard' };
  await assert.rejects(
    runSeeds(orders, () => {}),
    /there is no mutant no such safeguard/,
  );
});

test('a plan is made smaller as long as it fails in the same way', async () => {
  const plan = planOf(12);
  // An answer to a stranger is what no world may contain.
  const failing = { ...plan, commands: plan.commands.map((one) => ({ ...one, caller: 'customer:mallory' })) };
  assert.equal((await runWorld(failing)).violation?.invariant, 'I19');
  const small = without(failing, await shrink(failing, 'I19'));
  assert.equal(small.faults.length, 0);
  assert.equal(small.commands.length, 1);
  assert.equal((await runWorld(small)).violation?.invariant, 'I19');
});

test('sequences of chance depend on the seed and on their purpose, and on nothing else', () => {
  const drawn = (seed: number, purpose: string): number[] => {
    const random = seededRandom(seed, purpose);
    return Array.from({ length: 5 }, () => random.whole(0, 1_000_000));
  };
  assert.deepEqual(drawn(1, 'a'), drawn(1, 'a'));
  assert.notDeepEqual(drawn(1, 'a'), drawn(2, 'a'));
  assert.notDeepEqual(drawn(1, 'a'), drawn(1, 'b'));
});
