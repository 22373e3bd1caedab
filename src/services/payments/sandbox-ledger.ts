/**
 * The sandbox provider's own ledger, and what each payment method makes it do: what was charged, voided and
 * given back, durable before it is answered.
 */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import Type, { type Static } from 'typebox';
import { Closed, CurrencySchema, OrderIdSchema, totalAmountMax } from '#contracts/values.ts';
import { failpoint } from '#platform/failpoint.ts';
import { systemPorts, timeNow } from '#platform/ports.ts';

/** Requests that share a transaction. */
const commitSizeMax = 1_000;
/** How long a transaction waits for another process that has locked the ledger. The whole provider waits with it. */
const ledgerBusyMs = 1_000;

/** What a payment method makes the provider do. */
type Script = {
  readonly charges: 'captured' | 'declined' | 'never';
  readonly replies?: 'late' | 'never';
  /** How many times a charge, and a refund of it, is answered 500 first. */
  readonly chargeFailures?: number;
  readonly refundFailures?: number;
};

export const scripts: ReadonlyMap<string, Script> = new Map<string, Script>([
  ['pm_ok', { charges: 'captured' }],
  ['pm_declined', { charges: 'declined' }],
  ['pm_slow', { charges: 'captured', replies: 'late' }],
  ['pm_reply_lost', { charges: 'captured', replies: 'never' }],
  ['pm_flaky', { charges: 'captured', chargeFailures: 2 }],
  ['pm_down', { charges: 'never', replies: 'never' }],
  // For tests of refunds; not among the methods that an order may name.
  ['pm_refund_flaky', { charges: 'captured', refundFailures: 3 }],
]);
const Amount = Type.Integer({ minimum: 0, maximum: totalAmountMax, description: 'minor units' });
export const KEY_PATTERN = '[A-Za-z0-9._-]{1,128}';
export const ChargeRequest = Closed({
  amount: Amount,
  currency: CurrencySchema,
  method: Type.String(),
  orderId: OrderIdSchema,
});
type ChargeRequest = Static<typeof ChargeRequest>;
export const RefundRequest = Closed({
  charge: Type.String({ pattern: `^${KEY_PATTERN}$` }),
  amount: Amount,
  currency: Type.Optional(CurrencySchema),
});
type RefundRequest = Static<typeof RefundRequest>;

/** `sent`: the reply comes too late, or never. */
export type Reply = { readonly status: number; readonly body: object; readonly sent?: 'late' | 'never' };
type Charge = {
  readonly status: 'captured' | 'declined' | 'refunded' | 'voided';
  /** These are null when the key was voided before anything was charged. */
  readonly orderId: string | null;
  readonly amount: number | null;
  readonly currency: string | null;
  readonly method: string | null;
  readonly reference: string | null;
  readonly refunded: number;
};
type Refund = { readonly charge: string; readonly amount: number; readonly reference: string };

const schema = `
  create table if not exists charges (
    key text primary key, status text not null, order_id text, amount integer, currency text, method text,
    reference text, refunded integer not null default 0, check (refunded <= coalesce(amount, 0))
  ) strict, without rowid;
  create table if not exists refunds (
    key text primary key, charge text not null references charges, amount integer not null, reference text not null
  ) strict, without rowid;
  -- How often a scripted 500 has been answered.
  create table if not exists failures (path text primary key, times integer not null) strict, without rowid;
  -- Never updated or deleted from, so that seq has no holes.
  create table if not exists entries (
    seq integer primary key, at text not null, kind text not null, key text not null, charge text not null,
    order_id text, amount integer, currency text, reference text
  ) strict;
  -- A sum over many large amounts may pass 2^53; real, it is then rounded as any reader of JSON would round it.
  create table if not exists totals (
    kind text, currency text, entries integer not null, amount real not null, primary key (kind, currency)
  ) strict, without rowid;
  create trigger if not exists entry_counts after insert on entries when new.kind in ('capture', 'refund') begin
    insert into totals values (new.kind, new.currency, 1, new.amount)
    on conflict do update set entries = entries + 1, amount = amount + excluded.amount;
  end;
`;

export type Ledger = ReturnType<typeof openLedger>;

/** Opens the ledger in `file`, making it where there is none. `charge`, `void` and `refund` write: they are called within `submit` only. */
export function openLedger(file: string) {
  mkdirSync(dirname(file), { recursive: true });
  const db = new DatabaseSync(file, { timeout: ledgerBusyMs });
  try {
    db.exec(`pragma journal_mode = wal; pragma synchronous = full; ${schema}`);
  } catch (error) {
    db.close();
    throw error;
  }
  const findCharge = db.prepare(
    'select status, order_id as orderId, amount, currency, method, reference, refunded from charges where key = ?',
  );
  const addCharge = db.prepare(
    'insert into charges (key, status, order_id, amount, currency, method, reference) values (?, ?, ?, ?, ?, ?, ?)',
  );
  const takeRefund = db.prepare('update charges set refunded = refunded + ?, status = ? where key = ?');
  const findRefund = db.prepare('select charge, amount, reference from refunds where key = ?');
  const addRefund = db.prepare('insert into refunds (key, charge, amount, reference) values (?, ?, ?, ?)');
  const findFailures = db.prepare('select times from failures where path = ?');
  const addFailure = db.prepare('insert into failures values (?, 1) on conflict do update set times = times + 1');
  const addEntry = db.prepare(
    `insert into entries (at, kind, key, charge, order_id, amount, currency, reference)
     values (?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const pageOfEntries = db.prepare(
    `select seq, at, kind, key, charge, order_id as orderId, amount, currency, reference
     from entries where seq > ? order by seq limit ?`,
  );
  const totalsByKind = db.prepare('select currency, entries, amount from totals where kind = ? order by currency');

  const chargeOf = (key: string) => findCharge.get(key) as Charge | undefined;
  const now = () => timeNow(systemPorts);

  /** Records one more 500 as long as fewer than `times` have been answered. */
  const fails = (attempted: string, times = 0): boolean => {
    if (times === 0) return false;
    const failed = (findFailures.get(attempted) as { times: number } | undefined)?.times ?? 0;
    if (failed < times) addFailure.run(attempted);
    return failed < times;
  };

  const pending: { readonly work: () => Reply; readonly done: (reply: Reply) => void }[] = [];

  const commitPending = () => {
    const group = pending.splice(0, commitSizeMax);
    if (group.length === 0) return;
    if (pending.length > 0) systemPorts.soon(commitPending);
    let replies: readonly Reply[];
    try {
      db.exec('begin immediate');
      replies = group.map(({ work }) => work());
      failpoint('ledger-committing');
      db.exec('commit');
      failpoint('ledger-committed');
    } catch (error) {
      if (db.isTransaction) db.exec('rollback');
      const failed: Reply = {
        status: 500,
        body: { error: `the ledger cannot be written: ${(error as Error).message}` },
      };
      replies = group.map(() => failed);
    }
    group.forEach(({ done }, index) => done(replies[index]!));
  };

  return {
    /**
     * Runs `work` in a transaction and tells its reply once that is on disk, or a 500 when it cannot be.
     * A commit blocks this process for a flush of the disk, so what arrives in one turn of the event
     * loop shares one.
     */
    submit(work: () => Reply, done: (reply: Reply) => void): void {
      pending.push({ work, done });
      if (pending.length === 1) systemPorts.soon(commitPending);
    },

    /** A key that has been voided is answered 409 whatever the script says. */
    charge(key: string, asked: ChargeRequest, script: Script): Reply {
      const known = chargeOf(key);
      if (known?.status === 'voided') return { status: 409, body: { key, status: 'voided' } };
      if (script.charges === 'never') return { status: 500, body: {}, sent: 'never' };
      if (known !== undefined) {
        const same =
          known.amount === asked.amount &&
          known.currency === asked.currency &&
          known.method === asked.method &&
          known.orderId === asked.orderId;
        if (!same) return { status: 422, body: { key, error: 'the key was used for another charge' } };
        return { status: 200, body: outcomeOf(key, known), ...timingOf(script) };
      }
      if (fails(`charges/${key}`, script.chargeFailures))
        return { status: 500, body: { key, error: 'scripted failure' } };
      const { orderId, amount, currency, method } = asked;
      const status = script.charges;
      const reference = `ch_${systemPorts.newId()}`;
      addCharge.run(key, status, orderId, amount, currency, method, reference);
      const kind = status === 'captured' ? 'capture' : 'decline';
      addEntry.run(now(), kind, key, key, orderId, amount, currency, reference);
      return { status: 201, body: outcomeOf(key, { status, amount, currency, reference }), ...timingOf(script) };
    },

    /** Promises that nothing will ever be charged under `key`, unless it has been. */
    void(key: string): Reply {
      const known = chargeOf(key);
      if (known?.status === 'captured' || known?.status === 'refunded') {
        return { status: 409, body: { key, status: known.status, reference: known.reference } };
      }
      if (known === undefined) {
        addCharge.run(key, 'voided', null, null, null, null, null);
        addEntry.run(now(), 'void', key, key, null, null, null, null);
      }
      return { status: 200, body: { key, status: known?.status ?? 'voided' } };
    },

    refund(key: string, { charge: chargeKey, amount, currency }: RefundRequest): Reply {
      const charge = chargeOf(chargeKey);
      if (charge === undefined) return { status: 404, body: { key, error: 'there is no such charge' } };
      if (currency !== undefined && currency !== charge.currency) {
        return { status: 422, body: { key, error: `the charge is not in ${currency}` } };
      }
      const known = findRefund.get(key) as Refund | undefined;
      if (known !== undefined) {
        if (known.charge !== chargeKey || known.amount !== amount) {
          return { status: 422, body: { key, error: 'the key was used for another refund' } };
        }
        return { status: 200, body: { key, status: 'refunded', reference: known.reference, amount } };
      }
      const captured = charge.status === 'captured' || charge.status === 'refunded' ? charge.amount! : undefined;
      if (captured === undefined) return { status: 422, body: { key, error: `the charge is ${charge.status}` } };
      if (amount > captured - charge.refunded) {
        return { status: 422, body: { key, error: `${captured - charge.refunded} of the charge are left to refund` } };
      }
      if (fails(`refunds/${key}`, scripts.get(charge.method!)?.refundFailures)) {
        return { status: 500, body: { key, error: 'scripted failure' } };
      }
      const reference = `re_${systemPorts.newId()}`;
      takeRefund.run(amount, charge.refunded + amount === captured ? 'refunded' : 'captured', chargeKey);
      addRefund.run(key, chargeKey, amount, reference);
      addEntry.run(now(), 'refund', key, chargeKey, charge.orderId, amount, charge.currency, reference);
      return { status: 201, body: { key, status: 'refunded', reference, amount } };
    },

    lookUp(key: string): Reply {
      const known = chargeOf(key);
      if (known === undefined)
        return { status: 404, body: { key, status: 'absent', error: 'there is no such charge' } };
      if (known.status === 'voided') return { status: 200, body: { key, status: 'voided' } };
      const { orderId, refunded } = known;
      return { status: 200, body: { ...outcomeOf(key, known), status: known.status, orderId, refunded } };
    },

    page(after: number, limit: number): object {
      const entries = pageOfEntries.all(after, limit);
      return { entries, next: entries.at(-1)?.seq ?? after };
    },

    summary(): object {
      const of = (kind: string) => {
        const totals = totalsByKind.all(kind) as { currency: string; entries: number; amount: number }[];
        return {
          entries: totals.reduce((sum, { entries }) => sum + entries, 0),
          money: totals.map(({ currency, amount }) => ({ amount, currency })),
        };
      };
      const [captures, refunds] = [of('capture'), of('refund')];
      return {
        captures: captures.entries,
        captured: captures.money,
        refunds: refunds.entries,
        refunded: refunds.money,
      };
    },

    close(): void {
      while (pending.length > 0) commitPending();
      if (db.isOpen) db.close();
    },
  };
}

/** What the PUT of a charge says, now and ever after: a later refund is another matter. */
const outcomeOf = (
  key: string,
  { status, amount, currency, reference }: Pick<Charge, 'status' | 'amount' | 'currency' | 'reference'>,
) =>
  status === 'declined'
    ? { key, status, reference, amount, currency, reason: 'the payment method was declined' }
    : { key, status: 'captured', reference, amount, currency };

const timingOf = ({ replies }: Script) => (replies === undefined ? {} : { sent: replies });
