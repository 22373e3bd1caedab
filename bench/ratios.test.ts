import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

function run(...args: readonly string[]): { readonly code: number | null; readonly said: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [`${import.meta.dirname}/ratios.ts`, ...args], {
    encoding: 'utf8',
  });
  return { code: status, said: `${stdout}${stderr}` };
}

test('wrong flags are said in a line, and nothing is begun', () => {
  const wrong = [
    [['--only', '1,13'], /^bench: --only is "1,13"; right would be numbers from 1 to 12, such as 1,6\.\n$/],
    [['--only', ''], /^bench: --only is ""/],
    [['--pairs', '0'], /^bench: --pairs is "0"; right would be a whole number above 0\.\n$/],
    [['--json', '/no-such-folder/ratios.json'], /^bench: there is no folder \/no-such-folder for /],
    [['--fast'], /^bench: Unknown option '--fast'/],
  ] as const;
  for (const [args, says] of wrong) {
    const { code, said } = run(...args);
    assert.equal(code, 2, said);
    assert.match(said, says);
  }
});

test('help names every ratio, how long it takes, and examples', () => {
  const { code, said } = run('--help');
  assert.equal(code, 0);
  for (let name = 1; name <= 12; name += 1) assert.match(said, new RegExp(`^ +${name}  .+ min$`, 'm'));
  assert.match(said, /Examples:\n {2}npm run bench -- --only 1,6/);
});

test('stopped by a signal, it leaves nothing behind', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'twofold-ratios-'));
  t.after(() => rm(folder, { recursive: true }));
  // PostgreSQL may run as another user.
  await chmod(folder, 0o777);
  const child = spawn(process.execPath, [`${import.meta.dirname}/ratios.ts`, '--only', '4', '--pairs', '1000'], {
    env: { ...process.env, TMPDIR: folder },
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  const closed = once(child, 'close');
  child.stderr.setEncoding('utf8').once('data', () => child.kill('SIGINT'));
  assert.deepEqual(await closed, [2, null]);
  assert.deepEqual(await readdir(folder), []);
});
