import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hastyPorts, openAudit } from './audit.fixture.ts';
import { lookAtEntities, walkBegins, type WalkingOptions, walkOnce, type WalkStates } from './walking.ts';

type Audit = Awaited<ReturnType<typeof openAudit>>;

const optionsOf = (audit: Audit, more: Partial<WalkingOptions> = {}): WalkingOptions => ({
  walks: [audit.walk],
  recorder: audit.recording,
  ports: audit.ports,
  sharePercent: 100,
  pieceEntitiesMax: 3,
  walksAtOnceMax: 1,
  checks: [],
  signal: new AbortController().signal,
  reportTrouble: () => {},
  ...more,
});
const ask = { policies: { 'thing-is-right': 'ask' } } as const;

/** Time goes by only as `pass` says, and no wait takes any; `asked` are the times that were to be waited. */
function portsWithOwnClock() {
  let nowMs = 0;
  return { ...hastyPorts(Infinity), elapsed: () => nowMs, pass: (ms: number) => void (nowMs += ms) };
}

test('everything is looked at once, in pieces, and how far it has come is told', async (t) => {
  const audit = await openAudit(t);
  await audit.put(8);
  const told: WalkStates[] = [];
  const states = await walkOnce(optionsOf(audit), {}, (now) => told.push(now));
  assert.deepEqual(
    told.map(({ things }) => [things!.after, things!.looked, things!.of, things!.ended]),
    [
      ['t0003', 3, 8, false],
      ['t0006', 6, 8, false],
      [null, 8, 8, true],
    ],
  );
  assert.equal(states, told.at(-1));
  assert.match(states['things']!.endedAt!, /^\d{4}-/);
  assert.deepEqual(await audit.events(), []);
});

test('a walk goes on where it was, and what has ended is not walked again', async (t) => {
  const audit = await openAudit(t, ask);
  await audit.put(8);
  await audit.change('t0001', 0);
  await audit.change('t0007', 0);
  const from = { things: { ...walkBegins, after: 't0003', looked: 3 } };
  const states = await walkOnce(optionsOf(audit), from, () => {});
  assert.equal(states['things']!.looked, 8);
  assert.deepEqual(await audit.statuses(), { t0007: 'open' });
  await audit.change('t0002', 0);
  await walkOnce(optionsOf(audit), states, () => {});
  assert.deepEqual(await audit.statuses(), { t0007: 'open' });
});

test('what a second look does not see is no divergence', async (t) => {
  const audit = await openAudit(t, ask);
  await audit.put(3);
  await audit.change('t0002', 0);
  audit.walk.beforeLookAt = () => audit.change('t0002', 2);
  const states = await walkOnce(optionsOf(audit), {}, () => {});
  assert.equal(states['things']!.found, 0);
  assert.deepEqual(await audit.statuses(), {});
});

test('what keeps changing is looked at five times, with growing pauses, and then is a divergence', async (t) => {
  const audit = await openAudit(t, ask);
  await audit.put(1);
  await audit.change('t0001', 100);
  let now = 100;
  audit.walk.beforeLookAt = () => audit.change('t0001', (now += 1));
  await walkOnce(optionsOf(audit), {}, () => {});
  assert.equal(audit.walk.looks.length, 4);
  assert.deepEqual((audit.ports as ReturnType<typeof hastyPorts>).asked.slice(0, 4), [500, 1_000, 2_000, 4_000]);
  assert.deepEqual(await audit.statuses(), { t0001: 'open' });
});

test('what a walk leaves out is its trouble, and nothing is called gone then', async (t) => {
  const audit = await openAudit(t, ask);
  await audit.put(8);
  await audit.change('t0002', 0);
  await walkOnce(optionsOf(audit), {}, () => {});
  await audit.change('t0002', 2);
  const { look } = audit.walk;
  audit.walk.look = async (after, entitiesMax) => ({
    ...(await look(after, entitiesMax)),
    ...(after === null ? { leftOut: 't0002 was left out' } : {}),
  });
  const before = { things: { ...walkBegins, endedAt: '2026-01-01T00:00:00.000Z' } };
  const { things } = await walkOnce(optionsOf(audit), before, () => {});
  assert.deepEqual(
    [things!.ended, things!.looked, things!.trouble, things!.endedAt],
    [true, 8, 't0002 was left out', '2026-01-01T00:00:00.000Z'],
  );
  const later = { things: { ...walkBegins, after: 't0003', trouble: 't0002 was left out' } };
  const goneOn = await walkOnce(optionsOf(audit), later, () => {});
  assert.equal(goneOn['things']!.trouble, 't0002 was left out', 'of a walk that goes on, too');
  assert.deepEqual(await audit.statuses(), { t0002: 'open' });
});

test('what was open and is not there any more is called gone, after two looks', async (t) => {
  const audit = await openAudit(t, ask);
  await audit.put(4);
  await audit.change('t0002', 0);
  await audit.change('t0004', 0);
  await walkOnce(optionsOf(audit), {}, () => {});
  await audit.change('t0002', 2);
  audit.walk.looks.length = 0;
  await walkOnce(optionsOf(audit), {}, () => {});
  assert.deepEqual(await audit.statuses(), { t0002: 'gone', t0004: 'open' });
  assert.equal(audit.walk.looks.filter((entity) => entity === 't0002').length, 2);
});

test('of several checks only those that are asked for are made', async (t) => {
  const audit = await openAudit(t, ask);
  await audit.put(2);
  await audit.change('t0002', 0);
  assert.deepEqual(await walkOnce(optionsOf(audit, { checks: ['another'] }), {}, () => {}), {});
  const states = await walkOnce(optionsOf(audit, { checks: ['thing-is-right'] }), {}, () => {});
  assert.equal(states['things']!.found, 1);
});

test('it rests in proportion to what it worked', async (t) => {
  const ports = portsWithOwnClock();
  const audit = await openAudit(t, { ports });
  await audit.put(8);
  const tookMs = [10, 40, 20];
  const working = {
    ...audit.walk,
    async look(after: string | null, entitiesMax: number) {
      ports.pass(tookMs.shift()!);
      return audit.walk.look(after, entitiesMax);
    },
  };
  const states = await walkOnce(optionsOf(audit, { ports, walks: [working], sharePercent: 5 }), {}, () => {});
  assert.deepEqual([states['things']!.workedMs, ports.asked], [70, [190, 760]]);
});

test('a walk that fails is tried three times, says why, and does not keep others from being walked', async (t) => {
  const audit = await openAudit(t, ask);
  await audit.put(3);
  await audit.change('t0002', 0);
  const troubles: string[] = [];
  const broken = { ...audit.walk, name: 'broken', look: async () => assert.fail('out of reach') };
  const reportTrouble = (walk: string, error: unknown): void =>
    void troubles.push(`${walk}: ${(error as Error).message}`);
  const states = await walkOnce(optionsOf(audit, { walks: [broken, audit.walk], reportTrouble }), {}, () => {});
  assert.deepEqual(troubles, ['broken: out of reach', 'broken: out of reach']);
  assert.deepEqual([states['broken']!.trouble, states['broken']!.endedAt], ['out of reach', null]);
  assert.equal(states['things']!.found, 1);
});

test('a walk stops at once when it is told to', async (t) => {
  const audit = await openAudit(t);
  await audit.put(9);
  const stop = new AbortController();
  const told: WalkStates[] = [];
  const states = await walkOnce(optionsOf(audit, { signal: stop.signal }), {}, (now) => {
    told.push(now);
    stop.abort();
  });
  assert.equal(told.length, 1);
  assert.deepEqual([states['things']!.after, states['things']!.ended], ['t0003', false]);
});

test('single entities are looked at in the same way', async (t) => {
  const audit = await openAudit(t, ask);
  await audit.put(3);
  await audit.change('t0002', 0);
  await lookAtEntities(optionsOf(audit), audit.walk, ['t0001', 't0002']);
  assert.deepEqual(await audit.statuses(), { t0002: 'open' });
  assert.deepEqual(audit.walk.looks, ['t0001', 't0002', 't0002']);
});

test('for how long a look has only waited is neither work nor rested for', async (t) => {
  const ports = portsWithOwnClock();
  const audit = await openAudit(t, { ...ask, ports });
  await audit.put(4);
  let waitedMs = 0;
  const waiting = {
    ...audit.walk,
    waitedMs: () => waitedMs,
    async look(after: string | null, entitiesMax: number) {
      ports.pass(5_030);
      waitedMs += 5_000;
      return audit.walk.look(after, entitiesMax);
    },
  };
  const states = await walkOnce(optionsOf(audit, { ports, walks: [waiting], sharePercent: 10 }), {}, () => {});
  assert.deepEqual([states['things']!.workedMs, ports.asked], [60, [270]]);
});
