/** `npm run audit:planted`: plants every kind of damage, one after the other, and prints how each was found and settled. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kinds } from './kinds.ts';
import { type Outcome, plant } from './plant.ts';
import { openWorld } from './world.ts';

test('every kind of damage is found by one pass and by the rolling audit within its period, as what it is and as nothing else, and settled', async (t) => {
  const world = await openWorld(t);
  assert.deepEqual(await world.fullPass(), [], 'nothing is planted yet');
  console.log(
    [
      'damage'.padEnd(62),
      'found as'.padEnd(48),
      'full'.padStart(8),
      'rolling'.padStart(9),
      'settled by'.padEnd(16),
      'afterwards',
    ].join('  '),
  );
  const outcomes: Outcome[] = [];
  const only = process.env['PLANTED_KINDS'];
  for (const kind of Object.values(kinds).flat()) {
    if (only !== undefined && !kind.name.includes(only)) continue;
    outcomes.push(await plant(world, kind));
    console.log(line(outcomes.at(-1)!));
  }
  const bad = outcomes.filter(({ problems }) => problems.length > 0);
  console.log(`${outcomes.length} kinds, ${outcomes.length - bad.length} found and settled as they have to be`);
  assert.equal(bad.length, 0, bad.map(({ kind }) => kind).join('; '));
});

const line = ({ kind, checks, passMs, roundMs, settledBy, problems }: Outcome): string =>
  [
    kind.padEnd(62),
    checks.join(', ').padEnd(48),
    `${passMs.toFixed(0)} ms`.padStart(8),
    `${roundMs.toFixed(0)} ms`.padStart(9),
    settledBy.padEnd(16),
  ].join('  ') + (problems.length === 0 ? 'clean' : `NOT SO\n  ${problems.join('\n  ')}`);
