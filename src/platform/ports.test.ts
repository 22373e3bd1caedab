import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep, systemPorts, timeNow } from './ports.ts';

test('random digits are as many as asked for, and no two are alike', () => {
  const seen = new Set(Array.from({ length: 2_000 }, () => systemPorts.randomHex(8)));
  assert.equal(seen.size, 2_000);
  assert.ok([...seen].every((one) => /^[0-9a-f]{16}$/.test(one)));
  assert.match(systemPorts.randomHex(10_000), /^[0-9a-f]{20000}$/);
});

test('a timer that is cancelled does not fire, one that is not does', async () => {
  const fired: string[] = [];
  systemPorts.after(1, () => fired.push('cancelled'))();
  await new Promise<void>((resolve) => void systemPorts.after(5, resolve));
  assert.deepEqual(fired, []);
});

test('what repeats goes on until it is cancelled', async () => {
  let rounds = 0;
  await new Promise<void>((resolve) => {
    const cancel = systemPorts.every(1, () => {
      rounds += 1;
      if (rounds === 3) {
        cancel();
        resolve();
      }
    });
    // `every` keeps no process alive, not even this one.
    const alive = setInterval(() => rounds === 3 && clearInterval(alive), 1);
  });
  assert.equal(rounds, 3);
});

test('sleep ends at its time, or as soon as it is told to', async () => {
  const began = systemPorts.elapsed();
  await sleep(systemPorts, 5);
  assert.ok(systemPorts.elapsed() - began >= 4);
  const stop = new AbortController();
  const sleeping = sleep(systemPorts, 60_000, stop.signal);
  stop.abort();
  await sleeping;
  await sleep(systemPorts, 60_000, stop.signal);
});

test('the time is RFC 3339 in UTC', () => {
  assert.equal(timeNow({ ...systemPorts, now: () => 0 }), '1970-01-01T00:00:00.000Z');
});
