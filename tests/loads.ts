/** The load tool against whole systems: those that are as they should be, and those that are not. `npm run loads`. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test, type TestContext } from 'node:test';
import { auditAfter } from '../load/audit-after.ts';
import type { Report } from '../load/report-text.ts';
import { programDataDir, startTestProgram } from './running-program.ts';
import { bearer, jwt, startTestSystem } from './running-system.ts';
import { openShop } from './shop-client.ts';

const project = resolve(import.meta.dirname, '..');
const small = '--profile B --rate-factor 0.02 --connections 50 --products 20 --seconds 3 --warm-up 1 --seed 7';

type Run = {
  readonly code: number | null;
  readonly output: string;
  readonly report: Report | null;
  readonly html: string;
};

/** `npm run load` with these arguments; `onOutput` sees what it prints as it does. */
async function runLoad(
  t: TestContext,
  args: string,
  onOutput: (text: string, child: ChildProcess) => void = () => {},
  env: Readonly<Record<string, string>> = {},
): Promise<Run> {
  const folder = await mkdtemp(join(tmpdir(), 'twofold-load-test-'));
  t.after(() => rm(folder, { recursive: true }));
  const [json, html] = [join(folder, 'load.json'), join(folder, 'load.html')];
  const child = spawn(process.execPath, ['load/load.ts', ...args.split(' '), '--json', json, '--html', html], {
    cwd: project,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const closed = once(child, 'close');
  t.after(async () => {
    if (child.exitCode === null) child.kill('SIGTERM');
    await closed;
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      onOutput(output, child);
    });
  }
  await closed;
  const report = await readFile(json, 'utf8').then(
    (text) => JSON.parse(text) as Report,
    () => null,
  );
  return { code: child.exitCode, output, report, html: await readFile(html, 'utf8').catch(() => '') };
}

const missedIn = ({ report, output }: Run): string[] => {
  assert.ok(report !== null, output);
  return report.verdicts.flatMap(({ what, kept }) => (kept ? [] : [what]));
};

/** What a busy machine may miss: everything else is the system's doing, or the tool's. */
const isOfTime = (what: string): boolean => what.endsWith('p99');

test('a load on a system of its own is answered rightly, and told with all it has cost', async (t) => {
  const run = await runLoad(t, `${small} --generators 2 --hot-share 0.2`);
  assert.deepEqual(
    missedIn(run).filter((what) => !isOfTime(what)),
    [],
    run.output,
  );
  assert.equal(run.code, missedIn(run).length === 0 ? 0 : 1);
  const { measured, syncsPerSecond } = run.report!;
  const { totals, latencies, freshness, processes, points } = measured;
  assert.ok(totals.ordersPlaced > 20 && latencies['ends']!.count === totals.ordersPlaced, run.output);
  assert.ok(latencies['own order']!.count > 20 && latencies['reads']!.count > 60, run.output);
  assert.ok(freshness!.events > 5 * totals.ordersPlaced, run.output);
  const names = ['server', 'PostgreSQL', 'payment provider', 'generator 1', 'generator 2', 'this process'];
  for (const name of names)
    assert.ok(
      processes.some((one) => one.name === name && one.memoryMb > 10),
      `${name}\n${run.output}`,
    );
  assert.ok(syncsPerSecond > 0 && points.length >= 4);
  assert.match(run.output, /^ +2 s {2}offered \d+ {2}answered \d+/m);
  assert.match(run.html, /<svg /);
});

test('users of a system with a key show tokens of their own', async (t) => {
  const { address, shop } = await startTestSystem(t, { settings: { jwt, customerRequestsPerMinute: 0 } });
  const folder = await mkdtemp(join(tmpdir(), 'twofold-load-test-'));
  t.after(() => rm(folder, { recursive: true }));
  const file = join(folder, 'tokens');
  const tokenOf = async (role: 'customer' | 'operator', sub: string): Promise<string> =>
    (await bearer(role, sub)).authorization.split(' ')[1]!;
  await writeFile(file, `ada ${await tokenOf('customer', 'ada')}\nemmy ${await tokenOf('customer', 'emmy')}\n`);
  const operator = await tokenOf('operator', 'load');
  const run = await runLoad(t, `${small} --url ${address} --token ${operator} --tokens ${file}`);
  assert.deepEqual(
    missedIn(run).filter((what) => !isOfTime(what)),
    [],
    run.output,
  );
  assert.ok(!run.output.includes(operator) && !run.html.includes(operator), 'a token is told');
  const { items } = (await shop.get<{ items: { customerId: string }[] }>('/v1/orders?limit=100')).body;
  assert.deepEqual(new Set(items.map(({ customerId }) => customerId)), new Set(['ada', 'emmy']));

  const refused = await runLoad(t, `${small} --url ${address}`);
  assert.equal(refused.code, 2);
  assert.match(refused.output, /answers 401 unauthenticated .* It needs --token/);
});

test('wrong answers fail the run, and are named', async (t) => {
  const { address } = await startTestSystem(t);
  let products = 0;
  const proxy = createServer((asked, answer) => {
    const passed = request(`${address}${asked.url}`, { method: asked.method, headers: asked.headers, agent: false });
    passed.on('error', () => answer.destroy());
    passed.on('response', (response) => {
      const isProduct =
        asked.method === 'GET' && /^\/v1\/products\/[^?]+$/.test(asked.url!) && response.statusCode === 200;
      // Every fifth product is somebody else's, in as many bytes.
      const isWrong = isProduct && ++products % 5 === 0;
      answer.writeHead(response.statusCode!, response.headers);
      if (!isWrong) return void response.pipe(answer);
      response.setEncoding('utf8').on('data', (text: string) => answer.write(text.replace('"sku":"L', '"sku":"M')));
      response.on('end', () => answer.end());
    });
    asked.pipe(passed);
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  t.after(() => {
    proxy.closeAllConnections();
    proxy.close();
  });
  const run = await runLoad(t, `${small} --url http://127.0.0.1:${(proxy.address() as AddressInfo).port}`);
  assert.equal(run.code, 1, run.output);
  assert.deepEqual(
    missedIn(run).filter((what) => !isOfTime(what)),
    ['errors'],
    run.output,
  );
  const kinds = Object.keys(run.report!.measured.totals.errors);
  assert.ok(kinds.length > 0 && kinds.every((kind) => kind.endsWith(': 200 of another shape')), run.output);
});

test('a system that is killed under load fails the run, and nothing of it is dropped', async (t) => {
  const program = await startTestProgram(t, await programDataDir(t));
  const { node } = program.pids();
  let killed = false;
  const run = await runLoad(t, `${small} --url ${program.address} --seconds 20`, (output) => {
    if (killed || !/^ +2 s {2}offered/m.test(output)) return;
    killed = true;
    process.kill(node, 'SIGKILL');
  });
  assert.equal(run.code, 1, run.output);
  assert.ok(missedIn(run).includes('run to its end'), run.output);
  const { totals, latencies } = run.report!.measured;
  const offered = Object.values(totals.offered).reduce((sum, count) => sum + count, 0);
  const recorded = Object.keys(totals.offered).reduce((sum, kind) => sum + (latencies[kind]?.count ?? 0), 0);
  assert.equal(recorded, offered, run.output);
  assert.ok(latencies['place']!.max >= 59_000 && latencies['reads']!.max >= 59_000, run.output);
  assert.ok(
    Object.keys(totals.errors).some((kind) => kind.startsWith('place: unanswered')),
    run.output,
  );
});

test('stopped by a signal, it leaves nothing behind', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'twofold-load-test-'));
  t.after(() => rm(folder, { recursive: true }));
  // PostgreSQL may run as another user.
  await chmod(folder, 0o777);
  let told = false;
  const interrupt = (output: string, child: ChildProcess): void => {
    if (told || !/^ +1 s {2}offered/m.test(output)) return;
    told = true;
    child.kill('SIGINT');
  };
  const run = await runLoad(t, `${small} --seconds 30`, interrupt, { TMPDIR: folder });
  assert.equal(run.code, 2, run.output);
  assert.match(run.output, /load: stopped\n$/);
  assert.deepEqual(await readdir(folder), []);
  const address = /furnishing (http:\S+):/.exec(run.output)?.[1];
  await assert.rejects(fetch(address!), /fetch failed/);
});

test('what cannot be run is said in a line', async (t) => {
  const wrong = await runLoad(t, '--profile X');
  assert.deepEqual([wrong.code, wrong.output], [2, 'load: --profile is "X"; there are O, B, A, C.\n']);
  const nobody = await runLoad(t, `${small} --url http://127.0.0.1:1`);
  assert.equal(nobody.code, 2);
  assert.match(nobody.output, /load: the system does not answer: is it running, and does --url say where it is\?\n$/);
  const tokens = await runLoad(
    t,
    `${small} --url http://127.0.0.1:1 --token x --tokens ${import.meta.dirname}/no-such-file`,
  );
  assert.equal(tokens.code, 2);
  assert.match(tokens.output, /--tokens .*no-such-file cannot be read/);
});

/** A system whose audit says what `answers` have, by address. */
async function auditOf(
  t: TestContext,
  answers: Readonly<Record<string, readonly (readonly [status: number, body: object])[]>>,
) {
  const asked = new Map<string, number>();
  const server = createServer((incoming, outgoing) => {
    const at = `${incoming.method} ${incoming.url}`;
    const list = answers[at] ?? [];
    const times = asked.get(at) ?? 0;
    asked.set(at, times + 1);
    const [status, body] = list[Math.min(times, list.length - 1)] ?? [404, {}];
    outgoing.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return auditAfter(openShop(`http://127.0.0.1:${(server.address() as AddressInfo).port}`));
}

test('an audit is waited for, and what it has found is told', async (t) => {
  const [begin, ask, list] = [
    'POST /v1/ops/audits',
    'GET /v1/ops/jobs/audit-1',
    'GET /v1/ops/divergences?state=open&limit=100',
  ];
  const job = (state: string) => ({ id: 'audit-1', state });
  const items = [{ check: 'stock', entity: 'A', says: 'reserved differs' }];
  const found = await auditOf(t, {
    // Another one is under way at first.
    [begin]: [
      [409, { code: 'audit-running' }],
      [202, job('running')],
    ],
    [ask]: [
      [200, job('running')],
      [200, job('done')],
    ],
    [list]: [[200, { items, nextCursor: 'next' }]],
  });
  assert.ok(found.kind === 'ended');
  assert.deepEqual([found.divergences, found.more], [['stock: A: reserved differs'], true]);

  assert.deepEqual(await auditOf(t, {}), { kind: 'none' });
  const failures = [
    [{ [begin]: [[403, { code: 'forbidden' }]] }, /it was answered 403/],
    [{ [begin]: [[202, job('running')]], [ask]: [[200, { ...job('failed'), error: 'no database' }]] }, /no database/],
    [{ [begin]: [[202, job('running')]], [ask]: [[404, {}]] }, /its job was answered 404/],
    [
      { [begin]: [[202, job('running')]], [ask]: [[200, job('done')]], [list]: [[500, {}]] },
      /divergences were answered 500/,
    ],
  ] as const;
  for (const [answers, why] of failures) {
    const failed = await auditOf(t, answers);
    assert.ok(failed.kind === 'failed' && why.test(failed.why), JSON.stringify(failed));
  }
});
