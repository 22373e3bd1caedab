import assert from 'node:assert/strict';
import { test } from 'node:test';
import { shownPositions } from './shown-positions.ts';

test('what rows show is what all projections have come through', () => {
  const read = shownPositions(() => [{ name: 'orders' }, { name: 'sales' }]);
  const shown = [
    'projections-of-ordering.0=9',
    'orders-of-ordering.0=9',
    'sales-of-ordering.0=7',
    'orders-of-audit.0=3',
    'of-old-of-ordering.0=1',
    'alert=2',
  ].join();
  assert.deepEqual(read([{ shown: null }, { shown }]), { 'ordering.0': 7, 'audit.0': 3 });
  assert.deepEqual(read([{ shown: 'orders-of-ordering.0=10' }]), { 'ordering.0': 10 });
  assert.deepEqual(read([]), {});
});
