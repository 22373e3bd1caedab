import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Compile } from 'typebox/compile';
import { auditEvents, type DivergenceEvent } from '#contracts/audit.ts';
import { given } from '#cqrs/decider.fixture.ts';
import { divergence, type DivergenceCommand, mayRepairByItself, type Seen } from './divergence.ts';

const seen: Seen = {
  divergenceId: '5f2c8a1de07b4c3f9a6e1d2b3c4f5a60',
  orderId: 'o-1',
  check: 'order-rows',
  entity: 'queries/orders/o-1',
  says: 'It is not what it should be.',
  expected: { total: 2 },
  found: { total: 1 },
  fingerprint: 'one',
  repairs: ['re-project'],
};
const other: Seen = { ...seen, found: { total: 3 }, fingerprint: 'other' };
const minute = (n: number): string => new Date(Date.UTC(2026, 0, 1, 0, n)).toISOString();
const name = { divergenceId: seen.divergenceId, orderId: 'o-1' };
const by = { by: 'operator', reason: 'ticket 1' };
const mandate = { strategy: 're-project', ...by } as const;

const found: DivergenceEvent = { type: 'DivergenceFound', data: { ...seen, at: minute(0) } };
const repaired: DivergenceEvent = {
  type: 'DivergenceRepaired',
  data: { ...name, ...mandate, before: 1, after: 2, at: minute(1) },
};
const accepted: DivergenceEvent = { type: 'DivergenceAccepted', data: { ...name, ...by, at: minute(1) } };
const gone: DivergenceEvent = { type: 'DivergenceGone', data: { ...name, at: minute(1) } };
const reopened = (what: Seen, at: number): DivergenceEvent => ({
  type: 'DivergenceReopened',
  data: { ...what, at: minute(at) },
});
const see = (what: Seen, at: number): DivergenceCommand => ({ type: 'See', seen: what, at: minute(at) });
const repair: DivergenceCommand = { type: 'RecordRepair', ...mandate, before: 1, after: 2, at: minute(1) };
const failure: DivergenceCommand = { type: 'RecordFailure', ...mandate, trouble: 'no room', at: minute(1) };
const accept: DivergenceCommand = { type: 'Accept', ...by, at: minute(1) };
const miss: DivergenceCommand = { type: 'Miss', at: minute(1) };

test('what is seen for the first time is found', () => {
  given(divergence).when(see(seen, 0)).then(found);
});

test('what is seen again is recorded once', () => {
  given(divergence, found).when(see(seen, 5)).then();
});

test('what is seen as something else has changed, at most once a minute', () => {
  given(divergence, found)
    .when(see(other, 1))
    .then({ type: 'DivergenceChanged', data: { ...other, at: minute(1) } });
  given(divergence, { ...found, data: { ...seen, at: minute(1) } })
    .when(see(other, 1))
    .then();
});

test('what was repaired, or was gone, and is seen again is open again', () => {
  for (const end of [repaired, gone]) given(divergence, found, end).when(see(seen, 2)).then(reopened(seen, 2));
});

test('what was accepted stays accepted for as long as it is the same', () => {
  given(divergence, found, accepted).when(see(seen, 2)).then();
  given(divergence, found, accepted).when(see(other, 2)).then(reopened(other, 2));
});

test('what is not found any more is gone, once', () => {
  given(divergence, found).when(miss).then(gone);
  given(divergence, found, gone).when(miss).then();
  given(divergence).when(miss).then();
});

test('an open divergence is repaired, accepted, or could not be repaired', () => {
  given(divergence, found).when(repair).then(repaired);
  given(divergence, found).when(accept).then(accepted);
  given(divergence, found)
    .when(failure)
    .thenEachTime({ type: 'RepairFailed', data: { ...name, ...mandate, trouble: 'no room', at: minute(1) } });
});

test('what is settled is not settled again', () => {
  for (const command of [repair, accept, failure]) {
    for (const end of [repaired, accepted, gone]) {
      const status = divergence.evolve(divergence.evolve(divergence.initial, found), end).status;
      given(divergence, found, end)
        .when(command)
        .thenRefused('divergence-settled', { divergenceState: status, detail: `The divergence is ${status}.` });
    }
    given(divergence)
      .when(command)
      .thenRefused('divergence-settled', { divergenceState: 'none', detail: 'There is no such divergence.' });
  }
});

test('what was done about it is kept, the latest last, 20 at most', () => {
  const failed = (n: number): DivergenceEvent => ({
    type: 'RepairFailed',
    data: { ...name, ...mandate, trouble: `try ${n}`, at: minute(n) },
  });
  const { state } = given(divergence, found, ...Array.from({ length: 25 }, (_, n) => failed(n)));
  assert.ok(state.status === 'open');
  assert.deepEqual([state.acts.length, state.acts.at(-1)!.trouble], [20, 'try 24']);
});

test('audit repairs by itself three times a day, whatever comes of it, and not what has no repair', () => {
  const byAudit = (at: number): DivergenceEvent => ({
    type: 'RepairFailed',
    data: { ...name, ...mandate, by: 'audit', trouble: 'no', at: minute(at) },
  });
  const two = given(divergence, found, byAudit(1), byAudit(2)).state;
  assert.ok(mayRepairByItself(two, minute(3)));
  const three = given(divergence, found, byAudit(1), byAudit(2), byAudit(3)).state;
  assert.ok(!mayRepairByItself(three, minute(4)));
  assert.ok(mayRepairByItself(three, minute(24 * 60 + 2)), 'a day after the first');
  assert.ok(!mayRepairByItself(given(divergence, found, repaired).state, minute(3)));
  const hopeless = given(divergence, { ...found, data: { ...seen, repairs: [], at: minute(0) } });
  assert.ok(!mayRepairByItself(hopeless.state, minute(3)));
});

test('what is recorded of a divergence is as the contract says', () => {
  for (const event of [found, repaired, accepted, gone, reopened(other, 2)]) {
    assert.ok(Compile(auditEvents[event.type]).Check(event.data), event.type);
  }
});
