import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ProductView } from '#contracts/http.ts';
import { productAdded, type ReadSide, readSideForTests, readSideOn, story, type Told } from './story-for-tests.ts';

const url = '/v1/products/:sku';
const listUrl = '/v1/products';
type Page = { items: ProductView[]; nextCursor: string | null };

const adjusted = (sku: string, quantity: number): Told => ({
  type: 'StockAdjusted',
  data: { sku, quantity, reason: 'received' },
});
const reserved = (orderId: string, ...lines: { sku: string; quantity: number }[]): Told => ({
  type: 'StockReserved',
  data: { orderId, lines, expiresAt: '2030-01-01T00:00:00Z' },
});
const look = async (side: ReadSide, sku: string): Promise<{ view: ProductView; etag: string | undefined }> => {
  const answer = await side.ask(url, { params: { sku } });
  assert.ok('bytes' in answer, JSON.stringify(answer));
  return { view: JSON.parse(answer.bytes.toString()) as ProductView, etag: answer.etag };
};

test('a product is shown with what is available of it', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  await side.given(tell(productAdded('A', 'White heart', 'It hangs')));
  assert.deepEqual(await look(side, 'A'), {
    view: {
      sku: 'A',
      name: 'White heart',
      description: 'It hangs',
      price: { amount: 255, currency: 'GBP' },
      availability: { onHand: 0, reserved: 0, available: 0 },
      version: 1,
    },
    etag: '1',
  });
  const a = (quantity: number) => ({ sku: 'A', quantity });
  await side.given(
    tell(adjusted('A', 10)),
    tell(reserved('o1', a(3))),
    tell(reserved('o2', a(2), { sku: 'B', quantity: 1 })),
    tell({ type: 'StockReleased', data: { orderId: 'o2', lines: [a(2)], reason: 'order-cancelled' } }),
  );
  assert.deepEqual((await look(side, 'A')).view.availability, { onHand: 10, reserved: 3, available: 7 });
  assert.equal((await look(side, 'A')).etag, '1.4');
  await side.given(tell({ type: 'StockShipped', data: { orderId: 'o1', lines: [a(3)] } }));
  await side.given(
    tell({ type: 'ProductChanged', data: { sku: 'A', name: 'Red heart', price: { amount: 300, currency: 'GBP' } } }),
  );
  const { view, etag } = await look(side, 'A');
  assert.deepEqual(
    [view.name, view.description, view.availability, etag],
    ['Red heart', undefined, { onHand: 7, reserved: 0, available: 7 }, '2.5'],
  );
  assert.deepEqual(await look(readSideOn(side.database), 'A'), { view, etag });
});

test('a product whose stock arrives before its name is hidden until then', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  await side.given(tell(adjusted('A', 10)));
  const answer = await side.ask(url, { params: { sku: 'A' } });
  assert.equal('refused' in answer && answer.refused.code, 'product-not-found');
  assert.deepEqual((await side.see<Page>(listUrl)).items, []);
  await side.given(tell(productAdded('A')));
  assert.deepEqual((await look(side, 'A')).view.availability, { onHand: 10, reserved: 0, available: 10 });
});

test('products are found by words, availability and sorts, page by page', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  const names = ['Zinc pail', 'apple jam', 'Banana box', 'Apple box', 'Éclair'];
  await side.given(...names.map((name, n) => tell(productAdded(`S-${n}`, name, n === 0 ? 'for apples' : undefined))));
  await side.given(
    tell(adjusted('S-1', 5)),
    tell(adjusted('S-2', 5)),
    tell(reserved('o1', { sku: 'S-2', quantity: 5 })),
  );
  const list = async (query: object): Promise<string[]> => {
    const skus: string[] = [];
    for (let cursor: string | null | undefined; cursor !== null;) {
      const page: Page = await side.see(listUrl, { query: { limit: 2, ...query, ...(cursor ? { cursor } : {}) } });
      skus.push(...page.items.map(({ sku }) => sku));
      cursor = page.nextCursor;
    }
    return skus;
  };
  assert.deepEqual(await list({}), ['S-0', 'S-1', 'S-2', 'S-3', 'S-4']);
  assert.deepEqual(await list({ sort: '-sku' }), ['S-4', 'S-3', 'S-2', 'S-1', 'S-0']);
  assert.deepEqual(await list({ sort: 'name' }), ['S-3', 'S-1', 'S-2', 'S-0', 'S-4']);
  assert.deepEqual(await list({ sort: '-name' }), ['S-4', 'S-0', 'S-2', 'S-1', 'S-3']);
  assert.deepEqual(await list({ inStock: true }), ['S-1']);
  assert.deepEqual(await list({ inStock: false, q: 'box' }), ['S-2', 'S-3']);
  assert.deepEqual(await list({ q: 'APP' }), ['S-0', 'S-1', 'S-3']);
  assert.deepEqual(await list({ q: 's-4' }), ['S-4']);
  assert.deepEqual(await list({ q: '???' }), []);
});

test('products in stock come from memory, and what has been sold meanwhile is left out', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  for (const sku of ['A', 'B']) await side.given(tell(productAdded(sku)), tell(adjusted(sku, 5)));
  const asked: string[] = [];
  let meanwhile = async (): Promise<void> => {};
  const list: ReadSide = readSideOn({
    ...side.database,
    async query(name, text, values) {
      asked.push(name.split(' by ')[0]!);
      const rows = await side.database.query(name, text, values);
      if (name.startsWith('walk')) await meanwhile();
      return rows as never;
    },
  });
  const shown = async (inStock: boolean): Promise<string[]> => {
    asked.length = 0;
    const { items } = await list.see<Page>(listUrl, { query: { inStock } });
    return items.map(({ sku }) => sku);
  };
  assert.deepEqual(
    [await shown(true), asked],
    [
      ['A', 'B'],
      ['walk products', 'read products'],
    ],
  );
  for (const sku of ['A', 'B']) await look(list, sku);
  assert.deepEqual([await shown(true), asked], [['A', 'B'], ['walk products']]);
  meanwhile = () => list.given(tell(reserved('o1', { sku: 'A', quantity: 5 })));
  assert.deepEqual(await shown(true), ['B']);
  assert.equal(asked.filter((name) => name === 'read products').length, 1);
  meanwhile = async () => {};
  assert.deepEqual([await shown(false), asked], [['A'], ['walk products']]);
});

test('a cursor of another product list is refused', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  await side.given(tell(productAdded('A')), tell(productAdded('B')));
  const { nextCursor: cursor } = await side.see<Page>(listUrl, { query: { limit: 1 } });
  const binding = (JSON.parse(Buffer.from(cursor!, 'base64url').toString()) as string[])[0];
  const forged = Buffer.from(JSON.stringify([binding, 'a\0b', 'A'])).toString('base64url');
  for (const query of [{ cursor, inStock: true }, { cursor, sort: 'name' }, { cursor: 'x' }, { cursor: forged }]) {
    const answer = await side.ask(listUrl, { query });
    assert.equal('refused' in answer && answer.refused.code, 'malformed-cursor');
  }
});

test('a name of any characters is stored, sorted and paged', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  const long = '\u{1F600}ﷺ'.repeat(150);
  await side.given(
    ...['nul\0', 'half\ud800', `${long}1`, `${long}2`, '"\\\n'].map((name, n) => tell(productAdded(`S-${n}`, name))),
  );
  assert.equal((await look(side, 'S-0')).view.name, 'nul\0');
  const { nextCursor: cursor } = await side.see<Page>(listUrl, { query: { sort: '-name', limit: 1 } });
  assert.ok(cursor && cursor.length <= 1_024, `${cursor?.length}`);
  assert.equal((await side.see<Page>(listUrl, { query: { sort: '-name', cursor } })).items.length, 4);
});
