import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { setImmediate, setTimeout } from 'node:timers/promises';
import type { Notification } from 'pg';
import { testDatabaseUrl } from '../../tests/database.ts';
import { socketOf } from './connection-watch.ts';
import { systemPorts } from './ports.ts';
import { type Database, DatabaseUnavailable, openDatabase, overOneConnection, type Sql } from './postgres.ts';

const lookMs = 100;

test(
  'behind a black hole statements fail in time, in the pool and on a connection that is shared, and others take their place',
  { timeout: 60_000 },
  async (t) => {
    const proxy = await openProxy(t);
    const database = openDatabase(proxy.url, {
      applicationName: 'test',
      poolMax: 4,
      statementTimeoutMs: 500,
      connectTimeoutMs: 1_000,
      // Each look stands for a second.
      ports: { ...systemPorts, every: (_ms, act) => systemPorts.every(lookMs, act) },
    });
    const shared = overOneConnection(database);
    const pinned = await database.pin({ limited: true });
    await Promise.all([ask(database), database.transaction(ask), ask(shared), ask(pinned)]);
    proxy.swallow(true);
    const beganMs = performance.now();
    const asked = [ask(database), database.transaction(ask), ask(shared), ask(pinned)];
    // One that joins those whose connection is dead already.
    asked.push(setTimeout(2 * lookMs).then(() => ask(shared)));
    await Promise.all(asked.map((one) => assert.rejects(one, DatabaseUnavailable)));
    const tookMs = performance.now() - beganMs;
    assert.ok(tookMs > 5.5 * lookMs && tookMs < 30 * lookMs, `${tookMs} ms`);
    pinned.release(true);
    await Promise.all([ask(database), ask(shared)].map((one) => assert.rejects(one, DatabaseUnavailable)));
    proxy.swallow(false);
    // As many at once as the pool has room for.
    const waits = [1, 2, 3].map(() => database.query('wait', 'select pg_sleep(0.1)'));
    await Promise.all([...waits, ask(shared)]);
    await database.end();
    await proxy.closed();
  },
);

test('a connection that is given up with a statement under way is closed at once', async (t) => {
  const proxy = await openProxy(t);
  const database = openDatabase(proxy.url, { applicationName: 'test', poolMax: 1 });
  const pinned = await database.pin();
  proxy.swallow(true);
  const asked = ask(pinned);
  pinned.release(true);
  await assert.rejects(asked, DatabaseUnavailable);
  proxy.swallow(false);
  await ask(database);
  await database.end();
  await proxy.closed();
});

test('a goodbye that nobody answers is waited for a few seconds', async (t) => {
  const proxy = await openProxy(t);
  const { database, look, watched } = watchedByHand(proxy.url);
  const pinned = await database.pin();
  const socket = socketOf(pinned.client);
  proxy.swallow(true);
  pinned.release(true);
  await once(socket, 'finish');
  await look(5);
  assert.equal(socket.destroyed, false);
  await look(1);
  assert.equal(socket.destroyed, true);
  await database.end();
  await proxy.closed();
  assert.equal(watched(), 0);
});

test('a process that was stopped takes the answers that came meanwhile, however long it was', async (t) => {
  const { database, look } = watchedByHand(await testDatabaseUrl(t, []));
  t.after(() => database.end());
  const shared = overOneConnection(database);
  await ask(shared);
  const asked = [1, 2, 3].map(() => shared.query('wait', 'select pg_sleep(0.1)'));
  // Sent, and nothing is done until all the answers are in the socket.
  await setImmediate();
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_000);
  await look(100);
  assert.equal((await Promise.all(asked)).length, 3);
});

test('a statement may take long while something comes from the server', async (t) => {
  const { database, look } = watchedByHand(await testDatabaseUrl(t, []));
  t.after(() => database.end());
  const pinned = await database.pin({ limited: true });
  const prompter = await database.pin();
  await prompter.query('hold', 'select pg_advisory_lock(word) from generate_series(1, 4) as word');
  let heard = once(pinned.client, 'notice');
  const asked = pinned.query(
    'tell',
    `do $$ begin for word in 1..4 loop raise notice '%', word; perform pg_advisory_xact_lock(word); end loop; end $$`,
  );
  for (const word of [1, 2, 3, 4]) {
    await heard;
    await look(7);
    heard = once(pinned.client, 'notice');
    await prompter.query('next', 'select pg_advisory_unlock($1)', [word]);
  }
  await asked;
  pinned.release();
  prompter.release(true);
});

test('where statements may take as long as they take, nothing is given up', async (t) => {
  const url = await testDatabaseUrl(t, []);
  const limited = watchedByHand(url);
  const unlimited = watchedByHand(url, 0);
  t.after(() => Promise.all([limited.database.end(), unlimited.database.end()]));
  const pinned = await limited.database.pin();
  const other = await unlimited.database.pin({ limited: true });
  const asked = [pinned, other].map((sql) => sql.query('wait', 'select pg_sleep(0.1)'));
  await Promise.all([limited.look(10_000), unlimited.look(10_000), ...asked]);
  other.release();
  pinned.release();
  // Given back to the pool, the connection is one like all others.
  const again = await limited.database.pin({ limited: true });
  assert.equal(again.client, pinned.client);
  const givenUp = assert.rejects(again.query('wait long', 'select pg_sleep(60)'), /nothing came for 6 s/);
  await limited.look(8);
  await givenUp;
  again.release(true);
});

test('a connection that listens hears as long as nothing is asked over it', async (t) => {
  const { database, look } = watchedByHand(await testDatabaseUrl(t, []));
  t.after(() => database.end());
  const pinned = await database.pin({ limited: true });
  await pinned.query('listen', 'listen anything');
  await look(10_000);
  const heard = once(pinned.client, 'notification');
  await database.query('notify', `select pg_notify('anything', 'loud')`);
  assert.equal(((await heard) as [Notification])[0].payload, 'loud');
  pinned.release(true);
});

test('an idle connection is asked after ten seconds whether the other end is there, where the network may fail', async (t) => {
  const proxy = await openProxy(t);
  const database = openDatabase(proxy.url, { applicationName: 'test' });
  const pinned = await database.pin();
  const port = socketOf(pinned.client).localPort!.toString(16).toUpperCase().padStart(4, '0');
  // Only Linux tells: `02` is the timer of keep-alive, in hundredths of a second.
  const told = (): string => readFileSync('/proc/net/tcp', 'utf8');
  const timer = new RegExp(`^ *\\d+: 0100007F:${port} .* 02:([0-9A-F]{8}) `, 'm');
  while (process.platform === 'linux' && !timer.test(told())) await setTimeout(10);
  if (process.platform === 'linux') {
    const leftMs = parseInt(timer.exec(told())![1]!, 16) * 10;
    assert.ok(leftMs > 5_000 && leftMs <= 10_000, `${leftMs} ms`);
  }
  pinned.release();
  await database.end();
});

const ask = (sql: Sql): Promise<object[]> => sql.query('one', 'select 1 as one');

/** A database whose connections are looked at when the test says so, and not each second; it gives up at the eighth that hears nothing. */
function watchedByHand(
  url: string,
  statementTimeoutMs = 1_000,
): { readonly database: Database; look(times: number): Promise<void>; watched(): number } {
  const looks = new Set<() => void>();
  const database = openDatabase(url, {
    applicationName: 'test',
    statementTimeoutMs,
    ports: {
      ...systemPorts,
      every(_, act) {
        looks.add(act);
        return () => looks.delete(act);
      },
    },
  });
  return {
    database,
    async look(times) {
      for (let time = 0; time < times; time += 1) for (const act of looks) act();
      // What is done about it is done at the end of the turn.
      for (let turn = 0; turn < 2; turn += 1) await setImmediate();
    },
    watched: () => looks.size,
  };
}

type Proxy = {
  readonly url: string;
  /** Nothing comes through any more over the connections there are, for good, nor over those that are made while it is on. */
  swallow(on: boolean): void;
  /** Resolves once no client has a socket open. */
  closed(): Promise<void>;
};

/** A way over the network to a database of the test's own. */
async function openProxy(t: TestContext): Promise<Proxy> {
  const url = await testDatabaseUrl(t, []);
  const direct = openDatabase(url, { applicationName: 'test', poolMax: 1 });
  const [row] = await direct.query<{ folder: string; port: string; name: string; user: string }>(
    'where',
    `select current_setting('unix_socket_directories') as folder, current_setting('port') as port,
       current_database() as name, current_user as user`,
  );
  await direct.end();
  const { folder, port, name, user } = row!;
  const clients = new Map<Socket, { swallows: boolean }>();
  let swallowing = false;
  // Half open: a black hole answers no goodbye.
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const way = { swallows: swallowing };
    clients.set(client, way);
    const upstream = connect(`${folder.replaceAll('"', '')}/.s.PGSQL.${port}`);
    client.on('data', (chunk) => way.swallows || upstream.write(chunk));
    upstream.on('data', (chunk) => way.swallows || client.write(chunk));
    client.on('end', () => way.swallows || upstream.end());
    upstream.on('end', () => way.swallows || client.end());
    for (const socket of [client, upstream]) socket.on('error', () => {});
    client.on('close', () => {
      clients.delete(client);
      upstream.destroy();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const client of clients.keys()) client.destroy();
    server.close();
  });
  return {
    url: `postgresql://${user}@127.0.0.1:${(server.address() as AddressInfo).port}/${name}`,
    swallow(on) {
      swallowing = on;
      if (on) for (const way of clients.values()) way.swallows = true;
    },
    async closed() {
      // What comes to a socket that is closed is answered with a reset, and then nothing can be written any more.
      while (clients.size > 0) {
        for (const client of clients.keys()) client.write('?');
        await setTimeout(10);
      }
    },
  };
}
