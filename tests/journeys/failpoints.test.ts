/** A process that dies just there is survived; `npm run chaos:failpoints` goes through all the places there are. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { survive } from '../../chaos/failpoint-trial.ts';
import { EndedEarly, programDataDir, startTestProgram } from '../running-program.ts';

test('the program dies after the provider has charged, before that is recorded, and nothing is lost, doubled or left half done', async (t) => {
  const { diedAfterMs, restartMs, restMs, unanswered, orders, violations } = await survive(t, {
    name: 'charge-answered',
    nth: 5,
  });
  const times = [diedAfterMs, restartMs, restMs].map(Math.round).join(', ');
  t.diagnostic(`died, was back and at rest after ${times} ms; ${orders} orders, ${unanswered} unanswered requests`);
  assert.deepEqual(violations, []);
});

test('a failpoint that no code has stops the start, and says what there is', async (t) => {
  const dataDir = await programDataDir(t);
  await assert.rejects(
    startTestProgram(t, dataDir, { TWOFOLD_FAILPOINT: 'log-comitted:1' }),
    (error) =>
      error instanceof EndedEarly && error.signal === null && /TWOFOLD_FAILPOINT is .*log-committed/.test(error.output),
  );
});
