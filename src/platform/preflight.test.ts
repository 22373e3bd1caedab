import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { testDatabaseUrl } from '../../tests/database.ts';
import { preflight, PreflightFailed } from './preflight.ts';

const fine = { host: '127.0.0.1', port: 0, dataDir: join(tmpdir(), 'a folder/that is/not there'), memoryBytesMin: 0 };

test('where all is well, there is nothing to say', async () => {
  assert.deepEqual(await preflight(fine), []);
});

test('a port that is taken is named, with one that is free', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await assert.rejects(preflight({ ...fine, port }), (error: Error) => {
    assert.match(error.message, new RegExp(`^Port ${port} on 127\\.0\\.0\\.1 is taken`));
    const [, other] = /--port (\d+) or TWOFOLD_PORT/.exec(error.message) ?? [];
    assert.ok(Number(other) > port);
    return error instanceof PreflightFailed;
  });
});

for (const [what, options, message] of [
  [
    'a host of another machine',
    { host: '192.0.2.1' },
    /TWOFOLD_HOST .* "192\.0\.2\.1", which is not an address of this machine/,
  ],
  ['a full disk', { diskBytesMin: Number.MAX_SAFE_INTEGER }, /^Only \d+ MB of disk are free at .* --data-dir/],
  ['an old Node', { nodeVersion: '22.18.0' }, /^Twofold needs Node 24 or newer, and this is 22\.18\.0\. `npm start`/],
  [
    'a database that is not there',
    { databaseUrls: { DATABASE_URL_CATALOG: 'postgresql://u@127.0.0.1:1/c' } },
    /DATABASE_URL_CATALOG .*ECONNREFUSED/,
  ],
] as const) {
  test(`${what} is refused before anything is started`, async () => {
    await assert.rejects(
      preflight({ ...fine, ...options }),
      (error) => error instanceof PreflightFailed && message.test(error.message),
    );
  });
}

test('a database that answers is accepted', async (t) => {
  const url = await testDatabaseUrl(t);
  assert.deepEqual(await preflight({ ...fine, databaseUrls: { DATABASE_URL_CATALOG: url } }), []);
});

test('little memory is a warning', async () => {
  const [warning, ...others] = await preflight({ ...fine, memoryBytesMin: Number.MAX_SAFE_INTEGER });
  assert.match(warning as string, /^Only \d+ MB of memory are free/);
  assert.deepEqual(others, []);
});
