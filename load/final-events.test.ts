import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { until } from '../tests/shop-client.ts';
import { hearFinalEvents } from './final-events.ts';

type Stream = { readonly type: string; readonly asked: IncomingMessage; readonly response: ServerResponse };

/** Hears what `streams` are given; `status` is how they are answered. */
async function hear(t: TestContext, status = 200) {
  const streams: Stream[] = [];
  const server = createServer((asked, response) => {
    response.writeHead(status, { 'Content-Type': 'text/event-stream' });
    response.write('retry: 2000\n\n');
    streams.push({ type: new URL(asked.url!, 'http://x').searchParams.get('type')!, asked, response });
  });
  server.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const ended: string[] = [];
  const { port } = server.address() as AddressInfo;
  const events = hearFinalEvents({ host: '127.0.0.1', port }, 'operators', (orderId) => void ended.push(orderId));
  t.after(() => {
    events.close();
    server.closeAllConnections();
    server.close();
  });
  const streamOf = (type: string): Stream => streams.findLast((one) => one.type === type)!;
  const allEnded = (count: number): Promise<unknown> =>
    until(`${count} have ended`, async () => (ended.length >= count ? true : null), 10_000);
  return { events, streams, streamOf, ended, allEnded };
}

const frame = (id: string, orderId: string): string =>
  `id: ${id}\nevent: event\ndata: {"id":"x","type":"t","data":{"orderId":"${orderId}"}}\n\n`;

test('each order that is completed, failed or cancelled is heard of, however its event is cut', async (t) => {
  const { events, streamOf, ended, allEnded } = await hear(t);
  await events.begun;
  streamOf('OrderCompleted').response.write(frame('a', 'one') + frame('b', 'two'));
  const cut = frame('c', 'three');
  streamOf('OrderFailed').response.write(cut.slice(0, 30));
  await allEnded(2);
  streamOf('OrderFailed').response.write(`${cut.slice(30)}: still here\n\nid: d\n\n`);
  streamOf('OrderCancelled').response.write(frame('e', 'four'));
  await allEnded(4);
  assert.deepEqual(ended.toSorted(), ['four', 'one', 'three', 'two']);
  assert.equal(streamOf('OrderFailed').asked.headers.authorization, 'Bearer operators');
});

test('a stream that breaks goes on after the last event, or after how far it had come', async (t) => {
  const { events, streams, streamOf, ended, allEnded } = await hear(t);
  await events.begun;
  const before = streamOf('OrderCompleted');
  before.response.write(`${frame('17', 'one')}: still here\n\nid: 21\n\n`);
  await allEnded(1);
  before.response.destroy();
  await until('it comes back', async () => (streams.length > 3 ? true : null), 10_000);
  assert.equal(streamOf('OrderCompleted').asked.headers['last-event-id'], '21');
  streamOf('OrderCompleted').response.write(frame('22', 'two'));
  await allEnded(2);
  assert.deepEqual(ended, ['one', 'two']);
});

test('a stream that is refused is told of', async (t) => {
  const { events } = await hear(t, 403);
  await assert.rejects(events.begun, /\/v1\/live was answered 403/);
});
