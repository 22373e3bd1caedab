import assert from 'node:assert/strict';
import { test } from 'node:test';
import Type from 'typebox';
import { createEventTypes } from './event-types.ts';

const closed = { additionalProperties: false };
const Priced = {
  first: Type.Object({ price: Type.Number() }, closed),
  second: Type.Object({ price: Type.Object({ amount: Type.Integer() }, closed) }, closed),
  third: Type.Object({ prices: Type.Array(Type.Object({ amount: Type.Integer() }, closed)) }, closed),
};
const inCents = ({ price }: { price: number }): object => ({ price: { amount: price * 100 } });
const listed = ({ price }: { price: object }): object => ({ prices: [price] });

const types = createEventTypes({
  newest: { Priced: Priced.third, Dropped: Type.Object({}, closed) },
  older: {
    Priced: [
      { schema: Priced.first, upcast: inCents },
      { schema: Priced.second, upcast: listed },
    ],
  },
});

test('version 1 is stored under the name of the type, a later one with its number behind it', () => {
  assert.equal(types.storedName({ type: 'Dropped', data: {} }), 'Dropped');
  assert.equal(types.storedName({ type: 'Priced', data: { prices: [] } }), 'Priced.3');
});

test('an event goes through the upcasters of every version between its own and the newest', () => {
  const newest = { type: 'Priced', data: { prices: [{ amount: 200 }] } };
  assert.deepEqual(types.decode('Priced', { price: 2 }), newest);
  assert.deepEqual(types.decode('Priced.2', { price: { amount: 200 } }), newest);
  assert.deepEqual(types.decode('Priced.3', { prices: [{ amount: 200 }] }), newest);
});

test('a reader takes fields that it does not know, at any depth, and leaves them in place', () => {
  const data = { prices: [{ amount: 200, taxed: true }], since: 'monday' };
  assert.deepEqual(types.decode('Priced.3', data), { type: 'Priced', data });
});

test('data that is not what its version says is invalid, before and after each upcaster', () => {
  const invalid = (detail: string): object => ({ reason: 'invalid', detail });
  const price = { price: { amount: 'much' } };
  assert.deepEqual(types.decode('Priced.2', price), {
    type: 'Priced.2',
    data: price,
    unreadable: invalid('/price/amount must be integer'),
  });
  assert.deepEqual(
    types.decode('Priced', { price: 0.001 }).unreadable,
    invalid('once made version 2: /price/amount must be integer'),
  );
  for (const data of [null, 7, 'text', []] as unknown as object[]) {
    assert.equal(types.decode('Priced.3', data).unreadable?.reason, 'invalid', JSON.stringify(data));
  }
});

test('an upcaster that fails makes the event unreadable and nothing else', () => {
  const broken = createEventTypes({
    newest: { Priced: Priced.second },
    older: {
      Priced: [
        {
          schema: Priced.first,
          upcast: () => {
            throw new Error('no rate for this day');
          },
        },
      ],
    },
  });
  assert.deepEqual(broken.decode('Priced', { price: 1 }), {
    type: 'Priced',
    data: { price: 1 },
    unreadable: { reason: 'invalid', detail: 'cannot be made version 2: Error: no rate for this day' },
  });
});

test('a version to come is told from a type that nobody knows', () => {
  const reasonOf = (name: string): string | undefined => types.decode(name, {}).unreadable?.reason;
  assert.deepEqual(['Priced.4', 'Dropped.2'].map(reasonOf), ['newer-version', 'newer-version']);
  const unknown = ['Priced.1', 'Priced.03', 'Priced.', 'Vanished', 'Vanished.2', '', 'constructor', '__proto__'];
  assert.deepEqual(new Set(unknown.map(reasonOf)), new Set(['unknown-type']));
  assert.equal(
    types.decode('Priced.4', {}).unreadable?.detail,
    'Priced of version 4, and the newest version known here is 3',
  );
});

test('a type with a dot in its name is not taken: it would be read as a version', () => {
  assert.throws(() => createEventTypes({ newest: { 'Priced.2': Priced.first }, older: {} }), /has a dot in its name/);
});
