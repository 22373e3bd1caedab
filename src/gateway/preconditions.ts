/** What request headers say about versions and waiting: entity tags (RFC 9110) and `Prefer: wait` (RFC 7240). */
import type { IfMatch } from '#cqrs/command-request.ts';

/** `any` is `*`; tags are without their quotes. */
export type EntityTags = { readonly any: true } | { readonly any: false; readonly tags: readonly EntityTag[] };
type EntityTag = { readonly weak: boolean; readonly tag: string };

/** The tags of an If-Match or If-None-Match header, or null when it is malformed. */
export function parseEntityTags(header: string): EntityTags | null {
  const text = header.trim();
  if (text === '*') return { any: true };
  const tags: EntityTag[] = [];
  // A list may have empty elements (RFC 9110, 5.6.1).
  for (let rest = text.replace(/^[\s,]+/, ''); rest.length > 0;) {
    const match = TAG.exec(rest);
    if (match === null) return null;
    tags.push({ weak: match[1] !== undefined, tag: match[2]! });
    rest = rest.slice(match[0].length);
    if (rest.length > 0 && !rest.startsWith(',')) return null;
    rest = rest.replace(/^[\s,]+/, '');
  }
  return tags.length > 0 ? { any: false, tags } : null;
}

const TAG = /^(W\/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*/;

/** No resource ever has this version: what a tag that cannot match stands for. */
const impossibleVersion = -1;

/**
 * The versions that an If-Match header allows: part `part` of `"<version>.<revision>"`, or the one
 * number there is. Tags that are weak or not of our making allow none.
 */
export function versionsAllowed(tags: EntityTags, part: 1 | 2): Exclude<IfMatch, null> {
  if (tags.any) return 'any';
  return tags.tags.map(({ weak, tag }) => {
    const numbers = weak ? null : VERSION.exec(tag);
    if (numbers === null) return impossibleVersion;
    return Number(part === 2 && numbers[2] !== undefined ? numbers[2] : numbers[1]);
  });
}

const VERSION = /^(0|[1-9]\d{0,15})(?:\.(0|[1-9]\d{0,15}))?$/;

/** Whether a GET need not send what the client has: the weak comparison of If-None-Match. */
export const isNotModified = (tags: EntityTags, etag: string): boolean =>
  tags.any || tags.tags.some(({ tag }) => tag === etag);

const waitMsDefault = 1_000;
const waitMsMax = 5_000;

/** How long the caller would wait, in milliseconds: the first `wait` of a Prefer header, at most 5 s; 1 s without one. */
export function waitPreferredMs(prefer: string | undefined): number {
  if (prefer === undefined) return waitMsDefault;
  for (const preference of prefer.split(',')) {
    const seconds = WAIT.exec(preference.split(';', 1)[0]!.trim())?.[2];
    if (seconds !== undefined) return Math.min(Math.round(Number(seconds) * 1_000), waitMsMax);
  }
  return waitMsDefault;
}

const WAIT = /^wait\s*=\s*("?)(\d+(?:\.\d+)?)\1$/i;

/** 1 to 255 printable ASCII characters. */
export const isIdempotencyKey = (key: string): boolean => /^[\x20-\x7e]{1,255}$/.test(key);
