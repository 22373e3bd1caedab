/**
 * A system to test: the whole of it on real databases, a real provider and real sockets, either in this
 * process or as the program that users start, and a client that knows its addresses.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { SignJWT } from 'jose';
import type { OrderPlacedAnswer, OrderView, PlaceOrderBody, StockLevel } from '#contracts/http.ts';
import { createLogger } from '#platform/logger.ts';
import { databaseOwners, loadSettings, type DatabaseOwner, type Settings } from '#platform/settings.ts';
import { startSandboxProvider } from '#services/payments/sandbox-provider.ts';
import { type ServiceName, startSystem } from '../src/system.ts';
import { testDatabaseUrl } from './database.ts';
import { freePort } from './free-port.ts';

export type DatabaseUrls = Readonly<Record<DatabaseOwner, string>>;

/** What an auditor needs of a running system, and what a client needs. */
export type TestSystem = {
  readonly address: string;
  readonly databaseUrls: DatabaseUrls;
  readonly providerUrl: string;
  /** Calls as operator. */
  readonly shop: Shop;
  /** Stops it before the test ends; once is enough. */
  stop(): Promise<void>;
};

export type TestSystemOptions = {
  readonly settings?: Partial<Settings>;
  /** Default: all. */
  readonly services?: readonly ServiceName[];
  /** Shares the databases and the provider of this one. */
  readonly beside?: TestSystem;
  /** How late `pm_slow` answers. */
  readonly slowMs?: number;
};

/** Starts a system in this process; it stops after the test, before its databases are dropped. */
export async function startTestSystem(t: TestContext, options: TestSystemOptions = {}): Promise<TestSystem> {
  const { services = databaseOwners, beside } = options;
  const databaseUrls = beside?.databaseUrls ?? (await newDatabases(t));
  const providerUrl = beside?.providerUrl ?? (await startProvider(t, options.slowMs));
  const system = await startSystem({
    services,
    databaseUrl: (owner) => databaseUrls[owner],
    providerUrl,
    settings: { ...loadSettings({}), port: 0, ...options.settings },
    logger: createLogger('error'),
  });
  t.after(() => system.stop());
  const { address, stop } = system;
  const headers = options.settings?.jwt === undefined ? {} : await bearer('operator', 'tests');
  return { address, databaseUrls, providerUrl, shop: openShop(address, headers), stop };
}

async function newDatabases(t: TestContext): Promise<DatabaseUrls> {
  const urls = databaseOwners.map(async (owner) => [owner, await testDatabaseUrl(t)] as const);
  return Object.fromEntries(await Promise.all(urls)) as DatabaseUrls;
}

async function startProvider(t: TestContext, slowMs: number | undefined): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'twofold-provider-'));
  const provider = await startSandboxProvider({
    host: '127.0.0.1',
    port: 0,
    ledgerFile: join(folder, 'ledger.sqlite'),
    ...(slowMs === undefined ? {} : { slowMs }),
  });
  // After the system has stopped, which registers later: it may still be calling.
  t.after(() =>
    t.after(async () => {
      await provider.stop();
      await rm(folder, { recursive: true });
    }),
  );
  return provider.url;
}

/** Settings with a key: who calls has to show a token. */
export const jwt: Settings['jwt'] = {
  secret: 'the-secret-of-the-tests-is-long-enough',
  issuer: 'twofold-tests',
  audience: 'twofold-tests',
};

/** The header of a caller who shows a token: of `jwt`, and valid for five minutes, unless told otherwise. */
export async function bearer(
  role: string,
  sub: string,
  otherwise: { secret?: string; issuer?: string; audience?: string; expiresInSeconds?: number } = {},
): Promise<{ authorization: string }> {
  const { secret, issuer, audience, expiresInSeconds = 300 } = { ...jwt, ...otherwise };
  const token = await new SignJWT({ role })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(sub)
    .setIssuer(issuer)
    .setAudience(audience)
    .setExpirationTime(Math.floor(Date.now() / 1_000) + expiresInSeconds)
    .sign(new TextEncoder().encode(secret));
  return { authorization: `Bearer ${token}` };
}

export type Reply<Body> = { readonly status: number; readonly headers: Headers; readonly body: Body };

export type Problem = {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly instance: string;
  readonly code: string;
  readonly traceId: string;
  readonly [member: string]: unknown;
};

export type RequestOptions = {
  /** Sent as JSON. */
  readonly json?: unknown;
  /** Sent as it is; of type JSON unless `headers` say otherwise. */
  readonly body?: string | Uint8Array<ArrayBuffer>;
  readonly headers?: Readonly<Record<string, string>>;
};

export type OrderWish = Partial<PlaceOrderBody> & {
  readonly customerId: string;
  readonly sku?: string;
  readonly quantity?: number;
  readonly method?: PlaceOrderBody['payment']['method'];
};

export type Shop = ReturnType<typeof openShop>;

/** The client of a system. `headers` go with every request, such as the token of a customer. */
export function openShop(address: string, headers: Readonly<Record<string, string>> = {}) {
  async function request<Body = Problem>(
    method: string,
    path: string,
    { json, body = json === undefined ? undefined : JSON.stringify(json), headers: own }: RequestOptions = {},
  ): Promise<Reply<Body>> {
    const type: Record<string, string> = body === undefined ? {} : { 'content-type': 'application/json' };
    const answer = await fetch(`${address}${path}`, {
      method,
      headers: { ...type, ...headers, ...own },
      ...(body === undefined ? {} : { body }),
    });
    const text = await answer.text();
    const isJson = /json/.test(answer.headers.get('content-type') ?? '');
    return { status: answer.status, headers: answer.headers, body: (isJson ? JSON.parse(text) : text) as Body };
  }

  const get = <Body = Problem>(path: string, own: Readonly<Record<string, string>> = {}): Promise<Reply<Body>> =>
    request<Body>('GET', path, { headers: own });

  return {
    address,
    request,
    get,

    async putProduct(sku: string, price = { amount: 1_000, currency: 'EUR' }, name = `Product ${sku}`) {
      const reply = await request<{ sku: string; version: number }>('PUT', `/v1/products/${sku}`, {
        json: { name, price },
      });
      assert.ok(reply.status === 201 || reply.status === 200, JSON.stringify(reply.body));
      return reply;
    },

    async adjustStock(sku: string, quantity: number) {
      const json = { quantity, reason: 'delivery' };
      const reply = await request<StockLevel>('POST', `/v1/products/${sku}/stock-adjustments`, { json });
      assert.equal(reply.status, 201, JSON.stringify(reply.body));
      return reply;
    },

    async putCustomer(customerId: string) {
      const json = { name: `Customer ${customerId}`, country: 'Germany' };
      const reply = await request<{ version: number }>('PUT', `/v1/customers/${customerId}`, { json });
      assert.ok(reply.status === 201 || reply.status === 200, JSON.stringify(reply.body));
      return reply;
    },

    /** A new product with that many pieces, and a new customer. */
    async furnish(pieces: number): Promise<{ sku: string; customerId: string }> {
      const [sku, customerId] = [newId('sku'), newId('customer')];
      await Promise.all([this.putProduct(sku), this.putCustomer(customerId)]);
      if (pieces > 0) await this.adjustStock(sku, pieces);
      return { sku, customerId };
    },

    /** Sends an order, whatever the answer: one line of `sku` unless `lines` are given. */
    send<Body = OrderPlacedAnswer>(
      { sku = '', quantity = 1, method = 'pm_ok', ...wish }: OrderWish,
      own: Readonly<Record<string, string>> = {},
    ): Promise<Reply<Body>> {
      const json = { lines: [{ sku, quantity }], payment: { method }, ...wish };
      return request<Body>('POST', '/v1/orders', { json, headers: own });
    },

    /** Places an order and resolves to its id. */
    async place(wish: OrderWish, own: Readonly<Record<string, string>> = {}): Promise<string> {
      const reply = await this.send(wish, own);
      assert.equal(reply.status, 201, JSON.stringify(reply.body));
      return reply.body.orderId;
    },

    cancel: (orderId: string, own: Readonly<Record<string, string>> = {}) =>
      request<{ orderId: string; status: string; version: number; orderStatus?: string }>(
        'POST',
        `/v1/orders/${orderId}/cancel`,
        {
          json: {},
          headers: own,
        },
      ),

    /** Resolves once `isSo`. */
    async waitFor(what: string, isSo: () => Promise<boolean>): Promise<void> {
      await until(what, async () => ((await isSo()) ? true : null));
    },

    /** The order once it is as `awaited` says. */
    waitOrder(orderId: string, awaited: (order: OrderView) => boolean, timeoutMs = 60_000): Promise<OrderView> {
      return until(
        `order ${orderId} is as awaited`,
        async () => {
          const { status, body } = await get<OrderView>(`/v1/orders/${orderId}`);
          return status === 200 && awaited(body) ? body : null;
        },
        timeoutMs,
      );
    },

    /** The order once it is final and nothing about its payment is open. */
    waitFinal(orderId: string, timeoutMs = 60_000): Promise<OrderView> {
      return this.waitOrder(orderId, (order) => isFinal(order) && isSettled(order), timeoutMs);
    },
  };
}

const isFinal = (order: OrderView): boolean => !['pending', 'reserved'].includes(order.status);
const isSettled = (order: OrderView): boolean => !['pending', 'unknown'].includes(order.payment.status);

export const newId = (kind: string): string => `${kind}-${randomUUID().slice(0, 13)}`;

const lookEveryMs = 20;

/** What `look` finds, once that is not null. It may reject while it looks; rejects with its last word after `timeoutMs`. */
export async function until<T>(what: string, look: () => Promise<T | null>, timeoutMs = 60_000): Promise<T> {
  const giveUpAt = performance.now() + timeoutMs;
  for (;;) {
    let trouble: unknown;
    try {
      const found = await look();
      if (found !== null) return found;
    } catch (error) {
      trouble = error;
    }
    if (performance.now() > giveUpAt) throw new Error(`not within ${timeoutMs} ms: ${what}`, { cause: trouble });
    await delay(lookEveryMs);
  }
}

const project = resolve(import.meta.dirname, '..');
const readyTimeoutMs = 90_000;
const endTimeoutMs = 20_000;

/** The program as its users start it, and everything it has started. */
export type TestProgram = TestSystem & {
  /** Of the program, its PostgreSQL and its payment provider, as they are now. */
  pids(): { readonly node: number; readonly postgres: number; readonly sandbox: number };
  /** Resolves once the program has ended, however it does. */
  ended(): Promise<void>;
  /** What it has printed so far. */
  output(): string;
};

/**
 * `twofold up` at a free port. A second one with the same `dataDir` finds the data of the first. What
 * still runs after the test is ended, all of it by its own process id.
 */
export async function startTestProgram(
  t: TestContext,
  dataDir: string,
  env: Readonly<Record<string, string>> = {},
): Promise<TestProgram> {
  const sandboxPort = await freePort();
  const child = spawn(process.execPath, ['src/main.ts', 'up', '--port', '0', '--data-dir', dataDir, '--empty'], {
    cwd: project,
    env: { ...process.env, TWOFOLD_SANDBOX_PORT: String(sandboxPort), TWOFOLD_LOG_LEVEL: 'warn', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exit = once(child, 'exit');
  const node = child.pid!;
  t.after(() => endAll(child, exit, dataDir));

  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  }
  const banner = await until(
    'the program is ready',
    async () => {
      if (child.exitCode !== null || child.signalCode !== null) return { failed: output };
      const address = /API +(http:\S+)/.exec(output)?.[1];
      const socket = /psql -h (\S+)/.exec(output)?.[1];
      return address === undefined || socket === undefined ? null : { address, socket };
    },
    readyTimeoutMs,
  );
  if ('failed' in banner) throw new Error(`the program ended before it was ready:\n${banner.failed}`);
  const { address, socket } = banner;
  const urlOf = (owner: DatabaseOwner): string =>
    `postgresql://twofold@/${owner}?host=${encodeURIComponent(socket)}&port=5432&sslmode=disable`;

  return {
    address,
    databaseUrls: Object.fromEntries(databaseOwners.map((owner) => [owner, urlOf(owner)])) as DatabaseUrls,
    providerUrl: `http://127.0.0.1:${sandboxPort}`,
    shop: openShop(address),
    pids: () => ({ node, postgres: postgresPid(dataDir), sandbox: childOf(node, 'sandbox') }),
    async ended() {
      await exit;
    },
    output: () => output,
    async stop() {
      child.kill('SIGINT');
      await exit;
      assert.ok(!existsSync(join(dataDir, 'postgres/postmaster.pid')), `its PostgreSQL runs on:\n${output}`);
    },
  };
}

/** A folder for the data of a program; gone after the test. */
export async function programDataDir(t: TestContext): Promise<string> {
  const dataDir = await mkdtemp(join(tmpdir(), 'twofold-program-'));
  t.after(() => t.after(() => rm(dataDir, { recursive: true, maxRetries: 5 })));
  return dataDir;
}

async function endAll(child: ChildProcess, exit: Promise<unknown>, dataDir: string): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGTERM');
    await Promise.race([exit, delay(endTimeoutMs, undefined, { ref: false })]);
    child.kill('SIGKILL');
    await exit;
  }
  // A program that was killed leaves its PostgreSQL running.
  const pid = existsSync(join(dataDir, 'postgres/postmaster.pid')) ? postgresPid(dataDir) : 0;
  if (pid === 0 || !commandLine(pid).includes(dataDir)) return;
  process.kill(pid, 'SIGQUIT');
  await until(`PostgreSQL ${pid} has ended`, async () => (commandLine(pid).includes(dataDir) ? null : true));
}

const postgresPid = (dataDir: string): number =>
  Number(readFileSync(join(dataDir, 'postgres/postmaster.pid'), 'utf8').split('\n')[0]);

/** The child of `parent` whose command line has `word`. */
function childOf(parent: number, word: string): number {
  const children = readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').trim().split(' ').map(Number);
  const found = children.find((pid) => commandLine(pid).split('\0').includes(word));
  if (found === undefined) throw new Error(`process ${parent} has no child ${word}`);
  return found;
}

/** Empty when there is no such process, or it has ended and waits for its parent to hear of it. */
function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
