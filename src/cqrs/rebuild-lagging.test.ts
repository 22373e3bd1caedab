/** Rebuilds of read models of one log that have not come equally far. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { postgresReadStore } from './postgres-read-store.ts';
import type { Projection } from './projection.ts';
import { counted, counting, reached, until } from './rebuild-counted.fixture.ts';
import { goBack } from './rebuild-switch.ts';

const [countedOnly, kindsOnly] = counting().map((projection) => [projection]) as [Projection[], Projection[]];

/** `kinds` was taken back to where it stood at 400, `counted` is at 700; nobody projects. */
async function apart(t: TestContext) {
  const world = await counted(t);
  const { start, happen, rebuild, live, positions } = world;
  await happen(400);
  const consumer = start();
  await reached(consumer, 400);
  await rebuild({ projections: kindsOnly });
  await happen(300);
  await reached(consumer, 700);
  await consumer.stop();
  await goBack(live, kindsOnly);
  assert.deepEqual(await positions(), { counted: 700, kinds: 400 });
  return world;
}

test('read models that have come differently far are each rebuilt as far as they have come, and go on from there', async (t) => {
  const { start, happen, rebuild: again, sumsAreRight, live, rows, kinds, positions } = await apart(t);
  const before = await rows();
  for (const phase of ['reading', 'indexing', 'comparing', 'switching'] as const) {
    const onProgress = (told: { phase: string }): void => {
      if (told.phase === phase) throw new Error(`stopped while ${phase}`);
    };
    await assert.rejects(again({ onProgress }), new RegExp(`stopped while ${phase}`));
  }
  await live.query('', `update counted set sum = 1 where id = '5'`);
  const check = await again({ checkOnly: true });
  assert.deepEqual([check.switched, check.differences?.count], [false, 1], JSON.stringify(check.differences));
  const { differences } = await again();
  assert.deepEqual([differences?.count, differences?.listed[0]?.key], [1, ['5']]);
  assert.deepEqual(await positions(), { counted: 700, kinds: 400 });
  assert.deepEqual(await rows(), before, 'nothing that was shown is taken back');
  assert.deepEqual(await kinds(), [{ kind: 'order', times: 400 }]);

  await happen(100);
  await reached(start(), 800);
  assert.deepEqual(await positions(), { counted: 800, kinds: 800 });
  await sumsAreRight();
});

test('the way back leads each read model to where it stood, however far apart they were', async (t) => {
  const { start, happen, rebuild: again, sumsAreRight, live, rows, kinds, positions } = await apart(t);
  const before = await rows();
  await again();
  await happen(100);
  const consumer = start();
  await reached(consumer, 800);
  await consumer.stop();
  await goBack(live, counting());
  assert.deepEqual(await positions(), { counted: 700, kinds: 400 });
  assert.deepEqual([await rows(), await kinds()], [before, [{ kind: 'order', times: 400 }]]);
  for (const way of ['back', 'and forth', 'and back again']) {
    await reached(start(), 800);
    await sumsAreRight();
    assert.deepEqual(await positions(), { counted: 800, kinds: 800 }, way);
    await goBack(live, counting());
  }
});

test('a read model that has never begun holds up none of those that are rebuilt with it', async (t) => {
  const { start, happen, rebuild: again, sumsAreRight, live, rows, kinds } = await counted(t);
  await happen(300);
  const consumer = start(kindsOnly);
  await reached(consumer, 300);
  await consumer.stop();
  // As a program leaves it that waits for another of its read models.
  await postgresReadStore(live).takeOver(counting());
  const report = await again();
  assert.deepEqual([report.events, report.differences?.count], [300, 0]);
  assert.deepEqual([await rows(), await kinds()], [[], [{ kind: 'order', times: 300 }]]);
  await happen(100);
  await reached(start(), 400);
  await sumsAreRight();
});

test('a read model that catches up while it is rebuilt with others gets what was parked, as they do, once', async (t) => {
  const { start, happen, rebuild: again, sumsAreRight, live, positions } = await counted(t);
  const poison = new Set(['order-odd']);
  await happen(10);
  const before = start(counting({ poison }));
  await reached(before, 10);
  await again({ projections: countedOnly });
  await happen(3, (n) => ['odd', 'even', 'odd'][n]!);
  await until('the stream is parked', () => before.parked() === 2);
  await happen(500);
  await reached(before, 513);
  await before.stop();
  await goBack(live, countedOnly);
  assert.deepEqual(await positions(), { counted: 10, kinds: 513 });

  // The switch comes no further while somebody writes into a table: it follows the others until they are done.
  const writer = await live.pin();
  await writer.query('', 'begin');
  await writer.query('', 'lock table kinds in row exclusive mode');
  let mended: Promise<void> | undefined;
  const mend = async (): Promise<void> => {
    try {
      poison.clear();
      const consumer = start(counting({ poison }));
      await reached(consumer, 513);
      await until('nothing is parked', () => consumer.parked() === 0);
    } finally {
      writer.release(true);
    }
  };
  const report = await again({
    onProgress({ phase }) {
      if (phase === 'switching') mended ??= mend();
    },
  });
  await mended;
  assert.equal(report.differences?.count, 0, JSON.stringify(report.differences));
  await sumsAreRight();
});
