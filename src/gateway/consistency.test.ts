import assert from 'node:assert/strict';
import { test } from 'node:test';
import fastify from 'fastify';
import type { Route } from '#contracts/routes.ts';
import { Progress, reachAll } from '#cqrs/progress.ts';
import { createConsistency } from './consistency.ts';
import { createRequestFigures } from './request-figures.ts';

test('when too many wait, one more is told at once, and those who wait are answered all the same', async (t) => {
  const figures = createRequestFigures();
  const consistency = createConsistency({ waitersMax: 2, figures });
  const progress = new Progress();
  const followed = new Map([['things.0', progress]]);
  const caughtUp: Route['caughtUp'] = (positions, waitMs) => reachAll(positions, followed, waitMs);
  const waiting = Promise.withResolvers<void>();
  progress.onWait(() => figures.waiting === 2 && waiting.resolve());

  const app = fastify();
  app.get('/', async (request, reply) => {
    const reached = await consistency.reached(request, reply, { caughtUp }, { 'things.0': 1 }, {});
    return reached ? 'shown' : reply;
  });
  const address = await app.listen({ port: 0, host: '127.0.0.1' });
  t.after(() => app.close());
  const ask = async () => {
    const answer = await fetch(address, { headers: { prefer: 'wait=5' } });
    return { status: answer.status, retryAfter: answer.headers.get('retry-after'), text: await answer.text() };
  };

  const patient = [ask(), ask()];
  await waiting.promise;
  const refused = await ask();
  assert.deepEqual([refused.status, refused.retryAfter], [503, '1']);
  assert.match(refused.text, /"code":"overloaded"/);
  progress.advance(1);
  for (const { status, text } of await Promise.all(patient)) assert.deepEqual([status, text], [200, 'shown']);
  assert.equal(figures.waiting, 0);
  assert.equal((await ask()).status, 200);
});
