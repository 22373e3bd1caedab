/**
 * A consistency token names how far each log had come: positions by service and shard. It is opaque
 * to clients. A side that has applied at least these positions includes what the token stands for.
 */
import { crc32 } from 'node:zlib';

/** Position by source; a source is `<service>.<shard>`. */
export type Positions = Readonly<Record<string, number>>;

const SOURCE = /^[a-z][a-z-]{0,31}\.\d{1,4}$/;
const tokenLengthMax = 2_048;

/**
 * The token that stands for `positions`, safe in a header.
 *
 * Promises:
 * - a token gives back the positions that it was made of
 * - the same positions make the same token, in whatever order they were collected
 * - a token is safe in a header and in an address
 */
export function encodeToken(positions: Positions): string {
  const parts = Object.keys(positions)
    .sort()
    .map((source) => `${source}=${positions[source]}`);
  const text = parts.join(',');
  return Buffer.from(`${form}${text};${checksum(text)}`, 'latin1').toString('base64url');
}

const form = '2;';

/** One that lost its end on the way, or a letter, would else stand for other positions. */
const checksum = (text: string): string => crc32(text).toString(36);

/**
 * The positions a token stands for, or null when it is not one of ours.
 *
 * Promises:
 * - what is none of our tokens is not understood
 * - a token that was cut or changed on its way is not understood
 * - whatever comes in as a token, reading it never throws
 */
export function decodeToken(token: string): Positions | null {
  if (token.length === 0 || token.length > tokenLengthMax || !/^[A-Za-z0-9_-]+$/.test(token)) return null;
  const bytes = Buffer.from(token, 'base64url');
  if (bytes.toString('base64url') !== token) return null;
  const whole = bytes.toString('latin1');
  const end = whole.lastIndexOf(';');
  const text = whole.slice(form.length, end);
  if (!whole.startsWith(form) || whole.slice(end + 1) !== checksum(text)) return null;
  const positions: Record<string, number> = {};
  if (text === '') return positions;
  for (const part of text.split(',')) {
    const cut = part.indexOf('=');
    const source = part.slice(0, cut);
    const position = part.slice(cut + 1);
    if (cut < 0 || !SOURCE.test(source) || !/^(0|[1-9]\d{0,15})$/.test(position)) return null;
    if (!Number.isSafeInteger(Number(position)) || Object.hasOwn(positions, source)) return null;
    positions[source] = Number(position);
  }
  return positions;
}

/**
 * Both taken together.
 *
 * Promises:
 * - two sets of positions together are the later of each source
 */
export function mergePositions(a: Positions, b: Positions): Positions {
  const merged: Record<string, number> = { ...a };
  for (const [source, position] of Object.entries(b)) merged[source] = Math.max(merged[source] ?? 0, position);
  return merged;
}

/**
 * Whether whoever has applied `applied` has applied all of `positions`.
 *
 * Promises:
 * - positions are reached when each of their sources has come so far
 */
export function isReached(positions: Positions, applied: Positions): boolean {
  for (const source in positions) if (positions[source]! > (applied[source] ?? 0)) return false;
  return true;
}
