import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { createLogger } from './logger.ts';
import { startOf } from './other-process.ts';
import { ProcessFailed, startSupervisedProcess, type SupervisedProcessOptions } from './supervised-process.ts';

const supervised = JSON.stringify(import.meta.resolve('./supervised-process.ts'));
const listening = `
  import { createServer } from 'node:http';
  import { dieWithParent, reportReady } from ${supervised};
  dieWithParent(() => process.exit(0));
  const server = createServer((request, response) => response.end(String(process.pid)));
  server.listen(Number(process.env.TEST_PORT), '127.0.0.1', () => reportReady('http://127.0.0.1:' + server.address().port));`;

test('it is ready once it has said where', async (t) => {
  const child = await start(t, listening);
  assert.equal(await answerOf(child.address), String(child.pid));
});

test('killed, it comes back at the same address', async (t) => {
  const child = await start(t, listening);
  const { pid } = child;
  process.kill(pid, 'SIGKILL');
  await until(async () => ![undefined, String(pid)].includes(await answerOf(child.address).catch(() => undefined)));
  assert.equal(await answerOf(child.address), String(child.pid));
});

test('stopped, it is gone and does not come back', async (t) => {
  const child = await start(t, listening);
  const { pid } = child;
  await child.stop();
  assert.equal(await startOf(pid), null);
  assert.equal(child.pid, 0);
  await child.stop();
});

test('stopped while it waits to be started again, it is not', async (t) => {
  const child = await start(t, listening);
  process.kill(child.pid, 'SIGKILL');
  await until(async () => child.pid === 0);
  await child.stop();
  assert.equal(child.pid, 0);
});

test('one that does not want to stop is ended', async (t) => {
  const child = await start(
    t,
    `process.on('SIGTERM', () => {}); process.send({ ready: 'http://here' }); setInterval(() => {}, 1_000);`,
  );
  const { pid } = child;
  await child.stop();
  assert.equal(await startOf(pid), null);
});

test('one that dies again and again is given up', async (t) => {
  const { promise: givenUp, resolve } = Promise.withResolvers<Error>();
  await start(t, `process.send({ ready: 'http://here' }, () => process.exit(3));`, {
    onGivenUp: resolve,
    restartsPerMinuteMax: 2,
  });
  const error = await givenUp;
  assert.ok(error instanceof ProcessFailed);
  assert.match(
    error.message,
    /^the part died: it ended with code 3\. It is not started again after 2 restarts in a minute\.$/,
  );
});

for (const [what, script, message] of [
  ['ends', 'process.exit(4)', /did not start: it ended with code 4/],
  [
    'says something else',
    `process.send({ hello: 'world' }); setInterval(() => {}, 1_000);`,
    /did not start: it said something else/,
  ],
  ['says nothing', `setInterval(() => {}, 1_000);`, /did not start: it was not ready within 500 ms/],
] as const) {
  test(`one that ${what} instead of being ready is an error`, async (t) => {
    const started = start(t, script, { readyTimeoutMs: 500 });
    await assert.rejects(started, (error) => error instanceof ProcessFailed && message.test(error.message));
  });
}

test('it does not outlive a supervisor that is killed', async (t) => {
  const child = scriptFile(t, listening);
  const script = `
    import { startSupervisedProcess } from ${supervised};
    const child = await startSupervisedProcess({
      name: 'x', script: ${JSON.stringify(child)}, args: [], env: () => ({ TEST_PORT: '0' }), logger: { warn() {} }, onGivenUp() {},
    });
    console.log(child.pid);`;
  const supervisor = spawn(process.execPath, [scriptFile(t, script)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(supervisor.stdout, 'data');
  const pid = Number(line);
  assert.notEqual(await startOf(pid), null);
  supervisor.kill('SIGKILL');
  await until(async () => (await startOf(pid)) === null);
});

async function start(t: TestContext, script: string, options: Partial<SupervisedProcessOptions> = {}) {
  const child = await startSupervisedProcess({
    name: 'the part',
    script: scriptFile(t, script),
    args: [],
    env: (address) => ({ TEST_PORT: address === undefined ? '0' : new URL(address).port }),
    logger: createLogger('silent'),
    onGivenUp: (error) => assert.fail(error),
    ...options,
  });
  t.after(() => child.stop());
  return child;
}

function scriptFile(t: TestContext, script: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-supervised-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'part.mjs');
  writeFileSync(file, script);
  return file;
}

const answerOf = async (address: string): Promise<string> => (await fetch(address)).text();

async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, 'the condition did not come true within 10 s');
    await delay(10);
  }
}
