import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemPorts } from '#platform/ports.ts';
import { openAudit } from './audit.fixture.ts';
import { isLate } from './running.ts';
import { type RoundsOptions, type RoundsState, walkRounds } from './rounds.ts';
import { walkBegins } from './walking.ts';

const minute = 60_000;

/** A clock that goes by what is waited for: an hour is over at once. */
function virtualPorts() {
  let nowMs = Date.UTC(2026, 0, 1);
  return {
    ...systemPorts,
    now: () => nowMs,
    elapsed: () => nowMs,
    after(ms: number, act: () => void) {
      return systemPorts.after(0, () => {
        nowMs += ms;
        act();
      });
    },
  };
}

async function openRounds(t: Parameters<typeof openAudit>[0], more: Partial<RoundsOptions> = {}) {
  const ports = virtualPorts();
  const audit = await openAudit(t, { ports, policies: { 'thing-is-right': 'ask' } });
  const stop = new AbortController();
  const told: RoundsState[] = [];
  const begun = ports.now();
  const options: RoundsOptions = {
    walks: [audit.walk],
    recorder: audit.recording,
    ports,
    sharePercent: 100,
    pieceEntitiesMax: 3,
    walksAtOnceMax: 1,
    checks: [],
    signal: stop.signal,
    reportTrouble: () => {},
    periodMs: 60 * minute,
    changes: async () => 'none',
    samples: () => [],
    ...more,
  };
  return {
    audit,
    ports,
    told,
    minutes: () => (ports.now() - begun) / minute,
    async run(before: RoundsState | null, isOver: (state: RoundsState) => boolean): Promise<RoundsState> {
      await walkRounds(options, before, (state) => {
        told.push(state);
        if (isOver(state)) stop.abort();
      });
      return told.at(-1)!;
    },
  };
}

test('a first round begins at once, and the next one when the period is over', async (t) => {
  const { audit, run, minutes, told } = await openRounds(t);
  await audit.put(8);
  const rounds = (): Set<string> => new Set(told.map(({ beganAt }) => beganAt));
  const state = await run(null, () => rounds().size === 2 && told.at(-1)!.ended);
  assert.ok(minutes() >= 60 && minutes() < 62, `${minutes()}`);
  assert.deepEqual([state.last!.looked, state.walks['things']!.looked], [8, 8]);
  assert.equal(isLate(state, 60 * minute, Date.parse(state.last!.endedAt)), false);
});

test('after a restart a round goes on where it was', async (t) => {
  const { audit, run, ports } = await openRounds(t);
  await audit.put(8);
  await audit.change('t0001', 0);
  const beganAt = new Date(ports.now() - 5 * minute).toISOString();
  const walks = { things: { ...walkBegins, after: 't0003', looked: 3, of: 8 } };
  const state = await run({ beganAt, ended: false, walks, last: null, workedMs: 9 }, ({ ended }) => ended);
  assert.deepEqual([state.beganAt, state.last!.looked], [beganAt, 8]);
  assert.deepEqual(await audit.statuses(), {});
});

test('what changed last is looked at while a round waits, when something has changed', async (t) => {
  let changes = 0;
  const { audit, run } = await openRounds(t, { changes: async () => String(Math.floor(changes++ / 10)) });
  await audit.put(3);
  const fresh = { ...audit.walk, freshest: async () => ['t0002'] };
  (audit.walk as { freshest?: unknown }).freshest = fresh.freshest;
  let looks = 0;
  audit.walk.beforeLookAt = async () => (looks += 1);
  await run(null, () => changes >= 30);
  assert.ok(looks >= 2 && looks <= 3, `${looks} looks for 3 changes among 30 times asked`);
});

test('a round that takes longer than the period is late, while it runs and afterwards', async (t) => {
  const { ports } = await openRounds(t);
  const now = ports.now();
  const at = (minutes: number): string => new Date(now - minutes * minute).toISOString();
  const state = { beganAt: at(61), ended: false, walks: {}, last: null, workedMs: 0 };
  assert.equal(isLate(state, 60 * minute, now), true);
  assert.equal(isLate({ ...state, beganAt: at(59) }, 60 * minute, now), false);
  const last = { beganAt: at(100), endedAt: at(30), looked: 1, workedMs: 1 };
  assert.equal(isLate({ ...state, ended: true, last }, 60 * minute, now), true);
  assert.equal(isLate({ ...state, ended: true, last: { ...last, beganAt: at(80) } }, 60 * minute, now), false);
});

test('a round in which a walk has failed is none in which everything was looked at', async (t) => {
  const { audit, run } = await openRounds(t);
  audit.walk.look = async () => assert.fail('out of reach');
  const state = await run(null, ({ ended, walks }) => ended && walks['things'] !== undefined);
  assert.deepEqual([state.last, state.walks['things']!.trouble], [null, 'out of reach']);
});

test('what was read is looked at before the next piece, and trouble with it is only told', async (t) => {
  const samples = [
    [],
    [
      { table: 'orders', id: 't0002' },
      { table: 'products', id: 'nobody looks at these' },
    ],
  ] as const;
  let asked = 0;
  const troubles: string[] = [];
  const { audit, run } = await openRounds(t, {
    samples: () => samples[asked++] ?? [],
    reportTrouble: (walk, error) => troubles.push(`${walk}: ${(error as Error).message}`),
  });
  await audit.put(5);
  (audit.walk as { name: string }).name = 'read-rows';
  const looks: string[] = [];
  audit.walk.beforeLookAt = async (entity) => {
    looks.push(entity);
    throw new Error('out of reach');
  };
  const state = await run(null, ({ ended }) => ended);
  assert.deepEqual(looks, ['queries/orders/t0002']);
  assert.deepEqual(troubles, ['read-rows: out of reach']);
  assert.equal(state.last!.looked, 5);
});
