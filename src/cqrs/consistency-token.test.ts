import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { decodeToken, encodeToken, isReached, mergePositions } from './consistency-token.ts';

const positions = fc.dictionary(
  fc.constantFrom('catalog.0', 'ordering.0', 'ordering.17', 'inventory.1023', 'payments.0', 'read-models.3'),
  fc.nat({ max: Number.MAX_SAFE_INTEGER }),
  { noNullPrototype: true },
);
const tokenOf = (text: string): string => Buffer.from(text, 'latin1').toString('base64url');
const madeOf = (parts: string): string => tokenOf(`2;${parts};${crc32(parts).toString(36)}`);

test('a token gives back the positions that it was made of', () => {
  fc.assert(fc.property(positions, (some) => assert.deepEqual(decodeToken(encodeToken(some)), some)));
  assert.deepEqual(decodeToken(encodeToken({})), {});
});

test('the same positions make the same token, in whatever order they were collected', () => {
  assert.equal(encodeToken({ 'a.0': 1, 'b.0': 2 }), encodeToken({ 'b.0': 2, 'a.0': 1 }));
});

test('a token is safe in a header and in an address', () => {
  fc.assert(fc.property(positions, (some) => assert.match(encodeToken(some), /^[A-Za-z0-9_-]+$/)));
});

test('what is none of our tokens is not understood', () => {
  const strange = [
    '',
    '!',
    'a b',
    'MTth',
    tokenOf('1;a.0=1'),
    tokenOf('2'),
    tokenOf('2;'),
    tokenOf('2;;'),
    madeOf('a.0'),
    madeOf('a.0='),
    madeOf('=1'),
    madeOf('a=1'),
    madeOf('a.=1'),
    madeOf('A.0=1'),
    madeOf('a.99999=1'),
    madeOf('a.0=-1'),
    madeOf('a.0=01'),
    madeOf('a.0=1.5'),
    madeOf('a.0=1e3'),
    madeOf('a.0=9007199254740992'),
    madeOf('a.0=1,a.0=1'),
    madeOf('a.0=1,'),
    madeOf('__proto__=1'),
    madeOf(`${'a'.repeat(40)}.0=1`),
    `${madeOf('a.0=1')}=`,
    // The last character holds bits that no byte has: a second spelling of the same token.
    madeOf('a.0=1').replace(/.$/, 'R'),
    madeOf(Array.from({ length: 300 }, (_, n) => `a.${n}=1`).join(',')),
  ];
  for (const token of strange) assert.equal(decodeToken(token), null, token);
});

test('a token that was cut or changed on its way is not understood', () => {
  const token = encodeToken({ 'ordering.0': 12, 'payments.0': 7 });
  for (let length = 0; length < token.length; length += 1) assert.equal(decodeToken(token.slice(0, length)), null);
  for (const [n, letter] of token.split('').entries()) {
    for (const other of 'AQgwxyz059-_') {
      if (other !== letter) assert.equal(decodeToken(token.slice(0, n) + other + token.slice(n + 1)), null);
    }
  }
  for (const more of 'AQgwxyz059-_') assert.equal(decodeToken(token + more), null);
});

test('whatever comes in as a token, reading it never throws', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => void decodeToken(text)));
  fc.assert(fc.property(fc.string({ unit: 'binary-ascii' }), (text) => void decodeToken(madeOf(text))));
});

test('two sets of positions together are the later of each source', () => {
  const one = { 'a.0': 3, 'b.0': 9 };
  assert.deepEqual(mergePositions(one, { 'b.0': 4, 'c.0': 1 }), { 'a.0': 3, 'b.0': 9, 'c.0': 1 });
  assert.deepEqual(mergePositions(one, {}), one);
  fc.assert(fc.property(positions, positions, (a, b) => assert.deepEqual(mergePositions(a, b), mergePositions(b, a))));
});

test('positions are reached when each of their sources has come so far', () => {
  assert.ok(isReached({}, {}));
  assert.ok(isReached({ 'a.0': 1, 'b.0': 0 }, { 'a.0': 1, 'c.0': 5 }));
  assert.ok(!isReached({ 'a.0': 1, 'b.0': 3 }, { 'a.0': 9, 'b.0': 2 }));
  assert.ok(!isReached({ 'a.0': 1 }, {}));
});
