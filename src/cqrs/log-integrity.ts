/**
 * Is a log what it was when it was written? Whoever checks goes through it in pieces, with plain reads at or below
 * a head that was read before: no writer waits for it, and what is appended meanwhile is no finding.
 */
import type { Sql } from '#platform/postgres.ts';
import { hashOfNothing } from './batch-hash.ts';
import { type Anchor, slotOfStream } from './event-log.ts';

export type LogFindingKind =
  /** Positions up to the head that hold no event. */
  | 'positions-missing'
  /** Events or batches at positions that the log has not reached. */
  | 'beyond-head'
  /** The head is not where the last batch ends, or has another hash. */
  | 'head-differs'
  /** Positions that no batch covers. */
  | 'batch-missing'
  /** A batch that begins before the end of the one before. */
  | 'batch-overlaps'
  /** A batch that does not come to its hash: it, or the hash before, was changed. */
  | 'batch-hash'
  /** The version before that of an event is not in the log. */
  | 'version-missing'
  /** An event that stands before one of a lower version. */
  | 'version-order'
  /** An event whose stream has no state. */
  | 'stream-missing'
  /** A stream's state is of another version than its last event. */
  | 'stream-version'
  /** A stream, or an event of it, is in a slot that is not that of its entity. */
  | 'slot'
  /** The log does not reach to an anchor that was kept of it. */
  | 'anchor-beyond-head'
  /** The log holds another history up to an anchor that was kept of it. */
  | 'anchor-differs'
  /** A consumer that has applied more than there is. */
  | 'checkpoint-beyond-head';

/** Something that is not as it was written; each kind names where. */
export type LogFinding = {
  readonly kind: LogFindingKind;
  /** The first position concerned. */
  readonly position?: number;
  /** The last one, of a range or a batch. */
  readonly lastPosition?: number;
  readonly stream?: string;
  readonly consumer?: string;
  readonly expected: string;
  readonly found: string;
};

/** Where a check of the whole log has come to. */
export type LogPlace =
  | { readonly part: 'head' }
  | { readonly part: 'events'; readonly after: number }
  | { readonly part: 'streams'; readonly after: string };

export const logBeginning: LogPlace = { part: 'head' };

/** No append comes near it; a row of `batches` that claims more is not worth the memory of looking. */
const batchEventsMax = 100_000;

/**
 * Checks the next piece of a log from `place` on: up to `eventsMax` events (a batch more when one is larger) or
 * streams. `next` is where to go on, null at the end. `movedByOthers` are the types of streams whose versions also count
 * events of other homes: of their versions only the order can be told without the service's rules. Null: streams, their
 * versions and slots are left to somebody who folds them.
 *
 * Promises:
 * - a healthy log has no finding, also while it is written at full speed
 * - whatever is changed, taken out, exchanged or added by hand is found and named
 * - a log that was there before the chain is chained, and checked in the same way
 * - a stream that events of others move is checked for the order of its versions only
 * - a log is checked in pieces that begin and end at batches, whatever their size
 * - versions and slots may be left to somebody who folds the streams
 */
export async function checkLog(
  database: Sql,
  options: { readonly place: LogPlace; readonly eventsMax: number; readonly movedByOthers: readonly string[] | null },
): Promise<{ readonly findings: readonly LogFinding[]; readonly next: LogPlace | null }> {
  const { place, eventsMax, movedByOthers } = options;
  switch (place.part) {
    case 'head':
      return { findings: await checkHead(database), next: { part: 'events', after: 0 } };
    case 'events': {
      const upTo = await endOfPiece(database, place.after, eventsMax);
      if (upTo <= place.after)
        return { findings: [], next: movedByOthers === null ? null : { part: 'streams', after: '' } };
      const findings = [
        ...(await checkPositions(database, place.after, upTo)),
        ...(await checkBatches(database, place.after, upTo)),
        ...(movedByOthers === null ? [] : await checkVersions(database, place.after, upTo, movedByOthers)),
      ];
      return { findings, next: { part: 'events', after: upTo } };
    }
    case 'streams': {
      const { findings, last } = await checkStreams(database, place.after, eventsMax, movedByOthers ?? []);
      return { findings, next: last === null ? null : { part: 'streams', after: last } };
    }
  }
}

/**
 * Whether what a log held when `anchor` was taken of it is still there: the last resort against a tail that was cut
 * off, a backup that was restored and a history that was written anew with all its hashes.
 *
 * Promises:
 * - an anchor tells of a tail that was cut off and of a history that was written anew, and holds in a log that goes on
 */
export async function checkAnchor(database: Sql, anchor: Anchor): Promise<LogFinding[]> {
  const { epoch, position, hash } = anchor;
  const [row] = await database.query<{ head: number; epoch: string; hash: string | null }>(
    'check anchor',
    `select h.position as head, h.epoch, encode(b.hash, 'hex') as hash
     from log_head h left join batches b on b.last_position = $1`,
    [position],
  );
  const { head = 0, epoch: nowIn = 'no epoch' } = row ?? {};
  const found = position === 0 ? hashOfNothing : (row?.hash ?? null);
  const inEpoch = (of: string): string => (of === nowIn ? '' : ` in the epoch ${of}`);
  if (head < position) {
    const expected = `a head at ${position} or beyond, as${inEpoch(epoch)} before`;
    return [{ kind: 'anchor-beyond-head', position, expected, found: `a head at ${head}` }];
  }
  if (found === hash) return [];
  const expected = `a batch up to ${position} with the hash ${hash}, as${inEpoch(epoch)} before`;
  return [{ kind: 'anchor-differs', position, expected, found: found ?? `no batch that ends at ${position}` }];
}

async function checkHead(database: Sql): Promise<LogFinding[]> {
  // One statement: one moment of the log.
  const [row] = await database.query<HeadRow>('check head', headSql);
  if (row === undefined) return [];
  const { head, hash, lastEvent, lastBatch, hashBefore } = row;
  const findings: LogFinding[] = [];
  if (lastEvent > head)
    findings.push({
      kind: 'beyond-head',
      position: head + 1,
      lastPosition: lastEvent,
      expected: `no event beyond the head at ${head}`,
      found: `events up to ${lastEvent}`,
    });
  if (lastBatch !== head) {
    const expected = `a head at ${lastBatch}, where the last batch ends`;
    findings.push({ kind: 'head-differs', position: lastBatch, expected, found: `a head at ${head}` });
  } else if (hash !== (hashBefore ?? hashOfNothing)) {
    const expected = `${hashBefore ?? hashOfNothing}, of the last batch`;
    findings.push({ kind: 'head-differs', position: head, expected, found: hash });
  }
  return findings;
}

type HeadRow = {
  readonly head: number;
  readonly hash: string;
  readonly lastEvent: number;
  readonly lastBatch: number;
  readonly hashBefore: string | null;
};

const headSql = `
  select h.position as head, encode(h.hash, 'hex') as hash,
    coalesce((select max(position) from events), 0) as "lastEvent",
    coalesce(b.last_position, 0) as "lastBatch", encode(b.hash, 'hex') as "hashBefore"
  from log_head h left join (select * from batches order by last_position desc limit 1) b on true`;

/** The end of the last batch within reach, or of the next one when it is larger; at or below the head. */
async function endOfPiece(database: Sql, after: number, eventsMax: number): Promise<number> {
  const [row] = await database.query<{
    head: number;
    within: number | null;
    first: number | null;
    last: number | null;
  }>(
    'end of piece',
    `select h.position as head, n.first_position as first, n.last_position as last,
       (select max(last_position) from batches where last_position between $1 + 1 and least($2, h.position)) as within
     from log_head h
     left join lateral (
       select first_position, last_position from batches
       where last_position between $2 + 1 and least($3, h.position) order by last_position limit 1
     ) as n on true`,
    [after, after + eventsMax, after + batchEventsMax],
  );
  const { head = 0, within = null, first = null, last = null } = row ?? {};
  if (within !== null) return within;
  const reach = Math.min(after + eventsMax, head);
  if (first === null || last === null) return reach;
  return first > after + 1 ? Math.min(reach, first - 1) : last;
}

async function checkPositions(database: Sql, after: number, upTo: number): Promise<LogFinding[]> {
  const rows = await database.query<{ first: number; last: number }>('missing positions', missingSql, [after, upTo]);
  return rows.map(({ first, last }) => ({
    kind: 'positions-missing',
    position: first,
    lastPosition: last,
    expected: `an event at each position from ${first} to ${last}`,
    found: 'none',
  }));
}

const missingSql = `
  select previous + 1 as first, position - 1 as last from (
    select position, lag(position, 1, $1::bigint) over (order by position) as previous
    from (
      select position from events where position > $1 and position <= $2
      union all select $2::bigint + 1
    ) as present
  ) as neighbours
  where position > previous + 1 order by first`;

async function checkBatches(database: Sql, after: number, upTo: number): Promise<LogFinding[]> {
  const batches = await database.query<BatchRow>('check batches', batchesSql, [
    after,
    upTo,
    batchEventsMax,
    hashOfNothing,
  ]);
  const findings: LogFinding[] = [];
  let end = after;
  for (const { first, last, hash, computed, previousHash } of batches) {
    const batch = { position: first, lastPosition: last };
    const begins = `a batch that begins at ${end + 1}`;
    if (first > end + 1) findings.push(uncovered(end + 1, first - 1));
    else if (first <= end) {
      const found = `one from ${first} to ${last}`;
      findings.push({ kind: 'batch-overlaps', ...batch, expected: begins, found });
    } else if (computed !== hash && previousHash !== null) {
      const content = computed ?? `more than ${batchEventsMax} events`;
      findings.push({ kind: 'batch-hash', ...batch, expected: hash, found: content });
    }
    end = last;
  }
  if (end < upTo) findings.push(uncovered(end + 1, upTo));
  return findings;
}

const uncovered = (first: number, last: number): LogFinding => ({
  kind: 'batch-missing',
  position: first,
  lastPosition: last,
  expected: `batches that cover ${first} to ${last}`,
  found: 'none',
});

type BatchRow = {
  readonly first: number;
  readonly last: number;
  readonly hash: string;
  /** Null when it cannot be told. */
  readonly computed: string | null;
  readonly previousHash: string | null;
};

/** Hashed where the events are: sending them to be hashed elsewhere costs more than the hash. */
const batchesSql = `
  select b.first_position as first, b.last_position as last, encode(b.hash, 'hex') as hash,
    encode(b.previous_hash, 'hex') as "previousHash", encode(c.hash, 'hex') as computed
  from (
    select first_position, last_position, hash,
      lag(last_position, 1, $1::bigint) over w as previous_end,
      lag(hash, 1, coalesce(
        (select p.hash from batches p where p.last_position = $1),
        case $1::bigint when 0 then decode($4, 'hex') end)) over w as previous_hash
    from batches where last_position > $1 and last_position <= $2
    window w as (order by last_position)
  ) as b
  left join lateral (
    select chained(
      b.previous_hash,
      b.first_position,
      '[' || coalesce(string_agg(
        event_content(e.position - b.first_position + 1, e.at, e.version, e.slot, e.stream, e.type, e.data, e.origin),
        ',' order by e.position), '') || ']') as hash
    from events e where e.position between b.first_position and b.last_position
  ) as c on b.first_position = b.previous_end + 1 and b.last_position - b.first_position < $3
  order by b.last_position`;

async function checkVersions(
  database: Sql,
  after: number,
  upTo: number,
  movedByOthers: readonly string[],
): Promise<LogFinding[]> {
  const rows = await database.query<OddEvent>('check versions', versionsSql, [after, upTo, movedByOthers]);
  return rows.flatMap((row) => findingsOf(row, isMoved(row.stream, movedByOthers)));
}

const isMoved = (stream: string, movedByOthers: readonly string[]): boolean =>
  movedByOthers.includes(stream.slice(0, stream.indexOf('-')));

function findingsOf(row: OddEvent, moved: boolean): LogFinding[] {
  const { position, stream, version, slot, versionBefore, positionBefore, streamVersion, streamSlot } = row;
  const at = { position, stream };
  const findings: LogFinding[] = [];
  if (!moved && (versionBefore ?? 0) !== version - 1) {
    const [expected, found] = [`version ${version - 1} before ${version}`, `${versionBefore ?? 'none'}`];
    findings.push({ kind: 'version-missing', ...at, expected, found });
  }
  if (positionBefore !== null && positionBefore > position) {
    const expected = `version ${versionBefore} at a position before that of ${version}`;
    findings.push({ kind: 'version-order', ...at, expected, found: `at ${positionBefore}` });
  }
  if (streamVersion === null) {
    findings.push({ kind: 'stream-missing', ...at, expected: 'a state of the stream', found: 'none' });
    return findings;
  }
  if (streamVersion < version) {
    const expected = `a state at version ${version} or later`;
    findings.push({ kind: 'stream-version', ...at, expected, found: `one at ${streamVersion}` });
  }
  if (slot !== streamSlot) {
    findings.push({
      kind: 'slot',
      ...at,
      expected: `${slotOfStream(stream)}`,
      found: `${slot}, its state ${streamSlot}`,
    });
  }
  return findings;
}

type OddEvent = {
  readonly position: number;
  readonly stream: string;
  readonly version: number;
  readonly slot: number;
  readonly versionBefore: number | null;
  readonly positionBefore: number | null;
  readonly streamVersion: number | null;
  readonly streamSlot: number | null;
};

/** Looks each event up by index: `limit` keeps the planner from reading all streams for each piece. */
const versionsSql = `
  select e.position, e.stream, e.version, e.slot, b.version as "versionBefore", b.position as "positionBefore",
    s.version as "streamVersion", s.slot as "streamSlot"
  from events e
  left join lateral (
    select p.version, p.position from events p where p.stream = e.stream and p.version < e.version
    order by p.version desc limit 1
  ) as b on true
  left join lateral (select version, slot from streams where stream = e.stream limit 1) as s on true
  where e.position > $1 and e.position <= $2 and (
    s.version is null or s.version < e.version or s.slot <> e.slot or b.position > e.position
    or (coalesce(b.version, 0) <> e.version - 1 and split_part(e.stream, '-', 1) <> all($3)))
  order by e.position`;

async function checkStreams(
  database: Sql,
  after: string,
  streamsMax: number,
  movedByOthers: readonly string[],
): Promise<{ findings: LogFinding[]; last: string | null }> {
  const rows = await database.query<{ stream: string; version: number; slot: number; recorded: number | null }>(
    'check streams',
    `select s.stream, s.version, s.slot, e.version as recorded
     from (select stream, version, slot from streams where stream > $1 order by stream limit $2) as s
     left join lateral (
       select version from events where stream = s.stream order by version desc limit 1
     ) as e on true order by s.stream`,
    [after, streamsMax],
  );
  const findings: LogFinding[] = [];
  for (const { stream, version, slot, recorded } of rows) {
    if (slot !== slotOfStream(stream))
      findings.push({ kind: 'slot', stream, expected: `${slotOfStream(stream)}`, found: `${slot}` });
    const right = isMoved(stream, movedByOthers) ? version >= (recorded ?? 0) : version === recorded;
    if (!right) {
      const expected = recorded === null ? 'no state of a stream without events' : `a state at version ${recorded}`;
      findings.push({ kind: 'stream-version', stream, expected, found: `one at ${version}` });
    }
  }
  return { findings, last: rows.length < streamsMax ? null : rows.at(-1)!.stream };
}
