import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { startBareServer } from './bare-server.ts';
import { closedLoop, isWhole, type LoopBlock } from './closed-loop.ts';

const request = Buffer.from('POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nhello');

async function echo(t: TestContext, isRight: (body: Buffer) => boolean, head = 'HTTP/1.1 201 '): Promise<LoopBlock> {
  const server = await startBareServer(t);
  return closedLoop(server, {
    connections: 20,
    seconds: 0.2,
    request: () => request,
    isAnswer: (arrived) => isWhole(arrived, head, isRight),
  });
}

test('every connection asks again when it is answered, and what was answered is counted', async (t) => {
  let bodies = 0;
  const { requests, perSecond } = await echo(t, (body) => {
    bodies += 1;
    return body.toString() === 'hello';
  });
  assert.equal(bodies, requests);
  assert.ok(requests > 20 && perSecond > 0);
});

test('an answer with another status, or another body, fails the block', async (t) => {
  await assert.rejects(
    echo(t, () => true, 'HTTP/1.1 200 '),
    /not as expected:\nHTTP\/1\.1 201 Created/,
  );
  await assert.rejects(
    echo(t, () => false),
    /not as expected:\nHTTP\/1\.1 201 Created[^]*hello$/,
  );
});

test('an answer is whole with the last byte of its body', () => {
  const answer = 'HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello';
  const whole = (text: string): boolean => isWhole(Buffer.from(text), 'HTTP/1.1 201 ', (body) => body.length === 5);
  assert.deepEqual([answer.slice(0, 30), answer.slice(0, -1), answer].map(whole), [false, false, true]);
});
