import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Compile } from 'typebox/compile';
import { catalogEvents, type ProductAdded, type ProductChanged } from '#contracts/catalog.ts';
import { given } from '#cqrs/decider.fixture.ts';
import { product, type PutProduct } from './product.ts';

const details = { sku: 'tea', name: 'Tea', description: 'Green', price: { amount: 450, currency: 'EUR' } };
const { description: _description, ...undescribed } = details;

const put = (more: Partial<PutProduct> = {}): PutProduct => ({ type: 'PutProduct', ...details, ...more });
const added: ProductAdded = { type: 'ProductAdded', data: details };
const changed = (more: Partial<ProductChanged['data']>): ProductChanged => ({
  type: 'ProductChanged',
  data: { ...details, ...more },
});

test('a product that is put for the first time is added', () => {
  given(product).when(put()).then(added);
});

test('a product without a description is added without one', () => {
  given(product)
    .when({ type: 'PutProduct', ...undescribed })
    .then({ type: 'ProductAdded', data: undescribed });
});

test('a product that is put as it is does not change', () => {
  given(product, added).when(put()).then();
});

test('a product changes with each detail that is put otherwise', () => {
  for (const more of [
    { name: 'Green tea' },
    { description: 'Very green' },
    { price: { amount: 451, currency: 'EUR' } },
    { price: { amount: 450, currency: 'GBP' } },
  ]) {
    given(product, added).when(put(more)).then(changed(more));
  }
});

test('a description that is left out is taken away', () => {
  given(product, added)
    .when({ type: 'PutProduct', ...undescribed })
    .then({ type: 'ProductChanged', data: undescribed });
  assert.deepEqual(given(product, added, { type: 'ProductChanged', data: undescribed }).state, {
    status: 'listed',
    name: 'Tea',
    price: details.price,
  });
});

test('a product that is changed back is changed', () => {
  given(product, added, changed({ name: 'Green tea' }))
    .when(put())
    .then(changed({}));
});

test('a price of 0 is a price', () => {
  const free = { price: { amount: 0, currency: 'EUR' } };
  given(product)
    .when(put(free))
    .then({ type: 'ProductAdded', data: { ...details, ...free } });
});

test('what is recorded of a product is as the contract says', () => {
  const contract = { added: Compile(catalogEvents.ProductAdded), changed: Compile(catalogEvents.ProductChanged) };
  assert.ok(contract.added.Check(added.data) && contract.added.Check(undescribed));
  assert.ok(contract.changed.Check(changed({}).data) && contract.changed.Check(undescribed));
});
