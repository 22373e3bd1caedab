import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { isLoopback, loadSettings, projectFolder, SettingsError } from './settings.ts';

const secret = '0123456789abcdef0123456789abcdef';

test('with nothing said, the settings are those of one machine that only itself can reach', () => {
  assert.deepEqual(loadSettings({}), {
    port: 8_080,
    host: '127.0.0.1',
    dataDir: join(projectFolder, '.twofold'),
    empty: false,
    databaseUrls: {},
    sandboxPort: 0,
    jwt: { issuer: 'twofold', audience: 'twofold' },
    customerRequestsPerMinute: 600,
    operatorRequestsPerMinute: 0,
    idempotencyRetentionHours: 168,
    reservationTtlSeconds: 900,
    orderDeadlineSeconds: 1_800,
    paymentTimeoutMs: 3_000,
    paymentAttemptsMax: 3,
    cacheMb: 64,
    waitMs: 20,
    liveStreamsMax: 10_000,
    liveStreamsPerCustomerMax: 20,
    liveHeartbeatSeconds: 15,
    liveWaitingKb: 1_024,
    auditSharePercent: 5,
    auditPeriodMinutes: 60,
    auditPolicies: {},
    logLevel: 'warn',
    warnings: [],
  });
});

test('the settings cannot be changed after they are read', () => {
  const settings = loadSettings({});
  assert.ok([settings, settings.jwt, settings.databaseUrls, settings.warnings].every((part) => Object.isFrozen(part)));
});

for (const [name, value, pick, expected] of [
  ['TWOFOLD_PORT', '0', 'port', 0],
  ['TWOFOLD_HOST', '::1', 'host', '::1'],
  ['TWOFOLD_DATA_DIR', '/tmp/a folder', 'dataDir', '/tmp/a folder'],
  ['TWOFOLD_PROVIDER_URL', 'http://127.0.0.1:9000/', 'providerUrl', 'http://127.0.0.1:9000'],
  ['TWOFOLD_SANDBOX_PORT', '9001', 'sandboxPort', 9_001],
  ['TWOFOLD_RATE_LIMIT_CUSTOMER', '0', 'customerRequestsPerMinute', 0],
  ['TWOFOLD_RATE_LIMIT_OPERATOR', '100', 'operatorRequestsPerMinute', 100],
  ['TWOFOLD_IDEMPOTENCY_RETENTION_HOURS', '24', 'idempotencyRetentionHours', 24],
  ['TWOFOLD_RESERVATION_TTL_SECONDS', '60', 'reservationTtlSeconds', 60],
  ['TWOFOLD_ORDER_DEADLINE_SECONDS', '61', 'orderDeadlineSeconds', 61],
  ['TWOFOLD_PAYMENT_TIMEOUT_MS', '250', 'paymentTimeoutMs', 250],
  ['TWOFOLD_PAYMENT_ATTEMPTS_MAX', '1', 'paymentAttemptsMax', 1],
  ['TWOFOLD_CACHE_MB', '8', 'cacheMb', 8],
  ['TWOFOLD_LIVE_STREAMS', '0', 'liveStreamsMax', 0],
  ['TWOFOLD_LIVE_STREAMS_CUSTOMER', '0', 'liveStreamsPerCustomerMax', 0],
  ['TWOFOLD_LIVE_HEARTBEAT_SECONDS', '50', 'liveHeartbeatSeconds', 50],
  ['TWOFOLD_LIVE_WAITING_KB', '16', 'liveWaitingKb', 16],
  ['TWOFOLD_AUDIT_SHARE_PERCENT', '0', 'auditSharePercent', 0],
  ['TWOFOLD_AUDIT_PERIOD_MINUTES', '1', 'auditPeriodMinutes', 1],
  ['TWOFOLD_AUDIT_ALERT_URL', 'https://hook.example/a', 'auditAlertUrl', 'https://hook.example/a'],
  ['TWOFOLD_LOG_LEVEL', 'debug', 'logLevel', 'debug'],
  ['TWOFOLD_PORT', '', 'port', 8_080],
] as const) {
  test(`${name}=${value} makes ${pick} ${expected}`, () => {
    assert.equal(loadSettings({ [name]: value })[pick], expected);
  });
}

test('the keys, their issuer and their audience come from the environment', () => {
  const env = {
    TWOFOLD_JWT_SECRET: secret,
    TWOFOLD_JWKS_URL: 'https://shop.example/keys.json',
    TWOFOLD_JWT_ISSUER: 'shop',
    TWOFOLD_JWT_AUDIENCE: 'orders',
  };
  const jwt = { secret, jwksUrl: 'https://shop.example/keys.json', issuer: 'shop', audience: 'orders' };
  assert.deepEqual(loadSettings(env).jwt, jwt);
});

test('the audit may be told of each check whether it repairs or asks', () => {
  const { auditPolicies } = loadSettings({ TWOFOLD_AUDIT_POLICY: 'cache-is-row:ask, stock-is-sum:automatic' });
  assert.deepEqual(auditPolicies, { 'cache-is-row': 'ask', 'stock-is-sum': 'automatic' });
});

test('the command line wins over the environment', () => {
  const env = { TWOFOLD_PORT: '1', TWOFOLD_HOST: 'localhost', TWOFOLD_DATA_DIR: '/tmp/a' };
  const settings = loadSettings(env, { port: '2', host: '127.0.0.2', dataDir: '/tmp/b', empty: true });
  assert.deepEqual([settings.port, settings.host, settings.dataDir, settings.empty], [2, '127.0.0.2', '/tmp/b', true]);
});

test('each part may have a database of its own elsewhere', () => {
  const catalog = 'postgresql://user:pw@db.example:5432/catalog';
  const queries = 'postgresql://user@/queries?host=%2Frun%2Fpostgresql';
  const settings = loadSettings({ DATABASE_URL_CATALOG: catalog, DATABASE_URL_QUERIES: queries });
  assert.deepEqual(settings.databaseUrls, { catalog, queries });
});

for (const [env, overrides, expected] of [
  [{ TWOFOLD_PORT: '80a' }, {}, [/^TWOFOLD_PORT is "80a"; right would be a whole number from 0 to 65535/]],
  [{ TWOFOLD_PORT: '65536' }, {}, [/^TWOFOLD_PORT is "65536"/]],
  [{ TWOFOLD_PORT: '1' }, { port: '-1' }, [/^--port is "-1"/]],
  [{ TWOFOLD_HOST: 'http://x' }, {}, [/^TWOFOLD_HOST is "http:\/\/x"; right would be an address/]],
  [{}, { dataDir: ' ' }, [/^--data-dir is " "; right would be a folder/]],
  [{ TWOFOLD_IDEMPOTENCY_RETENTION_HOURS: '23' }, {}, [/is "23"; right would be a whole number from 24 /]],
  [{ TWOFOLD_PAYMENT_TIMEOUT_MS: '3s' }, {}, [/is "3s"; .* such as 3000 milliseconds/]],
  [{ TWOFOLD_LOG_LEVEL: 'loud' }, {}, [/is "loud"; right would be one of trace, debug, info, warn/]],
  [{ TWOFOLD_AUDIT_SHARE_PERCENT: '101' }, {}, [/is "101"; right would be a whole number from 0 to 100/]],
  [{ TWOFOLD_AUDIT_POLICY: 'stock:never' }, {}, [/is "stock:never"; right would be checks with automatic or ask/]],
  [{ TWOFOLD_PROVIDER_URL: 'ftp://pay' }, {}, [/^TWOFOLD_PROVIDER_URL is "ftp:\/\/pay"; .* http:\/\//]],
  [{ TWOFOLD_PORT: 'x', TWOFOLD_CACHE_MB: '0' }, {}, [/^TWOFOLD_PORT is "x"/, /^TWOFOLD_CACHE_MB is "0"/]],
  [
    { DATABASE_URL_CATALOG: 'mysql://root@127.0.0.1/catalog' },
    {},
    [/^DATABASE_URL_CATALOG is "mysql:.*postgresql:\/\/user/],
  ],
  [{ DATABASE_URL_CATALOG: 'postgresql://127.0.0.1' }, {}, [/^DATABASE_URL_CATALOG is/]],
] as const) {
  test(`${JSON.stringify({ ...env, ...overrides })} is refused with the name, the value and what would be right`, () => {
    const problems = problemsOf(env, overrides);
    assert.equal(problems.length, expected.length);
    problems.forEach((problem, index) => assert.match(problem, expected[index] as RegExp));
  });
}

test('a secret that is too short is refused without being shown', () => {
  const [problem] = problemsOf({ TWOFOLD_JWT_SECRET: 'hunter2' });
  assert.match(problem as string, /^TWOFOLD_JWT_SECRET is only 7 characters long; right would be at least 32/);
  assert.doesNotMatch(problem as string, /hunter2/);
});

test('a password in a wrong URL is not shown', () => {
  for (const url of ['mysql://user:hunter2@h/db', 'user:hunter2@h', 'http://h/?password=hunter2']) {
    assert.doesNotMatch(problemsOf({ DATABASE_URL_CATALOG: url }).join(), /hunter2/);
  }
});

test('two parts in one database are refused: each owns its own', () => {
  const url = 'postgresql://user:hunter2@127.0.0.1/twofold';
  const [problem] = problemsOf({ DATABASE_URL_CATALOG: url, DATABASE_URL_PAYMENTS: `${url}?sslmode=disable` });
  assert.match(problem as string, /^DATABASE_URL_CATALOG and DATABASE_URL_PAYMENTS are the same database/);
  assert.doesNotMatch(problem as string, /hunter2/);
});

test('to be reached from other machines takes a key', () => {
  const [problem] = problemsOf({ TWOFOLD_HOST: '0.0.0.0' });
  assert.match(problem as string, /TWOFOLD_HOST .*"0\.0\.0\.0".*TWOFOLD_JWT_SECRET/);
  assert.equal(loadSettings({ TWOFOLD_HOST: '0.0.0.0', TWOFOLD_JWT_SECRET: secret }).host, '0.0.0.0');
  assert.equal(
    loadSettings({ TWOFOLD_HOST: '0.0.0.0', TWOFOLD_JWKS_URL: 'https://shop.example/keys' }).host,
    '0.0.0.0',
  );
});

test('only addresses of this machine alone are loopback', () => {
  assert.deepEqual(['127.0.0.1', '127.9.9.9', '::1', 'localhost'].map(isLoopback), [true, true, true, true]);
  assert.deepEqual(['0.0.0.0', '::', '10.0.0.1', '127.example.com', '128.0.0.1'].map(isLoopback), Array(5).fill(false));
});

test('a variable that nothing reads is named, with the nearest that is read', () => {
  const { warnings } = loadSettings({ TWOFOLD_PROT: '1', DATABASE_URL_ORDERS: 'x', PATH: '/bin' });
  assert.equal(warnings.length, 2);
  assert.match(warnings[0] as string, /^DATABASE_URL_ORDERS is not a setting.*DATABASE_URL_ORDERING\.$/);
  assert.match(warnings[1] as string, /^TWOFOLD_PROT is not a setting.*TWOFOLD_PORT\.$/);
});

function problemsOf(env: NodeJS.ProcessEnv, overrides = {}): readonly string[] {
  try {
    loadSettings(env, overrides);
  } catch (error) {
    assert.ok(error instanceof SettingsError);
    return error.problems;
  }
  return [];
}
