/** What was measured minute by minute at a steady rate, and whether the last minutes are like the first. */
import { Latencies } from '../load/latencies.ts';
import { row, type Told } from './growth-parts.ts';
import { digits } from './ratio-table.ts';

export type Minute = {
  /** Of `place` and `reads`. */
  readonly latencies: Latencies;
  answered: number;
  /** Of the server and PostgreSQL. */
  spentMicros: number;
};

const slowerMost = 1.2;

/** The last third beside the first, of what was to stay as it was. */
export function compareThirds(all: readonly Minute[]): Told {
  const minutes = Math.max(1, Math.floor(all.length / 3));
  const [first, last] = [all.slice(0, minutes), all.slice(-minutes)].map((third) => ({
    place: p99Of('place', third),
    reads: p99Of('reads', third),
    micros: sumOf(third, ({ spentMicros }) => spentMicros) / sumOf(third, ({ answered }) => answered),
  }));
  const compared = [
    ['orders placed, p99 ms', first!.place, last!.place],
    ['reads, p99 ms', first!.reads, last!.reads],
    ['processor time of an answer, µs', first!.micros, last!.micros],
  ] as const;
  return {
    text: [
      row('', ['first third', 'last third', 'ratio', 'must']),
      ...compared.map(([name, before, after]) =>
        row(name, [digits(before), digits(after), digits(after / before), `≤ ${slowerMost}`]),
      ),
    ].join('\n'),
    missed: compared
      .filter(([, before, after]) => !(after / before <= slowerMost))
      .map(
        ([name, before, after]) =>
          `${name}: ${digits(after / before)} of the first third in the last, at most ${slowerMost}`,
      ),
  };
}

function p99Of(name: string, minutes: readonly Minute[]): number {
  const sum = new Latencies();
  for (const { latencies } of minutes) sum.add(latencies.export());
  return sum.of(name)?.p99 ?? NaN;
}

const sumOf = (minutes: readonly Minute[], of: (minute: Minute) => number): number =>
  minutes.reduce((sum, minute) => sum + of(minute), 0);
