import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep } from '#platform/ports.ts';
import { testDatabase } from '../../tests/database.ts';
import { until } from '../../tests/shop-client.ts';
import { hastyPorts } from './audit.fixture.ts';
import { onlyOne, type OnlyOneOptions } from './only-one.ts';

test('one works at a time, and another takes over when the first has ended or lost its connection', async (t) => {
  const database = await testDatabase(t, []);
  const stops = [new AbortController(), new AbortController()];
  const working = new Set<number>();
  let most = 0;
  const began: number[] = [];
  const workers = stops.map((stop, n) => {
    const options: OnlyOneOptions = {
      database,
      name: 'work',
      ports: hastyPorts(),
      signal: stop.signal,
      reportTrouble: () => {},
    };
    return onlyOne(options, async (signal) => {
      working.add(n);
      began.push(n);
      most = Math.max(most, working.size);
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
      working.delete(n);
    });
  });
  await until('one works', async () => (working.size === 1 ? true : null));
  const [first] = working;
  stops[first!]!.abort();
  await workers[first!];
  await until('the other one works', async () => (working.has(1 - first!) ? true : null));
  await database.query(
    '',
    `select pg_terminate_backend(pid) from pg_locks
     where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())`,
  );
  await until('it has begun again', async () => (began.length === 3 ? true : null));
  stops[1 - first!]!.abort();
  await Promise.all(workers);
  assert.deepEqual([most, began], [1, [first, 1 - first!, 1 - first!]]);
});

test('work that fails is told of and tried again, later and later', async (t) => {
  const database = await testDatabase(t, []);
  const stop = new AbortController();
  const ports = hastyPorts();
  const troubles: string[] = [];
  await onlyOne(
    {
      database,
      name: 'work',
      ports,
      signal: stop.signal,
      reportTrouble: (error) => troubles.push((error as Error).message),
    },
    async () => {
      if (troubles.length < 8) throw new Error('out of order');
      stop.abort();
      await sleep(ports, 1);
    },
  );
  assert.deepEqual(troubles, Array(8).fill('out of order'));
  // 5 s are for a lock that the server has not taken back yet from a connection that was just closed.
  const pauses = ports.asked.filter((ms) => ms >= 1_000 && ms !== 5_000);
  assert.deepEqual(pauses, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
});
