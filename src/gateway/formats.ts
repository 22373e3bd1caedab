/** The text formats that schemas name. */

/** A time that exists, between the years 1 and 9999 in UTC: what RFC 3339 and the databases both can hold. */
export function isDateTime(text: string): boolean {
  const parts = DATE_TIME.exec(text);
  if (parts === null) return false;
  const [, year, month, day] = parts.map(Number) as [number, number, number, number];
  const daysInMonth = new Date(Date.UTC(2000 + (year % 400), month, 0)).getUTCDate();
  if (day > daysInMonth) return false;
  const ms = Date.parse(text.toUpperCase());
  return ms >= firstMs && ms <= lastMs;
}

const firstMs = Date.parse('0001-01-01T00:00:00Z');
const lastMs = Date.parse('9999-12-31T23:59:59.999Z');

// No second 60: a leap second has no place in the clocks that would have to hold it.
const DATE_TIME =
  /^(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/;

/** An address as mail is sent to: a local part and a domain with a dot, letters of any script. */
export function isEmail(text: string): boolean {
  const at = text.lastIndexOf('@');
  return (
    LOCAL_PART.test(text.slice(0, Math.max(at, 0))) &&
    at < text.length - 1 &&
    text.length - at <= 256 &&
    DOMAIN.test(text.slice(at + 1))
  );
}

const LOCAL_PART = /^(?=.{1,64}$)[^\s@"(),:;<>[\]\\.\p{C}]+(?:\.[^\s@"(),:;<>[\]\\.\p{C}]+)*$/u;
const DOMAIN =
  /^(?:[\p{L}\p{N}](?:[\p{L}\p{N}\p{M}-]{0,61}[\p{L}\p{N}\p{M}])?\.)+[\p{L}\p{N}](?:[\p{L}\p{N}\p{M}-]{0,61}[\p{L}\p{N}\p{M}])?$/u;

export const formats = { 'date-time': isDateTime, email: isEmail } as const;
