/** The process of the rolling audit dies, and the next one takes over from it. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { openDatabase } from '#platform/postgres.ts';
import type { RollingAudit } from '../../src/audit/running.ts';
import { startTestSystem } from '../running-system.ts';
import { until } from '../shop-client.ts';

test('the process of the rolling audit is killed: another one goes on where it was', async (t) => {
  const { shop, databaseUrls } = await startTestSystem(t, { settings: { auditSharePercent: 3 } });
  await shop.place(await shop.furnish(10));
  const audit = openDatabase(databaseUrls.audit, { applicationName: 'onlooker', poolMax: 1 });
  t.after(() => audit.end());
  const rolling = async (): Promise<RollingAudit | null> => {
    const [row] = await audit.query<{ state: string }>('', 'select state from rolling_audit');
    return row === undefined ? null : (JSON.parse(row.state) as RollingAudit);
  };
  const endedIn = (state: RollingAudit): string[] =>
    Object.entries(state.walks).flatMap(([name, { ended, endedAt, looked }]) =>
      ended ? [`${name} ${endedAt} ${looked}`] : [],
    );
  const before = await until('some of its walks have ended', async () => {
    const state = await rolling();
    return state !== null && !state.ended && endedIn(state).length >= 2 ? state : null;
  });
  const [pid] = await walkers();
  assert.ok(pid !== undefined && (await walkers()).length === 1);
  process.kill(pid, 'SIGKILL');
  const after = await until('it is heard of again, and has gone on', async () => {
    const state = await rolling();
    const others = (await walkers()).filter((one) => one !== pid);
    return others.length === 1 && endedIn(state!).length > endedIn(before).length ? state : null;
  });
  assert.equal(after.beganAt, before.beganAt, 'it is the same round');
  assert.deepEqual(endedIn(after).slice(0, endedIn(before).length), endedIn(before));
});

/** The processes of rolling audits that this process has started. */
async function walkers(): Promise<number[]> {
  const { stdout } = await promisify(execFile)('ps', ['-A', '-o', 'pid=,ppid=,args=']);
  return stdout.split('\n').flatMap((line) => {
    const [pid, parent, ...command] = line.trim().split(/\s+/);
    return Number(parent) === process.pid && command.join(' ').includes('audit-process.ts') ? [Number(pid)] : [];
  });
}
