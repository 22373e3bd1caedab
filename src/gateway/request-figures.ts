/** What the gateway counts: requests that are under way, and how long the others took until they were answered. */
import { Durations } from '#platform/durations.ts';
import { systemPorts } from '#platform/ports.ts';
import { type Line, lines } from './overload.ts';

export type RouteTimes = {
  /** Counts a request that came in at `sinceMs` of the clock that only goes forward. */
  record(status: number, sinceMs: number): void;
};

/**
 * Requests that were turned away for want of room, by what was too long for them: a line, that of those who
 * search the database, or all large bodies under way together.
 */
export type Shed = Readonly<Record<Line | 'searches' | 'bodies', { reads: number; commands: number }>>;

export type RequestFigures = {
  /** Requests that are not answered yet, live streams included. */
  underWay: number;
  /** Those of them that wait for what their token names. */
  waiting: number;
  /** Those of them that wait until others have asked the database. */
  searching: number;
  /** Of the larger bodies that are under way, as announced. */
  bodyBytes: number;
  readonly shed: Shed;
  timesOf(method: string, route: string): RouteTimes;
  /** `status`: such as `2xx`. Only what has been answered so far. */
  answered(): readonly {
    readonly method: string;
    readonly route: string;
    readonly status: string;
    readonly durations: Durations;
  }[];
};

const classes = ['1xx', '2xx', '3xx', '4xx', '5xx'] as const;

export function createRequestFigures(): RequestFigures {
  const routes: { readonly method: string; readonly route: string; readonly byClass: (Durations | undefined)[] }[] = [];
  return {
    underWay: 0,
    waiting: 0,
    searching: 0,
    bodyBytes: 0,
    shed: Object.fromEntries([...lines, 'searches', 'bodies'].map((line) => [line, { reads: 0, commands: 0 }])) as Shed,
    timesOf(method, route) {
      const byClass: (Durations | undefined)[] = classes.map(() => undefined);
      routes.push({ method, route, byClass });
      return {
        record(status, sinceMs) {
          const durations = (byClass[Math.floor(status / 100) - 1] ??= new Durations());
          durations.record(systemPorts.elapsed() - sinceMs);
        },
      };
    },
    answered: () =>
      routes.flatMap(({ method, route, byClass }) =>
        byClass.flatMap((durations, at) =>
          durations === undefined ? [] : { method, route, status: classes[at]!, durations },
        ),
      ),
  };
}
