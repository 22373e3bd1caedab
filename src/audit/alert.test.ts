import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { localFeed } from '#cqrs/feed.ts';
import { createLogger } from '#platform/logger.ts';
import { until } from '../../tests/shop-client.ts';
import { type Alert, startAlerts } from './alert.ts';
import { hastyPorts, openAudit } from './audit.fixture.ts';

/** An address that takes alerts; what it answers can be changed. */
async function openHook(t: TestContext) {
  const alerts: Alert[] = [];
  const hook = { alerts, answers: 200, url: '' };
  const server = createServer((request, response) => {
    let text = '';
    request.setEncoding('utf8').on('data', (part: string) => (text += part));
    request.on('end', () => {
      alerts.push(JSON.parse(text) as Alert);
      response.writeHead(hook.answers).end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  hook.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
  return hook;
}

test('each new divergence is told, in order, also after a restart, and what was there before is not', async (t) => {
  const audit = await openAudit(t, { policies: { 'thing-is-right': 'ask' } });
  await audit.put(5);
  const find = async (id: string): Promise<void> => {
    await audit.change(id, 0);
    await audit.recording.confirmed(await audit.walk.lookAt(id));
  };
  await find('t0001');
  const hook = await openHook(t);
  const start = (url = hook.url) => {
    const feed = localFeed(audit.log);
    return startAlerts({ url, feed, database: audit.database, ports: hastyPorts(20), logger: createLogger('silent') });
  };
  const checkpoint = (): Promise<number> => audit.log.checkpoint('alerts-of-audit');
  const first = start();
  t.after(() => first.stop());
  await until('it has begun', async () => ((await checkpoint()) === 1 ? true : null));
  await find('t0002');
  await audit.recording.gone([{ check: 'thing-is-right', entity: 't0002' }]);
  await find('t0002');
  await until('both were told', async () => (hook.alerts.length === 2 ? true : null));
  assert.deepEqual(
    hook.alerts.map(({ id, type }) => [id, type]),
    [
      ['audit-0-2', 'DivergenceFound'],
      ['audit-0-4', 'DivergenceReopened'],
    ],
  );
  assert.equal((hook.alerts[0]!.divergence as { entity: string }).entity, 't0002');
  await until('that is remembered', async () => ((await checkpoint()) === 4 ? true : null));
  await first.stop();

  await find('t0003');
  hook.answers = 503;
  const second = start();
  t.after(() => second.stop());
  await until('it was tried three times', async () => (hook.alerts.length >= 5 ? true : null));
  assert.equal(await checkpoint(), 4);
  hook.answers = 204;
  await until('it was taken', async () => ((await checkpoint()) === 5 ? true : null));
  assert.ok(hook.alerts.slice(2).every(({ id }) => id === 'audit-0-5'));
  await second.stop();
});

test('of two processes one tells', async (t) => {
  const audit = await openAudit(t, { policies: { 'thing-is-right': 'ask' } });
  await audit.put(1);
  const hook = await openHook(t);
  const alerts = [1, 2].map(() =>
    startAlerts({
      url: hook.url,
      feed: localFeed(audit.log),
      database: audit.database,
      ports: hastyPorts(20),
      logger: createLogger('silent'),
    }),
  );
  t.after(() => Promise.all(alerts.map((one) => one.stop())));
  await until('one has begun', async () =>
    (await audit.database.query('', `select from checkpoints where consumer = 'alerts-of-audit'`)).length === 1
      ? true
      : null,
  );
  await audit.change('t0001', 0);
  await audit.recording.confirmed(await audit.walk.lookAt('t0001'));
  await until('it was told', async () => ((await audit.log.checkpoint('alerts-of-audit')) === 1 ? true : null));
  assert.equal(hook.alerts.length, 1);
});
