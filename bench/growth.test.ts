import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

function run(...args: readonly string[]): { readonly code: number | null; readonly said: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [`${import.meta.dirname}/growth.ts`, ...args], {
    encoding: 'utf8',
  });
  return { code: status, said: `${stdout}${stderr}` };
}

test('wrong flags of the growth benchmark are said in a line, and nothing is begun', () => {
  const wrong = [
    [['--only', 'rows'], /^bench: --only is "rows"; right would be some of stored,lines,spread,vacuum\.\n$/],
    [['--events', '0'], /^bench: --events is "0"; right would be two or more whole numbers, such as 0,1000000\.\n$/],
    [['--events', '0,0'], /^bench: --events is "0,0"/],
    [['--events', '0,1e6'], /^bench: --events is "0,1e6"/],
    [['--pairs', '0'], /^bench: --pairs is "0"; right would be a whole number above 0\.\n$/],
    [['--minutes', '2'], /^bench: --minutes is "2"; right would be a whole number from 3\.\n$/],
    [['--rate', 'fast'], /^bench: --rate is "fast"; right would be a number above 0\.\n$/],
    [['--fast'], /^bench: Unknown option '--fast'/],
  ] as const;
  for (const [args, says] of wrong) {
    const { code, said } = run(...args);
    assert.equal(code, 2, said);
    assert.match(said, says);
  }
});

test('help of the growth benchmark names every part, how long it takes, and examples', () => {
  const { code, said } = run('--help');
  assert.equal(code, 0);
  for (const part of ['stored', 'lines', 'spread', 'vacuum']) assert.match(said, new RegExp(`^ +${part} .+ min$`, 'm'));
  assert.match(said, /Examples:\n {2}npm run bench:growth -- --only stored/);
});
