/**
 * `npm run bench:reads`: how fast a hot order is read, against a bare `http.createServer` that answers the
 * same bytes. Blocks alternate within one run; servers and generator are processes of their own; who asks
 * shows a token. Every answer is checked. It fails below `ratioMust`, or when a 304 is slower than a 200.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect, type Socket } from 'node:net';
import { parseArgs } from 'node:util';
import { SignJWT } from 'jose';
import { openEnding, programDataDir, startTestProgram } from '../tests/running-program.ts';
import { openShop } from '../tests/shop-client.ts';
import { processorMicrosOf } from './processor-time.ts';

const { values: flags } = parseArgs({
  options: {
    connections: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '12' },
    seconds: { type: 'string', default: '1.5' },
    smoke: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
    /** How this file starts itself again, as the bare server. */
    bare: { type: 'boolean', default: false },
  },
});
if (flags.help) {
  console.log(`Usage: npm run bench:reads [-- OPTIONS]

  --connections N  keep-alive connections, each with one request under way (default 64)
  --rounds N       rounds of one block each: bare server, 200, 304 (default 12)
  --seconds S      length of a block (default 1.5)
  --smoke          two short rounds, without judging the rates

Examples:
  npm run bench:reads
  npm run bench:reads -- --rounds 24 --connections 256`);
  process.exit(0);
}

const ratioMust = 0.7;
/** Until then the servers are still being compiled while they run. */
const warmUpSeconds = 4;

if (flags.bare) serveBare();
else await bench();

/** The same bytes to everyone, and what HTTP needs with them. Its parent sends them, and is told the port. */
function serveBare(): void {
  process.once('message', (text: string) => {
    const body = Buffer.from(text);
    const headers = { 'Content-Type': 'application/json; charset=utf-8', 'Content-Length': body.length };
    const server = createServer((_request, response) => response.writeHead(200, headers).end(body));
    server.listen(0, '127.0.0.1', () => process.send!((server.address() as { port: number }).port));
  });
  process.once('disconnect', () => process.exit());
}

type Kind = 'bare' | '200' | '304';
type Target = {
  readonly port: number;
  readonly pid: number;
  readonly request: Buffer;
  /** How every answer begins, and what its body is. */
  readonly head: string;
  readonly body: Buffer;
};
type Block = { readonly perSecond: number; readonly cpuMicros: number };

async function bench(): Promise<void> {
  const connections = Number(flags.connections);
  const seconds = flags.smoke ? 0.3 : Number(flags.seconds);
  const rounds = flags.smoke ? 2 : Number(flags.rounds);
  const ending = openEnding();
  try {
    const targets = await startTargets(ending);
    const kinds: readonly Kind[] = ['bare', '200', '304'];
    for (const kind of kinds) await load(targets[kind], connections, flags.smoke ? 0.3 : warmUpSeconds);
    const blocks: Record<Kind, Block[]> = { bare: [], '200': [], '304': [] };
    for (let round = 0; round < rounds; round += 1) {
      for (const kind of round % 2 === 0 ? kinds : kinds.toReversed()) {
        blocks[kind].push(await load(targets[kind], connections, seconds));
      }
    }
    process.exitCode = report(blocks, `${connections} connections, ${rounds} rounds of ${seconds} s blocks`) ? 0 : 1;
  } finally {
    await ending.end();
  }
}

async function startTargets(ending: ReturnType<typeof openEnding>): Promise<Readonly<Record<Kind, Target>>> {
  const secret = 'the-secret-of-the-benchmark-is-long-enough';
  const [issuer, audience] = ['twofold-bench', 'twofold-bench'];
  const program = await startTestProgram(ending, await programDataDir(ending), {
    TWOFOLD_JWT_SECRET: secret,
    TWOFOLD_JWT_ISSUER: issuer,
    TWOFOLD_JWT_AUDIENCE: audience,
  });
  const bearer = await new SignJWT({ role: 'operator' })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject('bench')
    .setIssuer(issuer)
    .setAudience(audience)
    .setExpirationTime('1h')
    .sign(new TextEncoder().encode(secret));
  const shop = openShop(program.address, { authorization: `Bearer ${bearer}` });
  const { sku, customerId } = await shop.furnish(10);
  const orderId = await shop.place({ customerId, sku, quantity: 2 });
  const { version } = await shop.waitFinal(orderId);
  const body = Buffer.from(
    await (
      await fetch(`${program.address}/v1/orders/${orderId}`, {
        headers: { authorization: `Bearer ${bearer}` },
      })
    ).text(),
  );

  const { child, port } = await startBare(body.toString());
  ending.after(() => child.kill());
  const path = `/v1/orders/${orderId}`;
  const common = ['Host: 127.0.0.1', 'Accept: application/json', `Authorization: Bearer ${bearer}`];
  const requestOf = (...more: string[]): Buffer =>
    Buffer.from(`GET ${path} HTTP/1.1\r\n${[...common, ...more].join('\r\n')}\r\n\r\n`);
  const system = { port: Number(new URL(program.address).port), pid: program.pids().node };
  const ok = { request: requestOf(), head: 'HTTP/1.1 200 OK\r\n', body };
  return {
    bare: { port, pid: child.pid!, ...ok },
    '200': { ...system, ...ok },
    '304': {
      ...system,
      request: requestOf(`If-None-Match: "${version}"`),
      head: 'HTTP/1.1 304 Not Modified\r\n',
      body: Buffer.alloc(0),
    },
  };
}

async function startBare(body: string): Promise<{ child: ChildProcess; port: number }> {
  const child = fork(import.meta.filename, ['--bare']);
  child.send(body);
  const [port] = (await once(child, 'message')) as [number];
  return { child, port };
}

/** Every connection sends its next request when the last is answered. Rejects at an answer that is not as expected. */
async function load(target: Target, connections: number, seconds: number): Promise<Block> {
  const sockets = await Promise.all(Array.from({ length: connections }, () => open(target.port)));
  const cpuBefore = processorMicrosOf(target.pid);
  const start = performance.now();
  const end = start + seconds * 1_000;
  const counts = await Promise.all(sockets.map((socket) => ask(socket, target, end)));
  const took = (performance.now() - start) / 1_000;
  const requests = counts.reduce((sum, count) => sum + count, 0);
  const cpuMicros = (processorMicrosOf(target.pid) - cpuBefore) / requests;
  for (const socket of sockets) socket.destroy();
  return { perSecond: requests / took, cpuMicros };
}

async function open(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1').setNoDelay();
  await once(socket, 'connect');
  return socket;
}

function ask(socket: Socket, { request, head, body }: Target, end: number): Promise<number> {
  return new Promise((resolve, reject) => {
    let answers = 0;
    let arrived: Buffer = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      arrived = arrived.length === 0 ? chunk : Buffer.concat([arrived, chunk]);
      const headEnd = arrived.indexOf('\r\n\r\n');
      if (headEnd < 0 || arrived.length < headEnd + 4 + body.length) return;
      if (arrived.toString('latin1', 0, head.length) !== head || !arrived.subarray(headEnd + 4).equals(body)) {
        return reject(new Error(`not as expected:\n${arrived.toString()}`));
      }
      arrived = Buffer.alloc(0);
      answers += 1;
      if (performance.now() < end) socket.write(request);
      else resolve(answers);
    });
    socket.on('error', reject).on('close', () => reject(new Error('the server has closed a connection')));
    socket.write(request);
  });
}

function report(blocks: Readonly<Record<Kind, readonly Block[]>>, what: string): boolean {
  console.log(`${what}; medians, and the middle half of the blocks\n`);
  console.log(
    `${''.padEnd(8)}${['per second', 'half of them', 'CPU µs', 'of bare', 'half of them'].map((cell) => cell.padStart(16)).join('')}`,
  );
  const ratios: Record<string, number> = {};
  for (const [kind, ofKind] of Object.entries(blocks)) {
    const rates = ofKind.map(({ perSecond }) => perSecond);
    // Each block against its neighbour: what else the machine does concerns both.
    const shares = rates.map((rate, n) => rate / blocks.bare[n]!.perSecond);
    ratios[kind] = quantile(shares, 0.5);
    const cells = [
      quantile(rates, 0.5).toFixed(0),
      `${quantile(rates, 0.25).toFixed(0)}–${quantile(rates, 0.75).toFixed(0)}`,
      quantile(
        ofKind.map(({ cpuMicros }) => cpuMicros),
        0.5,
      ).toFixed(1),
      quantile(shares, 0.5).toFixed(2),
      `${quantile(shares, 0.25).toFixed(2)}–${quantile(shares, 0.75).toFixed(2)}`,
    ];
    console.log(`${kind.padEnd(8)}${cells.map((cell) => cell.padStart(16)).join('')}`);
  }
  const kept = ratios['200']! >= ratioMust && ratios['304']! >= ratios['200']!;
  console.log(
    `\n${kept ? 'kept' : 'missed'}: a 200 at ${ratioMust} of the bare rate or more, a 304 no slower than a 200`,
  );
  return kept || flags.smoke;
}

function quantile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) * share)]!;
}
