import assert from 'node:assert/strict';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { jwtVerify } from 'jose';
import { startOf } from '#platform/other-process.ts';
import { databaseOwners, databaseUrlName, projectFolder } from '#platform/settings.ts';
import { testDatabaseUrl } from '../tests/database.ts';

const secret = '0123456789abcdef0123456789abcdef';
const dataDir = mkdtempSync(join(tmpdir(), 'two fold-'));
const launched: ChildProcess[] = [];
after(async () => {
  for (const child of launched) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
  rmSync(dataDir, { recursive: true });
});

test('the first start has demo data, and its commands work when pasted; Ctrl-C stops everything within 5 s', async () => {
  const program = await up();
  const pasted = /Place an order.*\n((?: {4}.*\n)+)/.exec(program.output)?.[1] as string;
  const answers = execFileSync('/bin/sh', ['-c', pasted], { encoding: 'utf8' }).trim().split('\n');
  assert.match(answers[0] as string, /"orderId":"first-order","status":"pending"/);
  assert.match(answers[1] as string, /"orderId":"first-order".*"status":"completed"/);

  const postgresPid = pidOfPostgres();
  const { code, tookMs } = await stop(program, 'SIGINT');
  assert.equal(code, 0, program.output);
  assert.ok(tookMs < 5_000, `it took ${tookMs} ms`);
  assert.equal(await startOf(postgresPid), null);
  assert.ok(!existsSync(join(dataDir, 'postgres/postmaster.pid')));
});

test('killed, the program leaves a folder that starts again by itself, with everything in it but the demo data twice', async () => {
  const killed = await up();
  const before = await (await fetch(`${killed.address}/v1/products/TEA-ASSAM`)).text();
  killed.child.kill('SIGKILL');
  await once(killed.child, 'exit');
  const program = await up();
  assert.equal(await (await fetch(`${program.address}/v1/products/TEA-ASSAM`)).text(), before);
  assert.equal((await fetch(`${program.address}/v1/orders/first-order`)).status, 200);

  const second = await ended(launch(['up', '--port', '0', '--data-dir', dataDir]));
  assert.equal(second.code, 1);
  assert.match(second.output, new RegExp(`in use by another Twofold, process ${program.child.pid}`));
  assert.equal((await stop(program, 'SIGTERM')).code, 0);
});

test('a second Ctrl-C stops at once what takes long to stop', async () => {
  const program = await up();
  const postgresPid = pidOfPostgres();
  process.kill(postgresPid, 'SIGSTOP');
  program.child.kill('SIGINT');
  await delay(600);
  const { code } = await stop(program, 'SIGINT');
  process.kill(postgresPid, 'SIGCONT');
  assert.equal(code, 130);
  const deadline = Date.now() + 10_000;
  while ((await startOf(postgresPid)) !== null) {
    assert.ok(Date.now() < deadline, 'its PostgreSQL runs on');
    await delay(20);
  }
});

test('told to stop while it starts, it leaves nothing running', async () => {
  const folder = join(dataDir, 'not for long');
  const child = launch(['up', '--port', '0', '--data-dir', folder]);
  const program = { child, output: () => outputs.get(child) ?? '' };
  while (!program.output().includes('Port, disk and memory')) await delay(5);
  child.kill('SIGINT');
  const { code, output } = await ended(child);
  assert.equal(code, 0, output);
  assert.ok(!existsSync(join(folder, 'twofold.lock')));
  assert.ok(!existsSync(join(folder, 'postgres/postmaster.pid')));
});

test('--empty starts without demo data, and shows how to put in a product', async () => {
  const folder = join(dataDir, 'empty');
  const program = await up(['--empty'], folder);
  assert.match(program.output, /Put in a product/);
  assert.deepEqual(await (await fetch(`${program.address}/v1/products`)).json(), { items: [], nextCursor: null });
  await stop(program, 'SIGINT');
  const again = await up([], folder);
  assert.deepEqual(await (await fetch(`${again.address}/v1/products`)).json(), { items: [], nextCursor: null });
  await stop(again, 'SIGINT');
});

test('all services can be served on databases that exist', async (t) => {
  const env: Record<string, string> = { TWOFOLD_PORT: '0', TWOFOLD_DATA_DIR: join(dataDir, 'served') };
  for (const owner of databaseOwners) env[databaseUrlName(owner)] = await testDatabaseUrl(t);
  const child = launch(['serve', ...databaseOwners, 'sandbox'], env);
  const address = await printed(child, /serves catalog, ordering, inventory, payments, audit, queries at (\S+)/);
  await printed(child, /(Callers: no key is configured: everyone on this machine is operator)/);
  assert.equal((await fetch(`${address}/readyz`)).status, 200);
  assert.equal((await stop({ child }, 'SIGTERM')).code, 0);
});

test('the token it prints is one that it accepts', async () => {
  const child = launch(['token', '--role', 'customer', '--sub', 'ada', '--ttl', '60'], { TWOFOLD_JWT_SECRET: secret });
  const { code, output } = await ended(child);
  assert.equal(code, 0);
  const key = new TextEncoder().encode(secret);
  const { payload } = await jwtVerify(output.trim(), key, {
    issuer: 'twofold',
    audience: 'twofold',
    algorithms: ['HS256'],
  });
  assert.deepEqual([payload['role'], payload.sub, (payload.exp ?? 0) - (payload.iat ?? 0)], ['customer', 'ada', 60]);
});

for (const [args, env, message] of [
  [['up', '--port', '80a'], {}, /--port is "80a"; right would be a whole number/],
  [['up', '--host', '0.0.0.0'], {}, /TWOFOLD_HOST .*"0\.0\.0\.0".*TWOFOLD_JWT_SECRET/],
  [['up', '--prot', '1'], {}, /unknown option '--prot'.*Did you mean --port/s],
  [['serve', 'billing'], {}, /There is no service billing; there are catalog, ordering/],
  [['serve'], {}, /missing required argument 'service'/],
  [['serve', 'queries'], {}, /set DATABASE_URL_CATALOG, DATABASE_URL_ORDERING, .*DATABASE_URL_QUERIES; right would be/],
  [
    ['serve', 'inventory'],
    { DATABASE_URL_INVENTORY: 'postgresql://u@h/i' },
    /also set DATABASE_URL_CATALOG, DATABASE_URL_ORDERING; right/,
  ],
  [['token', '--role', 'operator', '--sub', 'me'], {}, /TWOFOLD_JWT_SECRET is not set/],
  [
    ['token', '--role', 'boss', '--sub', 'me'],
    { TWOFOLD_JWT_SECRET: secret },
    /--role is "boss"; right would be operator or customer/,
  ],
  [
    ['token', '--role', 'customer', '--sub', 'a b'],
    { TWOFOLD_JWT_SECRET: secret },
    /--sub is "a b"; right would be a customer id/,
  ],
  [['token', '--role', 'operator', '--sub', 'me', '--ttl', '0'], { TWOFOLD_JWT_SECRET: secret }, /--ttl is "0"; right/],
  [['dance'], {}, /unknown command 'dance'/],
] as const) {
  test(`\`twofold ${args.join(' ')}\` says what is wrong and ends with 1`, async () => {
    const { code, output } = await ended(launch(args, env));
    assert.match(output, message);
    assert.equal(code, 1);
  });
}

for (const command of [[], ['up'], ['serve'], ['token'], ['import'], ['audit'], ['divergences'], ['resolve']]) {
  test(`\`twofold ${[...command, '--help'].join(' ')}\` shows examples`, async () => {
    const { code, output } = await ended(launch([...command, '--help']));
    assert.match(output, /Examples:\n.*twofold/);
    assert.equal(code, 0);
  });
}

type Program = { readonly child: ChildProcess; readonly output: string; readonly address: string };

async function up(args: string[] = [], folder = dataDir): Promise<Program> {
  const child = launch(['up', '--port', '0', '--data-dir', folder, ...args]);
  const address = await printed(child, /API +(http:\S+)[^]*the next start finds/);
  return { child, output: outputs.get(child) as string, address };
}

/** What the first group of `pattern` is, once it is in the output. */
async function printed(child: ChildProcess, pattern: RegExp): Promise<string> {
  const end = once(child, 'exit').then(() => assert.fail(`it ended instead of being ready:\n${outputs.get(child)}`));
  end.catch(() => {});
  for (;;) {
    const found = pattern.exec(outputs.get(child) ?? '');
    if (found !== null) return found[1] as string;
    await Promise.race([end, delay(10)]);
  }
}

async function stop(
  { child }: Pick<Program, 'child'>,
  signal: NodeJS.Signals,
): Promise<{ code: number | null; tookMs: number }> {
  const startedAt = performance.now();
  const end = once(child, 'exit');
  child.kill(signal);
  const [code] = await end;
  return { code: code as number | null, tookMs: performance.now() - startedAt };
}

const outputs = new Map<ChildProcess, string>();

function launch(args: readonly string[], env: Record<string, string> = {}): ChildProcess {
  const child = spawn(process.execPath, [join(projectFolder, 'bin/twofold.js'), ...args], {
    cwd: tmpdir(),
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  launched.push(child);
  outputs.set(child, '');
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => outputs.set(child, outputs.get(child) + text));
  }
  return child;
}

async function ended(child: ChildProcess): Promise<{ code: number | null; output: string }> {
  const [code] = await once(child, 'close');
  return { code: code as number | null, output: outputs.get(child) ?? '' };
}

const pidOfPostgres = (): number =>
  Number(readFileSync(join(dataDir, 'postgres/postmaster.pid'), 'utf8').split('\n')[0]);
