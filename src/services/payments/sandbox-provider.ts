/**
 * A payment provider to develop and test against: an HTTP server of its own with a ledger of its own.
 * What it has answered is on disk, so it may be killed at any time; how it behaves is scripted by the
 * payment method of each charge.
 *
 *   PUT  /charges/{key}         {amount, currency, method, orderId}: 201 new, 200 again; 409 voided; 422 reused
 *   GET  /charges/{key}         200 captured, declined, refunded or voided; 404 absent
 *   POST /charges/{key}/void    200 voided or declined; 409 captured or refunded: too late
 *   PUT  /refunds/{key}         {charge, amount, currency?}: 201 new, 200 again; 404 no such charge; 422 too much
 *   GET  /ledger?after=&limit=  entries in order, without holes; `next` is the `after` of the next page
 *   GET  /ledger/summary · GET /healthz
 */
import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import Type, { type Static } from 'typebox';
import { Compile, type Validator } from 'typebox/compile';
import { Closed, CurrencySchema, OrderIdSchema, totalAmountMax } from '#contracts/values.ts';

type SandboxProviderOptions = {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Created, with its folder, when it does not exist. */
  readonly ledgerFile: string;
  /** How late `pm_slow` answers. */
  readonly slowMs?: number;
  /** How long a request that is never answered is held before its connection is cut. */
  readonly holdMs?: number;
  /** Requests being worked on, late or held; a further one is answered 503. */
  readonly openRequestsMax?: number;
};

/**
 * Starts the provider; rejects when the ledger cannot be opened or the port is taken. `stop` cuts every
 * connection at once, those of held requests too.
 */
export async function startSandboxProvider(
  options: SandboxProviderOptions,
): Promise<{ url: string; stop(): Promise<void> }> {
  const { slowMs = 2_000, holdMs = 60_000, openRequestsMax = 10_000 } = options;
  const ledger = openLedger(options.ledgerFile);
  let openRequests = 0;

  const server = createServer({ requestTimeout: 10_000, headersTimeout: 10_000, keepAliveTimeout: 30_000 });
  server.maxConnections = connectionsMax;
  server.on('request', (request, response) => {
    if (openRequests >= openRequestsMax) {
      return send(response, { status: 503, body: { error: `more than ${openRequestsMax} requests are open` } });
    }
    openRequests += 1;
    response.once('close', () => {
      openRequests -= 1;
    });
    if (request.method === 'GET') return send(response, answerQuery(ledger, request.url ?? ''));
    receive(request, response, (body) => {
      const asked = understand(ledger, request, body);
      if ('status' in asked) return send(response, asked);
      ledger.submit(asked.work, (reply) => deliver(response, reply, slowMs, holdMs));
    });
  });

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, resolve);
  }).catch((error: unknown) => {
    ledger.close();
    throw error;
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://${options.host.includes(':') ? `[${options.host}]` : options.host}:${port}`,
    async stop() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
      ledger.close();
    },
  };
}

const connectionsMax = 20_000;
const bodyBytesMax = 16 * 1_024;
/** Requests that share a transaction. */
const commitSizeMax = 1_000;
/** How long a transaction waits for another process that has locked the ledger. The whole provider waits with it. */
const ledgerBusyMs = 1_000;
const pageSizeMax = 1_000;

/** What a payment method makes the provider do. */
type Script = {
  readonly charges: 'captured' | 'declined' | 'never';
  readonly replies?: 'late' | 'never';
  /** How many times a charge, and a refund of it, is answered 500 first. */
  readonly chargeFailures?: number;
  readonly refundFailures?: number;
};

const scripts: ReadonlyMap<string, Script> = new Map<string, Script>([
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
const KEY_PATTERN = '[A-Za-z0-9._-]{1,128}';
const ChargeRequest = Closed({
  amount: Amount,
  currency: CurrencySchema,
  method: Type.String(),
  orderId: OrderIdSchema,
});
type ChargeRequest = Static<typeof ChargeRequest>;
const RefundRequest = Closed({
  charge: Type.String({ pattern: `^${KEY_PATTERN}$` }),
  amount: Amount,
  currency: Type.Optional(CurrencySchema),
});
type RefundRequest = Static<typeof RefundRequest>;
const chargeRequest = Compile(ChargeRequest);
const refundRequest = Compile(RefundRequest);

type Reply = { readonly status: number; readonly body: object; readonly sent?: 'late' | 'never' };

const path = new RegExp(`^/(charges|refunds)/(${KEY_PATTERN})(/void)?$`);

/** What a PUT or POST asks of the ledger, or why it asks for nothing. */
function understand(ledger: Ledger, request: IncomingMessage, text: string): Reply | { readonly work: () => Reply } {
  const [, book, key, action] = path.exec(request.url ?? '') ?? [];
  if (key === undefined || (book === 'refunds' && action !== undefined)) return noSuchAddress;
  if (request.method !== (action === undefined ? 'PUT' : 'POST')) {
    return { status: 405, body: { error: `${request.method} is not possible here` } };
  }
  if (action !== undefined) return { work: () => ledger.void(key) };

  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return { status: 400, body: { error: 'the body is not JSON' } };
  }
  if (book === 'refunds') {
    if (!refundRequest.Check(body)) return invalid(refundRequest, body);
    return { work: () => ledger.refund(key, body) };
  }
  if (!chargeRequest.Check(body)) return invalid(chargeRequest, body);
  const script = scripts.get(body.method);
  if (script === undefined) return { status: 422, body: { error: `unknown method ${JSON.stringify(body.method)}` } };
  return { work: () => ledger.charge(key, body, script) };
}

const noSuchAddress: Reply = { status: 404, body: { error: 'there is nothing at this address' } };

function invalid(schema: Validator, body: unknown): Reply {
  const [first] = schema.Errors(body);
  return { status: 400, body: { error: `body${first?.instancePath ?? ''} ${first?.message ?? 'is invalid'}` } };
}

function answerQuery(ledger: Ledger, url: string): Reply {
  try {
    return query(ledger, url);
  } catch (error) {
    return { status: 500, body: { error: `the ledger cannot be read: ${(error as Error).message}` } };
  }
}

function query(ledger: Ledger, url: string): Reply {
  const [address = '', parameters] = url.split('?', 2);
  if (address === '/healthz') return { status: 200, body: { status: 'ok' } };
  if (address === '/ledger/summary') return { status: 200, body: ledger.summary() };
  if (address === '/ledger') {
    const asked = new URLSearchParams(parameters);
    const after = Number(asked.get('after') ?? 0);
    const limit = Number(asked.get('limit') ?? pageSizeMax);
    if (!Number.isSafeInteger(after) || after < 0)
      return { status: 400, body: { error: 'after is not a sequence number' } };
    if (!Number.isInteger(limit) || limit < 1 || limit > pageSizeMax) {
      return { status: 400, body: { error: `limit is not between 1 and ${pageSizeMax}` } };
    }
    return { status: 200, body: ledger.page(after, limit) };
  }
  const [, book, key, action] = path.exec(address) ?? [];
  return book === 'charges' && key !== undefined && action === undefined ? ledger.lookUp(key) : noSuchAddress;
}

/** Hands over the whole body; answers 413 itself, and a request that breaks off is forgotten. */
function receive(request: IncomingMessage, response: ServerResponse, whole: (body: string) => void): void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  request.on('data', (chunk: Buffer) => {
    if (bytes > bodyBytesMax) return;
    bytes += chunk.length;
    chunks.push(chunk);
    if (bytes > bodyBytesMax)
      send(response, { status: 413, body: { error: `a body has at most ${bodyBytesMax} bytes` } });
  });
  request.on('end', () => {
    if (bytes <= bodyBytesMax) whole(chunks.length === 1 ? chunks[0]!.toString() : Buffer.concat(chunks).toString());
  });
  // Broken off: the socket is gone, and nobody is there to answer.
  request.on('error', () => {});
}

function deliver(response: ServerResponse, reply: Reply, slowMs: number, holdMs: number): void {
  // A caller who has given up meanwhile needs no timer, and its close event has been.
  if (response.destroyed) return;
  if (reply.sent === undefined) return send(response, reply);
  const timer =
    reply.sent === 'late'
      ? setTimeout(() => send(response, reply), slowMs)
      : setTimeout(() => response.destroy(), holdMs);
  response.once('close', () => clearTimeout(timer));
}

function send(response: ServerResponse, { status, body }: Reply): void {
  const text = JSON.stringify(body);
  const headers: Record<string, string | number> = {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  };
  // The rest of the body is still on its way; without it the connection is of no further use.
  if (!response.req.complete && response.req.method !== 'GET') headers.connection = 'close';
  response.writeHead(status, headers).end(text);
}

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

type Ledger = ReturnType<typeof openLedger>;

/** `charge`, `void` and `refund` write: they are called within `submit` only. */
function openLedger(file: string) {
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
  const now = () => new Date().toISOString();

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
    if (pending.length > 0) setImmediate(commitPending);
    let replies: readonly Reply[];
    try {
      db.exec('begin immediate');
      replies = group.map(({ work }) => work());
      db.exec('commit');
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
      if (pending.length === 1) setImmediate(commitPending);
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
      const reference = `ch_${randomUUID()}`;
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
      const reference = `re_${randomUUID()}`;
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
