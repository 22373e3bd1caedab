/** The failpoints of the log stand where they say: what of a batch is there when the process that sends it dies. */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { logSchemaFolders } from '#cqrs/postgres-log.ts';
import type { Failpoint } from '#platform/failpoint.ts';
import { openDatabase } from '#platform/postgres.ts';
import { testDatabaseUrl } from './database.ts';
import { until } from './shop-client.ts';

const events = 10;
const writer = new URL('../src/cqrs/postgres-log.writer.ts', import.meta.url);

for (const [name, recorded] of [
  ['batch-decided', 0],
  ['log-sending', 0],
  ['log-sent', events],
  ['log-committed', events],
  ['batch-appended', events],
] as const satisfies readonly (readonly [Failpoint, number])[]) {
  test(`a process that dies at ${name} has recorded ${recorded} of ${events} events`, async (t) => {
    const url = await testDatabaseUrl(t, logSchemaFolders);
    const child = fork(writer, [url, '1', String(events)], {
      env: { ...process.env, TWOFOLD_FAILPOINT: `${name}:1` },
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    });
    let said = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => (said += text));
    assert.deepEqual(await once(child, 'close'), [null, 'SIGKILL']);
    assert.equal(said, `failpoint ${name}:1 reached\n`);

    const database = openDatabase(url, { applicationName: 'reader', poolMax: 1 });
    t.after(() => database.end());
    const sessionsOfWriter = `select 1 from pg_stat_activity where datname = current_database() and application_name = 'writer 1'`;
    await until('its statements have come to their end', async () =>
      (await database.query('sessions', sessionsOfWriter)).length === 0 ? true : null,
    );
    const [head] = await database.query<{ position: number }>('head', 'select position from log_head');
    const [row] = await database.query<{ n: number }>('events', 'select count(*) as n from events');
    assert.deepEqual([head?.position, row?.n], [recorded, recorded]);
  });
}
