/** Connections that each send their next request when the last is answered: how much of that a server can take. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Server } from './bare-server.ts';
import { processorMicrosOf } from './processor-time.ts';

export type Loop = {
  readonly connections: number;
  readonly seconds: number;
  /** The bytes of the next request. */
  request(): Buffer;
  /** Whether all of an answer has arrived. Throws when it is a wrong one: what it throws fails the block. */
  isAnswer(arrived: Buffer): boolean;
};

/** Processor time is that of the server, per request. */
export type LoopBlock = { readonly perSecond: number; readonly cpuMicros: number; readonly requests: number };

const openingAtOnce = 500;
/** Ports of one source address are used up at some 28,000, and those that were closed rest for a minute. */
const connectionsPerAddress = 5_000;
const headEnd = Buffer.from('\r\n\r\n');

/** Counts from when all connections stand. Rejects at a wrong answer, or a connection that is closed. */
export async function closedLoop({ port, pid }: Server, loop: Loop): Promise<LoopBlock> {
  const sockets: Socket[] = [];
  try {
    while (sockets.length < loop.connections) {
      const more = Math.min(openingAtOnce, loop.connections - sockets.length);
      const from = sockets.length;
      const opened = Array.from({ length: more }, (_, n) => open(port, from + n));
      sockets.push(...opened.map(({ socket }) => socket));
      await Promise.all(opened.map(({ ready }) => ready));
    }
    const cpuBefore = processorMicrosOf(pid);
    const start = performance.now();
    const end = start + loop.seconds * 1_000;
    const counts = await Promise.all(sockets.map((socket) => ask(socket, loop, end)));
    const tookMs = performance.now() - start;
    const requests = counts.reduce((sum, count) => sum + count, 0);
    const cpuMicros = (processorMicrosOf(pid) - cpuBefore) / requests;
    return { perSecond: (requests * 1_000) / tookMs, cpuMicros, requests };
  } finally {
    // A reset leaves no port waiting.
    for (const socket of sockets)
      socket
        .removeAllListeners()
        .on('error', () => {})
        .resetAndDestroy();
  }
}

/**
 * Whether all of an answer with a Content-Length has arrived, and begins with `head`. Throws when it begins otherwise, or
 * `isRight` says no to its body.
 */
export function isWhole(arrived: Buffer, head: string, isRight: (body: Buffer) => boolean): boolean {
  const at = arrived.indexOf(headEnd);
  if (at < 0) return false;
  const text = arrived.toString('latin1', 0, at);
  const length = Number(/\r\ncontent-length: *(\d+)/i.exec(text)?.[1] ?? NaN);
  const body = arrived.subarray(at + headEnd.length);
  const begun = text.startsWith(head);
  // A wrong one without a length has come as far as it tells something.
  if (begun ? body.length < length : body.length < (length || 0)) return false;
  if (begun && isRight(body)) return true;
  throw new Error(`not as expected:\n${arrived.toString()}`);
}

/** The bytes of a request with a body of JSON. */
export const requestOf = (method: string, path: string, token: string, body: string): Buffer =>
  Buffer.from(
    `${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAuthorization: Bearer ${token}\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );

function open(port: number, n: number): { socket: Socket; ready: Promise<unknown> } {
  const localAddress = `127.0.0.${1 + Math.floor(n / connectionsPerAddress)}`;
  const socket = connect({ port, host: '127.0.0.1', ...(n < connectionsPerAddress ? {} : { localAddress }) });
  return { socket: socket.setNoDelay(), ready: once(socket, 'connect') };
}

function ask(socket: Socket, { request, isAnswer }: Loop, end: number): Promise<number> {
  return new Promise((resolve, reject) => {
    let answers = 0;
    let arrived: Buffer | null = null;
    socket.on('data', (chunk: Buffer) => {
      arrived = arrived === null ? chunk : Buffer.concat([arrived, chunk]);
      try {
        if (!isAnswer(arrived)) return;
      } catch (error) {
        return reject(error);
      }
      arrived = null;
      answers += 1;
      if (performance.now() < end) socket.write(request());
      else resolve(answers);
    });
    socket.on('error', reject).on('close', () => reject(new Error('the server has closed a connection')));
    socket.write(request());
  });
}
