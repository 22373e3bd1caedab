import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { helpersGiveWay } from './background.ts';

const isLinux = process.platform === 'linux';
const batch = 3; // SCHED_BATCH, field 41 of proc_pid_stat(5)

const statOf = (thread: string): string => readFileSync(`/proc/self/task/${thread}/stat`, 'utf8');
const policyOf = (thread: string): number => Number(statOf(thread).split(') ')[1]!.split(' ')[38]);

test(
  'threads that collect garbage and compile give way to the event loop, and nobody else does',
  { skip: !isLinux },
  async () => {
    const threads = readdirSync('/proc/self/task');
    const before = threads.map((thread) => [getPriority(Number(thread)), policyOf(thread)]);
    helpersGiveWay();
    const helpers = threads.filter((thread) => statOf(thread).includes('V8Worker'));
    assert.ok(helpers.length > 0, 'V8 has threads of its own');
    for (let looks = 0; looks < 100 && !helpers.every((thread) => policyOf(thread) === batch); looks += 1)
      await delay(20);
    for (const [n, thread] of threads.entries()) {
      const now = [getPriority(Number(thread)), policyOf(thread)];
      assert.deepEqual(now, helpers.includes(thread) ? [10, batch] : before[n], thread);
    }
  },
);
