import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { send } from './answers.ts';

test('the answers of a turn leave together at its end, and no more than 64 wait for it', async (t) => {
  const responses: ServerResponse[] = [];
  const server = createServer((_request, response) => responses.push(response)).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const texts = Array.from({ length: 65 }, async (_, n) => (await fetch(`${address}/${n}`)).text());
  while (responses.length < 65) await setImmediate();
  const left = () => responses.filter(({ writableEnded }) => writableEnded).length;

  const answer = (response: ServerResponse): void => send(response, 'r', 200, ['Content-Length', '1'], 'a');
  for (const response of responses.slice(0, 63)) answer(response);
  assert.equal(left(), 0);
  answer(responses[63]!);
  assert.equal(left(), 64);
  answer(responses[64]!);
  assert.equal(left(), 64);
  await setImmediate();
  assert.equal(left(), 65);
  assert.deepEqual(new Set(await Promise.all(texts)), new Set(['a']));
});
