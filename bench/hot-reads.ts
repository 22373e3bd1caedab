/** One order that is read again and again, and a bare server that answers the same bytes. */
import type { Ending } from '../tests/running-program.ts';
import { startBareServer } from './bare-server.ts';
import { closedLoop, type LoopBlock } from './closed-loop.ts';
import { startOwnSystem } from './own-system.ts';

/** `304`: of a reader who knows its version. */
export type HotRead = 'bare' | '200' | '304';

/** What each of them answers to that many connections. Every answer is checked, byte by byte. */
export type HotReads = Readonly<Record<HotRead, (connections: number, seconds: number) => Promise<LoopBlock>>>;

/** Of a system with `env` in its environment. */
export async function openHotReads(ending: Ending, env: Readonly<Record<string, string>> = {}): Promise<HotReads> {
  const { server, operatorToken, shop } = await startOwnSystem(ending, undefined, env);
  const { sku, customerId } = await shop.furnish(10);
  const orderId = await shop.place({ customerId, sku, quantity: 2 });
  const { version } = await shop.waitFinal(orderId);
  const authorization = `Bearer ${operatorToken}`;
  const path = `/v1/orders/${orderId}`;
  const answer = await fetch(`${shop.address}${path}`, { headers: { authorization } });
  const body = Buffer.from(await answer.text());
  const bare = await startBareServer(ending, body.toString());
  const common = ['Host: 127.0.0.1', 'Accept: application/json', `Authorization: ${authorization}`];
  const requestOf = (...more: string[]): Buffer =>
    Buffer.from(`GET ${path} HTTP/1.1\r\n${[...common, ...more].join('\r\n')}\r\n\r\n`);
  const reads = (target: typeof server, request: Buffer, head: string, expected: Buffer): HotReads['bare'] => {
    const isAnswer = isExactly(head, expected);
    return (connections, seconds) => closedLoop(target, { connections, seconds, request: () => request, isAnswer });
  };
  const known = requestOf(`If-None-Match: "${version}"`);
  return {
    bare: reads(bare, requestOf(), 'HTTP/1.1 200 OK\r\n', body),
    '200': reads(server, requestOf(), 'HTTP/1.1 200 OK\r\n', body),
    '304': reads(server, known, 'HTTP/1.1 304 Not Modified\r\n', Buffer.alloc(0)),
  };
}

/** Costs less than reading the head of an answer: the generator is not to be what is measured. */
const isExactly =
  (head: string, body: Buffer) =>
  (arrived: Buffer): boolean => {
    const headEnd = arrived.indexOf('\r\n\r\n');
    if (headEnd < 0) return false;
    const isRight = arrived.toString('latin1', 0, head.length) === head;
    if (isRight && arrived.length < headEnd + 4 + body.length) return false;
    if (isRight && arrived.subarray(headEnd + 4).equals(body)) return true;
    throw new Error(`not as expected:\n${arrived.toString()}`);
  };
