/** A whole system of one's own to measure, in a temporary folder, whose callers show tokens as real ones do. */
import { randomBytes } from 'node:crypto';
import { openSystem, type SystemUnderLoad } from '../load/shop.ts';
import { type Ending, programDataDir, startTestProgram, type TestProgram } from '../tests/running-program.ts';
import { isCaughtUp } from '../load/metrics.ts';
import { newId } from '../tests/shop-client.ts';
import { assertAnswersAreDurable } from './durability.ts';

export type OwnSystem = SystemUnderLoad & {
  readonly program: TestProgram;
  readonly operatorToken: string;
  readonly server: { readonly port: number; readonly pid: number };
};

const caughtUpTimeoutMs = 120_000;

/**
 * Asserts that its commands are durable when they are answered. `dataDir` has the data of an earlier one; by default it
 * has none. `env` sets more than a benchmark needs.
 */
export async function startOwnSystem(
  ending: Ending,
  dataDir?: string,
  env: Readonly<Record<string, string>> = {},
): Promise<OwnSystem> {
  const [secret, issuer, audience] = [randomBytes(32).toString('base64url'), 'twofold-bench', 'twofold-bench'];
  const program = await startTestProgram(ending, dataDir ?? (await programDataDir(ending)), {
    TWOFOLD_LOG_LEVEL: 'error',
    TWOFOLD_JWT_SECRET: secret,
    TWOFOLD_JWT_ISSUER: issuer,
    TWOFOLD_JWT_AUDIENCE: audience,
    TWOFOLD_RATE_LIMIT_CUSTOMER: '0',
    ...env,
  });
  const { address } = program;
  const system = await openSystem(ending, { url: address, secret, issuer, audience, tokens: [] });
  const { shop } = system;
  const { catalog, ordering, inventory } = program.databaseUrls;
  const sku = newId('sku');
  await assertAnswersAreDurable(ordering, () => shop.putCustomer(newId('customer')));
  await assertAnswersAreDurable(catalog, () => shop.putProduct(newId('sku')));
  await shop.putProduct(sku);
  await assertAnswersAreDurable(inventory, () => shop.adjustStock(sku, 1));
  return {
    ...system,
    pids: program.pids,
    program,
    operatorToken: system.operatorToken!,
    server: { port: Number(new URL(address).port), pid: program.pids().node },
  };
}

/** What is measured next is not to pay for what is left to do. Rejects when that takes too long. */
export async function settled({ shop }: Pick<OwnSystem, 'shop'>): Promise<void> {
  if (!(await isCaughtUp(shop, caughtUpTimeoutMs))) throw new Error('a consumer is still behind');
}
