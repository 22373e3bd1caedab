import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { QueryAnswer, QueryRoute } from '#contracts/routes.ts';
import { systemPorts } from '#platform/ports.ts';
import { type Sample, startSampling } from './sampling.ts';

const route = (url: string, read: QueryRoute['read']): QueryRoute => ({
  method: 'GET',
  url,
  summary: '',
  audience: 'operator',
  tag: 'tests',
  answers: {},
  caughtUp: async () => true,
  positions: () => ({}),
  read,
});
const ask = (of: QueryRoute, params: object) => of.read({ params, query: {}, caller: { role: 'operator' } } as never);
const answer: QueryAnswer = { bytes: '{}' };

test('one read a second is sampled, of a single resource, once it was answered', async () => {
  let tick = (): void => {};
  let stopped = false;
  const taken: Sample[] = [];
  const ports = {
    ...systemPorts,
    every(_ms: number, act: () => void) {
      tick = act;
      return () => (stopped = true);
    },
  };
  const sampling = startSampling(ports, (sample) => taken.push(sample));
  const order = sampling.sampled(route('/v1/orders/:orderId', () => answer));
  const product = sampling.sampled(route('/v1/products/:sku', async () => answer));
  const broken = sampling.sampled(route('/v1/customers/:customerId', () => Promise.reject(new Error('no'))));
  const list = route('/v1/orders', () => answer);
  assert.equal(sampling.sampled(list), list);

  assert.equal(ask(order, { orderId: 'a' }), answer, 'it is answered as it was, and at once');
  tick();
  for (const orderId of ['b', 'c']) await ask(order, { orderId });
  tick();
  await ask(product, { sku: 'tea' });
  tick();
  await assert.rejects(async () => ask(broken, { customerId: 'ada' }), /no/);
  await ask(order, { orderId: 'd' });
  assert.deepEqual(taken, [
    { table: 'orders', id: 'b' },
    { table: 'products', id: 'tea' },
  ]);

  const kept = (id: string) => (id === 'here' ? { bytes: '{}' } : undefined);
  const hot = sampling.sampled({ ...route('/v1/orders/:orderId', () => answer), kept });
  tick();
  for (const id of ['elsewhere', 'here', 'here']) assert.deepEqual(hot.kept!(id, { role: 'operator' }), kept(id));
  await setImmediate();
  assert.deepEqual(taken.slice(2), [{ table: 'orders', id: 'here' }], 'also where memory answers it');
  sampling.stop();
  assert.ok(stopped);
});
