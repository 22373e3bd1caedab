import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OrderView } from '#contracts/http.ts';
import { orderEvent, orderPlaced, readSideForTests, story } from './story-for-tests.ts';

const url = '/v1/orders/:orderId';
const params = { orderId: 'o1' };

test('as of a time an order is in the newest version that is not after it, also when a clock was set back', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  await side.given(
    tell(orderPlaced('o1'), { at: '2026-01-01T10:00:00.000Z' }),
    tell(orderEvent.reserved('o1'), { at: '2026-01-01T09:59:00.000Z' }),
    tell(orderEvent.completed('o1'), { at: '2026-01-01T10:00:00.500Z' }),
  );
  const seen = async (asOf: string): Promise<number | string> => {
    const answer = await side.ask(url, { params, query: { asOf } });
    if ('refused' in answer) return answer.refused.code;
    const { version } = JSON.parse(answer.bytes.toString()) as OrderView;
    assert.equal(answer.etag, String(version));
    return version;
  };
  assert.equal(await seen('2026-01-01T09:58:59.999Z'), 'version-not-found');
  assert.equal(await seen('2026-01-01T09:59:00Z'), 2);
  assert.equal(await seen('2026-01-01T10:00:00.499999Z'), 2);
  assert.equal(await seen('2026-01-01T12:00:00.500+02:00'), 3);
  assert.equal(await seen('9999-12-31T23:59:59Z'), 3);
});

test('a version and a time together are refused, with a pointer', async (t) => {
  const side = await readSideForTests(t);
  await side.given(story().tell(orderPlaced('o1')));
  const answer = await side.ask(url, { params, query: { version: 1, asOf: '2026-01-01T10:00:00Z' } });
  assert.ok('refused' in answer);
  assert.equal(answer.refused.code, 'invalid-request');
  assert.deepEqual(answer.refused['errors'], [
    { pointer: '/asOf', detail: 'cannot be asked for together with `version`' },
  ]);
});

test('a history that is behind its order is said to be, and gives no older version for a newer one', async (t) => {
  const side = await readSideForTests(t);
  const { tell } = story();
  await side.given(tell(orderPlaced('o1')), tell(orderEvent.reserved('o1')), tell(orderEvent.completed('o1')));
  await side.database.query('lose', `delete from order_events where version = 2`);
  const codeOf = async (query: object): Promise<string> => {
    const answer = await side.ask(url, { params, query });
    return 'refused' in answer ? answer.refused.code : `version ${answer.etag}`;
  };
  assert.equal(await codeOf({ version: 1 }), 'version 1');
  assert.equal(await codeOf({ version: 2 }), 'read-model-behind');
  assert.equal(await codeOf({ version: 3 }), 'version 3');
  assert.equal(await codeOf({ asOf: '2030-01-01T00:00:00Z' }), 'read-model-behind');
  await side.database.query('lose all', 'delete from order_events');
  assert.equal(await codeOf({ asOf: '2000-01-01T00:00:00Z' }), 'read-model-behind');
});
