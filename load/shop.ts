/** The system under load: one that runs already, or one of its own; what has to be there before anyone can order, and what it says of itself. */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { SignJWT } from 'jose';
import { type Ending, programDataDir, startTestProgram } from '../tests/running-program.ts';
import { openShop, type Shop } from '../tests/shop-client.ts';
import type { SystemPids } from './machine.ts';
import type { Callers, Customer } from './plan.ts';
import { searchWords } from './traffic.ts';

export type SystemUnderLoad = {
  readonly address: string;
  readonly shop: Shop;
  readonly callers: Callers;
  readonly operatorToken?: string;
  /** Of the system's own parts, as they are now; null when it is not ours. */
  readonly pids: (() => SystemPids) | null;
};

export type ShopOptions = {
  readonly url?: string;
  readonly operatorToken?: string;
  readonly secret?: string;
  readonly issuer: string;
  readonly audience: string;
  readonly tokens: readonly Customer[];
};

/** Something that whoever started the run has to mend: the message says what. */
export class CannotLoad extends Error {
  override readonly name = 'CannotLoad';
}

const requestsAtOnce = 64;
/** Of a request that is turned away, with a second or so between them. */
const triesMax = 30;
const pieces = 1_000_000_000;

/** Connects to the system at `url`, or starts one in a temporary folder whose users need tokens as real ones do. */
export async function openSystem(ending: Ending, options: ShopOptions): Promise<SystemUnderLoad> {
  const { url, issuer, audience } = options;
  const secret = options.secret ?? (url === undefined ? randomBytes(32).toString('base64url') : undefined);
  const operatorToken = options.operatorToken ?? (secret && (await operatorTokenOf(secret, issuer, audience)));
  const authorization: Record<string, string> =
    operatorToken === undefined ? {} : { authorization: `Bearer ${operatorToken}` };
  const program =
    url === undefined
      ? await startTestProgram(ending, await programDataDir(ending), {
          TWOFOLD_JWT_SECRET: secret!,
          TWOFOLD_JWT_ISSUER: issuer,
          TWOFOLD_JWT_AUDIENCE: audience,
          // A load with few connections has few customers, each of whom asks often.
          TWOFOLD_RATE_LIMIT_CUSTOMER: '0',
        })
      : null;
  const address = program?.address ?? url!;
  const shop = openShop(address, authorization);
  const callers: Callers =
    options.tokens.length > 0
      ? { kind: 'tokens' }
      : secret !== undefined
        ? { kind: 'secret', secret, issuer, audience }
        : { kind: operatorToken === undefined ? 'open' : 'operator' };
  return {
    address,
    shop,
    callers,
    pids: program?.pids ?? null,
    ...(operatorToken === undefined ? {} : { operatorToken }),
  };
}

/** Products with more stock than anybody can order, and customers. Resolves once all of it can be read. Rejects with CannotLoad. */
export async function furnish(
  shop: Shop,
  run: string,
  products: number,
  customers: readonly Customer[],
): Promise<readonly string[]> {
  const skus = Array.from({ length: products }, (_, n) => `LOAD-${run}-${n}`);
  let token = '';
  await inParallel(skus, async (sku, n) => {
    const price = { amount: 100 + (n % 5_000), currency: 'EUR' };
    const word = searchWords[n % searchWords.length]!;
    const product = await admitted(shop, 'PUT', `/v1/products/${sku}`, { json: { name: `Load ${word} ${n}`, price } });
    if (product.status !== 201) throw refused(shop.address, product);
    const stock = await admitted(shop, 'POST', `/v1/products/${sku}/stock-adjustments`, {
      json: { quantity: pieces, reason: 'load' },
      headers: { 'consistency-token': product.headers.get('consistency-token') ?? '' },
    });
    if (stock.status !== 201) throw refused(shop.address, stock);
    token = stock.headers.get('consistency-token') ?? '';
  });
  await inParallel(customers, async ({ customerId }, n) => {
    const json = { name: `Load Customer ${n}`, country: 'Germany' };
    const reply = await admitted(shop, 'PUT', `/v1/customers/${customerId}`, { json });
    if (reply.status !== 201 && reply.status !== 200) throw refused(shop.address, reply);
  });
  const headers = { 'consistency-token': token, prefer: 'wait=5' };
  await shop.waitFor(
    'the products can be read',
    async () => (await shop.get(`/v1/products/${skus.at(-1)}`, headers)).status === 200,
  );
  return skus;
}

/** Furnishing is as fast as the system lets it: who is turned away comes back, and nothing was done meanwhile. */
async function admitted(
  shop: Shop,
  method: string,
  path: string,
  sent: NonNullable<Parameters<Shop['request']>[2]>,
): ReturnType<Shop['request']> {
  for (let tries = 1; ; tries += 1) {
    const reply = await shop.request(method, path, sent);
    const { code } = (reply.body ?? {}) as { code?: string };
    if (code !== 'overloaded' || tries === triesMax) return reply;
    await delay(1_000 * Number(reply.headers.get('retry-after') ?? 1));
  }
}

async function inParallel<T>(items: readonly T[], work: (item: T, n: number) => Promise<void>): Promise<void> {
  let at = 0;
  const worker = async (): Promise<void> => {
    for (let n = at++; n < items.length; n = at++) await work(items[n]!, n);
  };
  try {
    await Promise.all(Array.from({ length: requestsAtOnce }, worker));
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new CannotLoad('the system does not answer: is it running, and does --url say where it is?', {
      cause: error,
    });
  }
}

function refused(address: string, { status, body }: { status: number; body: unknown }): CannotLoad {
  const { code = '', detail = '' } = (body ?? {}) as { code?: string; detail?: string };
  const hint = status === 401 || status === 403 ? ' It needs --token with the token of an operator, or --secret.' : '';
  return new CannotLoad(`${address} answers ${status} ${code} ${detail}.${hint}`);
}

const operatorTokenOf = (secret: string, issuer: string, audience: string): Promise<string> =>
  new SignJWT({ role: 'operator' })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject('load')
    .setIssuer(issuer)
    .setAudience(audience)
    .setExpirationTime('24h')
    .sign(new TextEncoder().encode(secret));
