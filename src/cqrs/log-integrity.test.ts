import assert from 'node:assert/strict';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { migrate } from '#platform/migrations.ts';
import { type Database, openDatabase, type Sql } from '#platform/postgres.ts';
import { testDatabase, testDatabaseUrl } from '../../tests/database.ts';
import { type AppendBatch, type EventLog, slotOfStream } from './event-log.ts';
import { checkAnchor, checkLog, logBeginning, type LogFinding, type LogPlace } from './log-integrity.ts';
import { appendParameters } from './postgres-append.ts';
import { logSchemaFolders, openPostgresLog } from './postgres-log.ts';

const origin = { actor: 'operator', correlationId: 'c', causationId: 'r' };
const at = '2026-01-02T03:04:05.678Z';
const movedByOthers = ['stock'];

/** A batch of events, `order-a@1` each: streams of type `stock` may leave versions out. */
function batch(...names: string[]): AppendBatch {
  const events = names.map((name) => {
    const [stream, version] = name.split('@') as [string, string];
    const data = { text: 'ä "quoted" \\ \u2028 \u0001 ✓', of: name };
    return { stream, version: Number(version), type: 'Happened', data, at, origin };
  });
  const writes = new Map(events.map(({ stream, version }) => [stream, { stream, version, state: {}, dueAt: null }]));
  return { checks: [], events, writes: [...writes.values()], keys: [], checkpoints: [] };
}

/** Nine events in four batches: 1–3, 4, 5–8, 9. */
const batches = [
  batch('order-a@1', 'order-b@1', 'stock-t@1'),
  batch('order-a@2'),
  batch('order-c@1', 'order-a@3', 'stock-t@5', 'order-b@2'),
  batch('order-"é@1'),
];

async function written(t: TestContext): Promise<{ log: EventLog; database: Database }> {
  const database = await testDatabase(t, logSchemaFolders);
  const log = await openPostgresLog({ database, source: 'orders.0' });
  t.after(() => log.close());
  for (const one of batches) await log.append(one);
  return { log, database };
}

async function allFindings(
  database: Sql,
  eventsMax = 4,
  moved: readonly string[] | null = movedByOthers,
): Promise<LogFinding[]> {
  const findings: LogFinding[] = [];
  for (let place: LogPlace | null = logBeginning; place !== null;) {
    const piece = await checkLog(database, { place, eventsMax, movedByOthers: moved });
    findings.push(...piece.findings);
    place = piece.next;
  }
  return findings;
}

const named = ({ kind, position, lastPosition, stream }: LogFinding): string => {
  const positions = position === undefined ? '' : ` ${position}${lastPosition === undefined ? '' : `-${lastPosition}`}`;
  return `${kind}${positions}${stream === undefined ? '' : ` ${stream}`}`;
};

/** Damage by hand, and what is to be found of it: in pieces of any size. */
const damages: readonly { readonly what: string; readonly sql: string; readonly found: readonly string[] }[] = [
  {
    what: 'the payload of an event is edited',
    sql: `update events set data = '{"text":"other"}' where position = 4`,
    found: ['batch-hash 4-4'],
  },
  {
    what: 'the payload of an event is written otherwise, with the same meaning',
    sql: `update events set data = (data::text || ' ')::json where position = 6`,
    found: ['batch-hash 5-8'],
  },
  {
    what: 'the origin of an event is edited',
    sql: `update events set origin = '{}' where position = 9`,
    found: ['batch-hash 9-9'],
  },
  {
    what: 'the type of an event is edited',
    sql: `update events set type = 'Other' where position = 9`,
    found: ['batch-hash 9-9'],
  },
  {
    what: 'the time of an event is moved by a microsecond',
    sql: `update events set at = at + interval '1 microsecond' where position = 1`,
    found: ['batch-hash 1-3'],
  },
  {
    what: 'an event is deleted',
    sql: 'delete from events where position = 6',
    found: ['batch-hash 5-8', 'positions-missing 6-6', 'stream-version order-a'],
  },
  {
    what: 'an event in the middle of its stream is deleted, with its batch',
    sql: 'delete from events where position = 4; delete from batches where last_position = 4',
    found: ['batch-missing 4-4', 'positions-missing 4-4', 'version-missing 6 order-a'],
  },
  {
    what: 'two events are swapped',
    sql: `update events set position = -position where position in (2, 8);
      update events set position = 10 + position where position < 0`,
    found: ['batch-hash 1-3', 'batch-hash 5-8', 'version-order 2 order-b'],
  },
  {
    what: 'the version of an event is changed',
    sql: 'update events set version = 4 where position = 6',
    found: ['batch-hash 5-8', 'stream-version 6 order-a', 'stream-version order-a', 'version-missing 6 order-a'],
  },
  {
    what: 'an event is given to another stream',
    sql: `update events set stream = 'order-d' where position = 5`,
    found: ['batch-hash 5-8', 'stream-missing 5 order-d', 'stream-version order-c'],
  },
  {
    what: 'the slot of an event is changed',
    sql: 'update events set slot = (slot + 1) % 1024 where position = 9',
    found: ['batch-hash 9-9', 'slot 9 order-"é'],
  },
  {
    what: 'the slot of a stream and its events is changed',
    sql: `update events set slot = 7 where stream = 'order-c'; update streams set slot = 7 where stream = 'order-c'`,
    found: ['batch-hash 5-8', 'slot order-c'],
  },
  {
    what: 'the state of a stream is deleted',
    sql: `delete from streams where stream = 'order-c'`,
    found: ['stream-missing 5 order-c'],
  },
  {
    what: 'the state of a stream is set back',
    sql: `update streams set version = 2 where stream = 'order-a'`,
    found: ['stream-version 6 order-a', 'stream-version order-a'],
  },
  {
    what: 'the state of a stream that others move is set back',
    sql: `update streams set version = 4 where stream = 'stock-t'`,
    found: ['stream-version 7 stock-t', 'stream-version stock-t'],
  },
  {
    what: 'a state appears without events',
    sql: `insert into streams (stream, version, slot, state) values ('order-x', 1, ${slotOfStream('order-x')}, '{}')`,
    found: ['stream-version order-x'],
  },
  {
    what: 'the hash of a batch is edited',
    sql: `update batches set hash = sha256('other') where last_position = 4`,
    found: ['batch-hash 4-4', 'batch-hash 5-8'],
  },
  {
    what: 'the hash of the last batch is edited',
    sql: `update batches set hash = sha256('other') where last_position = 9`,
    found: ['batch-hash 9-9', 'head-differs 9'],
  },
  {
    what: 'a batch is deleted',
    sql: 'delete from batches where last_position = 4',
    found: ['batch-missing 4-4'],
  },
  {
    what: 'the last batch is deleted',
    sql: 'delete from batches where last_position = 9',
    found: ['batch-missing 9-9', 'head-differs 8'],
  },
  {
    what: 'a batch begins earlier',
    sql: 'update batches set first_position = 3 where last_position = 4',
    found: ['batch-overlaps 3-4'],
  },
  {
    what: 'a batch begins later',
    sql: 'update batches set first_position = 6 where last_position = 8',
    found: ['batch-missing 5-5'],
  },
  {
    what: 'the head is moved ahead',
    sql: 'update log_head set position = 10',
    found: ['batch-missing 10-10', 'head-differs 9', 'positions-missing 10-10'],
  },
  {
    what: 'the head is moved back',
    sql: 'update log_head set position = 8',
    found: ['beyond-head 9-9', 'head-differs 9'],
  },
  { what: 'the hash of the head is edited', sql: `update log_head set hash = sha256('')`, found: ['head-differs 9'] },
  {
    what: 'the tail is cut off',
    sql: 'delete from events where position > 8',
    found: ['batch-hash 9-9', 'positions-missing 9-9', 'stream-version order-"é'],
  },
  {
    what: 'the tail is cut off and the head is put back',
    sql: `delete from events where position > 8; delete from batches where last_position > 8;
      update log_head set (position, hash) = (select last_position, hash from batches where last_position = 8)`,
    found: ['stream-version order-"é'],
  },
  {
    what: 'an event is put in beyond the head',
    sql: `insert into events select 10, at, 2, slot, stream, type, data, origin from events where position = 9`,
    found: ['beyond-head 10-10', 'stream-version order-"é'],
  },
];

test('whatever is changed, taken out, exchanged or added by hand is found and named', async (t) => {
  const { database } = await written(t);
  assert.deepEqual(await allFindings(database), []);
  for (const { what, sql, found } of damages) {
    await t.test(what, async () => {
      const pinned = await database.pin();
      try {
        await pinned.client.query(`begin; ${sql}`);
        for (const eventsMax of [1, 4, 100]) {
          const findings = await allFindings(pinned, eventsMax);
          assert.deepEqual(findings.map(named).sort(), found, `in pieces of ${eventsMax}`);
          assert.ok(findings.every(({ expected, found: is }) => expected !== '' && is !== '' && expected !== is));
        }
      } finally {
        await pinned.client.query('rollback');
        pinned.release();
      }
    });
  }
});

test('a healthy log has no finding, also while it is written at full speed', async (t) => {
  const { log, database } = await written(t);
  const other = await openPostgresLog({ database, source: 'orders.0' });
  t.after(() => other.close());
  let stopped = false;
  const write = async (writer: EventLog, name: string): Promise<void> => {
    for (let version = 1; !stopped; version += 1) {
      await writer.append(
        batch(`order-${name}@${version}`, `order-${name}${version}@1`, `stock-${name}@${version * 2}`),
      );
    }
  };
  const writing = [write(log, 'x'), write(other, 'y')];
  try {
    let rounds = 0;
    for (let grown = await log.head(); rounds < 20 || (await log.head()) < grown + 1_000; rounds += 1) {
      assert.deepEqual(await allFindings(database, 64), []);
    }
  } finally {
    stopped = true;
    await Promise.all(writing);
  }
  assert.deepEqual(await allFindings(database, 10_000), []);
});

test('a stream that events of others move is checked for the order of its versions only', async (t) => {
  const { database } = await written(t);
  assert.deepEqual((await allFindings(database, 100, [])).map(named), ['version-missing 7 stock-t']);
});

test('versions and slots may be left to somebody who folds the streams', async (t) => {
  const { database } = await written(t);
  await database.query('', 'update streams set version = version + 1');
  await database.query('', 'delete from events where position = 4');
  const all = (await allFindings(database)).map(named);
  assert.ok(
    all.some((one) => one.startsWith('version-missing')) && all.some((one) => one.startsWith('stream-version')),
    all.join(),
  );
  assert.deepEqual((await allFindings(database, 4, null)).map(named), ['positions-missing 4-4', 'batch-hash 4-4']);
});

test('a log is checked in pieces that begin and end at batches, whatever their size', async (t) => {
  const { database } = await written(t);
  const places: LogPlace[] = [];
  for (let place: LogPlace | null = logBeginning; place !== null;) {
    places.push(place);
    ({ next: place } = await checkLog(database, { place, eventsMax: 2, movedByOthers }));
  }
  assert.deepEqual(
    places.map((place) => (place.part === 'events' ? place.after : place.part)),
    ['head', 0, 3, 4, 8, 9, 'streams', 'streams', 'streams'],
  );
});

test('an anchor tells of a tail that was cut off and of a history that was written anew, and holds in a log that goes on', async (t) => {
  const { log, database } = await written(t);
  const anchor = await log.anchor();
  await log.append(batch('order-c@2'));
  const { hash } = await log.anchor();
  const empty = { epoch: anchor.epoch, position: 0, hash: '0'.repeat(64) };
  for (const kept of [empty, anchor, { epoch: anchor.epoch, position: 10, hash }])
    assert.deepEqual(await checkAnchor(database, kept), []);

  const between = await checkAnchor(database, { ...anchor, position: 7 });
  assert.deepEqual(between.map(named), ['anchor-differs 7']);
  assert.equal(between[0]?.found, 'no batch that ends at 7');

  await cutTail(database, 8);
  const cut = await checkAnchor(database, anchor);
  assert.deepEqual(cut.map(named), ['anchor-beyond-head 9']);
  assert.equal(cut[0]?.found, 'a head at 8');

  // Another history, hashed as it should be: nothing else tells.
  await log.append(batch('order-e@1'));
  assert.deepEqual(await allFindings(database), []);
  assert.deepEqual((await checkAnchor(database, anchor)).map(named), ['anchor-differs 9']);
  await database.query('new epoch', 'update log_head set epoch = gen_random_uuid()');
  const [elsewhere] = await checkAnchor(database, anchor);
  assert.match(elsewhere?.expected ?? '', new RegExp(`in the epoch ${anchor.epoch}`));
});

test('a log that was there before the chain is chained, and checked in the same way', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'log-schema-'));
  t.after(() => rm(folder, { recursive: true }));
  const [checkpoints, schema] = logSchemaFolders;
  for (const name of ['001-log.sql', '002-append-parks.sql']) await copyFile(new URL(name, schema), join(folder, name));
  const database = openDatabase(await testDatabaseUrl(t), { applicationName: 'test' });
  await migrate(database, [checkpoints, pathToFileURL(`${folder}/`)]);
  let log: Awaited<ReturnType<typeof openPostgresLog>> | undefined;
  t.after(() => {
    log?.close();
    return database.end();
  });
  await database.query('claim', `insert into log_head (source) values ('orders.0')`);
  for (let n = 0; n < 5; n += 1) {
    const old = batch(...Array.from({ length: 700 }, (_, m) => `order-"é${n * 700 + m}@1`));
    const { content } = appendParameters(old, undefined, []);
    const states = old.writes.map(({ stream, version, state }) => ({
      s: stream,
      v: version,
      slot: slotOfStream(stream),
      state,
    }));
    // As it was appended then.
    await database.query('append', `select from append('[]', $1, $2, null, null)`, [content, JSON.stringify(states)]);
  }
  await migrate(database, logSchemaFolders);
  log = await openPostgresLog({ database, source: 'orders.0' });
  const chained = await database.query('batches', 'select first_position, last_position from batches order by 1');
  assert.deepEqual(
    chained.map((row) => Object.values(row)),
    [
      [1, 1_000],
      [1_001, 2_000],
      [2_001, 3_000],
      [3_001, 3_500],
    ],
  );
  await log.append(batch('order-a@1'));
  assert.deepEqual((await allFindings(database, 1_500)).map(named).slice(0, 5), []);
  await database.query('damage', `update events set type = 'Other' where position = 2500`);
  assert.deepEqual((await allFindings(database, 1_500)).map(named), ['batch-hash 2001-3000']);
});

/** The log and its states end at `position`, as if nothing had followed. */
async function cutTail(database: Database, position: number): Promise<void> {
  const [row] = await database.query<{ gone: string[] }>(
    'gone',
    'select array_agg(distinct stream) as gone from events where position > $1',
    [position],
  );
  await database.query('cut events', 'delete from events where position > $1', [position]);
  await database.query('cut batches', 'delete from batches where last_position > $1', [position]);
  await database.query(
    'set head back',
    'update log_head set (position, hash) = (select last_position, hash from batches where last_position = $1)',
    [position],
  );
  await database.query(
    'set states back',
    `delete from streams s where stream = any($1) and not exists (select from events where stream = s.stream)`,
    [row!.gone],
  );
  await database.query(
    'set versions back',
    `update streams s set version = (select max(version) from events where stream = s.stream) where stream = any($1)`,
    [row!.gone],
  );
}
