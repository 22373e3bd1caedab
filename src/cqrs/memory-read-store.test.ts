import assert from 'node:assert/strict';
import { test } from 'node:test';
import { memoryReadStore } from './memory-read-store.ts';
import { readStoreContract, things } from './read-store.contract.ts';

readStoreContract('in memory', async () => {
  const store = memoryReadStore();
  await store.checkpoints(['a', 'b', 'c']);
  return { another: () => store };
});

test('all rows of a table are listed by key, and nobody can change them', async () => {
  const store = memoryReadStore();
  await store.apply([], async (rows) =>
    rows.put(things, [
      { id: 'b', version: 1 },
      { id: 'a', version: 1 },
    ]),
  );
  const rows = store.rowsOf(things);
  assert.deepEqual(
    rows.map(({ id }) => id),
    ['a', 'b'],
  );
  assert.throws(() => ((rows[0] as { version: number }).version = 9), TypeError);
});
