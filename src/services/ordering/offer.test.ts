import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ProductOffered } from '#contracts/ordering.ts';
import { given } from '#cqrs/decider.fixture.ts';
import { offer, type OfferProduct } from './offer.ts';

const details = { sku: 'tea', name: 'Tea', price: { amount: 450, currency: 'EUR' } };
const offered = (more: object = {}): ProductOffered => ({ type: 'ProductOffered', data: { ...details, ...more } });
const offerIt = (more: object = {}): OfferProduct => ({ type: 'OfferProduct', ...details, ...more });

test('a product that the catalogue lists is offered', () => {
  given(offer).when(offerIt()).then(offered());
});

test('an offer that is heard again changes nothing', () => {
  given(offer, offered()).when(offerIt()).then();
});

test('a product is offered anew when its name, its price or its currency changes', () => {
  for (const more of [
    { name: 'Green tea' },
    { price: { amount: 451, currency: 'EUR' } },
    { price: { amount: 450, currency: 'GBP' } },
  ]) {
    given(offer, offered()).when(offerIt(more)).then(offered(more));
  }
});

test('the last offer counts', () => {
  const price = { amount: 1, currency: 'GBP' };
  assert.deepEqual(given(offer, offered(), offered({ price })).state, { status: 'offered', name: 'Tea', price });
});
