import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDateTime, isEmail } from './formats.ts';

test('times are RFC 3339 with a zone, and exist', () => {
  for (const time of [
    '2026-01-01T00:00:00Z',
    '2024-02-29T23:59:59.123456789+14:00',
    '2000-02-29t00:00:00z',
    '2026-12-31T23:59:59-12:00',
    '0001-01-01T00:00:00Z',
    '9999-12-31T23:59:59.999Z',
  ]) {
    assert.ok(isDateTime(time), time);
    assert.ok(!Number.isNaN(Date.parse(time)), time);
  }
  for (const time of [
    '',
    '2026-01-01',
    '2026-01-01T00:00:00',
    '2026-01-01 00:00:00Z',
    '2026-01-01T00:00Z',
    '2026-02-30T00:00:00Z',
    '2025-02-29T00:00:00Z',
    '1900-02-29T00:00:00Z',
    '2026-04-31T00:00:00Z',
    '2026-13-01T00:00:00Z',
    '2026-00-01T00:00:00Z',
    '2026-01-00T00:00:00Z',
    '2026-01-01T24:00:00Z',
    '2026-01-01T00:60:00Z',
    '2016-12-31T23:59:60Z',
    '2026-01-01T00:00:00+24:00',
    '2026-01-01T00:00:00+0100',
    '2026-01-01T00:00:00.Z',
    '2026-01-01T00:00:00,5Z',
    '0000-06-01T00:00:00Z',
    '0001-01-01T00:00:00+23:59',
    '9999-12-31T23:59:59-23:59',
    '+02026-01-01T00:00:00Z',
    '2026-01-01T00:00:00Z\n',
    '٢٠٢٦-01-01T00:00:00Z',
  ])
    assert.ok(!isDateTime(time), time);
});

test('addresses are what mail can be sent to', () => {
  for (const address of [
    'ada@example.com',
    'ada.lovelace+tag@mail.example.co.uk',
    "o'brien@example.com",
    'jürgen@bücher.example',
    '用户@例子.公司',
    `${'a'.repeat(64)}@example.com`,
  ]) {
    assert.ok(isEmail(address), address);
  }
  for (const address of [
    '',
    'ada',
    'ada@',
    '@example.com',
    'ada@example',
    'ada@@example.com',
    'a da@example.com',
    '.ada@example.com',
    'ada.@example.com',
    'a..da@example.com',
    'ada@-example.com',
    'ada@example-.com',
    'ada@example..com',
    'ada@.com',
    'ada@example.com.',
    'ada@example.com\n',
    'ada@exa mple.com',
    `${'a'.repeat(65)}@example.com`,
    `a@${'a'.repeat(64)}.com`,
    `a@${'a.'.repeat(130)}com`,
    'ada\u0000@example.com',
    '<ada@example.com>',
  ])
    assert.ok(!isEmail(address), address);
});
