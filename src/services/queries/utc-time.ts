/** Times as answers show them and as the read tables order them: RFC 3339, UTC, milliseconds. */

/** The SQL of a timestamp `column` in that form. */
export const rfc3339 = (column: string): string =>
  `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

/** Written so already, on a day that every month has: most are, and taking them apart is a tenth of a rebuild. */
const asShown = /^(?!0000)\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z$/;

/** The last text that was such a time: the events of a batch have one, and others beside it. */
let lastShown = '';

const earliest = Date.parse('0001-01-01T00:00:00.000Z');
const latest = Date.parse('9999-12-31T23:59:59.999Z');

/**
 * The moment that `text` (RFC 3339, any offset) names, such as `2010-12-01T08:26:00.000Z`. A leap
 * second counts as the second before it. Offsets can push a time out of the years 1 to 9999, which is
 * all that the format and PostgreSQL share: it stops at their edge. Throws RangeError when `text` is
 * no time.
 */
export function utcTime(text: string): string {
  if (text === lastShown) return text;
  if (asShown.test(text)) return (lastShown = text);
  const time = Date.parse(text.toUpperCase().replace(/:60(?=[.Z+-])/, ':59'));
  return new Date(Math.min(Math.max(time, earliest), latest)).toISOString();
}
