/** Cursors: where a page of a list ended, as text that a client sends back to go on from there. */
import { hash } from 'node:crypto';

export type Cursors<End extends readonly unknown[]> = {
  /** Where the page before ended; null on the first page; `malformed` when it is not a cursor of this very list. */
  read(cursor: string | undefined): End | null | 'malformed';
  write(end: End): string;
};

/** Of one list: `list` is its name and its filters together. `isEnd` knows where one of its pages may end. */
export function cursorsOf<End extends readonly unknown[]>(
  list: readonly unknown[],
  isEnd: (end: readonly unknown[]) => end is End,
): Cursors<End> {
  const binding = hash('sha256', JSON.stringify(list), 'base64url').slice(0, 16);
  const write = (end: End): string => Buffer.from(JSON.stringify([binding, ...end])).toString('base64url');
  return {
    read(cursor) {
      if (cursor === undefined) return null;
      const parts = parsed(Buffer.from(cursor, 'base64url').toString());
      if (!Array.isArray(parts) || parts[0] !== binding) return 'malformed';
      const end: readonly unknown[] = parts.slice(1);
      return isEnd(end) && write(end) === cursor ? end : 'malformed';
    },
    write,
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
