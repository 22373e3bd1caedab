import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openTrials } from './trials.ts';

test('a trial that fails says why in so many lines, is cleared away, and keeps no other from being measured', async () => {
  const trials = openTrials(2);
  const done: string[] = [];
  const failed = (why: string): string => `wrong: ${why}`;
  const broken = await trials.run(async (ending): Promise<string> => {
    ending.after(() => done.push('the first'));
    throw new Error('not as expected:\n409\nand all the rest');
  }, failed);
  assert.deepEqual([broken, done], ['wrong: not as expected:\n409', ['the first']]);
  const whole = await trials.run(async (ending) => {
    ending.after(() => done.push('the second'));
    return 'measured';
  }, failed);
  assert.deepEqual([whole, done], ['measured', ['the first', 'the second']]);
});
