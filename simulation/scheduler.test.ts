import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Incarnation } from './incarnation.ts';
import { seededRandom } from './random.ts';
import { Scheduler } from './scheduler.ts';

const never = (): boolean => false;

function begin(): { scheduler: Scheduler; process: Incarnation; told: string[] } {
  const scheduler = new Scheduler(seededRandom(1, 'order'));
  return { scheduler, process: new Incarnation('p#1', scheduler, seededRandom(1, 'world'), { skewMs: 0 }), told: [] };
}

test('steps are taken by time, and a step has ended when all promises that it settled are heard', async () => {
  const { scheduler, told } = begin();
  scheduler.after(20, 'second', null, () => told.push('second'));
  scheduler.after(10, 'first', null, () => {
    told.push('first');
    let chain = Promise.resolve();
    for (let n = 0; n < 50; n += 1) chain = chain.then(() => {});
    void chain.then(() => queueMicrotask(() => told.push('heard')));
  });
  await scheduler.run(15, never);
  assert.deepEqual(told, ['first', 'heard']);
  assert.equal(scheduler.nowMs, 15);
  await scheduler.run(1_000, never);
  assert.deepEqual(told, ['first', 'heard', 'second']);
});

test('a process that is killed does nothing further', async () => {
  const { scheduler, process, told } = begin();
  process.ports.after(10, () => told.push('timer'));
  process.ports.soon(() => told.push('soon'));
  process.kill();
  await scheduler.run(1_000, never);
  assert.deepEqual(told, []);
});

test('what falls due while a process is stopped happens when it goes on, in order', async () => {
  const { scheduler, process, told } = begin();
  process.ports.after(10, () => told.push('first'));
  const cancel = process.ports.after(20, () => told.push('cancelled'));
  process.ports.after(30, () => told.push('second'));
  process.pause();
  await scheduler.run(1_000, never);
  assert.deepEqual(told, []);
  cancel();
  process.resume();
  await scheduler.run(1_000, never);
  assert.deepEqual(told, ['first', 'second']);
});

test('what a step throws ends the run', async () => {
  const { scheduler } = begin();
  scheduler.after(1, 'bad', null, () => {
    throw new Error('no');
  });
  await assert.rejects(scheduler.run(10, never), /no/);
});

test('clocks may be wrong, durations are not', async () => {
  const scheduler = new Scheduler(seededRandom(1, 'order'));
  const clock = { skewMs: 600_000 };
  const { ports } = new Incarnation('p#1', scheduler, seededRandom(1, 'world'), clock);
  assert.equal(new Date(ports.now()).toISOString(), '2026-01-01T00:10:00.000Z');
  let rang = 0;
  const cancel = ports.every(100, () => (rang += 1));
  scheduler.after(350, 'wait', null, () => (clock.skewMs = 0));
  await scheduler.run(350, never);
  assert.equal(ports.elapsed(), 350);
  assert.equal(new Date(ports.now()).toISOString(), '2026-01-01T00:00:00.350Z');
  assert.equal(rang, 3);
  cancel();
  await scheduler.run(1_000, never);
  assert.equal(rang, 3);
});
