import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemPorts } from '#platform/ports.ts';
import { createOverload } from './overload.ts';

/** A clock, and turns of an event loop, that move when they are told to. */
function world(waitMs = 20) {
  let nowMs = 1_000;
  let ends: (() => void)[] = [];
  const measured = { turnWaitMs: 0, commandWaitMs: 0, behindMs: 0 };
  const overload = createOverload({
    ports: { ...systemPorts, elapsed: () => nowMs, soon: (act) => void ends.push(act) },
    waitMs,
    commandWaitMs: () => measured.commandWaitMs,
    behindMs: () => measured.behindMs,
  });
  const pass = (ms: number): void => void (nowMs += ms);
  const endTurn = (): void => {
    for (const end of ends.splice(0)) end();
  };
  /** One that comes 10 ms after the one before. */
  function ask(isRead = false): string | null {
    pass(10);
    const line = overload.tooLong(isRead, measured.turnWaitMs);
    endTurn();
    return line;
  }
  return { overload, measured, pass, ask };
}

test('a crowd that passes is served, however many come at once', () => {
  const { ask, measured } = world(40);
  for (let n = 0; n < 10; n += 1) {
    for (measured.turnWaitMs = 950; measured.turnWaitMs > 40; measured.turnWaitMs -= 10) assert.equal(ask(), null);
    measured.turnWaitMs = 0;
    assert.equal(ask(), null);
  }
});

test('once one would have had to wait for too long for a while, whoever would is turned away', () => {
  const { ask, measured } = world(40);
  measured.turnWaitMs = 41;
  let waitedMs = 0;
  for (; ask(true) === null; waitedMs += 10);
  assert.equal(waitedMs, 1_000);
  assert.equal(ask(true), 'turn');
  measured.turnWaitMs = 40;
  assert.equal(ask(true), null, 'as many as can be served are');
  measured.turnWaitMs = 41;
  assert.equal(ask(true), 'turn', 'it has not been short for long');
});

test('when the line is 25 times as long as one may wait, whoever would is turned away at once', () => {
  const { ask, measured } = world(40);
  measured.turnWaitMs = 1_000;
  assert.equal(ask(true), null);
  measured.turnWaitMs = 1_001;
  assert.equal(ask(true), 'turn');
});

test('reads have the second half of what one may wait to themselves', () => {
  const { ask, measured } = world(40);
  measured.turnWaitMs = 1_001;
  assert.equal(ask(), 'turn');
  measured.turnWaitMs = 21;
  assert.deepEqual([ask(false), ask(true)], ['turn', null]);
  measured.turnWaitMs = 20;
  assert.equal(ask(false), null);
});

test('when nobody has had to wait for too long for five seconds everybody is served again', () => {
  const { overload, ask, measured, pass } = world(40);
  measured.turnWaitMs = 1_001;
  assert.equal(ask(true), 'turn');
  pass(90);
  assert.equal(overload.sinceMs(), 90);
  measured.turnWaitMs = 0;
  for (let ms = 0; ms < 5_000; ms += 10) assert.equal(ask(), null);
  assert.equal(overload.sinceMs(), 0);
  measured.turnWaitMs = 41;
  assert.equal(ask(), null);
});

test('when commands have been waiting for too long, commands are turned away and reads are not', () => {
  const { measured, ask } = world();
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
  for (let ms = 0; ms < 5_000; ms += 10) assert.equal(ask(), null);
  measured.commandWaitMs = 201;
  assert.equal(ask(), null);
});

test('when a command would wait 25 times as long as one may for a turn, commands are turned away at once', () => {
  const { measured, ask } = world(40);
  measured.commandWaitMs = 1_000;
  assert.equal(ask(), null);
  measured.commandWaitMs = 1_001;
  assert.deepEqual([ask(true), ask()], [null, 'commands']);
});

test('when consumers fall behind, commands are turned away and reads are not', () => {
  const { overload, measured, pass, ask } = world();
  measured.behindMs = 501;
  let waitedMs = 0;
  for (; ask() === null; waitedMs += 10);
  assert.equal(waitedMs, 1_000);
  assert.equal(ask(), 'consumers');
  assert.equal(ask(true), null);
  pass(5_000);
  assert.ok(overload.sinceMs() > 5_000);
  measured.behindMs = 500;
  assert.equal(ask(), null);
});

test('without a limit nobody is turned away', () => {
  const { measured, ask } = world(0);
  measured.turnWaitMs = 10_000;
  measured.behindMs = 100_000;
  assert.equal(ask(), null);
});
