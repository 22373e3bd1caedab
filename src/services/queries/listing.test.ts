import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { ProductView } from '#contracts/http.ts';
import { checkpointSchemaFolder } from '#cqrs/postgres-log.ts';
import { type Database, openDatabase } from '#platform/postgres.ts';
import { testDatabaseUrl } from '../../../tests/database.ts';
import { fillProducts } from '../../../tests/orders-at-size.ts';
import { openReads, queriesSchema } from './service.ts';
import { productAdded, readSideOn, story } from './story-for-tests.ts';

/** 120,000 products, and what a search for some of them sends to the database, without the look at what it has found. */
async function manyProducts(t: TestContext) {
  const url = await testDatabaseUrl(t, [checkpointSchemaFolder, queriesSchema]);
  const database = openDatabase(url, { applicationName: 'test' });
  const reads = openReads(url, { applicationName: 'test reads' });
  t.after(() => Promise.all([database.end(), reads.end()]));
  await fillProducts(database, 120_000);
  const sent: { kind: string; values: readonly unknown[] }[] = [];
  const recorded = (of: Database): Database => ({
    ...of,
    query(name, text, values = []) {
      if (name !== 'read products') sent.push({ kind: name.split(' ')[0]!, values });
      return of.query(name, text, values);
    },
  });
  const side = readSideOn(database, {
    reads: { database: recorded(reads.database), plannedOnce: recorded(reads.plannedOnce) },
  });
  return {
    database,
    side,
    async search(query: { q: string; inStock?: boolean; limit?: number }) {
      sent.length = 0;
      const { items } = await side.see<{ items: ProductView[] }>('/v1/products', { query });
      return { items, kinds: sent.map(({ kind }) => kind), lookedUp: sent.at(-1)?.values.at(-1) };
    },
  };
}

test('rare words are looked up and frequent ones are not, by one sample for many searches', async (t) => {
  const { side, search } = await manyProducts(t);
  const rare = await search({ q: 'unicorn', limit: 100 });
  assert.equal(rare.items.length, 60);
  assert.deepEqual(rare.kinds, ['sample', 'searchWords']);
  assert.equal(rare.lookedUp, `'unicorn':*`);

  const both = await search({ q: 'thing nowhere' });
  assert.deepEqual([both.items, both.kinds], [[], ['searchWords']]);
  assert.equal(both.lookedUp, `'nowhere':*`);

  // All have it; 8 of the first 6,000 are sold out.
  const frequent = await search({ q: 'thing', inStock: false });
  assert.deepEqual([frequent.items.length, frequent.kinds], [8, ['walk', 'plan', 'walk']]);

  // The sample was taken before.
  await side.given(story().tell(productAdded('Z', 'Griffin')));
  const fresh = await search({ q: 'griffin' });
  assert.deepEqual(
    fresh.items.map(({ sku }) => sku),
    ['Z'],
  );
  assert.deepEqual(fresh.kinds, ['searchWords']);
});

test('words that have become frequent since the sample are walked for after all', async (t) => {
  const { database, search } = await manyProducts(t);
  assert.deepEqual((await search({ q: 'phoenix' })).items, []);
  const first = (rows: number): Promise<unknown> =>
    database.query(
      '',
      `update products set words = words || 'phoenix:1' where sku in (select sku from products order by sku limit $1)`,
      [rows],
    );
  await first(5_000);
  const seldom = await search({ q: 'phoenix' });
  assert.deepEqual([seldom.items.length, seldom.kinds], [20, ['searchWords']]);
  await first(5_001);
  const frequent = await search({ q: 'phoenix' });
  assert.deepEqual([frequent.items.length, frequent.kinds], [20, ['searchWords', 'walk']]);
  assert.deepEqual(frequent.items, seldom.items);
});
