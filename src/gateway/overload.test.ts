import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemPorts } from '#platform/ports.ts';
import { createOverload } from './overload.ts';

/** A clock, and turns of an event loop, that move when they are told to. */
function world(waitMs = 50) {
  let nowMs = 1_000;
  let workedMs = 0;
  let ends: (() => void)[] = [];
  const measured = { commandWaitMs: 0, behindMs: 0 };
  const overload = createOverload({
    ports: { ...systemPorts, elapsed: () => nowMs, soon: (act) => void ends.push(act) },
    processorMs: () => workedMs,
    waitMs,
    commandWaitMs: () => measured.commandWaitMs,
    behindMs: () => measured.behindMs,
  });
  /** Others have the processor. */
  const pass = (ms: number): void => void (nowMs += ms);
  const work = (ms: number): void => {
    nowMs += ms;
    workedMs += ms;
  };
  const endTurn = (): void => {
    for (const end of ends.splice(0)) end();
  };
  /** One turn in which requests come one after the other, each of which takes `eachMs`; those turned away take nothing. */
  function turn(requests: number, eachMs: number, isRead = true): number {
    let shed = 0;
    for (let n = 0; n < requests; n += 1) {
      if (overload.tooLong(isRead, 0) === null) work(eachMs);
      else shed += 1;
    }
    endTurn();
    return shed;
  }
  return { overload, measured, pass, work, turn, endTurn };
}

test('a crowd that passes is served, however many come at once', () => {
  const { turn, pass } = world(100);
  assert.equal(turn(100, 1), 0);
  for (let n = 0; n < 100; n += 1) {
    pass(100);
    assert.equal(turn(20, 1), 0);
  }
  assert.equal(turn(200, 1), 0);
});

test('once turns have been long for a while, they are kept short', () => {
  const { turn } = world(100);
  let turns = 0;
  while (turn(100, 1) === 0) turns += 1;
  assert.equal(turns, 3);
  for (let n = 0; n < 50; n += 1) assert.equal(turn(100, 1), 49, 'it serves for 50 ms, and the one that made it 51');
});

test('of a turn that outlasts all patience the rest is turned away', () => {
  const { turn } = world(100);
  assert.equal(turn(1_000, 1), 1_000 - 301);
});

test('a turn in which others had the processor is not long', () => {
  const { overload, turn, pass, endTurn } = world(100);
  for (let n = 0; n < 50; n += 1) {
    for (let m = 0; m < 10; m += 1) {
      assert.equal(overload.tooLong(m % 2 === 0, 0), null);
      pass(100);
    }
    endTurn();
  }
  assert.equal(turn(40, 1), 0);
});

test('reads have the second half of each turn to themselves', () => {
  const { overload, turn, work, endTurn } = world(100);
  while (turn(100, 1) === 0);
  assert.equal(overload.tooLong(false, 0), null);
  work(30);
  assert.equal(overload.tooLong(false, 0), 'turn');
  assert.equal(overload.tooLong(true, 0), null);
  work(30);
  assert.equal(overload.tooLong(true, 0), 'turn');
  endTurn();
  assert.equal(overload.tooLong(false, 0), null);
});

test('when turns have been short for a second everybody is served again', () => {
  const { overload, turn, pass } = world(100);
  while (turn(100, 1) === 0);
  assert.ok(overload.sinceMs() < 100);
  turn(100, 1);
  for (let ms = 0; ms < 1_100; ms += 100) {
    pass(100);
    turn(1, 1);
  }
  assert.equal(overload.sinceMs(), 0);
  assert.equal(turn(100, 1), 0);
});

test('when commands have been waiting for too long, commands are turned away and reads are not', () => {
  const { overload, measured, pass, endTurn } = world();
  const ask = (isRead = false): string | null => {
    pass(10);
    const line = overload.tooLong(isRead, 0);
    endTurn();
    return line;
  };
  measured.commandWaitMs = 201;
  let waitedMs = 0;
  for (; ask() === null; waitedMs += 10);
  assert.equal(waitedMs, 1_000);
  assert.equal(ask(), 'commands');
  assert.equal(ask(true), null);
  measured.commandWaitMs = 200;
  assert.equal(ask(), null, 'as many as can be served are');
  measured.commandWaitMs = 201;
  assert.equal(ask(), 'commands', 'it has not been short for long');
  measured.commandWaitMs = 0;
  for (let ms = 0; ms < 1_000; ms += 10) assert.equal(ask(), null);
  measured.commandWaitMs = 201;
  assert.equal(ask(), null);
});

test('when consumers fall behind, commands are turned away and reads are not', () => {
  const { overload, measured, pass, endTurn } = world();
  const ask = (isRead = false): string | null => {
    pass(10);
    const line = overload.tooLong(isRead, 0);
    endTurn();
    return line;
  };
  measured.behindMs = 1_001;
  let waitedMs = 0;
  for (; ask() === null; waitedMs += 10);
  assert.equal(waitedMs, 2_000);
  assert.equal(ask(), 'consumers');
  assert.equal(ask(true), null);
  pass(5_000);
  assert.ok(overload.sinceMs() > 5_000);
  measured.behindMs = 1_000;
  assert.equal(ask(), null);
});

test('once one has had to wait for too long for a while, whoever would is turned away, commands at half of that', () => {
  const { overload, pass, endTurn } = world(100);
  const ask = (turnWaitMs: number, isRead = true): string | null => {
    pass(10);
    const line = overload.tooLong(isRead, turnWaitMs);
    endTurn();
    return line;
  };
  for (let n = 0; n < 100; n += 1) assert.equal(ask(100), null, 'as long as one may');
  let waitedMs = 0;
  for (; ask(101) === null; waitedMs += 10);
  assert.equal(waitedMs, 300);
  assert.deepEqual([ask(100), ask(51, false), ask(50, false)], [null, 'turn', null]);
  for (let ms = 0; ms < 1_100; ms += 10) ask(0);
  assert.equal(overload.sinceMs(), 0);
  assert.equal(ask(410), 'turn', 'one who has been waiting for longer than all patience is enough');
});

test('without a limit nobody is turned away', () => {
  const { turn, measured } = world(0);
  measured.behindMs = 100_000;
  assert.equal(turn(10_000, 1, false), 0);
});
