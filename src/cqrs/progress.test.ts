import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openMemoryLog } from './memory-log.ts';
import { commandsCaughtUp, Progress, reachAll } from './progress.ts';

/** How many may wait at once. */
const waitersMax = 10_000;
/** Long enough to fail a test that waits it out. */
const foreverMs = 60_000;
const timersRunning = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;

test('what has been reached is reached at once', async () => {
  const progress = new Progress(5);
  assert.equal(await progress.reach(5, 0), true);
  assert.equal(await progress.reach(4, foreverMs), true);
  assert.equal(await new Progress().reach(0, 0), true);
});

test('progress only grows', () => {
  const progress = new Progress(5);
  progress.advance(3);
  assert.equal(progress.position, 5);
  progress.advance(6);
  assert.equal(progress.position, 6);
});

test('whoever waits is woken as soon as the position is reached, and no earlier', async () => {
  const progress = new Progress();
  const order: number[] = [];
  const waits = [3, 1, 2].map((position) =>
    progress.reach(position, foreverMs).then((reached) => {
      assert.equal(reached, true);
      order.push(position);
    }),
  );
  const before = timersRunning();
  progress.advance(1);
  await waits[1];
  assert.deepEqual(order, [1]);
  progress.advance(7);
  await Promise.all(waits);
  assert.deepEqual(
    order.toSorted((a, b) => a - b),
    [1, 2, 3],
  );
  assert.equal(timersRunning(), before - 3, 'no timer is left behind');
});

test('a wait ends unreached after its time', async () => {
  const progress = new Progress();
  assert.equal(await progress.reach(1, 0), false);
  assert.equal(await progress.reach(1, 5), false);
  progress.advance(1);
  assert.equal(await progress.reach(1, 0), true);
});

test('whoever waits is let go, unreached, and may wait again', async () => {
  const progress = new Progress();
  const waits = [1, 2].map((position) => progress.reach(position, foreverMs));
  progress.release();
  assert.deepEqual(await Promise.all(waits), [false, false]);
  const again = progress.reach(1, foreverMs);
  progress.advance(1);
  assert.equal(await again, true);
});

test('when too many wait already, one more is told at once', async () => {
  const progress = new Progress();
  const waits = Array.from({ length: waitersMax }, () => progress.reach(1, foreverMs));
  assert.equal(await progress.reach(1, foreverMs), false);
  progress.advance(1);
  assert.ok((await Promise.all(waits)).every(Boolean));
  const room = progress.reach(2, foreverMs);
  progress.advance(2);
  assert.equal(await room, true);
});

test('all positions are reached when each of the sources that are followed has come so far', async () => {
  const [orders, stock] = [new Progress(5), new Progress(2)];
  const followed = new Map([
    ['ordering.0', orders],
    ['inventory.0', stock],
  ]);
  assert.equal(await reachAll({ 'ordering.0': 5, 'inventory.0': 2 }, followed, 0), true);
  assert.equal(await reachAll({ 'ordering.0': 5, 'inventory.0': 3 }, followed, 0), false);
  const waiting = reachAll({ 'ordering.0': 6, 'inventory.0': 3 }, followed, foreverMs);
  orders.advance(6);
  stock.advance(3);
  assert.equal(await waiting, true);
});

test('a source that is not followed has nothing to say', async () => {
  assert.equal(await reachAll({ 'payments.0': 99 }, new Map(), 0), true);
  assert.equal(await reachAll({}, new Map(), 0), true);
  assert.equal(
    await reachAll({ 'payments.0': 99, 'ordering.0': 1 }, new Map([['ordering.0', new Progress()]]), 0),
    false,
  );
});

test('commands are caught up when what they listen to is applied, and their own log has come so far', async () => {
  const log = openMemoryLog('ordering.0');
  const stock = { source: 'inventory.0', progress: new Progress(2) };
  const caughtUp = commandsCaughtUp(log, [stock]);
  assert.equal(await caughtUp({ 'ordering.0': 1 }, 0), false);
  const origin = { actor: 'operator', correlationId: 'c', causationId: 'r' };
  await log.append({
    checks: [],
    events: [{ stream: 'order-1', version: 1, type: 'Happened', data: {}, at: '2026-01-01T00:00:00Z', origin }],
    writes: [],
    keys: [],
    checkpoints: [],
  });
  assert.equal(await caughtUp({ 'ordering.0': 1, 'inventory.0': 2, 'catalog.0': 9 }, 0), true);
  assert.equal(await caughtUp({ 'ordering.0': 1, 'inventory.0': 3 }, 0), false);
  // The log of this process knows of nothing, the database does: another process writes it too.
  const elsewhere = commandsCaughtUp({ ...openMemoryLog('ordering.0'), head: () => log.head() }, []);
  assert.equal(await elsewhere({ 'ordering.0': 1 }, 0), true);
  assert.equal(await elsewhere({ 'ordering.0': 2 }, 0), false);
});

test('progress that begins anew further back is not reached until it has come there again', async () => {
  const progress = new Progress();
  progress.advance(10);
  progress.restart(7);
  assert.equal(progress.position, 7);
  const waiting = progress.reach(10, 5_000);
  assert.equal(await progress.reach(8, 0), false);
  progress.advance(10);
  assert.equal(await waiting, true);
});
