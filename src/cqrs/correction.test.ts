import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCommandBus, type StreamType } from './command-bus.ts';
import { correct } from './correction.ts';
import { openMemoryLog } from './memory-log.ts';

const switched: StreamType<{ readonly on: boolean }> = {
  name: 'switch',
  initial: { on: false },
  evolve: () => ({ on: true }),
};

test('a correction tells the state before and after, and one that changes nothing is refused', async () => {
  const log = openMemoryLog('house.0');
  const bus = createCommandBus({ log });
  const origin = { actor: 'operator', correlationId: 'a', causationId: 'repair', reason: 'it was dark' };
  const turnOn = () =>
    correct(bus, origin, { type: switched, id: 'a' }, (scope) => {
      if (!scope.state(switched, 'a').on) scope.record(switched, 'a', { type: 'TurnedOn', data: {} });
    });

  assert.deepEqual(await turnOn(), { before: { on: false }, after: { on: true } });
  await assert.rejects(turnOn(), /nothing about switch-a is to be corrected/);
  const [event, ...others] = await log.read(0, 10);
  assert.deepEqual([event?.origin, others], [origin, []]);
});
