import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTurns } from './turns.ts';

/** A clock, and turns of an event loop, that move when they are told to. */
function world() {
  let nowMs = 1_000;
  let soon: (() => void)[] = [];
  const done: string[] = [];
  const turns = createTurns({ elapsed: () => nowMs, soon: (act) => void soon.push(act) });
  const pass = (ms: number): void => void (nowMs += ms);
  return {
    turns,
    done,
    pass,
    come: (name: string, takesMs = 1): boolean =>
      turns.enter(() => {
        pass(takesMs);
        done.push(name);
      }),
    endTurn(): void {
      for (const act of soon.splice(0)) act();
    },
    isIdle: (): boolean => soon.length === 0,
  };
}

test('as long as there is time nobody waits', () => {
  const { turns, come, done } = world();
  for (const name of ['a', 'b', 'c', 'd']) assert.ok(come(name));
  assert.deepEqual([done.join(''), turns.waitMs()], ['abcd', 0]);
});

test('who waits is taken up in a later turn, in the order of arrival, and before whoever comes then', () => {
  const { come, done, endTurn, isIdle } = world();
  for (const name of 'abcdefghij') come(name);
  assert.equal(done.join(''), 'abcd');
  endTurn();
  assert.equal(done.join(''), 'abcdefgh');
  come('k', 100);
  come('l');
  endTurn();
  assert.equal(done.join(''), 'abcdefghijk', 'who takes too long makes nobody lose their place');
  endTurn();
  assert.equal(done.join(''), 'abcdefghijkl');
  endTurn();
  assert.ok(isIdle());
  come('m');
  assert.equal(done.at(-1), 'm');
});

test('whoever throws makes nobody lose their place', () => {
  const { turns, come, done, endTurn } = world();
  come('a', 4);
  turns.enter(() => {
    throw new Error('broken');
  });
  come('b');
  assert.throws(endTurn, /broken/);
  endTurn();
  assert.equal(done.join(''), 'ab');
});

test('no more wait than there may, and nobody for nothing', () => {
  const { come, done, endTurn } = world();
  come('first', 4);
  for (let n = 0; n < 20_000; n += 1) assert.ok(come('', 0.01));
  assert.equal(come('one too many'), false);
  endTurn();
  assert.ok(come('again'));
  while (done.at(-1) !== 'again') endTurn();
  assert.equal(done.length, 20_002);
});

test('how long one more would wait is told from how many do, and how quickly others were taken up', () => {
  const { turns, come, endTurn, pass } = world();
  for (let n = 0; n < 84; n += 1) come('');
  pass(6);
  endTurn();
  assert.equal(turns.waitMs(), (76 * 10) / 4, 'four in 10 ms, and as many are left as that');
  for (; turns.waitMs() > 0; endTurn()) pass(6);
  endTurn();
  for (let n = 0; n < 84; n += 1) come('');
  assert.ok(Math.abs(turns.waitMs() - (80 * 10) / 4) < 1e-6, 'what was known is known when a line forms again');
  for (let n = 0; n < 10; n += 1) {
    pass(46);
    endTurn();
  }
  const waiting = 40;
  assert.ok(turns.waitMs() > (waiting * 30) / 4 && turns.waitMs() < (waiting * 50) / 4, 'longer turns are noticed');
});
