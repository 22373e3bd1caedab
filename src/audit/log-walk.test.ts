import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { publishedEvents } from '#contracts/event-types.ts';
import { createCommandBus, type StreamType } from '#cqrs/command-bus.ts';
import { createEventTypes } from '#cqrs/event-types.ts';
import { checkpointSchemaFolder, logSchemaFolders, openPostgresLog } from '#cqrs/postgres-log.ts';
import type { Database } from '#platform/postgres.ts';
import type { DatabaseOwner } from '#platform/settings.ts';
import { testDatabase } from '../../tests/database.ts';
import type { Finding } from './check.ts';
import { logWalk } from './log-walk.ts';
import { auditSchema } from './service.ts';
import { anchorsId, anchorsStream } from './streams.ts';

const noteStream: StreamType<{ readonly notes: number }> = {
  name: 'order',
  initial: { notes: 0 },
  evolve: ({ notes }) => ({ notes: notes + 1 }),
};
const origin = { actor: 'test', correlationId: 'test', causationId: 'test' };

/** Five logs, that of ordering with three streams of four events each, in twelve batches; and a consumer of it. */
async function openLogs(t: TestContext) {
  const folders: Readonly<Record<DatabaseOwner, readonly URL[]>> = {
    catalog: logSchemaFolders,
    ordering: logSchemaFolders,
    inventory: logSchemaFolders,
    payments: logSchemaFolders,
    audit: auditSchema,
    queries: [checkpointSchemaFolder],
  };
  const entries = Object.entries(folders).map(
    async ([owner, schema]) => [owner, await testDatabase(t, schema)] as const,
  );
  const databases = Object.fromEntries(await Promise.all(entries)) as Record<DatabaseOwner, Database>;
  const logs = await Promise.all(
    (['catalog', 'ordering', 'inventory', 'payments', 'audit'] as const).map((service) =>
      openPostgresLog({
        database: databases[service],
        source: `${service}.0`,
        ...(service === 'audit' ? { eventTypes: createEventTypes(publishedEvents.audit) } : {}),
      }),
    ),
  );
  t.after(() => logs.forEach((log) => log.close()));
  const [, ordering, , , audit] = logs;
  const bus = createCommandBus({ log: ordering! });
  let appended = 0;
  const append = async (): Promise<void> => {
    const n = appended++;
    await bus.execute({
      reads: [],
      origin,
      run: (scope) => scope.record(noteStream, `o-${n % 3}`, { type: 'Noted', data: { n } }),
    });
  };
  while (appended < 12) await append();
  const keep = createCommandBus({ log: audit! });
  const anchor = { source: 'ordering.0', ...(await ordering!.anchor()) };
  await keep.execute({
    reads: [],
    origin,
    run: (scope) =>
      scope.record(anchorsStream, anchorsId, { type: 'AnchorsTaken', data: { at: scope.now, anchors: [anchor] } }),
  });
  await databases.queries.query(
    '',
    `insert into checkpoints (consumer, position, source, source_epoch) values ('notes-of-ordering.0', 12, 'ordering.0', $1)`,
    [anchor.epoch],
  );
  const walk = logWalk({ databases, sourceOf: (service) => `${service}.0` });
  return {
    damage: (statement: string, owner: DatabaseOwner = 'ordering') => databases[owner].query('', statement),
    walk,
    /** One more event of ordering. */
    append,
    /** All that a walk in pieces of five finds. */
    async findings(): Promise<Finding[]> {
      const found: Finding[] = [];
      let looked = 0;
      for (let after: string | null = null; ;) {
        const piece = await walk.look(after, 5);
        found.push(...piece.findings);
        looked += piece.looked;
        after = piece.next;
        if (after === null) break;
      }
      assert.ok(looked >= 12, `${looked}`);
      return found;
    },
  };
}

test('logs that are as they were written have no finding, and what was appended last is looked at first', async (t) => {
  const { walk, findings } = await openLogs(t);
  assert.deepEqual(await findings(), []);
  assert.ok((await walk.size()) >= 13);
  assert.deepEqual(await walk.freshest!(10), ['ordering.0@12', 'audit.0@1']);
  for (const entity of ['ordering.0@12', 'ordering.0@head', 'ordering.0@anchors', 'queries/notes'])
    assert.deepEqual(await walk.lookAt(entity), [], entity);
});

for (const [what, expected, statement, owner] of [
  ['an event is changed', ['log-hash-chain ordering.0@5'], `update events set data = '{"n":99}' where position = 5`],
  [
    'an event is gone',
    ['log-positions ordering.0@5', 'log-hash-chain ordering.0@5'],
    'delete from events where position = 5',
  ],
  ['an event is in another slot', ['log-hash-chain ordering.0@5'], 'update events set slot = 1 where position = 5'],
  [
    'the head is ahead',
    ['log-hash-chain ordering.0@head', 'log-positions ordering.0@13', 'log-hash-chain ordering.0@13'],
    'update log_head set position = 13',
  ],
  [
    'the tail is cut, with its hashes',
    ['log-anchors ordering.0@anchors', 'checkpoint-within-log queries/notes-of-ordering.0'],
    `with a as (delete from events where position = 12), b as (delete from batches where last_position = 12)
     update log_head set position = 11, hash = (select hash from batches where last_position = 11)`,
  ],
  [
    'a checkpoint is ahead',
    ['checkpoint-within-log queries/notes-of-ordering.0'],
    'update checkpoints set position = 99',
    'queries',
  ],
] as const) {
  test(`${what}: it is found where it is, by the walk and by a look at the place`, async (t) => {
    const { walk, findings, damage } = await openLogs(t);
    await damage(statement, owner);
    const found = await findings();
    const names = found.map(({ check, entity }) => `${check} ${entity}`);
    assert.deepEqual(new Set(names), new Set(expected));
    for (const one of found) {
      const again = await walk.lookAt(one.entity);
      const same = again.find(({ check, entity }) => check === one.check && entity === one.entity);
      assert.deepEqual(same, one, `${one.check} ${one.entity}`);
      assert.deepEqual(one.repairs, []);
      assert.match(one.says, /Only a backup can bring back what it was\.$/);
    }
  });
}

test('a walk ends where the log ended when its turn came, however fast it is written', async (t) => {
  const { walk, append } = await openLogs(t);
  let after: string | null = null;
  let pieces = 0;
  do {
    const piece: Awaited<ReturnType<typeof walk.look>> = await walk.look(after, 1);
    after = piece.next;
    pieces += 1;
    assert.ok(pieces < 60, 'it runs after the writer');
    await append();
  } while (after !== null);
});
