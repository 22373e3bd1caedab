import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { openShop } from '../tests/shop-client.ts';
import { CannotLoad, furnish } from './shop.ts';

/** A system that answers the first request to each path with a 503 of that code; resolves to what was asked of it, too. */
async function turningAway(t: TestContext, code: string) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const path = `${request.method} ${request.url}`;
    const isFirst = !asked.includes(path);
    asked.push(path);
    request.resume();
    const status = isFirst && request.method !== 'GET' ? 503 : request.method === 'GET' ? 200 : 201;
    response.writeHead(status, { 'Content-Type': 'application/json', 'Retry-After': '0', 'Consistency-Token': 't' });
    response.end(JSON.stringify({ code: status === 503 ? code : undefined }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { asked, shop: openShop(`http://127.0.0.1:${(server.address() as AddressInfo).port}`) };
}

test('whoever furnishes comes back when the system has too much to do', async (t) => {
  const { asked, shop } = await turningAway(t, 'overloaded');
  assert.deepEqual(await furnish(shop, 'x', 1, [{ customerId: 'ada' }]), ['LOAD-x-0']);
  const each = ['PUT /v1/products/LOAD-x-0', 'POST /v1/products/LOAD-x-0/stock-adjustments', 'PUT /v1/customers/ada'];
  assert.deepEqual(
    asked.filter((path) => !path.startsWith('GET')),
    each.flatMap((path) => [path, path]),
  );
});

test('what fails for another reason is not asked for again: it may have been done', async (t) => {
  const { asked, shop } = await turningAway(t, 'log-unavailable');
  await assert.rejects(furnish(shop, 'x', 1, []), CannotLoad);
  assert.deepEqual(asked, ['PUT /v1/products/LOAD-x-0']);
});
