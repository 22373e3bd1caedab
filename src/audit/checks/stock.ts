/**
 * I5, I6 and I21 of stock, which is moved by the events of many streams: one pass over inventory's log by position, with
 * the level of every product in memory, compared with what is stored at the end of it.
 */
import type { Audited } from '#contracts/service.ts';
import type { InventoryEvent } from '#contracts/inventory.ts';
import type { Pieces } from '#contracts/values.ts';
import { entityOf, slotOfStream, streamId } from '#cqrs/event-log.ts';
import { readRows } from '#cqrs/table-rows.ts';
import type { Sql } from '#platform/postgres.ts';
import type { Check, Finding, Piece, Walk } from '../check.ts';
import { type Fact, headOf, inSnapshot, readFacts, type WalkParts } from '../evidence.ts';
import { stateRepair } from '../repairs.ts';
import { inlineFindings, readStreams, type Shape, shapeOf, stateFinding } from './streams.ts';

const stockCheck: Check = {
  name: 'stock-is-fold',
  invariants: ['I5', 'I21'],
  compares:
    'The stock of each product, as stored and in the table beside the log, is what all events of inventory come to.',
  cost: 'The whole log of inventory is read once: some 10 µs per event.',
  policy: 'ask',
};
const soldCheck: Check = {
  name: 'never-oversold',
  invariants: ['I6'],
  compares:
    'At no place in the log of inventory is more held or shipped of a product than had come in, and what is released or shipped had been held.',
  cost: 'Comes with the stock.',
  policy: 'ask',
};

const eventsPerSnapshotMax = 10_000;

type Level = { onHand: number; reserved: number; version: number };

/** Goes by position; begins anew when it is asked to go on from where it has not come to. */
export function stockWalk(parts: WalkParts, { streams, tables }: Audited): Walk {
  const { databases, sourceOf } = parts;
  const type = streams.find(({ name }) => name === 'stock')!;
  const inline = tables.find(({ of }) => of === 'stock')!;
  const source = sourceOf('inventory');
  let pass = newPass();
  /** The last pass that came to its end: whoever looks at one product goes on from there. */
  let known = newPass();
  let lastTurn: Promise<unknown> = Promise.resolve();

  /** Takes what the log has up to `upTo` into `into`. */
  async function advance(sql: Sql, into: Pass, upTo: number): Promise<Finding[]> {
    const findings: Finding[] = [];
    while (into.position < upTo) {
      const to = Math.min(upTo, into.position + eventsPerSnapshotMax);
      const where = 'position > $1 and position <= $2 order by position';
      const events = await readFacts(sql, 'inventory', where, [into.position, to]);
      for (const event of events) findings.push(...moved(into, event, source));
      into.position = to;
    }
    return findings;
  }

  /** One at a time: all go on from what is known. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = lastTurn.then(work);
    lastTurn = turn.catch(() => {});
    return turn;
  }

  /** Most of the log, before a snapshot or a lock, which is to be short. */
  async function learn(): Promise<void> {
    const head = await headOf(databases.inventory);
    if (known.position > head) known = newPass();
    await advance(databases.inventory, known, head);
  }

  async function lookIn(sql: Sql, sku: string): Promise<Finding[]> {
    await advance(sql, known, await headOf(sql));
    const level = known.levels.get(sku);
    return compare(sql, new Map(level === undefined ? [] : [[sku, level]]), sku);
  }

  async function lookAtProduct(sku: string): Promise<Finding[]> {
    await learn();
    return inSnapshot(databases.inventory, (sql) => lookIn(sql, sku));
  }

  const { repair } = stateRepair(parts, {
    placeOf: (entity) => ({ service: 'inventory', stream: streamId(type.name, skuOf(entity)!) }),
    tables: { catalog: [], ordering: [], inventory: [inline], payments: [], audit: [] },
    lookIn: (sql, entity) => lookIn(sql, skuOf(entity)!),
  });

  /** What is stored, beside the levels at the head of the same snapshot. */
  async function compare(sql: Sql, levels: ReadonlyMap<string, Readonly<Level>>, sku?: string): Promise<Finding[]> {
    const [stored, rows] = await Promise.all([
      // By type and not by range, which depends on the collation of the database.
      sku === undefined
        ? readStreams(sql, `split_part(stream, '-', 1) = $1`, ['stock'])
        : readStreams(sql, 'stream = $1', [streamId('stock', sku)]),
      sku === undefined ? readRows(sql, inline.table, 'true', []) : readRows(sql, inline.table, 'sku = $1', [sku]),
    ]);
    const states = new Map(stored.map((row) => [entityOf(row.stream), row]));
    const findings: Finding[] = [];
    for (const id of new Set([...levels.keys(), ...states.keys()])) {
      const level = levels.get(id);
      const row = states.get(id);
      const found = stateFinding(
        source,
        streamId('stock', id),
        level === undefined ? null : shapeOfLevel(id, level),
        row === undefined ? null : shapeOf({ ...row, dueAt: row.due }),
      );
      if (found !== null) findings.push(found);
    }
    const expected = [...levels].flatMap(([id, { version, onHand, reserved }]) =>
      inline.rowsOf({ id, version, state: { onHand, reserved } as never, events: [] }),
    );
    return [...findings, ...inlineFindings('inventory', inline, expected, rows)].map((finding) => ({
      ...finding,
      check: stockCheck.name,
      repairs: ['re-project'],
    }));
  }

  const shapeOfLevel = (sku: string, { version, onHand, reserved }: Readonly<Level>): Shape => ({
    version,
    slot: slotOfStream(streamId(type.name, sku)),
    dueAt: null,
    state: { onHand, reserved },
  });

  return {
    name: 'stock',
    checks: [stockCheck, soldCheck],
    size: () => headOf(databases.inventory),

    async look(after): Promise<Piece> {
      if (after === null || Number(after) !== pass.position) pass = newPass();
      return inSnapshot(databases.inventory, async (sql) => {
        const head = await headOf(sql);
        const from = pass.position;
        const findings = await advance(sql, pass, Math.min(head, from + eventsPerSnapshotMax));
        const looked = pass.position - from;
        if (pass.position < head) return { looked, findings, next: String(pass.position) };
        findings.push(...(await compare(sql, pass.levels)));
        [known, pass] = [pass, newPass()];
        return { looked, findings, next: null };
      });
    },

    async lookAt(entity) {
      const sku = skuOf(entity);
      if (sku !== undefined) return inTurn(() => lookAtProduct(sku));
      const position = Number(entity.slice(entity.indexOf('@') + 1));
      return (await advance(databases.inventory, newPass(), position)).filter((one) => one.entity === entity);
    },

    ...(repair === undefined
      ? {}
      : {
          repair: (finding, mandate) =>
            inTurn(async () => {
              await learn();
              return repair(finding, mandate);
            }),
        }),
  };
}

/** `inventory.0/stock-<sku>` or `inventory/stock/<sku>`; undefined: it is neither. */
const skuOf = (entity: string): string | undefined =>
  /^inventory\/stock\/(.+)$/.exec(entity)?.[1] ?? /^[^/@]+\/stock-(.+)$/.exec(entity)?.[1];

/** What the log comes to up to `position`; `held` by order. */
type Pass = { position: number; readonly levels: Map<string, Level>; readonly held: Map<string, readonly Pieces[]> };

const newPass = (): Pass => ({ position: 0, levels: new Map(), held: new Map() });

/** Takes `event` into `pass`, and tells what of it cannot be. */
function moved({ levels, held }: Pass, event: Fact, source: string): Finding[] {
  if (event.unreadable !== undefined) return [];
  const { type, data } = event as unknown as InventoryEvent;
  const wrong: string[] = [];
  const move = (sku: string, onHand: number, reserved: number): void => {
    const level = levels.get(sku) ?? { onHand: 0, reserved: 0, version: 0 };
    levels.set(sku, level);
    level.onHand += onHand;
    level.reserved += reserved;
    level.version += 1;
    if (level.reserved < 0 || level.reserved > level.onHand)
      wrong.push(`of ${sku} ${level.onHand} are there and ${level.reserved} held`);
  };
  switch (type) {
    case 'StockAdjusted':
      move(data.sku, data.quantity, 0);
      break;
    case 'StockReserved':
      for (const { sku, quantity } of data.lines) move(sku, 0, quantity);
      held.set(data.orderId, data.lines);
      break;
    case 'StockReleased':
    case 'StockShipped': {
      const sent = type === 'StockShipped' ? -1 : 0;
      for (const { sku, quantity } of data.lines) move(sku, sent * quantity, -quantity);
      if (!isSame(held.get(data.orderId), data.lines)) wrong.push(`it is not what was held for ${data.orderId}`);
      held.delete(data.orderId);
      break;
    }
    case 'ProductListed':
    case 'StockRejected':
    case 'ReservationExpired':
    case 'ReservationBarred':
  }
  if (wrong.length === 0) return [];
  return [
    {
      check: soldCheck.name,
      entity: `${source}@${event.position}`,
      ...('orderId' in data ? { orderId: data.orderId } : {}),
      says: `After ${type} at ${event.position} of ${source}: ${wrong.slice(0, 5).join('; ')}.`,
      expected: 'no more held than there is, and no more given back than was held',
      found: wrong.slice(0, 5),
      repairs: [],
    },
  ];
}

function isSame(held: readonly Pieces[] | undefined, lines: readonly Pieces[]): boolean {
  const quantities = new Map((held ?? []).map(({ sku, quantity }) => [sku, quantity]));
  return quantities.size === lines.length && lines.every(({ sku, quantity }) => quantities.get(sku) === quantity);
}
