import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openEmmett } from './emmett.ts';

test('where npm reaches no registry, it is said why there is no comparison', async (t) => {
  const unreachable = { npm_config_registry: 'http://127.0.0.1:1/', npm_config_fetch_retries: '0' };
  const before = { ...process.env };
  Object.assign(process.env, unreachable);
  t.after(() => {
    for (const name of Object.keys(unreachable)) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
  });
  const found = await openEmmett(t, 'postgresql:///nowhere');
  assert.ok(typeof found === 'string');
  assert.match(found, /^npm cannot install it: npm error .*ECONNREFUSED/);
});
