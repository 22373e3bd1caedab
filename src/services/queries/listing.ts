/** Lists: pages by keyset, so that inserts neither shift nor repeat an item, and within a time limit. */
import { createHash } from 'node:crypto';
import type { Refusal } from '#cqrs/decider.ts';
import type { Database } from '#platform/postgres.ts';

export const limitDefault = 20;
/** A list that takes longer is given up: its filters fit no index well enough. */
const listTimeoutMs = 3_000;

/**
 * How the connections are opened that answer queries. Each statement is planned for its very values: with
 * one plan for all of them, a frequent word would be looked up as if it were a rare one.
 */
export const readsOptions = { statementTimeoutMs: listTimeoutMs, planForValues: true } as const;

/** Where a page ended: the sort key of its last item, and the item's id, which settles ties. */
export type PageEnd = { readonly key: string | number; readonly id: string };

export type Cursors = {
  /** Where the page before ended; null on the first page; `malformed` when it is not a cursor of this very list. */
  read(cursor: string | undefined): PageEnd | null | 'malformed';
  write(end: PageEnd): string;
};

/** The cursors of one list: name, filters and sort together. `isKey` knows the sort's keys. */
export function cursorsOf(list: readonly unknown[], isKey: (key: unknown) => boolean): Cursors {
  const binding = createHash('sha256').update(JSON.stringify(list)).digest('base64url').slice(0, 16);
  return {
    read(cursor) {
      if (cursor === undefined) return null;
      const bytes = Buffer.from(cursor, 'base64url');
      if (bytes.toString('base64url') !== cursor) return 'malformed';
      const parts = parsed(bytes.toString());
      if (!Array.isArray(parts) || parts.length !== 3) return 'malformed';
      const [bound, key, id] = parts as unknown[];
      if (bound !== binding || !isKey(key) || typeof id !== 'string' || !/^[A-Za-z0-9._-]{1,64}$/.test(id))
        return 'malformed';
      return { key: key as string | number, id };
    },
    write: ({ key, id }) => Buffer.from(JSON.stringify([binding, key, id])).toString('base64url'),
  };
}

export const malformedCursor: { refused: Refusal } = {
  refused: {
    code: 'malformed-cursor',
    detail: 'The cursor is not one of this list: send it with the filters and the sort of the page before.',
    errors: [{ pointer: '/cursor', detail: 'is not one of this list' }],
  },
};

const tooSlow: { refused: Refusal } = {
  refused: { code: 'overloaded', detail: `The list was given up after ${listTimeoutMs} ms. Narrow its filters.` },
};

/** Runs one statement of a list; `reads` is opened with `readsOptions`. */
export async function listRows<Row extends object>(
  reads: Database,
  name: string,
  text: string,
  values: readonly unknown[],
): Promise<{ rows: Row[] } | { refused: Refusal }> {
  try {
    return { rows: await reads.query<Row>(name, text, values) };
  } catch (error) {
    const queryCancelled = '57014';
    if ((error as { code?: string }).code === queryCancelled) return tooSlow;
    throw error;
  }
}

/** The page that `rows`, up to one more than `limit`, begin. `items` are JSON texts. */
export function pageBytes<Row>(
  rows: readonly Row[],
  limit: number,
  itemOf: (row: Row) => string,
  endOf: (row: Row) => PageEnd,
  cursors: Cursors,
): string {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  const nextCursor = last !== undefined && rows.length > limit ? cursors.write(endOf(last)) : null;
  return `{"items":[${shown.map(itemOf).join(',')}],"nextCursor":${JSON.stringify(nextCursor)}}`;
}

export const emptyPage = '{"items":[],"nextCursor":null}';

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
