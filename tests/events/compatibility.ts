/**
 * Which changes to an event's schema need no new version. Readers and events of different ages meet:
 * while processes are updated one by one an old reader gets new events, and a log is read from its
 * first event by every new reader. Only an optional field that is added passes in both directions.
 */
import { isDeepStrictEqual } from 'node:util';

/** A schema as plain JSON. */
export type Schema = { readonly [keyword: string]: unknown };

/** Where, and what is wrong. */
export type Change = { readonly path: string; readonly problem: string };

/** What old readers or old events cannot take, in what has become of `before`. */
export function breakingChanges(before: Schema, after: Schema, path = 'data'): Change[] {
  if (before['type'] === 'object' && after['type'] === 'object') {
    return [...changedFields(before, after, path), ...changedKeywords(before, after, path)];
  }
  const [words, wordsNow] = [literalsOf(before), literalsOf(after)];
  if (words !== null && wordsNow !== null) return changedLiterals(words, wordsNow, path);
  const items =
    isSchema(before['items']) && isSchema(after['items'])
      ? breakingChanges(before['items'], after['items'], `${path}[]`)
      : [];
  return [...items, ...changedKeywords(before, after, path)];
}

/** Optional fields, as `data.lines[].note`. */
export function optionalFields(schema: Schema, path = 'data'): string[] {
  if (isSchema(schema['items'])) return optionalFields(schema['items'], `${path}[]`);
  return Object.entries(fieldsOf(schema)).flatMap(([name, field]) => [
    ...(requiredOf(schema).includes(name) ? [] : [`${path}.${name}`]),
    ...optionalFields(field, `${path}.${name}`),
  ]);
}

function changedFields(before: Schema, after: Schema, path: string): Change[] {
  const [fields, fieldsNow] = [fieldsOf(before), fieldsOf(after)];
  const [required, requiredNow] = [requiredOf(before), requiredOf(after)];
  const added = Object.keys(fieldsNow).filter((name) => fields[name] === undefined);
  const removed = Object.keys(fields).filter((name) => fieldsNow[name] === undefined);
  const newNameOf = (name: string): string | undefined =>
    added.find((other) => isDeepStrictEqual(meaningOf(fields[name]!), meaningOf(fieldsNow[other]!)));
  return [
    ...removed.map((name) => {
      const newName = newNameOf(name);
      return {
        path: `${path}.${name}`,
        problem:
          newName === undefined
            ? 'has been removed: what old events say there is lost'
            : `has been renamed to ${newName}: old events have the old name, old readers look for it`,
      };
    }),
    ...added
      .filter((name) => requiredNow.includes(name))
      .map((name) => ({ path: `${path}.${name}`, problem: 'is new and required: old events lack it' })),
    ...Object.entries(fields).flatMap(([name, field]) => {
      const fieldNow = fieldsNow[name];
      if (fieldNow === undefined) return [];
      const at = `${path}.${name}`;
      const [must, mustNow] = [required.includes(name), requiredNow.includes(name)];
      return [
        ...(mustNow && !must ? [{ path: at, problem: 'has become required: old events may lack it' }] : []),
        ...(must && !mustNow ? [{ path: at, problem: 'has become optional: old readers require it' }] : []),
        ...breakingChanges(field, fieldNow, at),
      ];
    }),
  ];
}

function changedLiterals(words: readonly unknown[], wordsNow: readonly unknown[], path: string): Change[] {
  const list = (some: readonly unknown[]): string => some.map((word) => JSON.stringify(word)).join(', ');
  const removed = words.filter((word) => !wordsNow.includes(word));
  const added = wordsNow.filter((word) => !words.includes(word));
  return [
    ...(removed.length > 0 ? [{ path, problem: `has lost ${list(removed)}: old events may say so` }] : []),
    ...(added.length > 0 ? [{ path, problem: `may be ${list(added)} now: old readers refuse that` }] : []),
  ];
}

const lowerBounds = new Set(['minimum', 'exclusiveMinimum', 'minLength', 'minItems', 'minProperties']);
const upperBounds = new Set(['maximum', 'exclusiveMaximum', 'maxLength', 'maxItems', 'maxProperties']);
/** Compared field by field, or without a say in what is taken. */
const ofNoConcern = new Set(['properties', 'required', 'items', 'title', 'description', 'examples', '$comment']);

function changedKeywords(before: Schema, after: Schema, path: string): Change[] {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])].flatMap((keyword): Change[] => {
    const [was, is] = [before[keyword], after[keyword]];
    if (isDeepStrictEqual(was, is)) return [];
    if (ofNoConcern.has(keyword) && (keyword !== 'items' || (isSchema(was) && isSchema(is)))) return [];
    return [{ path, problem: `has ${nameOf(keyword, was, is)}` }];
  });
}

function nameOf(keyword: string, was: unknown, is: unknown): string {
  const change = `${keyword} ${JSON.stringify(is) ?? 'no more'} (was ${JSON.stringify(was) ?? 'absent'})`;
  const isBound = lowerBounds.has(keyword) || upperBounds.has(keyword);
  if (!isBound) return `${change}: old events or old readers may not agree`;
  const none = lowerBounds.has(keyword) ? -Infinity : Infinity;
  const [from, to] = [Number(was ?? none), Number(is ?? none)];
  return lowerBounds.has(keyword) === to > from
    ? `${change}: old events may lie outside`
    : `${change}: old readers refuse what is new`;
}

const isSchema = (value: unknown): value is Schema => typeof value === 'object' && value !== null;
const fieldsOf = (schema: Schema): Readonly<Record<string, Schema>> =>
  (schema['properties'] ?? {}) as Record<string, Schema>;
const requiredOf = (schema: Schema): readonly string[] => (schema['required'] ?? []) as string[];

/** The words of a closed union, or null when it is none. */
function literalsOf(schema: Schema): readonly unknown[] | null {
  if (Array.isArray(schema['enum'])) return schema['enum'];
  if ('const' in schema) return [schema['const']];
  const members = schema['anyOf'];
  if (!Array.isArray(members)) return null;
  const words = (members as Schema[]).map(literalsOf);
  return words.every((word) => word !== null) ? words.flat() : null;
}

/** Without what only explains. */
const meaningOf = (schema: Schema): Schema =>
  Object.fromEntries(Object.entries(schema).filter(([keyword]) => !['title', 'description'].includes(keyword)));
