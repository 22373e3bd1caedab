/** What a run might have come to, for tests of what is made of it. */
import type { Summary } from './latencies.ts';
import type { Measured } from './measure.ts';

export const summary = (p99: number, max = p99 * 2): Summary => ({
  count: 100,
  p50: p99 / 4,
  p90: p99 / 2,
  p99,
  p999: max,
  max,
});

/** Everything kept, but for what `changes` say. */
export function measuredRun(requestsPerSecond: number, changes: Partial<Measured> = {}): Measured {
  return {
    requestsPerSecond,
    seconds: 10,
    connections: 100,
    totals: {
      offered: { place: 100, 'own order': 200 },
      answered: { place: 100, 'own order': 200 },
      errors: {},
      examples: [],
      retries: {},
      reopened: 0,
      ordersPlaced: 100,
      ordersOpen: 0,
    },
    latencies: {
      place: summary(20),
      reads: summary(10),
      'own order': summary(10),
      'own write': summary(15),
      ends: summary(90),
    },
    freshness: { events: 700, p50: 10, p99: 50, p999: 75, allShown: true },
    processes: [{ name: 'server', corePercent: 40, microsPerRequest: 120, memoryMb: 200 }],
    points: [-1, 0, 1, 2, 3].map((at) => ({
      at,
      offered: 30,
      answered: 30,
      errors: 0,
      waiting: 0,
      place: { p50: 5, p99: 20 },
      reads: { p50: 2, p99: 10 },
      ends: at === 2 ? null : { p50: 40, p99: 90 },
      lagEvents: 3,
      freshnessP99: 50,
    })),
    brokenOff: null,
    ...changes,
  };
}
