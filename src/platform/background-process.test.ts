import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test, type TestContext } from 'node:test';
import { type BackgroundWork, inBackgroundProcess } from './background-process.ts';
import { startOf } from './other-process.ts';

const here = JSON.stringify(import.meta.resolve('./background-process.ts'));

type Told = { readonly add: readonly number[] } | { readonly die: true };
type Heard = { readonly pid: number; readonly priority: number; readonly session: string } | { readonly sum: number };

/** Adds what it is told, and says first who it is. It has work to do for ever. */
const adding = `
  import { existsSync, readFileSync } from 'node:fs';
  import { getPriority } from 'node:os';
  import { workForParent } from ${here};
  setInterval(() => {}, 1_000);
  workForParent((tell) => {
    const weights = '/proc/self/autogroup';
    tell({ pid: process.pid, priority: getPriority(), session: existsSync(weights) ? readFileSync(weights, 'utf8') : '' });
    return (told) => {
      if ('die' in told) process.exit(3);
      tell({ sum: told.add.reduce((sum, one) => sum + one, 0) });
    };
  });`;

function scriptOf(t: TestContext, text: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-background-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const script = join(folder, 'work.ts');
  writeFileSync(script, text);
  return script;
}

/** `whenHeard` is asked for the result; `pid` of the process as soon as it has said so. */
function openWork(t: TestContext, more: Partial<BackgroundWork<Told, Heard, number>> = {}) {
  const about = { pid: 0, priority: 0, session: '' };
  const work: BackgroundWork<Told, Heard, number> = {
    name: 'the sum',
    script: scriptOf(t, adding),
    signal: new AbortController().signal,
    begun: () => {},
    heard(message, tell) {
      if ('sum' in message) return { result: message.sum };
      Object.assign(about, message);
      tell({ add: [1, 2, 3] });
      return undefined;
    },
    ...more,
  };
  return { about, done: inBackgroundProcess(work) };
}

test('what the process says comes of its work is the result, and the process is gone by then', async (t) => {
  const { about, done } = openWork(t);
  assert.equal(await done, 6);
  assert.ok(about.pid > 0);
  assert.equal(await startOf(about.pid), null);
});

test('the process lets all others go first', async (t) => {
  const { about, done } = openWork(t);
  await done;
  assert.equal(about.priority, constants.priority.PRIORITY_LOW);
  // Where sessions are weighed against each other.
  assert.match(about.session.trim(), /^$|nice 19$/);
});

test('the process runs with the options of Node that are asked for', async (t) => {
  const script = scriptOf(t, `process.send({ sum: process.execArgv.includes('--max-old-space-size=100') ? 1 : 0 });`);
  assert.equal(await openWork(t, { script, nodeOptions: ['--max-old-space-size=100'] }).done, 1);
});

test('work that ends without a result is told of with how it ended', async (t) => {
  const { done } = openWork(t, {
    heard(_message, tell) {
      tell({ die: true });
      return undefined;
    },
  });
  await assert.rejects(done, /^Error: the process of the sum has ended with code 3$/);
});

test('what hearing the process throws is what the work has failed with, and the process is gone', async (t) => {
  const { about, done } = openWork(t, {
    heard(message) {
      Object.assign(about, message);
      throw new Error('no such sum');
    },
  });
  await assert.rejects(done, /^Error: no such sum$/);
  assert.equal(await startOf(about.pid), null);
});

test('work that is stopped rejects, and the process is gone', async (t) => {
  const stop = new AbortController();
  const { about, done } = openWork(t, {
    signal: stop.signal,
    heard(message) {
      Object.assign(about, message);
      stop.abort();
      return undefined;
    },
  });
  await assert.rejects(done, /^Error: the sum was stopped$/);
  assert.equal(await startOf(about.pid), null);
  await assert.rejects(openWork(t, { signal: stop.signal }).done, { name: 'AbortError' });
});

test('the process ends when its parent does, however that ends', async (t) => {
  const script = scriptOf(t, adding);
  const parent = spawn(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `import { inBackgroundProcess } from ${here};
       await inBackgroundProcess({
         name: 'the sum', script: ${JSON.stringify(script)}, signal: new AbortController().signal, begun() {},
         heard(message) { console.log(message.pid); },
       });`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let pid = 0;
  for await (const line of createInterface({ input: parent.stdout })) {
    pid = Number(line);
    assert.notEqual(await startOf(pid), null);
    parent.kill('SIGKILL');
  }
  const deadline = AbortSignal.timeout(10_000);
  while ((await startOf(pid)) !== null) assert.equal(deadline.aborted, false, 'it goes on');
});
