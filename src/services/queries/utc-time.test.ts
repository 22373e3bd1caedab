import assert from 'node:assert/strict';
import { test } from 'node:test';
import { utcTime } from './utc-time.ts';

test('every time of RFC 3339 is shown in UTC with milliseconds', () => {
  const shown = {
    '2010-12-01T08:26:00Z': '2010-12-01T08:26:00.000Z',
    '2010-12-01t09:26:00.5+01:00': '2010-12-01T08:26:00.500Z',
    '2010-12-01T08:26:00.123456789z': '2010-12-01T08:26:00.123Z',
    '2016-12-31T23:59:60Z': '2016-12-31T23:59:59.000Z',
    '2016-12-31T18:59:60.7-05:00': '2016-12-31T23:59:59.700Z',
    '0000-01-01T00:00:00Z': '0001-01-01T00:00:00.000Z',
    '9999-12-31T23:59:59-01:00': '9999-12-31T23:59:59.999Z',
  };
  for (const [text, expected] of Object.entries(shown)) assert.equal(utcTime(text), expected);
});

test('a time that is written so already stays as it is, on every day of a leap year', () => {
  const text = (day: number): string => new Date(Date.UTC(2012, 0, day, 23, 59, 59, 999)).toISOString();
  for (let day = 1; day <= 366; day += 1) assert.equal(utcTime(text(day)), text(day));
});

test('what is no time is refused', () => {
  for (const text of ['yesterday', '2012-13-01T00:00:00.000Z', '2012-01-32T00:00:00.000Z', '2012-01-01T24:00:01.000Z'])
    assert.throws(() => utcTime(text), RangeError, text);
});
