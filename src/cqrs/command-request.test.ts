import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCommandBus, type Scope, type StreamType } from './command-bus.ts';
import { type AnswerOrRefusal, type ClientCommand, executeForClient, staleVersion } from './command-request.ts';
import { EngineError } from './errors.ts';
import type { EventLog } from './event-log.ts';
import { openMemoryLog } from './memory-log.ts';
import { systemPorts } from '#platform/ports.ts';

const counter: StreamType<number> = { name: 'counter', initial: 0, evolve: (count) => count + 1 };
const refused = { code: 'order-exists', detail: 'No.', skus: ['tea'] };
const source = 'ordering.0';

const count = (scope: Scope): AnswerOrRefusal => {
  scope.record(counter, 'a', { type: 'Counted', data: {} });
  const version = scope.version(counter, 'a');
  return { answer: { status: 201, body: { version }, version, location: '/a' } };
};

function clientOf(log: EventLog = openMemoryLog(source)) {
  const bus = createCommandBus({ log, ports: { ...systemPorts, now: () => Date.parse('2026-01-01T00:00:00Z') } });
  let requests = 0;
  const ask = (run: (scope: Scope) => AnswerOrRefusal, more: Partial<ClientCommand> & { key?: string } = {}) => {
    requests += 1;
    const { key, ...rest } = more;
    return executeForClient({
      bus,
      source,
      origin: { actor: 'operator', correlationId: `trace-${requests}`, causationId: `request-${requests}` },
      idempotency: key === undefined ? undefined : { caller: 'operator', key, fingerprint: 'f' },
      reads: [{ type: counter, id: 'a' }],
      run,
      ...rest,
    });
  };
  return { log, ask };
}

test('an answer comes with the position that includes its effect', async () => {
  const { ask } = clientOf();
  const kept = { status: 201, body: { version: 1 }, version: 1, location: '/a' };
  assert.deepEqual(await ask(count), { kept, replayed: false, positions: { [source]: 1 } });
});

test('the same key again gets the same answer, and says that it does', async () => {
  const { ask, log } = clientOf();
  const first = await ask(count, { key: 'k' });
  await ask(count);
  const again = await ask(count, { key: 'k' });
  assert.deepEqual(again, { ...first, replayed: true, positions: { [source]: 2 } });
  assert.equal(await log.head(), 2);
});

test('a refusal is an answer: it is kept under its key, in the trace of the first request', async () => {
  const { ask, log } = clientOf();
  assert.deepEqual(await ask(() => ({ refused }), { key: 'k' }), {
    refused,
    isKept: true,
    replayed: false,
    traceId: 'trace-1',
  });
  assert.deepEqual(await ask(count, { key: 'k' }), { refused, isKept: true, replayed: true, traceId: 'trace-1' });
  assert.equal(await log.head(), 0);
});

test('a stale version is not kept: the client may come again with the right one', async () => {
  const { ask } = clientOf();
  const stale = await ask(() => staleVersion([7], 3)!, { key: 'k' });
  assert.deepEqual(stale, {
    refused: { code: 'version-mismatch', detail: 'The current version is 3.', currentVersion: 3 },
    isKept: false,
    replayed: false,
    traceId: 'trace-1',
  });
  assert.ok('kept' in (await ask(count, { key: 'k' })));
});

test('a command may say which refusals it does not keep', async () => {
  const { ask } = clientOf();
  const keeps = ({ code }: { code: string }) => code !== refused.code;
  await ask(() => ({ refused }), { key: 'k', keeps });
  const second = await ask(count, { key: 'k', keeps });
  assert.ok('kept' in second && !second.replayed);
  assert.ok('kept' in (await ask(() => ({ refused }), { key: 'k', keeps })), 'an answer is always kept');
});

test('a key that was used for another request is refused', async () => {
  const { ask } = clientOf();
  await ask(count, { key: 'k' });
  const reused = await ask(count, { idempotency: { caller: 'operator', key: 'k', fingerprint: 'g' } });
  assert.ok('refused' in reused);
  assert.deepEqual(
    [reused.refused.code, reused.replayed, reused.traceId],
    ['idempotency-key-reused', false, 'trace-2'],
  );
});

test('what stands in the way of a command becomes a refusal with its code', async () => {
  const memory = openMemoryLog(source);
  for (const code of ['log-unavailable', 'overloaded'] as const) {
    const { ask } = clientOf({ ...memory, append: () => Promise.reject(new EngineError(code, 'no answer')) });
    assert.deepEqual(await ask(count), {
      refused: { code, detail: 'no answer' },
      isKept: false,
      replayed: false,
      traceId: 'trace-1',
    });
  }
});

test('a bug is no refusal', async () => {
  const { ask } = clientOf();
  await assert.rejects(
    ask(() => {
      throw new TypeError('x is not a function');
    }),
    TypeError,
  );
});

test('If-Match allows the versions that it names', () => {
  assert.equal(staleVersion(null, 3), null);
  assert.equal(staleVersion([3], 3), null);
  assert.equal(staleVersion([1, 3], 3), null);
  assert.equal(staleVersion([], 3)?.refused['currentVersion'], 3);
  assert.deepEqual(staleVersion([1], 0)?.refused, {
    code: 'version-mismatch',
    detail: 'The resource does not exist yet.',
    currentVersion: 0,
  });
});

test('`*` allows what is there, whatever its version', () => {
  assert.equal(staleVersion('any', 3), null);
  assert.equal(staleVersion('any', 0)?.refused['currentVersion'], 0);
});
