import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeToken, encodeToken, isReached, mergePositions } from './consistency-token.ts';

const positions = fc.dictionary(
  fc.constantFrom('catalog.0', 'ordering.0', 'ordering.17', 'inventory.1023', 'payments.0', 'read-models.3'),
  fc.nat({ max: Number.MAX_SAFE_INTEGER }),
  { noNullPrototype: true },
);
const tokenOf = (text: string): string => Buffer.from(text, 'latin1').toString('base64url');

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
    tokenOf('2;a.0=1'),
    tokenOf('1'),
    tokenOf('1;a.0'),
    tokenOf('1;a.0='),
    tokenOf('1;=1'),
    tokenOf('1;a=1'),
    tokenOf('1;a.=1'),
    tokenOf('1;A.0=1'),
    tokenOf('1;a.99999=1'),
    tokenOf('1;a.0=-1'),
    tokenOf('1;a.0=01'),
    tokenOf('1;a.0=1.5'),
    tokenOf('1;a.0=1e3'),
    tokenOf('1;a.0=9007199254740992'),
    tokenOf('1;a.0=1,a.0=1'),
    tokenOf('1;a.0=1,'),
    tokenOf('1;__proto__=1'),
    tokenOf(`1;${'a'.repeat(40)}.0=1`),
    `${tokenOf('1;a.0=1')}=`,
    // The last character holds bits that no byte has: a second spelling of the same token.
    tokenOf('1;a.0=1').replace(/.$/, 'R'),
    tokenOf(`1;${Array.from({ length: 300 }, (_, n) => `a.${n}=1`).join(',')}`),
  ];
  for (const token of strange) assert.equal(decodeToken(token), null, token);
});

test('whatever comes in as a token, reading it never throws', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => void decodeToken(text)));
  fc.assert(fc.property(fc.string({ unit: 'binary-ascii' }), (text) => void decodeToken(tokenOf(`1;${text}`))));
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
