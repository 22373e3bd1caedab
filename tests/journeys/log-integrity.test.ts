/** What a shop's day leaves in the logs is what was written, and no consumer is beyond them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkAnchor, checkLog, logBeginning, type LogFinding, type LogPlace } from '#cqrs/log-integrity.ts';
import { postgresLogReader } from '#cqrs/postgres-log-reader.ts';
import { checkCheckpoints } from '#cqrs/source-epoch.ts';
import { openDatabase } from '#platform/postgres.ts';
import { untilAtRest } from '../invariants.ts';
import { startTestSystem } from '../running-system.ts';

const services = ['catalog', 'ordering', 'inventory', 'payments', 'audit'] as const;

test('the logs of all services are sound while orders are placed, and their anchors hold afterwards', async (t) => {
  const system = await startTestSystem(t);
  const { shop } = system;
  const { sku, customerId } = await shop.furnish(60);
  const databases = [...services, 'queries' as const].map((service) => {
    const database = openDatabase(system.databaseUrls[service], { applicationName: 'test' });
    t.after(() => database.end());
    return { service, database };
  });
  const logs = databases.slice(0, services.length);
  const readers = new Map(
    logs.map(({ service, database }) => [`${service}.0`, postgresLogReader(database, `${service}.0`)]),
  );
  const headOf = (source: string): Promise<number> => readers.get(source)!.head();

  const findings = async (): Promise<LogFinding[]> => {
    const found: LogFinding[] = [];
    for (const { database } of logs) {
      for (let place: LogPlace | null = logBeginning; place !== null;) {
        const piece = await checkLog(database, { place, eventsMax: 50, movedByOthers: ['stock'] });
        found.push(...piece.findings);
        place = piece.next;
      }
    }
    for (const { database } of databases) found.push(...(await checkCheckpoints(database, headOf)));
    return found;
  };

  const anchors = await Promise.all([...readers.values()].map((reader) => reader.anchor()));
  const placing = Promise.all(Array.from({ length: 100 }, () => shop.send({ customerId, sku })));
  assert.deepEqual(await findings(), []);
  await placing;
  await untilAtRest(system.databaseUrls);
  assert.deepEqual(await findings(), []);
  for (const [n, { database }] of logs.entries()) assert.deepEqual(await checkAnchor(database, anchors[n]!), []);
  for (const { service, database } of databases) {
    if (service === 'catalog' || service === 'audit') continue;
    const [row] = await database.query<{ known: number }>(
      'known',
      'select count(source_epoch) as known from checkpoints',
    );
    assert.ok(row!.known > 0, 'each consumer goes by the epoch of its source');
  }
});
