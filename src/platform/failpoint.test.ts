import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { failpoints, parseFailpoint } from './failpoint.ts';
import { loadSettings, SettingsError } from './settings.ts';

const module = JSON.stringify(new URL('./failpoint.ts', import.meta.url).href);

/** What a process of its own prints that comes to two steps three times each, and how it ends. */
function run(plan: string, step = 'failpoint') {
  const script = `
    import { writeSync } from 'node:fs';
    import { ${step} as step } from ${module};
    for (let n = 1; n <= 3; n += 1) {
      step('log-committed');
      writeSync(1, 'a' + n);
      step('log-sent');
      writeSync(1, 'b' + n);
    }`;
  const { stdout, stderr, signal, status } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    env: { ...process.env, TWOFOLD_FAILPOINT: plan },
    encoding: 'utf8',
    timeout: 20_000,
  });
  return { stdout, stderr, signal, status };
}

test('a process dies at the first hit of its failpoint, before the next statement', () => {
  const { stdout, stderr, signal } = run('log-committed:1');
  assert.deepEqual([stdout, stderr, signal], ['', 'failpoint log-committed:1 reached\n', 'SIGKILL']);
});

test('hits are counted, each failpoint by itself', () => {
  const { stdout, signal } = run('log-sent:2');
  assert.deepEqual([stdout, signal], ['a1b1a2', 'SIGKILL']);
});

test('what is hit less often than planned lets the process live', () => {
  assert.deepEqual(run('log-sent:4'), { stdout: 'a1b1a2b2a3b3', stderr: '', signal: null, status: 0 });
});

test('without a plan nothing happens', () => {
  assert.deepEqual(run(''), { stdout: 'a1b1a2b2a3b3', stderr: '', signal: null, status: 0 });
});

test('a failpoint once all is sent strikes after the turn that it is in', () => {
  const { stdout, stderr, signal } = run('log-sent:1', 'failpointOnceSent');
  assert.deepEqual([stdout, stderr, signal], ['a1b1a2b2a3b3', 'failpoint log-sent:1 reached\n', 'SIGKILL']);
});

for (const wrong of ['log-comitted:1', 'log-committed', 'log-committed:0', 'log-committed:1:2', 'toString:1', ':1']) {
  test(`TWOFOLD_FAILPOINT=${wrong} stops the start, and says what there is`, () => {
    assert.equal(parseFailpoint(wrong), undefined);
    assert.throws(
      () => loadSettings({ TWOFOLD_FAILPOINT: wrong }),
      (error) =>
        error instanceof SettingsError &&
        error.message.includes(`TWOFOLD_FAILPOINT is "${wrong}"`) &&
        error.message.includes('log-committed'),
    );
  });
}

test('every failpoint is a plan, and no unknown setting', () => {
  for (const name of Object.keys(failpoints)) {
    assert.deepEqual(parseFailpoint(`${name}:12`), { name, nth: 12 });
    assert.deepEqual(loadSettings({ TWOFOLD_FAILPOINT: `${name}:12` }).warnings, []);
  }
});
