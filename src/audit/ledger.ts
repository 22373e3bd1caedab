/**
 * A copy of the payment provider's ledger, by order: the provider hands out its entries in their order and no other. It
 * lies in a temporary file of SQLite's own, so that its size is no matter, and is gone with the process.
 */
import { DatabaseSync } from 'node:sqlite';
import type { Ports } from '#platform/ports.ts';

/** What the provider has taken and given back under one key. */
export type Charge = {
  readonly orderId: string;
  readonly key: string;
  readonly currency: string;
  readonly captured: number;
  readonly refunded: number;
};

export type LedgerCopy = {
  /** Forgets what it has: the next `catchUp` reads the ledger from its beginning. */
  restart(): void;
  /** Reads what the ledger has by now and the copy has not. Rejects when the provider does not answer. */
  catchUp(): Promise<void>;
  /** By order. */
  chargesOf(orderIds: readonly string[]): ReadonlyMap<string, readonly Charge[]>;
  /** Orders that were charged, after `after`, in order. */
  ordersAfter(after: string, limit: number): string[];
};

const pageSize = 1_000;
const timeoutMs = 10_000;

type Entry = {
  readonly kind: 'capture' | 'decline' | 'void' | 'refund';
  readonly charge: string;
  readonly orderId: string | null;
  readonly amount: number | null;
  readonly currency: string | null;
};

export function openLedgerCopy(providerUrl: string, ports: Ports): LedgerCopy {
  const db = new DatabaseSync('');
  db.exec(`
    pragma journal_mode = off;
    create table charges (
      order_id text not null, key text not null, currency text not null,
      captured integer not null, refunded integer not null, primary key (order_id, key)
    ) strict, without rowid`);
  const add = db.prepare(
    `insert into charges values (?, ?, ?, ?, ?)
     on conflict do update set captured = captured + excluded.captured, refunded = refunded + excluded.refunded`,
  );
  const ofOrder = db.prepare(
    'select order_id as orderId, key, currency, captured, refunded from charges where order_id = ?',
  );
  const orders = db.prepare('select distinct order_id as id from charges where order_id > ? order by order_id limit ?');
  let after = 0;

  async function readPage(): Promise<number> {
    const late = new AbortController();
    const cancel = ports.after(timeoutMs, () => late.abort());
    try {
      const answer = await fetch(`${providerUrl}/ledger?after=${after}&limit=${pageSize}`, { signal: late.signal });
      if (answer.status !== 200) throw new Error(`the provider answers ${answer.status} when its ledger is read`);
      const { entries, next } = (await answer.json()) as { entries: Entry[]; next: number };
      db.exec('begin');
      for (const { kind, charge, orderId, amount, currency } of entries) {
        if (kind !== 'capture' && kind !== 'refund') continue;
        const moved = amount ?? 0;
        add.run(orderId ?? '', charge, currency ?? '', kind === 'capture' ? moved : 0, kind === 'refund' ? moved : 0);
      }
      db.exec('commit');
      after = next;
      return entries.length;
    } finally {
      cancel();
    }
  }

  return {
    restart() {
      db.exec('delete from charges');
      after = 0;
    },
    async catchUp() {
      while ((await readPage()) === pageSize);
    },
    chargesOf: (orderIds) => new Map(orderIds.map((id) => [id, ofOrder.all(id) as unknown as Charge[]])),
    ordersAfter: (from, limit) => (orders.all(from, limit) as { id: string }[]).map(({ id }) => id),
  };
}
