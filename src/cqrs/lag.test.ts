import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemPorts } from '#platform/ports.ts';
import { type Followed, watchLag } from './lag.ts';

function world() {
  let nowMs = 1_000;
  const one = { head: 0, position: 0, paused: null as string | null, trouble: null as ReturnType<Followed['trouble']> };
  const other: Followed = { head: () => 7, paused: () => null, trouble: () => null, progress: { position: 7 } };
  const followed: Followed = {
    head: () => one.head,
    paused: () => one.paused,
    trouble: () => one.trouble,
    progress: {
      get position() {
        return one.position;
      },
    },
  };
  const behindMs = watchLag([other, followed], { ...systemPorts, elapsed: () => nowMs });
  return {
    one,
    behindAfter(ms: number): number {
      nowMs += ms;
      return behindMs();
    },
  };
}

test('a consumer is behind for as long as the first event that it has not applied has been waiting', () => {
  const { one, behindAfter } = world();
  assert.equal(behindAfter(100), 0);
  one.head = 10;
  assert.equal(behindAfter(100), 0, 'heard of just now');
  one.head = 20;
  assert.equal(behindAfter(100), 100);
  assert.equal(behindAfter(10), 100, 'it does not look all the time');
  one.position = 9;
  assert.equal(behindAfter(90), 200);
  one.position = 10;
  assert.equal(behindAfter(100), 200, 'what comes next was heard of 100 ms later');
  one.position = 20;
  assert.equal(behindAfter(100), 0);
});

test('a consumer that stands does not count until it has caught up', async (t) => {
  const ways: readonly [
    why: string,
    stand: (w: ReturnType<typeof world>) => void,
    goOn: (w: ReturnType<typeof world>) => void,
  ][] = [
    ['paused', ({ one }) => (one.paused = 'by an operator'), ({ one }) => (one.paused = null)],
    ['failing', ({ one }) => (one.trouble = { since: '', message: '' }), ({ one }) => (one.trouble = null)],
    ['stuck', ({ behindAfter }) => void behindAfter(5_000), () => {}],
  ];
  for (const [why, stand, goOn] of ways)
    await t.test(why, () => {
      const w = world();
      w.one.head = 10;
      w.behindAfter(100);
      assert.equal(w.behindAfter(100), 100);
      stand(w);
      assert.equal(w.behindAfter(100), 0);
      goOn(w);
      w.one.position = 9;
      w.one.head = 1_000;
      assert.equal(w.behindAfter(100), 0, 'it catches up');
      w.one.position = 1_000;
      w.behindAfter(100);
      w.one.head = 1_001;
      w.behindAfter(100);
      assert.equal(w.behindAfter(100), 100, 'it has caught up, and counts again');
    });
});

test('a consumer that was idle and then has much to do is not taken for one that stands', () => {
  const { one, behindAfter } = world();
  behindAfter(100);
  one.head = 500;
  behindAfter(60_000);
  assert.equal(behindAfter(4_000), 4_000);
  one.position = 250;
  assert.equal(behindAfter(4_000), 8_000);
});
