import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemPorts } from '#platform/ports.ts';
import type { Consumer } from './consumer.ts';
import { isEngineError } from './errors.ts';
import { localFeed } from './feed.ts';
import { openMemoryLog } from './memory-log.ts';
import { postgresReadStore } from './postgres-read-store.ts';
import type { Projection } from './projection.ts';
import { startProjections } from './projections.ts';
import { type Counted, counted, counting, reached, until } from './rebuild-counted.fixture.ts';
import { dropPrevious, goBack } from './rebuild-switch.ts';

test('a rebuilt read model has the rows of the live one, while both go on', async (t) => {
  const { start, happen, rebuild: again, sumsAreRight, live, columnsOf, rows } = await counted(t);
  await happen(5_000);
  const consumer = start();
  await reached(consumer, 5_000);
  const before = await columnsOf('public');
  let done = false;
  const phases = new Set<string>();
  const rebuilding = again({ onProgress: ({ phase }) => phases.add(phase) }).finally(() => (done = true));
  let position = 5_000;
  while (!done) {
    await happen(20);
    position += 20;
    await reached(consumer, position);
  }
  const report = await rebuilding;
  await happen(50);
  await reached(consumer, position + 50);
  await sumsAreRight();
  assert.deepEqual([report.switched, report.differences?.count], [true, 0]);
  assert.ok(report.events >= 5_000 && report.rows >= 98, JSON.stringify(report));
  assert.deepEqual([...phases], ['reading', 'indexing', 'comparing', 'switching']);
  assert.deepEqual(await columnsOf('public'), before, 'indexes and settings are those of before');
  assert.notDeepEqual(await rows('previous'), await rows(), 'the tables from before stand still');
  assert.deepEqual(await live.query('', `select 1 from pg_namespace where nspname = 'rebuild'`), []);
});

test('read models of a log that went back are rebuilt from what there is, and go on from there', async (t) => {
  const { orders, start, happen, rebuild: again, live, rows } = await counted(t);
  await happen(1_000, () => 'a');
  const first = start();
  await reached(first, 1_000);
  await first.stop();
  await live.query(
    '',
    `insert into parked_messages (consumer, position, stream, event_id, type, cause, detail, attempts, parked_at, state)
     select 'projections-of-orders.0', position, 'order-a', position, 'Placed', 'c', 'd', 1, now(), 'parked'
     from unnest(array[400, 900]) as position`,
  );

  // Another history of 600 events, as a backup and what followed it would leave it.
  const log = openMemoryLog('orders.0');
  for (const event of await orders.read(0, 600)) {
    await log.append({ checks: [], events: [event], writes: [], keys: [], checkpoints: [] });
  }
  const epoch = '00000000-0000-4000-8000-00000000000b';
  const restored = { ...log, anchor: async () => ({ ...(await log.anchor()), epoch }) };
  const projecting = (): Consumer => {
    const consumer = startProjections({
      feed: localFeed(restored),
      store: postgresReadStore(live),
      projections: counting(),
      onResume: () => {},
      reportTrouble: () => {},
    });
    t.after(() => consumer.stop());
    return consumer;
  };
  const waiting = projecting();
  await until('it is noticed', () => /ends at 600/.test(waiting.trouble()?.message ?? ''));

  const logs = new Map([['orders', restored]]);
  const [counts, kinds] = counting();
  const check = await again({ logs, checkOnly: true });
  assert.deepEqual([check.switched, check.differences?.count], [false, 2]);
  await again({ logs, projections: [counts!] });
  await until('the other read model is told of', () => /kinds-of-orders/.test(waiting.trouble()?.message ?? ''));
  await again({ logs, projections: [kinds!] });
  waiting.wake();
  await reached(waiting, 600);
  const event = { stream: 'order-b', version: 1, type: 'Placed', data: {}, at: '2026-01-01T00:00:00.000Z' };
  const origin = { actor: 'operator', correlationId: 'c', causationId: 'r' };
  await log.append({ checks: [], events: [{ ...event, origin }], writes: [], keys: [], checkpoints: [] });
  await reached(waiting, 601);
  assert.equal(waiting.trouble(), null);
  // What is parked and still there stays parked; there is no way back to rows of a log that is gone.
  assert.deepEqual(await rows(), [
    { id: 'a', times: 599, sum: (600 * 601) / 2 - 400 },
    { id: 'b', times: 1, sum: 601 },
  ]);
  assert.equal(waiting.parked(), 1);
  await assert.rejects(goBack(live, [counts!]), (error) => isEngineError(error, 'rebuild-refused'));
  assert.deepEqual(await dropPrevious(live, counting()), []);
});

test('rows that were changed by hand are found, named, and gone after the switch', async (t) => {
  const { start, happen, rebuild: again, sumsAreRight, live } = await counted(t);
  await happen(1_000);
  const consumer = start();
  await reached(consumer, 1_000);
  await live.query('', `update counted set times = 7 where id = '5'`);
  await live.query('', `delete from counted where id = '6'`);
  await live.query('', `insert into counted values ('nobody', 1, 1)`);
  const { differences } = await again();
  assert.equal(differences?.count, 3);
  const [five, six, nobody] = differences.listed;
  assert.deepEqual([five?.key, five?.live?.['times'], five?.rebuilt?.['times']], [['5'], 7, 11]);
  assert.deepEqual([six?.key, six?.live], [['6'], null]);
  assert.deepEqual([nobody?.key, nobody?.rebuilt], [['nobody'], null]);
  await sumsAreRight();
  await happen(200);
  await reached(consumer, 1_200);
  await sumsAreRight();
});

test('a check compares and leaves everything as it is', async (t) => {
  const { start, happen, rebuild: again, live, rows } = await counted(t);
  await happen(300);
  await reached(start(), 300);
  await live.query('', `update counted set sum = 1 where id = '5'`);
  const before = await rows();
  const report = await again({ checkOnly: true });
  assert.deepEqual([report.switched, report.differences?.count], [false, 1]);
  assert.deepEqual(await rows(), before);
  const left = `select nspname from pg_namespace where nspname in ('rebuild', 'previous')`;
  assert.deepEqual(await live.query('', left), []);
});

test('a rebuild that was killed anywhere is started again', async (t) => {
  const { start, happen, rebuild: again, sumsAreRight } = await counted(t);
  await happen(3_000);
  await reached(start(), 3_000);
  for (const phase of ['reading', 'indexing', 'comparing', 'switching'] as const) {
    const onProgress = (told: { phase: string }): void => {
      if (told.phase === phase) throw new Error(`stopped while ${phase}`);
    };
    await assert.rejects(again({ onProgress }), new RegExp(`stopped while ${phase}`));
    await sumsAreRight();
  }
  assert.equal((await again()).differences?.count, 0);
  await sumsAreRight();
});

test('two rebuilds at once: the second is told', async (t) => {
  const { start, happen, rebuild: again } = await counted(t);
  await happen(100);
  await reached(start(), 100);
  let second: Promise<unknown> | undefined;
  await again({ onProgress: () => (second ??= again().catch((error: unknown) => error)) });
  assert.ok(isEngineError(await second, 'rebuild-running'), String(await second));
});

test('what is parked is left out, and what is taken back meanwhile is not', async (t) => {
  const { start, happen, rebuild: again, sumsAreRight, live } = await counted(t);
  const poison = new Set(['order-bad', 'order-worse']);
  const consumer = start(counting({ poison }));
  await happen(10);
  await reached(consumer, 10);
  await happen(4, (n) => ['bad', 'worse', 'good', 'bad'][n]!);
  await until('both streams are parked', () => consumer.parked() === 3);
  await happen(500);
  await reached(consumer, 514);
  const store = postgresReadStore(live);
  await until(
    'no attempt is left, which an operator could meet',
    async () => (await store.parked.decisions('projections-of-orders.0')).retries === 0,
  );
  const retry = (position: number): Promise<unknown> =>
    store.parked.retry(
      { consumer: 'projections-of-orders.0', position },
      { by: 'operator', at: new Date().toISOString() },
    );
  let mended: Promise<void> | undefined;
  const report = await again({
    onProgress({ phase }) {
      if (phase !== 'comparing' || mended !== undefined) return;
      poison.delete('order-bad');
      mended = retry(11).then(() => consumer.wake());
    },
    // It rests long enough between two pieces for the worker to apply what is mended.
    sharePercent: 2,
  });
  await mended;
  await until('the mended stream is applied', () => consumer.parked() === 1);
  assert.equal(report.differences?.count, 0);
  poison.delete('order-worse');
  await retry(12);
  consumer.wake();
  await until('nothing is parked', () => consumer.parked() === 0);
  await sumsAreRight();
});

test('a worker that writes beside is fenced by the switch, and goes on with the new rows', async (t) => {
  const { start, happen, rebuild: again, sumsAreRight, live, resumed } = await counted(t);
  const consumer = start();
  await happen(500);
  await reached(consumer, 500);
  // What the worker remembers of this row is what it has written itself.
  await live.query('', `update counted set times = 1000 where id = '5'`);
  const resumes = resumed.length;
  await again();
  consumer.wake();
  await until('the worker begins anew, though nothing happens', () => resumed.length > resumes);
  await happen(500);
  await reached(consumer, 1_000);
  await sumsAreRight();
});

test('rows that others have replaced are gone on with as they are, within seconds also when nothing happens', async (t) => {
  const { start, happen, live, resumed } = await counted(t);
  const consumer = start();
  await happen(100);
  await reached(consumer, 100);
  const resumes = resumed.length;
  await live.query('', `update counted set times = 1000 where id = '5'`);
  await live.query('', 'update checkpoints set generation = generation + 1');
  await until('the worker begins anew', () => resumed.length > resumes);
  await happen(1, () => '5');
  await reached(consumer, 101);
  const [row] = await live.query<Counted>('', `select * from counted where id = '5'`);
  assert.equal(row?.times, 1_001);
});

test('the way back is open until the tables of before are dropped, and leads to the same answers', async (t) => {
  const { start, happen, rebuild: again, sumsAreRight, live, rows } = await counted(t);
  const consumer = start();
  await happen(400);
  await reached(consumer, 400);
  await assert.rejects(goBack(live, counting()), (error) => isEngineError(error, 'rebuild-refused'));
  await again();
  await happen(300);
  await reached(consumer, 700);
  const rebuilt = await rows();
  for (const way of ['back', 'and forth']) {
    await goBack(live, counting());
    consumer.wake();
    await until(`the tables have caught up on the way ${way}`, async () => (await rows()).length === rebuilt.length);
    await until('all is applied', async () => JSON.stringify(await rows()) === JSON.stringify(rebuilt));
  }
  await happen(100);
  await reached(consumer, 800);
  await sumsAreRight();
  assert.deepEqual((await dropPrevious(live, counting())).sort(), ['counted', 'kinds']);
  assert.deepEqual(await dropPrevious(live, counting()), []);
  await assert.rejects(goBack(live, counting()), /there are no tables of counted from before a rebuild/);
});

test('there is no way back over a changed table, or over what was taken back from the parked messages since', async (t) => {
  const { start, happen, rebuild: again, live } = await counted(t);
  const poison = new Set(['order-bad']);
  const consumer = start(counting({ poison }));
  await happen(10);
  await reached(consumer, 10);
  await happen(1, () => 'bad');
  await until('the stream is parked', () => consumer.parked() === 1);
  await happen(10);
  await reached(consumer, 21);
  await again();
  poison.clear();
  await postgresReadStore(live).parked.retry(
    { consumer: 'projections-of-orders.0', position: 11 },
    { by: 'operator', at: new Date(systemPorts.now()).toISOString() },
  );
  consumer.wake();
  await until('nothing is parked', () => consumer.parked() === 0);
  await assert.rejects(goBack(live, counting()), /projections-of-orders\.0-11 was applied since/);
  await live.query('', 'alter table counted add column more text');
  await assert.rejects(goBack(live, counting()), /counted has other columns now/);
});

test('whoever made rows that a newer version has taken over forgets what it remembers of them', async (t) => {
  const { start, happen, rebuild: again } = await counted(t);
  await happen(200);
  let forgotten = 0;
  const old = start(counting(), () => (forgotten += 1));
  await reached(old, 200);
  const twice = (): Projection[] => counting({ version: 2, times: 2 });
  const before = forgotten;
  await again({ projections: twice() });
  await happen(1);
  await until('the older program lets go', () => old.trouble() !== null);
  assert.ok(forgotten > before);
  const then = forgotten;
  await until('it looks again, for what it has read since is not told to it either', () => forgotten > then);
});

test('a read model of another version of the code is left alone until it is rebuilt', async (t) => {
  const { start, happen, rebuild: again, live, rows } = await counted(t);
  await happen(200);
  const old = start();
  await reached(old, 200);
  const twice = (): Projection[] => counting({ version: 2, times: 2 });
  const young = start(twice());
  await until('the newer program waits', () => young.trouble() !== null);
  assert.match(young.trouble()!.message, /counted is of version 1, this program makes version 2/);
  await happen(100);
  await reached(old, 300);
  const report = await again({ projections: twice() });
  assert.equal(report.differences, null, 'rows of another version are not compared');
  await reached(young, 300);
  await until('the older program lets go', () => old.trouble() !== null);
  assert.match(old.trouble()!.message, /newer than the 1 of this program/);
  await happen(100);
  await reached(young, 400);
  assert.equal(
    (await rows()).reduce((sum, { times }) => sum + times, 0),
    800,
  );
  assert.deepEqual(await live.query('', 'select name, version, previous_version from read_models order by name'), [
    { name: 'counted', version: 2, previous_version: 1 },
    { name: 'kinds', version: 1, previous_version: 1 },
  ]);
});
