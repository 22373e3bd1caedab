/** A finding as it is recorded and read: its id, what tells it from another, and how the two sides differ. */
import { createHash } from 'node:crypto';
import { ID_PATTERN } from '#contracts/values.ts';
import type { Finding } from './check.ts';
import type { Seen } from './divergence.ts';

/** Of the JSON text of a value that is recorded; of a larger one its beginning is. */
const valueCharactersMax = 16_384;
const saysCharactersMax = 1_000;
const differencesMax = 50;
const shownCharactersMax = 120;

/** The same check and entity are the same divergence. */
export const divergenceIdOf = ({ check, entity }: Pick<Finding, 'check' | 'entity'>): string =>
  digest([check, entity]).slice(0, 32);

/** Tells what was found of an entity from what was found before. */
export const fingerprintOf = ({ expected, found }: Pick<Finding, 'expected' | 'found'>): string =>
  digest([canonical(expected), canonical(found)]).slice(0, 32);

/** As it is recorded: values that are very large are cut. */
export function seenOf(finding: Finding): Seen {
  const { check, entity, orderId, says, expected, found, repairs } = finding;
  return {
    divergenceId: divergenceIdOf(finding),
    // What was damaged may have an id that no order has.
    ...(orderId !== undefined && new RegExp(ID_PATTERN).test(orderId) ? { orderId } : {}),
    check,
    entity,
    says: says.slice(0, saysCharactersMax),
    expected: bounded(expected),
    found: bounded(found),
    fingerprint: fingerprintOf(finding),
    repairs: [...repairs],
  };
}

/** A value as JSON has it; a very large one as the beginning of its text. */
export function bounded(value: unknown): unknown {
  const text = JSON.stringify(value) ?? 'null';
  if (text.length <= valueCharactersMax) return JSON.parse(text) as unknown;
  return { cut: text.slice(0, valueCharactersMax), characters: text.length };
}

/** The JSON paths at which `expected` and `found` differ, a line each: `/total/amount: 100 expected, 1 found`. */
export function differences(expected: unknown, found: unknown): string[] {
  const lines: string[] = [];
  collect('', expected, found, lines);
  return lines;
}

function collect(path: string, expected: unknown, found: unknown, lines: string[]): void {
  if (lines.length > differencesMax || JSON.stringify(canonical(expected)) === JSON.stringify(canonical(found))) return;
  if (lines.length === differencesMax) {
    lines.push('and more');
    return;
  }
  if (isObject(expected) && isObject(found) && Array.isArray(expected) === Array.isArray(found)) {
    for (const key of new Set([...Object.keys(expected), ...Object.keys(found)])) {
      collect(`${path}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`, expected[key], found[key], lines);
    }
    return;
  }
  lines.push(`${path || '/'}: ${shown(expected)} expected, ${shown(found)} found`);
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

function shown(value: unknown): string {
  if (value === undefined || value === null) return 'nothing';
  const text = JSON.stringify(value);
  return text.length > shownCharactersMax ? `${text.slice(0, shownCharactersMax)}…` : text;
}

const digest = (parts: readonly unknown[]): string => createHash('sha256').update(JSON.stringify(parts)).digest('hex');

/** The same value whatever the order of its fields. */
function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (!isObject(value)) return value ?? null;
  const fields = Object.keys(value).filter((key) => value[key] !== undefined);
  return Object.fromEntries(fields.sort().map((key) => [key, canonical(value[key])]));
}
