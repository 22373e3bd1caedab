/** A system to test, in this process: the whole of it on real databases, a real provider and real sockets. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { SignJWT } from 'jose';
import { createLogger } from '#platform/logger.ts';
import { databaseOwners, loadSettings, type Settings } from '#platform/settings.ts';
import { startSandboxProvider } from '#services/payments/sandbox-provider.ts';
import type { ServiceName } from '../src/service-map.ts';
import { startSystem } from '../src/system.ts';
import { testDatabaseUrl } from './database.ts';
import type { DatabaseUrls, TestSystem } from './running-program.ts';
import { openShop } from './shop-client.ts';

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
    // The rolling audit only where it is what is tested.
    settings: { ...loadSettings({}), port: 0, auditSharePercent: 0, ...options.settings },
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
