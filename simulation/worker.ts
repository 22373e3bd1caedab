/** A process that runs the worlds it is told to, range by range, and says what became of them. */
import { Counters } from './counters.ts';
import { planOf } from './plan.ts';
import { runWorld } from './world.ts';

export type Range = {
  readonly from: number;
  /** Included. */
  readonly to: number;
  readonly stopAtFirst: boolean;
};
export type Report = {
  readonly worlds: number;
  readonly steps: number;
  readonly lastedMs: number;
  readonly counts: readonly (readonly [state: string, times: number])[];
  readonly failures: readonly { readonly seed: number; readonly invariant: string; readonly found: string }[];
};

/** One seed in so many is run twice. */
const repeatedOneIn = 100;

process.on('message', (range: Range) => {
  void run(range).then((report) => process.send?.(report));
});

async function run({ from, to, stopAtFirst }: Range): Promise<Report> {
  const counters = new Counters();
  const failures: Report['failures'][number][] = [];
  let [worlds, steps, lastedMs] = [0, 0, 0];
  for (let seed = from; seed <= to; seed += 1) {
    const outcome = await runWorld(planOf(seed));
    worlds += 1;
    steps += outcome.steps;
    lastedMs += outcome.lastedMs;
    counters.addAll(outcome.counts);
    if (outcome.violation !== null) failures.push({ seed, ...outcome.violation });
    else if (seed % repeatedOneIn === 0) {
      const again = await runWorld(planOf(seed));
      if (again.traceHash !== outcome.traceHash) {
        const found = `run twice, its traces are ${outcome.traceHash} and ${again.traceHash}`;
        failures.push({ seed, invariant: 'determinism', found });
      }
    }
    if (stopAtFirst && failures.length > 0) break;
  }
  return { worlds, steps, lastedMs, counts: [...counters.counts], failures };
}
