import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as http from '#contracts/http.ts';
import { compileSchema } from './schema-compiler.ts';
import { describeApi, sampleOf } from './api-description.ts';
import { gatewayFor, Things } from './gateway.fixture.ts';

const description = describeApi(new Things().routes) as any;

test('the description is served as it is made', async (t) => {
  const { call } = await gatewayFor(t);
  const answer = await call('GET', '/openapi.json');
  assert.deepEqual([answer.status, answer.json], [200, description]);
});

test('every route is described, once, with a name of its own', () => {
  const operations = Object.values(description.paths).flatMap((path) => Object.values(path as object));
  assert.equal(operations.length, new Things().routes.length + 3);
  assert.equal(new Set(operations.map(({ operationId }) => operationId)).size, operations.length);
  assert.equal(description.paths['/v1/things/{thingId}'].get.operationId, 'getThingsByThingId');
  for (const { summary, tags, responses } of operations) {
    assert.match(summary, /\w/);
    assert.ok(tags.every((tag: string) => description.tags.some(({ name }: { name: string }) => name === tag)));
    assert.ok(Object.keys(responses).length > 0);
  }
});

test('every reference leads somewhere', () => {
  const visit = (value: unknown): void => {
    if (value === null || typeof value !== 'object') return;
    for (const [name, member] of Object.entries(value)) {
      if (name !== '$ref') visit(member);
      else
        assert.ok(
          member
            .slice(2)
            .split('/')
            .reduce((at: any, step: string) => at?.[step], description),
          member,
        );
    }
  };
  visit(description);
});

test('every parameter in a path is declared, and every declared one is there', () => {
  for (const [path, item] of Object.entries(description.paths) as [string, any][]) {
    const named = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
    for (const operation of Object.values(item) as any[]) {
      const declared = (operation.parameters ?? []).filter((parameter: any) => parameter.in === 'path');
      assert.deepEqual(
        declared.map((parameter: any) => parameter.name),
        named,
        path,
      );
      assert.ok(declared.every((parameter: any) => parameter.required));
    }
  }
});

test('a command names its headers and every problem it may answer', () => {
  const { parameters, responses, requestBody } = description.paths['/v1/things/{thingId}'].put;
  const headers = parameters
    .filter((parameter: any) => parameter.$ref)
    .map(({ $ref }: any) => description.components.parameters[$ref.split('/').at(-1)].name);
  assert.deepEqual(headers, ['Idempotency-Key', 'If-Match', 'Consistency-Token', 'Prefer', 'traceparent']);
  assert.deepEqual(Object.keys(responses), [
    '200',
    '201',
    '400',
    '401',
    '403',
    '404',
    '409',
    '412',
    '413',
    '415',
    '422',
    '429',
    '500',
    '503',
  ]);
  assert.equal(requestBody.required, true);
  assert.equal(description.paths['/v1/things/{thingId}/close'].post.requestBody.required, false);
});

test('the example of every body is one that the schema takes', () => {
  const bodies = { ...http } as unknown as Record<string, never>;
  for (const name of ['PutProductBody', 'AdjustStockBody', 'PutCustomerBody', 'PlaceOrderBody', 'CancelOrderBody']) {
    const validate = compileSchema({ schema: bodies[name]! });
    assert.equal(validate(sampleOf(bodies[name]!)), true, name);
  }
});
