/**
 * `npm run bench:http`: what 64 clients see of a running system, 70 % of their requests reads. Each
 * client sends its next request when the last is answered. It checks every answer, follows a share of
 * the orders until they are final, and fails when a limit is passed or an order is not completed.
 */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { shownWithin } from './shown-events.ts';

const { values: flags } = parseArgs({
  options: {
    url: { type: 'string' },
    clients: { type: 'string', default: '64' },
    seconds: { type: 'string', default: '20' },
    rate: { type: 'string', default: '0' },
    products: { type: 'string', default: '200' },
    smoke: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (flags.help) {
  console.log(`Usage: npm run bench:http [-- OPTIONS]

  --url ADDRESS   a system that runs already (default: one of its own, in a temporary folder)
  --clients N     clients at once (default 64)
  --seconds S     length (default 20)
  --rate R        requests a second of all clients together, by schedule, latency counted from the
                  scheduled moment (default 0: each client sends as soon as it has its answer)
  --products N    products that are ordered (default 200)
  --smoke         short, without judging the times

Examples:
  npm run bench:http
  npm run bench:http -- --rate 1000
  npm run bench:http -- --url http://127.0.0.1:8080 --seconds 60`);
  process.exit(0);
}
const clients = Number(flags.clients);
const seconds = flags.smoke ? 2 : Number(flags.seconds);
const products = Number(flags.products);
const rate = Number(flags.rate);
const readShare = 0.7;
// Until then the server is still being compiled while it runs.
const warmUpSeconds = 6;
const followedShare = 0.02;
const followEveryMs = 20;
const finalWithinMs = 30_000;
const limitsMs = { reads: 30, writes: 100, visible: 100, completed: 1_000 } as const;

type Reply = { readonly status: number; readonly text: string; readonly token: string | undefined };

const own = flags.url === undefined ? await startOwn() : null;
const base = new URL(flags.url ?? own!.address);
const agent = new Agent({ keepAlive: true, maxSockets: clients * 2 });
const histograms = {
  reads: createHistogram(),
  writes: createHistogram(),
  /** From an order being acknowledged to a read that shows it. */
  visible: createHistogram(),
  completed: createHistogram(),
};
const run = randomUUID().slice(0, 8);
const placed: string[] = [];
const following: Promise<void>[] = [];
let failures = 0;

try {
  await setUp();
  await load(flags.smoke ? 1 : warmUpSeconds, null);
  placed.length = 0;
  const before = shownWithin((await call('GET', '/metrics')).text);
  const took = await load(seconds, histograms);
  await Promise.all(following);
  const after = shownWithin((await call('GET', '/metrics')).text);
  const notCompleted = await countNotCompleted();
  const passed = report(took, notCompleted, sharesShown(before, after));
  process.exitCode = passed || (flags.smoke && failures + notCompleted === 0) ? 0 : 1;
} finally {
  agent.destroy();
  await own?.stop();
}

async function setUp(): Promise<void> {
  let token: string | undefined;
  await call('PUT', `/v1/customers/bench-${run}`, { name: 'Bench' });
  for (let n = 0; n < products; n += 1) {
    const sku = `BENCH-${run}-${n}`;
    const added = await call('PUT', `/v1/products/${sku}`, {
      name: `Product ${n}`,
      price: { amount: 100 + n, currency: 'EUR' },
    });
    token = (
      await call('POST', `/v1/products/${sku}/stock-adjustments`, { quantity: 1_000_000, reason: 'bench' }, added.token)
    ).token;
  }
  await call('GET', `/v1/products/BENCH-${run}-0`, undefined, token);
}

async function load(forSeconds: number, into: typeof histograms | null): Promise<number> {
  const start = performance.now();
  const end = start + forSeconds * 1_000;
  await Promise.all(
    Array.from({ length: clients }, async (_, client) => {
      let due = start + (rate > 0 ? (client * 1_000) / rate : 0);
      while (performance.now() < end) {
        if (rate > 0) {
          const early = due - performance.now();
          if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
        } else due = performance.now();
        if (Math.random() < readShare && placed.length > 0) await read(into?.reads, due);
        else await place(into, due);
        due += (clients * 1_000) / rate;
      }
    }),
  );
  return (performance.now() - start) / 1_000;
}

async function read(histogram: RecordableHistogram | undefined, due: number): Promise<void> {
  const orderId = placed[Math.floor(Math.random() * placed.length)]!;
  const dice = Math.random();
  const path =
    dice < 0.6
      ? `/v1/orders/${orderId}`
      : dice < 0.8
        ? `/v1/products/BENCH-${run}-${Math.floor(Math.random() * products)}`
        : dice < 0.9
          ? `/v1/customers/bench-${run}/orders?limit=20`
          : '/v1/orders?limit=20';
  const reply = await timed(histogram, due, () => call('GET', path));
  // An order that was placed a moment ago may not be readable yet: that is what tokens are for.
  if (reply.status !== 200 && !(reply.status === 404 && path === `/v1/orders/${orderId}`)) fail(path, reply);
}

async function place(into: typeof histograms | null, due: number): Promise<void> {
  const orderId = randomUUID();
  const lines = Array.from({ length: 1 + Math.floor(Math.random() * 3) }, () => ({
    sku: `BENCH-${run}-${Math.floor(Math.random() * products)}`,
    quantity: 1,
  }));
  const body = { orderId, customerId: `bench-${run}`, lines, payment: { method: 'pm_ok' } };
  const reply = await timed(into?.writes, due, () => call('POST', '/v1/orders', body, undefined, orderId));
  if (reply.status !== 201) return fail('/v1/orders', reply);
  placed.push(orderId);
  if (into !== null && Math.random() < followedShare) following.push(follow(orderId, reply.token!, into));
}

async function follow(orderId: string, token: string, into: typeof histograms): Promise<void> {
  const answered = performance.now();
  const seen = await timed(into.visible, answered, () => call('GET', `/v1/orders/${orderId}`, undefined, token));
  if (seen.status !== 200) fail(`/v1/orders/${orderId}`, seen);
  while (performance.now() - answered < finalWithinMs) {
    const reply = await call('GET', `/v1/orders/${orderId}`);
    if (reply.status === 200 && (JSON.parse(reply.text) as { status: string }).status === 'completed') break;
    await new Promise((resolve) => setTimeout(resolve, followEveryMs));
  }
  into.completed.record(Math.max(1, Math.round((performance.now() - answered) * 1e6)));
}

/** The share of events between two looks that were shown within each time, as far as it tells something. */
function sharesShown(before: ReadonlyMap<number, number>, after: ReadonlyMap<number, number>): string {
  const between = [...after].map(([bound, count]) => [bound, count - (before.get(bound) ?? 0)] as const);
  const events = between.at(-1)?.[1] ?? 0;
  const shares = between
    .filter(([bound]) => [20, 50, 100, 200, 500, 5_000].includes(bound))
    .map(([bound, count]) => `${((100 * count) / events).toFixed(2)} % within ${bound} ms`);
  return `of ${events} events, shown by reads from when they were recorded: ${shares.join(', ')}`;
}

/** Looks at every order once all has come to rest. */
async function countNotCompleted(): Promise<number> {
  let open = placed;
  const giveUpAt = performance.now() + finalWithinMs;
  while (open.length > 0 && performance.now() < giveUpAt) {
    const still: string[] = [];
    for (let n = 0; n < open.length; n += clients) {
      const replies = await Promise.all(
        open
          .slice(n, n + clients)
          .map(async (orderId) => ({ orderId, reply: await call('GET', `/v1/orders/${orderId}`) })),
      );
      for (const { orderId, reply } of replies) if (!reply.text.includes('"status":"completed"')) still.push(orderId);
    }
    open = still;
  }
  return open.length;
}

async function timed(
  histogram: RecordableHistogram | undefined,
  due: number,
  send: () => Promise<Reply>,
): Promise<Reply> {
  const reply = await send();
  histogram?.record(Math.max(1, Math.round((performance.now() - due) * 1e6)));
  return reply;
}

function fail(path: string, reply: Reply): void {
  failures += 1;
  if (failures <= 5) console.error(`${path} answered ${reply.status}: ${reply.text.slice(0, 200)}`);
}

function call(method: string, path: string, body?: object, token?: string, key?: string): Promise<Reply> {
  const payload = body === undefined ? undefined : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const sent = request(new URL(path, base), {
      method,
      agent,
      headers: {
        ...(payload === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }),
        ...(token === undefined ? {} : { 'consistency-token': token, prefer: 'wait=5' }),
        ...(key === undefined ? {} : { 'idempotency-key': key }),
      },
    });
    sent.on('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        const header = response.headers['consistency-token'];
        resolve({
          status: response.statusCode ?? 0,
          text: Buffer.concat(chunks).toString(),
          token: Array.isArray(header) ? header[0] : header,
        });
      });
      response.on('error', reject);
    });
    sent.on('error', reject);
    sent.end(payload);
  });
}

function report(took: number, notCompleted: number, fresh: string): boolean {
  let passed = failures === 0 && notCompleted === 0;
  console.log(
    `${clients} clients, ${seconds} s, ${rate > 0 ? `${rate} requests a second` : 'as fast as they are answered'}\n`,
  );
  console.log(
    `${''.padEnd(12)}${['per second', 'p50 ms', 'p99 ms', 'p99.9 ms', 'max ms', 'limit p99'].map((cell) => cell.padStart(11)).join('')}`,
  );
  for (const kind of ['reads', 'writes', 'visible', 'completed'] as const) {
    const histogram = histograms[kind];
    const ms = (percentile: number): string => (histogram.percentile(percentile) / 1e6).toFixed(1);
    const cells = [
      (histogram.count / took).toFixed(0),
      ms(50),
      ms(99),
      ms(99.9),
      (histogram.max / 1e6).toFixed(1),
      String(limitsMs[kind]),
    ];
    console.log(`${kind.padEnd(12)}${cells.map((cell) => cell.padStart(11)).join('')}`);
    passed &&= histogram.percentile(99) / 1e6 <= limitsMs[kind];
  }
  console.log(`\n${fresh}`);
  console.log(`${placed.length} orders placed, ${notCompleted} of them not completed; ${failures} unexpected answers`);
  return passed;
}

/** A system in a temporary folder, in a process of its own. */
async function startOwn(): Promise<{ address: string; stop(): Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-bench-'));
  const child = spawn(process.execPath, ['bin/twofold.js', 'up', '--port', '0', '--empty', '--data-dir', folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const stop = async (): Promise<void> => {
    if (child.exitCode === null) {
      child.kill('SIGINT');
      await once(child, 'exit');
    }
    rmSync(folder, { recursive: true, force: true });
  };
  for await (const line of createInterface({ input: child.stdout })) {
    const address = /API\s+(http:\S+)/.exec(line)?.[1];
    if (address !== undefined) return { address, stop };
  }
  await stop();
  throw new Error('the system did not start');
}
